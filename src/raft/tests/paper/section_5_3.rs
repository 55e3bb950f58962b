//! Raft paper, section 5.3: replication.

use super::super::{accepted, append, drain, elect, i, id, log_of, members, n, node, rejected, restored, t};
use super::{Few, heartbeat, leader, ok, outcomes, propose};
use crate::base::ids::EntryId;
use crate::raft::{AppendOutcome, HardState, ProgressState, Raft, TimerKind};

/// The answer of a follower with this log to one Append of term 9.
fn answer(log: &[u64], prev: EntryId, entries: &[u64]) -> AppendOutcome {
    let mut raft = node(2, members(3, &[]), log);
    raft.step(n(1), append(9, prev, entries, 0));
    let all = outcomes(&drain(&mut raft));
    assert_eq!(all.len(), 1);
    all[0]
}

/// Raft paper 5.3; figure 2, AppendEntries 2: entries are refused where the follower has nothing at the index before
/// them, or an entry of another term; and taken where both agree.
#[test]
fn paper_5_3_the_consistency_check_refuses_a_gap_and_another_term() {
    let log = [1, 1, 4];
    for (prev, agrees) in [
        (EntryId::ZERO, true),
        (id(1, 1), true),
        (id(1, 2), true),
        (id(4, 3), true),
        (id(2, 2), false),
        (id(3, 3), false),
        (id(5, 3), false),
        (id(4, 4), false),
        (id(9, 50), false),
    ] {
        let outcome = answer(&log, prev, &[]);
        match outcome {
            AppendOutcome::Accepted { appended, .. } => assert!(agrees && appended == prev.index, "{prev}"),
            AppendOutcome::Rejected { prev_index, hint } => {
                assert!(!agrees && prev_index == prev.index, "{prev}");
                assert!(hint.index <= prev.index && hint.term <= prev.term, "{prev}: {hint}");
            }
        }
    }
}

