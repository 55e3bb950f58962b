//! The batcher between core, disk, clients and peers.

use tercet::agent::Agent;
use tercet::agent::batcher::BatcherLimits;
use tercet::agent::boot::boot_as_told;
use tercet::agent::commands::{
    BatcherReply, ConductorNotice, ConductorRequest, Contact, ContactVerdict, LogCommand, LogEvent,
    PeerIdentity, SenderCommand,
};
use tercet::agent::control::Fatal;
use tercet::base::clock::{Clock, NS_PER_MS, NS_PER_S};
use tercet::base::ids::{EntryId, Incarnation, LogIndex, Offset, Sequence, Term};
use tercet::entry::{Entry, LogFloor, SealContext, encode_noop};
use tercet::log::layout::{ENTRIES_POSITION, segment_name};
use tercet::log::{LogStore, SegmentMark, StoredHardState};
use tercet::protocol::client::AckKind;
use tercet::raft::{LogView, Message, Role};
use tercet::sim::disk::SimDisk;

use crate::bench::{
    Bench, batch_after, context_after, data_dir, first_entry, formatted, id, n, noop_after, open_after,
    options,
};

fn heartbeat(term: u64, commit: u64, round: u64) -> Message {
    Message::Heartbeat { term: Term(term), commit: LogIndex(commit), round }
}

/// Sequences and offsets acknowledged by these answers.
fn acknowledged(replies: &[BatcherReply]) -> Vec<(Sequence, Offset)> {
    let runs = replies.iter().filter_map(|reply| match reply {
        BatcherReply::Ack { run, .. } => Some((run.first_sequence, run.first_offset)),
        _ => None,
    });
    runs.collect()
}

/// Time goes by while both peers answer every heartbeat, and say that entries up to `stable` are stable there. What
/// else they were told.
fn live_on(bench: &mut Bench, ns: u64, stable: u64) -> Vec<Message> {
    live_on_each(bench, ns, [stable; 2])
}

/// The same, with what is stable at each of them.
fn live_on_each(bench: &mut Bench, ns: u64, stable: [u64; 2]) -> Vec<Message> {
    let mut told = Vec::new();
    for _ in 0..ns / (10 * NS_PER_MS) {
        bench.wait(10 * NS_PER_MS);
        for (peer, stable) in [2, 3].into_iter().zip(stable) {
            for message in bench.said_to(peer) {
                let Message::Heartbeat { term, round, .. } = message else {
                    told.push(message);
                    continue;
                };
                let stable = LogIndex(stable);
                bench.hear(peer, Message::HeartbeatReply { term, round, appended: stable, stable });
            }
        }
    }
    told
}

/// A leader with so many entries, of an event each, that are not flushed here; all before them is stable everywhere. Its
/// term, and the index of the first of them.
fn leader_that_waits_for_flushes(count: u64) -> (Bench, u64, u64) {
    let mut bench = Bench::fresh();
    let (term, producer, epoch) = bench.leader_with_producer();
    bench.connect(2);
    bench.connect(3);
    let settled = bench.batcher.raft().last_id().index.0;
    live_on(&mut bench, 100 * NS_PER_MS, settled);
    for sequence in 1..=count {
        bench.publish(producer, epoch, sequence);
        // Behind an entry in flight the next batch waits for a millisecond.
        bench.wait(2 * NS_PER_MS);
    }
    assert_eq!(bench.batcher.raft().last_id().index.0, settled + count);
    (bench, term, settled + 1)
}

fn leader_that_waits_for_its_disk() -> (Bench, u64) {
    let (bench, term, _) = leader_that_waits_for_flushes(1);
    (bench, term)
}

#[test]
fn pitfall_10b_the_last_words_of_a_dead_leader_do_not_renew_the_promise_to_it() {
    let mut bench = Bench::fresh();
    bench.connect(2);
    bench.connect(3);
    bench.hear(2, heartbeat(1, 1, 1));
    bench.said_to(3);
    // In the rings at the same moment: what the leader said last, and that it is gone.
    assert!(bench.post(2, heartbeat(1, 1, 2), Vec::new()));
    assert!(bench.conductor.to_batcher.push(ConductorRequest::Gone(n(2))).is_ok());
    bench.turn();
    assert_eq!(bench.batcher.raft().leader(), None);
    bench.wait(20 * NS_PER_MS);
    assert!(bench.said_to(3).iter().any(|said| matches!(said, Message::PreVote { .. })));
}

