//! What must hold of producers, one promise a test.

use crate::base::ids::{Epoch, LogIndex, Offset, ProducerId, Sequence};
use crate::base::limits::PRODUCER_RUNS_MAX;

use super::tests_kit::{Desk, SECOND, Written, ask};
use super::{
    Admit, Applied, ApplyError, BrokenRule, EXPIRED_PER_ENTRY_MAX, OpenError, OpenPlan, Opened, Producers,
};

const DAY: u64 = 86_400 * SECOND;

/// A log with one producer 'p' (id 2), opened once.
fn desk_with_p() -> (Desk, ProducerId) {
    let mut desk = Desk::new(DAY, 100);
    desk.open("p");
    (desk, ProducerId(2))
}

fn row(id: ProducerId, sequences: std::ops::RangeInclusive<u64>) -> Vec<Written<'static>> {
    sequences.map(|sequence| (id, 1, "p", sequence)).collect()
}

fn duplicate(offset: u64) -> Admit {
    Admit::Duplicate { offset: Offset(offset) }
}

fn pending(offset: u64, index: LogIndex) -> Admit {
    Admit::DuplicatePending { offset: Offset(offset), index }
}

#[test]
fn a_fresh_producer_begins_at_one_and_gaps_are_refused() {
    let (desk, p) = desk_with_p();
    let producers = desk.applied_to(desk.last_index());
    assert_eq!(ask(&producers, p, 1, 1), Admit::Append);
    assert_eq!(ask(&producers, p, 1, 2), Admit::Gap { expected: Sequence(1) });
    assert_eq!(ask(&producers, p, 1, 0), Admit::Gap { expected: Sequence(1) });
    assert_eq!(ask(&producers, ProducerId(3), 1, 1), Admit::UnknownProducer);
    assert_eq!(ask(&producers, p, 2, 1), Admit::UnknownProducer, "an epoch nobody was given");
    assert_eq!(producers.name_of(p), Some("p"));
    assert_eq!(producers.name_of(ProducerId(1)), None);
}

#[test]
fn a_leader_knows_the_name_of_a_producer_whose_opening_it_found_uncommitted() {
    let (desk, p) = desk_with_p();
    let leader = desk.led_from(LogIndex(1));
    assert_eq!(ask(&leader, p, 1, 1), Admit::Append);
    assert_eq!(leader.name_of(p), Some("p"), "or its retries would be refused as expired");
}

#[test]
fn pitfall_38_an_entry_is_applied_exactly_once() {
    let (mut desk, p) = desk_with_p();
    desk.batch(&row(p, 1..=3));
    let producers = desk.applied_to(desk.last_index());
    assert_eq!(producers.applied_index(), LogIndex(3));
    for index in [1, 2] {
        let (mut again, entry) = (producers.clone(), desk.entries[index].clone());
        let twice = std::panic::catch_unwind(move || again.apply(&entry.view()));
        assert!(!matches!(twice, Ok(Ok(_))), "the entry at place {index} is not applied a second time");
    }
    let (mut gap, mut longer) = (desk.applied_to(LogIndex(2)), desk.clone());
    let later = longer.batch(&row(p, 4..=4));
    let left_out = std::panic::catch_unwind(move || gap.apply(&later.view()));
    assert!(!matches!(left_out, Ok(Ok(_))), "nor is one left out");
}