/// Raft paper 5.3, figure 3: two logs that agree on the term at an index agree on everything before it. An Append that
/// passes the check makes the follower's log that of the leader, up to the last entry sent.
#[test]
fn paper_5_3_log_matching_holds_after_every_append() {
    // Every log of up to four entries of terms 1 to 3, against the leader's, of which every part is sent.
    let leads = [1, 2, 2, 3];
    let mut checked = 0;
    for code in 0..4u64.pow(4) {
        let digits: Vec<u64> = (0..4).map(|at| code / 4u64.pow(at) % 4).collect();
        let len = digits.iter().position(|&term| term == 0).unwrap_or(4);
        let log = &digits[..len];
        // Equal terms at an index mean equal logs up to there, by what happened before.
        let shared = (0..len).rev().find(|&at| log[at] == leads[at]);
        let is_history = log.is_sorted() && shared.is_none_or(|at| log[..at] == leads[..at]);
        if !is_history || digits[len..].iter().any(|&term| term != 0) {
            continue;
        }
        for (from, to) in (0..=4).flat_map(|from| (from..=4).map(move |to| (from, to))) {
            let prev = if from == 0 { EntryId::ZERO } else { id(leads[from - 1], from as u64) };
            let mut raft = node(2, members(3, &[]), log);
            raft.step(n(1), append(9, prev, &leads[from..to], 0));
            let now = log_of(&raft);
            if from <= len && log[..from] == leads[..from] {
                assert_eq!(now[..to], leads[..to], "{log:?} after {from}..{to}");
            } else {
                assert_eq!(now, log, "{log:?} refuses {from}..{to}");
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 20 * 15, "histories times parts");
}

/// Raft paper 5.3, figure 7: the leader of term 8 brings each of the six followers of the figure to its own log, whether
/// it lacks entries, has too many, or both; and asks each one at most once a term.
#[test]
fn paper_5_3_figure_7_every_follower_comes_to_the_leaders_log() {
    let leads = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for (letter, log) in ('a'..).zip(followers) {
        let hard = HardState { term: t(7), ..HardState::default() };
        let mut raft = restored(1, members(3, &[]), &leads, hard);
        elect(&mut raft);
        assert_eq!(raft.term(), t(8));
        let mut few = Few::new(vec![raft, node(2, members(3, &[]), log)]);
        few.settle();
        assert_eq!(log_of(few.at(2)), [&leads[..], &[8]].concat(), "({letter})");
        // To node 3, which is not there, goes one more.
        assert!(few.probes <= 1 + 5, "({letter}) took {} questions", few.probes);
        assert_eq!(few.at(1).commit_index(), i(11), "({letter})");
    }
}

/// Raft paper 5.3, figure 3: a leader never overwrites or removes an entry of its own log, whatever it is told.
#[test]
fn paper_5_3_a_leader_only_appends() {
    let mut raft = leader(3, &[1, 1, 2]);
    let mut log = log_of(&raft);
    for round in 0..4u64 {
        raft.propose().unwrap();
        log.push(3);
        for from in [2, 3] {
            raft.step(n(from), rejected(3, round + 2, id(1, 1)));
            raft.step(n(from), append(2, id(1, 1), &[1, 1], 1));
            raft.step(n(from), accepted(3, round, round));
            raft.step(n(from), heartbeat(2, 1, 1));
            raft.timer_fired(TimerKind::Heartbeat);
        }
        let ready = drain(&mut raft);
        assert!(ready.log_ops.is_empty());
        assert_eq!(log_of(&raft), log);
    }
}

/// Raft paper 5.3; figure 2, state on leaders: a new leader begins with next_index behind its last entry and knows of
/// nobody that it has anything; both are made anew in each term.
#[test]
fn paper_5_3_a_new_leader_begins_behind_its_own_last_entry_and_knows_nothing() {
    let mut raft = node(1, members(3, &[]), &[1, 1, 1]);
    elect(&mut raft);
    for _ in 0..2 {
        let last_before = raft.last_id().index.prev();
        for peer in [2, 3] {
            let progress = raft.progress(n(peer)).unwrap();
            assert_eq!((progress.next(), progress.stable()), (last_before.next(), i(0)));
            assert_eq!(progress.state(), ProgressState::Probe);
        }
        raft.step(n(2), accepted(raft.term().get(), 3, 3));
        assert_eq!(raft.progress(n(2)).unwrap().stable(), i(3));
        raft.step_down();
        drain(&mut raft);
        elect(&mut raft);
    }
}

/// Raft paper 5.3: a leader goes on sending to a follower that does not answer, also after it has answered the client.
#[test]
fn paper_5_3_a_leader_tries_again_until_the_follower_has_everything() {
    let mut few = Few::new((1..=3).map(|id| node(id, members(3, &[]), &[1])).collect());
    few.elect(1);
    few.isolate(3);
    few.at(1).propose().unwrap();
    few.settle();
    assert_eq!(few.at(1).commit_index(), i(3), "the client has its answer");
    for _ in 0..50 {
        few.at(1).timer_fired(TimerKind::Heartbeat);
        few.settle();
    }
    assert_eq!(few.at(3).last_id(), id(2, 2));
    few.cut.clear();
    for _ in 0..2 {
        few.at(1).timer_fired(TimerKind::Heartbeat);
        few.settle();
    }
    assert_eq!((few.at(3).last_id(), few.at(3).commit_index()), (id(2, 3), i(3)));
}

/// Raft paper 5.3: what is committed commits all before it, also entries of earlier leaders.
#[test]
fn paper_5_3_an_entry_commits_all_before_it() {
    let mut raft = leader(3, &[1, 1, 2, 3]);
    assert_eq!(raft.commit_index(), i(0));
    raft.step(n(2), accepted(4, 5, 5));
    let ready = drain(&mut raft);
    assert_eq!(ready.commit_index, Some(i(5)));
}

/// Raft paper 5.3; figure 2, all servers 1: followers learn what is committed from the leader's next word, an Append or
/// a heartbeat; the core hands out each rise, once and in order, for whoever applies entries.
#[test]
fn paper_5_3_every_node_learns_what_is_committed_once_and_in_order() {
    let mut raft = node(2, members(3, &[]), &[1]);
    let mut told = Vec::new();
    for message in [
        append(2, id(1, 1), &[2, 2], 0),
        heartbeat(2, 1, 1),
        heartbeat(2, 1, 2),
        append(2, id(2, 3), &[2], 3),
        append(2, id(1, 1), &[2], 2),
        heartbeat(2, 4, 3),
    ] {
        raft.step(n(1), message);
        told.extend(drain(&mut raft).commit_index);
    }
    assert_eq!(told, [i(1), i(3), i(4)]);
}

/// Raft paper 5.3: differs: a leader probes with an empty Append until both agree, and streams from then on without
/// waiting for answers, as far as the window allows.
#[test]
fn differs_5_3_entries_stream_without_waiting_for_answers() {
    let mut raft = leader(3, &[1]);
    let sends = |raft: &mut Raft| {
        let plan = raft.next_send(n(2))?;
        raft.sent(n(2), plan.last, 1);
        Some((plan.first.get(), plan.last.get()))
    };
    assert_eq!(sends(&mut raft), Some((2, 1)), "nothing but a question");
    propose(&mut raft, 20);
    assert_eq!(sends(&mut raft), None, "one at a time");
    raft.step(n(2), accepted(2, 1, 1));
    assert_eq!(sends(&mut raft), Some((2, 9)), "eight entries are the window");
    assert_eq!(sends(&mut raft), None);
    raft.step(n(2), accepted(2, 9, 1));
    assert_eq!(sends(&mut raft), Some((10, 17)), "what has arrived makes room, flushed or not");
    raft.step(n(2), accepted(2, 17, 1));
    assert_eq!(sends(&mut raft), Some((18, 22)));
    assert_eq!(raft.progress(n(2)).unwrap().stable(), i(1));
    assert_eq!(raft.commit_index(), i(0));
}

/// Raft paper 5.3: differs: an Append need not be answered at once; the flush of the follower's disk is the answer.
#[test]
fn differs_5_3_one_answer_serves_all_appends_of_a_flush() {
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(1), append(2, id(1, 1), &[], 0));
    assert_eq!(outcomes(&drain(&mut raft)), [ok(1, 1)]);
    for at in 2..10 {
        let mut message = append(2, id(if at == 2 { 1 } else { 2 }, at - 1), &[2], 0);
        if let crate::raft::Message::Append { wants_reply, .. } = &mut message {
            *wants_reply = false;
        }
        raft.step(n(1), message);
        assert!(outcomes(&drain(&mut raft)).is_empty());
    }
    raft.log_stable(0, i(9));
    assert_eq!(outcomes(&drain(&mut raft)), [ok(9, 9)]);
}