#[test]
fn a_node_that_was_late_itself_suspects_nobody_before_it_has_listened_again() {
    let mut bench = Bench::fresh();
    bench.connect(2);
    bench.connect(3);
    bench.hear(2, heartbeat(1, 1, 1));
    let asks =
        |bench: &mut Bench| bench.said_to(3).iter().any(|said| matches!(said, Message::PreVote { .. }));
    assert!(!asks(&mut bench));
    // It stood still for a second; nothing of what the leader said meanwhile has reached it yet.
    bench.clock.mono_ns.set(bench.clock.now_ns() + NS_PER_S);
    bench.turn();
    bench.wait(100 * NS_PER_MS);
    assert!(!asks(&mut bench), "its own lateness proves nothing about the leader");
    bench.wait(150 * NS_PER_MS);
    assert!(asks(&mut bench), "the leader's silence does");
}

#[test]
fn pitfall_12_a_leader_whose_disk_alone_hangs_hands_over() {
    let (mut bench, term) = leader_that_waits_for_its_disk();
    let last = bench.batcher.raft().last_id().index.0;
    // Twice the limit.
    let told = live_on(&mut bench, NS_PER_S, last);
    assert_eq!(bench.batcher.applied().0, LogIndex(last), "the others commit without this disk");
    assert_ne!(bench.batcher.raft().role(), Role::Leader);
    assert!(told.contains(&Message::TimeoutNow { term: Term(term) }), "{told:?}");
}

/// Of the simulator (seeds 70712 and 71764): the cluster stood still for as long as the disk hung.
#[test]
fn pitfall_12_a_leader_whose_disk_hangs_gives_up_also_where_nothing_is_committed_without_it() {
    let (mut bench, _) = leader_that_waits_for_its_disk();
    let last = bench.batcher.raft().last_id().index.0;
    // One of the others has everything; the other one waits for what only this disk can give it.
    live_on_each(&mut bench, NS_PER_S, [last, last - 1]);
    assert_eq!(bench.batcher.applied().0, LogIndex(last - 1));
    assert_ne!(bench.batcher.raft().role(), Role::Leader);
}

#[test]
fn pitfall_12_what_another_disk_got_done_before_both_hang_costs_no_election() {
    let (mut bench, term, first) = leader_that_waits_for_flushes(2);
    // The other one had flushed the first event, and hangs with the second one.
    assert_eq!(live_on_each(&mut bench, 3 * NS_PER_S, [first, first - 1]), []);
    let raft = bench.batcher.raft();
    assert_eq!((raft.role(), raft.term()), (Role::Leader, Term(term)));
    // It goes on, and that is another matter.
    live_on_each(&mut bench, NS_PER_S, [first + 1, first - 1]);
    assert_ne!(bench.batcher.raft().role(), Role::Leader);
}

#[test]
fn a_disk_that_is_slow_and_gets_on_is_no_hanging_one() {
    let (mut bench, term) = leader_that_waits_for_its_disk();
    let last = bench.batcher.raft().last_id().index.0;
    // A roll on a slow disk: one sync after the other, and nothing to report before the last one.
    for _ in 0..12 {
        assert_eq!(live_on(&mut bench, 200 * NS_PER_MS, last), []);
        bench.pulse.beat();
    }
    assert_eq!(bench.batcher.applied().0, LogIndex(last), "the others go on meanwhile");
    bench.flush();
    let raft = bench.batcher.raft();
    assert_eq!((raft.role(), raft.term()), (Role::Leader, Term(term)));
}

#[test]
fn pitfall_12_disks_that_hang_together_cost_no_election() {
    let (mut bench, term) = leader_that_waits_for_its_disk();
    let last = bench.batcher.raft().last_id().index.0;
    assert_eq!(live_on(&mut bench, 3 * NS_PER_S, last - 1), [], "no disk gets on");
    assert_eq!(bench.batcher.raft().role(), Role::Leader);
    // The others come back a little earlier.
    assert_eq!(live_on(&mut bench, 100 * NS_PER_MS, last), []);
    assert_eq!(bench.batcher.applied().0, LogIndex(last));
    bench.flush();
    assert_eq!(live_on(&mut bench, NS_PER_S, last), []);
    let raft = bench.batcher.raft();
    assert_eq!((raft.role(), raft.term()), (Role::Leader, Term(term)));
}