#[test]
fn an_entry_that_breaks_the_rules_of_producers_is_an_error_that_names_the_offset() {
    let (mut desk, p) = desk_with_p();
    desk.batch(&row(p, 1..=2));
    let before = desk.applied_to(desk.last_index());
    let other = ProducerId(77);
    let broken = [
        (
            vec![(p, 1, "p", 3), (p, 1, "p", 5)],
            4,
            p,
            BrokenRule::Sequence { found: Sequence(5), expected: Sequence(4) },
        ),
        (vec![(p, 1, "p", 2)], 3, p, BrokenRule::Sequence { found: Sequence(2), expected: Sequence(3) }),
        (vec![(p, 2, "p", 3)], 3, p, BrokenRule::Epoch { found: Epoch(2), current: Epoch(1) }),
        (vec![(p, 1, "p", 3), (other, 1, "q", 1)], 4, other, BrokenRule::Unknown),
    ];
    for (events, offset, producer, rule) in broken {
        let entry = desk.clone().batch(&events);
        let error = before.clone().apply(&entry.view()).unwrap_err();
        assert_eq!(error, ApplyError::Rule { offset: Offset(offset), producer, rule });
    }
    let mut slept = desk.clone();
    slept.log_time_ns += 2 * DAY;
    // The time at which producers expire is that of the entry before.
    slept.noop();
    let late = slept.batch(&row(p, 3..=3));
    let mut table = before.clone();
    table.apply(&slept.entries[slept.entries.len() - 2].view()).unwrap();
    let error = table.apply(&late.view()).unwrap_err();
    assert!(
        matches!(error, ApplyError::Rule { rule: BrokenRule::Expired | BrokenRule::Unknown, .. }),
        "{error}"
    );
}

#[test]
fn pitfall_38_applied_is_not_appended_and_a_restart_applies_the_committed_prefix_again() {
    let (mut desk, p) = desk_with_p();
    desk.batch(&row(p, 1..=3));
    let committed = desk.last_index();
    desk.batch(&row(p, 4..=6));
    let leader = desk.led_from(committed);
    assert_eq!((leader.applied_index(), leader.tail_index()), (committed, committed.next()));
    let restarted = desk.applied_to(committed);
    assert_eq!(leader.without_overlay(), restarted);
    assert_eq!(leader.checksum(), restarted.checksum(), "the checksum is of what is committed");
    assert_ne!(leader.checksum(), desk.applied_to(desk.last_index()).checksum());
}

#[test]
fn pitfall_40_a_retry_after_failover_gets_the_original_offset() {
    let (mut desk, p) = desk_with_p();
    desk.batch(&row(p, 1..=3));
    desk.noop();
    desk.batch(&row(p, 4..=5));
    // The new leader has nothing but the log: three entries committed, the rest not yet.
    let mut leader = desk.led_from(LogIndex(3));
    let last = desk.last_index();
    for (sequence, expected) in [
        (1, duplicate(1)),
        (3, duplicate(3)),
        (4, pending(4, last)),
        (5, pending(5, last)),
        (6, Admit::Append),
        (7, Admit::Gap { expected: Sequence(6) }),
    ] {
        assert_eq!(ask(&leader, p, 1, sequence), expected, "sequence {sequence}");
    }
    for entry in &desk.entries[3..] {
        leader.apply(&entry.view()).unwrap();
    }
    assert_eq!(ask(&leader, p, 1, 4), duplicate(4));
    assert_eq!(leader, desk.applied_to(last), "nothing of the overlay is left");
}

#[test]
fn a_duplicate_of_a_staged_event_waits_for_the_batch_that_is_being_filled() {
    let (mut desk, p) = desk_with_p();
    let q = ProducerId(desk.open("q").index().0);
    let mut leader = desk.applied_to(desk.last_index());
    for (id, sequence) in [(p, 1), (q, 1), (p, 2)] {
        assert_eq!(ask(&leader, id, 1, sequence), Admit::Append);
        leader.stage(id, Sequence(sequence));
    }
    let index = desk.last_index().next();
    assert_eq!(ask(&leader, p, 1, 1), pending(1, index));
    assert_eq!(ask(&leader, q, 1, 1), pending(2, index));
    assert_eq!(ask(&leader, p, 1, 2), pending(3, index));
    assert_eq!(ask(&leader, p, 1, 3), Admit::Append);
    let entry = desk.batch(&[(p, 1, "p", 1), (q, 1, "q", 1), (p, 1, "p", 2)]);
    let before = leader.clone();
    leader.note_appended(&entry.view()).unwrap();
    assert_eq!(ask(&leader, p, 1, 2), pending(3, index), "the promise held");
    assert_eq!(leader.staged_count(), 0);
    leader.apply(&entry.view()).unwrap();
    assert_eq!(ask(&leader, p, 1, 2), duplicate(3));

    // Anything else than the staged batch is refused.
    let mut other = desk.clone();
    other.truncate(LogIndex(3));
    let entry = other.batch(&[(q, 1, "q", 1), (p, 1, "p", 1)]);
    let mut wrong = before.clone();
    assert!(std::panic::catch_unwind(move || wrong.note_appended(&entry.view())).is_err());
    other.truncate(LogIndex(3));
    let (entry, mut wrong) = (other.noop(), before);
    assert!(std::panic::catch_unwind(move || wrong.note_appended(&entry.view())).is_err());
}