#[test]
fn pitfall_26_an_acknowledgement_waits_for_the_commit_and_a_lost_term_is_told_as_unknown() {
    let mut bench = Bench::fresh();
    let (term, producer, epoch) = bench.leader_with_producer();
    bench.publish(producer, epoch, 1);
    assert!(bench.replies().is_empty(), "appended");
    bench.flush();
    assert!(bench.replies().is_empty(), "flushed here alone");
    let last = bench.batcher.raft().last_id().index.0;
    bench.hear_accepted(2, term, last);
    assert_eq!(acknowledged(&bench.replies()), [(Sequence(1), Offset(1))]);
    // The second event is in flight when a newer term ends this one.
    bench.publish(producer, epoch, 2);
    bench.flush();
    bench.hear(2, heartbeat(term + 1, last, 1));
    let replies = bench.replies();
    assert!(matches!(replies[..], [BatcherReply::NotLeader { .. }]), "'unknown, ask the next leader'");
    // Even where that event turns out to be committed, by whomever: the answer is the next leader's to give.
    let in_flight = bench.batcher.raft().last_id();
    bench.hear_entries(2, term + 1, in_flight, &[], in_flight.index.0);
    assert_eq!(bench.batcher.applied().0, in_flight.index);
    assert!(bench.replies().is_empty());
}

#[test]
fn pitfall_26_a_duplicate_of_an_event_in_flight_waits_for_its_commit_too() {
    let mut bench = Bench::fresh();
    let (term, producer, epoch) = bench.leader_with_producer();
    bench.publish(producer, epoch, 1);
    bench.publish(producer, epoch, 1);
    bench.flush();
    assert!(bench.replies().is_empty());
    let last = bench.batcher.raft().last_id().index.0;
    bench.hear_accepted(3, term, last);
    let replies = bench.replies();
    assert_eq!(acknowledged(&replies), [(Sequence(1), Offset(1)); 2]);
    let kinds = replies.iter().filter_map(|reply| match reply {
        BatcherReply::Ack { run, .. } => Some(run.kind),
        _ => None,
    });
    assert!(kinds.eq([AckKind::Written, AckKind::Duplicate]));
}

#[test]
fn pitfall_28_a_report_of_the_log_before_a_truncation_makes_nothing_stable_or_readable() {
    let first = first_entry();
    let old = noop_after(&first, 2);
    let old = [old.clone(), noop_after(&old, 2)];
    let new = noop_after(&first, 3);
    let new = [new.clone(), noop_after(&new, 3)];
    let mut bench = Bench::fresh();
    bench.hear_entries(2, 2, id(0, 1), &old, 1);
    bench.hear_entries(3, 3, id(0, 1), &new, 3);
    assert!(bench.written.iter().any(|c| matches!(c, LogCommand::TruncateFrom { generation: 1, .. })));
    assert_eq!(bench.batcher.applied().0, LogIndex(3));
    bench.said_to(3);
    // The flush of the old entries 2 and 3 comes back only now.
    bench.report(0, 3);
    assert!(bench.acknowledged_to(3).is_none_or(|stable| stable == 1), "no word of what is not on disk");
    assert_eq!(bench.delivery.commit_tail.readable_index(), 1, "the file still holds other entries there");
    assert_eq!(bench.batcher.raft().stable_index(), LogIndex(1));
    bench.report(1, 3);
    assert_eq!(bench.acknowledged_to(3), Some(3));
    assert_eq!(bench.delivery.commit_tail.readable_index(), 3);
}

/// What a reader of the files is told to end with: an entry, and the last event up to there.
#[test]
fn pitfall_29_what_can_be_read_ends_where_the_file_does_and_not_where_the_commit_index_is() {
    let open = open_after(&first_entry(), 2);
    let one = batch_after(&open, 2, 1, 10);
    let two = batch_after(&one, 2, 2, 10);
    let mut bench = Bench::fresh();
    bench.hear_entries(2, 2, id(0, 1), &[open, one, two], 4);
    let tail = bench.delivery.commit_tail.clone();
    let readable = || (tail.readable_index(), tail.readable_offset());
    assert_eq!((tail.commit_index(), tail.last_offset(), readable()), (4, 2, (1, 0)));
    bench.report(0, 3);
    assert_eq!(readable(), (3, 1));
    bench.report(0, 4);
    assert_eq!(readable(), (4, 2));
}

/// Rule 16: it ends with the reason, and says nothing of what it could not apply. It went round that entry for ever.
#[test]
fn a_committed_entry_that_cannot_be_applied_ends_the_node() {
    let noop = noop_after(&first_entry(), 2);
    let of_a_stranger = batch_after(&noop, 2, 1, 10);
    let after = noop_after(&of_a_stranger, 2);
    let mut bench = Bench::fresh();
    bench.hear_entries(2, 2, id(0, 1), &[noop, of_a_stranger, after], 4);
    let Some(Fatal::Unknown(reason)) = bench.control.fatal() else { panic!("it goes on") };
    assert!(reason.contains("cannot apply the entry at"), "{reason}");
    assert_eq!(bench.batcher.applied().0, LogIndex(2));
    bench.flush();
    bench.wait(NS_PER_S);
    assert_eq!(bench.batcher.applied().0, LogIndex(2), "nothing may be applied any more");
    assert_eq!(bench.delivery.commit_tail.commit_index(), 0, "it was told nothing of that turn");
    let said = bench.said_to(3);
    assert!(said.is_empty(), "it does not campaign either: {said:?}");
}

/// The core counts an entry that the log did not take: nothing may come of that before the node ends. It panicked.
#[test]
fn an_entry_that_does_not_continue_the_log_ends_the_node_before_anything_is_made_of_it() {
    // As if the leader's first entry were another one.
    let stray = noop_after(&noop_after(&first_entry(), 0), 2);
    let context = SealContext { index: LogIndex(2), ..context_after(Some(&stray), 2) };
    let strange = encode_noop(&context);
    let mut bench = Bench::fresh();
    bench.said_to(2);
    bench.hear_entries(2, 2, id(0, 1), std::slice::from_ref(&strange), 2);
    let Some(Fatal::Divergence(reason)) = bench.control.fatal() else { panic!("it goes on") };
    assert!(reason.contains("does not continue this node's log"), "{reason}");
    assert_eq!(bench.batcher.applied().0, LogIndex(0));
    assert!(!bench.written.iter().any(|command| matches!(command, LogCommand::Append(_))));
    bench.wait(NS_PER_S);
    assert_eq!((bench.batcher.applied().0, bench.acknowledged_to(2)), (LogIndex(0), None));
}

#[test]
fn pitfall_29_subscribers_get_no_entry_before_it_is_committed_and_never_one_that_was_cut() {
    let first = first_entry();
    let (old, new) = (noop_after(&first, 2), noop_after(&first, 3));
    let mut bench = Bench::fresh();
    bench.hear_entries(2, 2, id(0, 1), std::slice::from_ref(&old), 1);
    bench.flush();
    let tail = &bench.delivery.commit_tail;
    assert_eq!((tail.commit_index(), tail.last_offset(), tail.readable_index()), (1, 0, 1));
    let shown = bench.delivered();
    assert!(shown.iter().all(|entry| entry.index() == LogIndex(1)), "flushed here, committed by nobody");
    bench.hear_entries(3, 3, id(0, 1), std::slice::from_ref(&new), 1);
    assert!(bench.delivered().iter().all(|entry| entry.index() == LogIndex(1)));
    bench.hear_entries(3, 3, new.id(), &[], 2);
    let shown: Vec<Entry> = bench.delivered().into_iter().filter(|e| e.index() > LogIndex(1)).collect();
    assert_eq!(shown, [new]);
}