#[test]
fn pitfall_41_expiry_follows_the_logs_time_and_no_wall_clock() {
    let build = |unix_ns: u64| {
        let mut desk = Desk::new(10 * SECOND, 100);
        desk.unix_ns = unix_ns;
        desk.open("p");
        desk.log_time_ns = 10 * SECOND;
        desk.noop();
        desk.log_time_ns += 1;
        desk.noop();
        desk
    };
    // A leader whose wall clock is a year ahead, or before 1971, expires the same producer at the same index.
    let states: Vec<Vec<Producers>> = [0, 366 * DAY]
        .map(build)
        .iter()
        .map(|desk| (1..=4).map(|index| desk.applied_to(LogIndex(index))).collect())
        .collect();
    assert_eq!(states[0], states[1]);
    let p = ProducerId(2);
    assert_eq!(ask(&states[0][2], p, 1, 1), Admit::Append, "idle for exactly the window");
    assert_eq!(ask(&states[0][3], p, 1, 1), Admit::UnknownProducer, "and one nanosecond more");
    assert_eq!((states[0][2].count(), states[0][3].count(), states[0][3].checksum()), (1, 0, 0));
}

#[test]
fn pitfall_41_a_log_time_that_falls_counts_as_standing_still() {
    let mut desk = Desk::new(10 * SECOND, 100);
    desk.log_time_ns = 100 * SECOND;
    desk.open("p");
    desk.log_time_ns = 50 * SECOND;
    desk.batch(&row(ProducerId(2), 1..=1));
    let producers = desk.applied_to(desk.last_index());
    assert_eq!(producers.log_time_ns(), 100 * SECOND);
    assert_eq!(ask(&producers, ProducerId(2), 1, 2), Admit::Append);
}

#[test]
fn pitfall_42_truncated_events_leave_no_trace_in_dedup_state() {
    let (mut desk, p) = desk_with_p();
    desk.batch(&row(p, 1..=2));
    let committed = desk.last_index();
    let clean = desk.applied_to(committed);
    desk.batch(&row(p, 3..=4));
    desk.open("p");
    desk.open("q");
    let mut deposed = desk.led_from(committed);
    assert_eq!(ask(&deposed, p, 1, 3), Admit::Fenced { current: Epoch(2) });
    deposed.drop_overlay();
    assert_eq!(deposed, clean);
    assert_eq!(ask(&deposed, p, 1, 3), Admit::Append, "the retry is appended, not taken for a duplicate");
    assert_eq!(deposed.would_open("q"), Ok(OpenPlan { existing: None, epoch: Epoch(1) }));

    desk.truncate(committed);
    desk.batch(&row(p, 3..=3));
    deposed.apply(&desk.entries.last().unwrap().view()).unwrap();
    assert_eq!(deposed, desk.applied_to(desk.last_index()));
}

#[test]
fn pitfall_42_a_step_down_forgets_staged_events_too() {
    let (desk, p) = desk_with_p();
    let clean = desk.applied_to(desk.last_index());
    let mut leader = clean.clone();
    leader.stage(p, Sequence(1));
    leader.drop_overlay();
    assert_eq!(leader, clean);
}