#[test]
fn pitfall_39_a_checkpoint_that_never_gets_written_holds_up_no_heartbeat() {
    let mut bench = Bench::fresh();
    let (term, producer, epoch) = bench.leader_with_producer();
    bench.connect(2);
    bench.connect(3);
    let settled = bench.batcher.raft().last_id().index.0;
    live_on(&mut bench, 100 * NS_PER_MS, settled);
    let floor = LogFloor { index: LogIndex(2), offset: Offset(1) };
    let begun = |at: u64| LogEvent::SegmentBegun(SegmentMark { floor, bytes_before: at, log_time_ns: at });
    for at in 0..10 {
        // The log writer begins segments and never finishes a checkpoint.
        assert!(bench.writer.to_batcher.push(begun(at)).is_ok());
        bench.publish(producer, epoch, at + 1);
        let last = bench.batcher.raft().last_id().index.0;
        bench.report(0, last);
        live_on(&mut bench, 100 * NS_PER_MS, last);
        assert_eq!(bench.batcher.applied().0, LogIndex(last), "commits go on");
    }
    assert_eq!(bench.batcher.raft().term(), Term(term));
    assert_eq!(bench.batcher.raft().role(), Role::Leader, "so heartbeats left and were answered");
    let ordered = bench.written.iter().filter(|command| matches!(command, LogCommand::Checkpoint(_)));
    assert_eq!(ordered.count(), 1, "one at a time");
    assert!(bench.writer.to_batcher.push(LogEvent::CheckpointWritten).is_ok());
    live_on(&mut bench, 20 * NS_PER_MS, settled);
    let ordered = bench.written.iter().filter(|command| matches!(command, LogCommand::Checkpoint(_)));
    assert_eq!(ordered.count(), 2, "and then the newest state");
}

#[test]
fn pitfall_46_a_wall_clock_that_jumps_changes_nothing_but_the_time_shown() {
    const YEAR_NS: u64 = 365 * 24 * 3600 * NS_PER_S;
    let mut bench = Bench::fresh();
    bench.clock.unix_ns.set(50 * YEAR_NS);
    let (term, producer, epoch) = bench.leader_with_producer();
    let mut entries = Vec::new();
    for (sequence, unix_ns) in [(1, 50 * YEAR_NS), (2, 51 * YEAR_NS), (3, YEAR_NS)] {
        bench.clock.unix_ns.set(unix_ns);
        bench.wait(10 * NS_PER_MS);
        bench.publish(producer, epoch, sequence);
        bench.settle(term);
        match bench.written.last() {
            Some(LogCommand::Append(entry)) => entries.push(entry.clone()),
            _ => panic!("no entry was appended"),
        }
    }
    let shown: Vec<u64> = entries.iter().map(|entry| entry.header().timestamp_unix_ns).collect();
    assert_eq!(shown, [50 * YEAR_NS, 51 * YEAR_NS, YEAR_NS]);
    let elapsed_ns = entries.windows(2).map(|w| w[1].header().log_time_ns - w[0].header().log_time_ns);
    assert_eq!(
        elapsed_ns.collect::<Vec<_>>(),
        [10 * NS_PER_MS; 2],
        "the log's time is the monotonic clock's"
    );
    assert_eq!((bench.batcher.raft().role(), bench.batcher.raft().term()), (Role::Leader, Term(term)));
    assert_eq!(acknowledged(&bench.replies()).len(), 3);
}

#[test]
fn pitfall_48_a_peer_is_let_in_only_under_the_incarnation_pinned_and_flushed_first() {
    let mut bench = Bench::with_pins(&formatted(1), BatcherLimits::default(), &[]);
    let contact = |incarnation, configuration_index, has_accepted| {
        let configuration_index = LogIndex(configuration_index);
        let identity = PeerIdentity { incarnation: Incarnation(incarnation), configuration_index };
        Contact { peer: n(2), identity, has_accepted }
    };
    let post = |bench: &mut Bench, contact| {
        assert!(bench.conductor.to_batcher.push(ConductorRequest::Contact(contact)).is_ok());
        // One duty cycle: the writer has not flushed anything by its end.
        bench.batcher.do_work(bench.clock.now_ns(), &[]);
        bench.conductor.from_batcher.pop()
    };
    let decided = |contact, verdict| Some(ConductorNotice::Decided(contact, verdict));
    let (knocks, later) = (contact(6, 1, false), contact(6, 2, true));
    assert_eq!(post(&mut bench, knocks), decided(knocks, ContactVerdict::LetIn), "it may mean another disk");
    assert_eq!(post(&mut bench, later), decided(later, ContactVerdict::LetIn), "its log will say who counts");
    let (first, other) = (contact(5, 1, true), contact(6, 1, true));
    assert_eq!(post(&mut bench, first), None, "pinned, and not durable yet");
    assert_eq!(post(&mut bench, other), decided(other, ContactVerdict::Refused), "another formatting");
    bench.turn();
    assert_eq!(bench.conductor.from_batcher.pop(), decided(first, ContactVerdict::Known), "durable");
    assert_eq!(post(&mut bench, first), decided(first, ContactVerdict::Known));
    for contact in [knocks, other] {
        assert_eq!(post(&mut bench, contact), decided(contact, ContactVerdict::Refused));
    }
}