#[test]
fn pitfall_43_a_retry_past_the_window_is_told_so_and_never_appended() {
    let mut desk = Desk::new(10 * SECOND, 100);
    desk.open("p");
    let p = ProducerId(2);
    desk.batch(&row(p, 1..=3));
    let committed = desk.last_index();
    desk.log_time_ns = 11 * SECOND;
    desk.noop();
    // As soon as the entry that lets it expire is appended, and so before it is committed.
    let leader = desk.led_from(committed);
    for sequence in [1, 3, 4] {
        assert_eq!(ask(&leader, p, 1, sequence), Admit::UnknownProducer, "sequence {sequence}");
    }
    assert_eq!(leader.count(), 1, "the table changes at commit alone");
    assert_eq!(leader.name_of(p), None);
    let reopened = desk.open("p");
    let mut later = desk.applied_to(committed.next());
    assert_eq!(later.would_open("p"), Ok(OpenPlan { existing: None, epoch: Epoch(1) }));
    let applied = later.apply(&reopened.view()).unwrap();
    let fresh = ProducerId(reopened.index().0);
    assert!(matches!(applied, Applied::Opened(Opened { producer_id, .. }) if producer_id == fresh));
    assert_eq!(ask(&later, p, 1, 4), Admit::UnknownProducer, "the old identity stays gone");
    assert_eq!(ask(&later, fresh, 1, 1), Admit::Append);
}

#[test]
fn pitfall_43_an_older_duplicate_is_acknowledged_without_an_offset() {
    let (mut desk, p) = desk_with_p();
    let q = ProducerId(desk.open("q").index().0);
    let runs = PRODUCER_RUNS_MAX as u64 + 3;
    for sequence in 1..=runs {
        desk.batch(&[(p, 1, "p", sequence), (q, 1, "q", sequence)]);
    }
    let producers = desk.applied_to(desk.last_index());
    assert_eq!(producers.runs_of(p).len(), PRODUCER_RUNS_MAX, "bounded");
    for sequence in 1..=3 {
        assert_eq!(ask(&producers, p, 1, sequence), Admit::DuplicateOffsetUnknown);
    }
    for sequence in 4..=runs {
        assert_eq!(ask(&producers, p, 1, sequence), duplicate(2 * sequence - 1));
    }
}

#[test]
fn runs_merge_where_sequence_and_offset_both_continue() {
    let (mut desk, p) = desk_with_p();
    let q = ProducerId(desk.open("q").index().0);
    desk.batch(&row(p, 1..=64));
    desk.noop();
    desk.batch(&row(p, 65..=70));
    desk.batch(&[(q, 1, "q", 1), (p, 1, "p", 71), (p, 1, "p", 72), (q, 1, "q", 2)]);
    let producers = desk.applied_to(desk.last_index());
    let shown: Vec<_> = producers
        .runs_of(p)
        .iter()
        .map(|run| (run.first_sequence.0, run.first_offset.0, run.count))
        .collect();
    assert_eq!(shown, [(1, 1, 70), (71, 72, 2)]);
    assert_eq!(producers.runs_of(q).len(), 2);
    assert_eq!(ask(&producers, p, 1, 72), duplicate(73));
    assert_eq!(producers.checksum(), producers.recompute_checksum());
}

#[test]
fn a_newer_open_fences_the_older_epoch_from_its_append_on() {
    let (mut desk, p) = desk_with_p();
    desk.batch(&row(p, 1..=2));
    let committed = desk.last_index();
    let mut leader = desk.applied_to(committed);
    assert_eq!(leader.would_open("p"), Ok(OpenPlan { existing: Some(p), epoch: Epoch(2) }));
    let tail = desk.batch(&row(p, 3..=3));
    leader.note_appended(&tail.view()).unwrap();
    let open = desk.open("p");
    leader.note_appended(&open.view()).unwrap();
    for sequence in 1..=4 {
        assert_eq!(ask(&leader, p, 1, sequence), Admit::Fenced { current: Epoch(2) });
    }
    assert_eq!(leader.apply(&tail.view()), Ok(Applied::Nothing));
    assert_eq!(ask(&leader, p, 1, 4), Admit::Fenced { current: Epoch(2) });
    let opened = Opened { index: open.index(), producer_id: p, epoch: Epoch(2), next_sequence: Sequence(4) };
    assert_eq!(
        leader.apply(&open.view()),
        Ok(Applied::Opened(opened)),
        "the older epoch's last event counts"
    );
    assert_eq!(ask(&leader, p, 2, 3), duplicate(3), "dedup outlives the epoch");
    assert_eq!(ask(&leader, p, 2, 4), Admit::Append);
}