#[test]
fn pitfall_49_a_peer_that_takes_nothing_starves_no_other() {
    let mut bench = Bench::fresh();
    let (term, producer, epoch) = bench.leader_with_producer();
    bench.connect(2);
    bench.connect(3);
    bench.said_to(2);
    // Nobody empties the ring to node 3: heartbeats alone fill it.
    let mut reached = 0;
    for sequence in 1..=1_500 {
        bench.wait(50 * NS_PER_MS);
        bench.publish(producer, epoch, sequence);
        bench.flush();
        let last = bench.batcher.raft().last_id().index.0;
        bench.hear_accepted(2, term, last);
        while let Some(command) = bench.senders[0].from_batcher.pop() {
            if let SenderCommand::Append { entries, .. } = command {
                reached += entries.len();
            }
        }
        assert_eq!(bench.batcher.applied().0, LogIndex(last), "event {sequence}");
        assert_eq!(acknowledged(&bench.replies()).len(), 1, "event {sequence}");
    }
    assert!(bench.senders[1].from_batcher.peek().is_some());
    assert!(reached > 1_000, "{reached} entries were sent to node 2");
}

#[test]
fn pitfall_53_a_follower_takes_in_no_more_than_its_disk_may_owe() {
    let limit = 8 << 10;
    let limits = BatcherLimits { unsettled_bytes_limit: limit, ..BatcherLimits::default() };
    let mut bench = Bench::new(&formatted(1), limits);
    let mut last = first_entry();
    let mut sent = 0;
    for sequence in 1..=20 {
        let entry = batch_after(&last, 2, sequence, 2_000);
        let message = Message::Append {
            term: Term(2),
            prev: last.id(),
            entries: vec![Term(2)],
            commit: LogIndex(1),
            wants_reply: false,
        };
        assert!(bench.post(2, message, vec![entry.clone()]));
        sent += entry.len_bytes() as u64;
        last = entry;
    }
    bench.turn();
    let owed = |bench: &Bench| -> u64 {
        let entries = bench.written.iter().filter_map(|command| match command {
            LogCommand::Append(entry) => Some(entry.len_bytes() as u64),
            _ => None,
        });
        entries.sum()
    };
    assert!(owed(&bench) >= limit && owed(&bench) < limit + 4_000, "{} of {sent} bytes", owed(&bench));
    for _ in 0..20 {
        bench.flush();
    }
    assert_eq!(owed(&bench), sent, "the rest waited and came in as the disk went on");
}

/// An event that is sent again while its original is not committed appends nothing, but its answer waits.
#[test]
fn pitfall_53_a_leader_that_commits_nothing_keeps_no_more_answers_to_duplicates_than_its_limit() {
    let limits = BatcherLimits { waiters_limit: 40, ..BatcherLimits::default() };
    let mut bench = Bench::new(&formatted(1), limits);
    let (term, producer, epoch) = bench.leader_with_producer();
    for _ in 0..40 {
        bench.publish(producer, epoch, 1);
    }
    assert_eq!(bench.batcher.holdings().waiters_count, 40);
    for _ in 0..10 {
        bench.publish(producer, epoch, 1);
    }
    assert_eq!(bench.batcher.holdings().waiters_count, 40, "the others wait where they are");
    bench.flush();
    let last = bench.batcher.raft().last_id().index.0;
    bench.hear_accepted(2, term, last);
    bench.turn();
    assert_eq!(acknowledged(&bench.replies()).len(), 50, "and are answered once there is room");
}