#[test]
fn the_table_is_bounded_and_expired_producers_make_room() {
    let mut desk = Desk::new(10 * SECOND, 2);
    for name in ["a", "b"] {
        desk.open(name);
    }
    let mut producers = desk.applied_to(desk.last_index());
    let too_many = OpenError::TooMany { limit: 2 };
    assert_eq!(producers.would_open("c"), Err(too_many));
    assert!(producers.would_open("a").is_ok(), "a known name needs no room");
    let refused = desk.open("c");
    assert_eq!(producers.apply(&refused.view()), Ok(Applied::OpenRefused(too_many)));
    assert_eq!(producers.count(), 2);

    desk.log_time_ns = 5 * SECOND;
    producers.apply(&desk.batch(&[(ProducerId(2), 1, "a", 1)]).view()).unwrap();
    desk.log_time_ns = 11 * SECOND;
    let late = desk.noop();
    producers.note_appended(&late.view()).unwrap();
    assert!(producers.would_open("c").is_ok(), "'b' will have gone when the entry is applied");
    let opened = desk.open("c");
    producers.note_appended(&opened.view()).unwrap();
    assert_eq!(producers.would_open("d"), Err(too_many), "'a' was active");
    producers.apply(&late.view()).unwrap();
    assert!(matches!(producers.apply(&opened.view()), Ok(Applied::Opened(_))));
    assert_eq!(producers.count(), 2);
    assert_eq!(producers.checksum(), producers.recompute_checksum());
}

#[test]
fn one_entry_removes_a_bounded_number_of_expired_producers() {
    let count = EXPIRED_PER_ENTRY_MAX as u32 + 10;
    let mut desk = Desk::new(SECOND, count);
    (0..count).for_each(|number| {
        desk.open(&format!("p{number}"));
    });
    desk.log_time_ns = 10 * SECOND;
    desk.noop();
    let mut producers = desk.applied_to(desk.last_index());
    assert_eq!(producers.count(), 10, "left for the next entry");
    let last = ProducerId(u64::from(count) + 1);
    assert_eq!(ask(&producers, last, 1, 1), Admit::UnknownProducer, "gone all the same");
    assert_eq!(producers.name_of(last), None);
    producers.apply(&desk.open(&format!("p{}", count - 1)).view()).unwrap();
    assert_eq!(producers.count(), 1);
    assert_eq!(producers.checksum(), producers.recompute_checksum());
}

#[test]
fn a_wider_window_brings_no_expired_producer_back() {
    let mut desk = Desk::new(SECOND, 10);
    let p = ProducerId(desk.open("p").index().0);
    desk.log_time_ns = 3 * SECOND;
    desk.noop();
    let expired = desk.last_index();
    desk.configure(DAY, 10);
    let leader = desk.led_from(LogIndex(2));
    assert_eq!(ask(&leader, p, 1, 1), Admit::UnknownProducer);
    assert_eq!(ask(&desk.led_from(expired), p, 1, 1), Admit::UnknownProducer);
    assert_eq!(ask(&desk.applied_to(desk.last_index()), p, 1, 1), Admit::UnknownProducer);
}

#[test]
fn an_undecodable_body_changes_nothing() {
    let (mut desk, p) = desk_with_p();
    let entry = desk.batch(&row(p, 1..=1));
    let mut producers = desk.applied_to(LogIndex(2));
    let before = producers.clone();
    // The contents are checked apart from the checksums: an events header over an events body of another count.
    let (bytes, mut header) = (entry.bytes().to_vec(), *entry.header());
    header.event_count = 2;
    let mut damaged = bytes;
    damaged[64] = 2;
    let crc = crate::base::checksum::crc32(&damaged[..76]);
    damaged[76..80].copy_from_slice(&crc.to_le_bytes());
    header.header_crc = crc;
    let chain_at = damaged.len() - 16;
    damaged[chain_at..chain_at + 8].copy_from_slice(&header.chain().to_le_bytes());
    let (view, _) = crate::entry::EntryView::parse(&damaged).unwrap();
    assert!(producers.apply(&view).is_err());
    assert!(producers.note_appended(&view).is_err());
    assert_eq!(producers, before);
}