#[test]
fn pitfall_54_a_draining_leader_refuses_what_is_new_and_answers_what_is_in_flight() {
    let mut bench = Bench::fresh();
    let (term, producer, epoch) = bench.leader_with_producer();
    bench.publish(producer, epoch, 1);
    bench.control.drain();
    bench.publish(producer, epoch, 2);
    assert!(matches!(bench.replies()[..], [BatcherReply::NotLeader { .. }]), "the new one, and only that");
    bench.flush();
    assert!(!bench.control.is_drained(), "event 1 is not committed yet");
    let last = bench.batcher.raft().last_id().index.0;
    bench.hear_accepted(2, term, last);
    assert_eq!(acknowledged(&bench.replies()), [(Sequence(1), Offset(1))]);
    bench.turn();
    assert!(!bench.control.is_drained(), "leadership is being handed over");
    let last = bench.batcher.raft().last_id();
    assert!(bench.post(2, Message::Vote { term: Term(term + 1), last }, Vec::new()));
    bench.turn();
    assert!(bench.control.is_drained(), "it leads no more");
}

/// A disk whose last entry, 5 of term 1, is damaged above the watermark: its header says that it was there.
pub fn with_claimed_tail() -> (SimDisk, EntryId) {
    let disk = formatted(9);
    let mut store = LogStore::open(disk.clone(), data_dir(), options(), &mut |_, _| ()).unwrap().0;
    store.write_hard_state(&StoredHardState { term: Term(1), ..StoredHardState::default() }).unwrap();
    let mut log = vec![first_entry()];
    for sequence in 1..=4 {
        let entry = batch_after(log.last().unwrap(), 1, sequence, 500);
        store.append(entry.clone()).unwrap();
        store.flush().unwrap();
        log.push(entry);
    }
    drop(store);
    disk.kill();
    let position: u64 = log[..4].iter().map(|entry| entry.len_bytes() as u64).sum();
    let segment = data_dir().join("group-0").join(segment_name(1));
    disk.flip_bit(&segment, ENTRIES_POSITION + position + 200, 3);
    (disk, log[4].id())
}

#[test]
fn pitfall_60_a_claimed_tail_found_on_the_disk_binds_the_vote_of_the_node() {
    let (disk, claim) = with_claimed_tail();
    let mut bench = Bench::new(&disk, BatcherLimits::default());
    assert_eq!(bench.batcher.raft().claimed_tail(), Some(claim));
    assert_eq!(bench.batcher.raft().last_id(), id(1, 4));
    let mut votes = |term: u64, last: EntryId| {
        bench.hear(2, Message::Vote { term: Term(term), last });
        let said = bench.said_to(2);
        let granted = said.iter().filter_map(|message| match message {
            Message::VoteReply { granted, .. } => Some(*granted),
            _ => None,
        });
        granted.collect::<Vec<_>>()
    };
    assert_eq!(votes(3, id(1, 4)), [false], "it may have acknowledged entry 5");
    assert_eq!(votes(4, claim), [true]);
}

#[test]
fn pitfall_60_a_claimed_tail_found_on_the_disk_keeps_the_node_from_campaigning() {
    let (disk, _) = with_claimed_tail();
    let mut bench = Bench::new(&disk, BatcherLimits::default());
    bench.wait(2 * NS_PER_S);
    assert_eq!((bench.batcher.raft().role(), bench.batcher.raft().term()), (Role::Follower, Term(1)));
    let said = bench.said_to(2);
    assert!(!said.is_empty() && said.iter().all(|m| matches!(m, Message::ClaimQuery { .. })), "{said:?}");
}

#[test]
fn pitfall_60_a_claim_is_given_up_when_an_operator_says_so_and_stays_given_up() {
    let (disk, claim) = with_claimed_tail();
    let told = boot_as_told(disk.clone(), data_dir(), options(), true).unwrap();
    assert_eq!(told.given_up, Some(claim));
    assert!(told.cut.is_some(), "the torn tail is told of all the same");
    assert_eq!(told.start.restored.hard_state.claimed_tail, None);
    let (last, commit_hint) = (told.start.restored.log.last_id(), told.start.restored.commit_hint);
    drop(told);
    disk.restart();
    let again = boot_as_told(disk.clone(), data_dir(), options(), false).unwrap();
    assert_eq!((again.given_up, again.start.restored.hard_state.claimed_tail), (None, None));
    assert_eq!(again.start.restored.log.last_id(), last);
    assert_eq!(again.start.restored.commit_hint, commit_hint, "what it knows to be committed it keeps");
    drop(again);
    disk.restart();
    let Err(refused) = boot_as_told(disk, data_dir(), options(), true).map(drop) else {
        panic!("there is nothing to give up")
    };
    assert!(refused.to_string().contains("nothing to accept"), "{refused}");
}
