//! Replication and commit (Raft paper, sections 5.3 and 5.4.2).

use super::{
    accepted, append, drain, elect, i, id, log_of, members, n, node, rejected, restored, t, truncations,
};
use crate::base::ids::{EntryId, LogIndex, NodeId};
use crate::raft::{AppendOutcome, HardState, LogOp, Message, ProgressState, Raft, Ready, Role, TimerKind};

/// The one answer to an Append.
fn outcome(raft: &mut Raft, message: Message) -> AppendOutcome {
    raft.step(n(1), message);
    let replies: Vec<AppendOutcome> = outcomes(&drain(raft));
    assert_eq!(replies.len(), 1, "{replies:?}");
    replies[0]
}

fn outcomes(ready: &Ready) -> Vec<AppendOutcome> {
    ready
        .messages
        .iter()
        .filter_map(|(_, m)| match m {
            Message::AppendReply { outcome, .. } => Some(*outcome),
            _ => None,
        })
        .collect()
}

fn ok(appended: u64, stable: u64) -> AppendOutcome {
    AppendOutcome::Accepted { appended: i(appended), stable: i(stable) }
}

/// A leader of three (or with a learner, 4) in the term after the last of `log`, its no-op appended and stable.
fn leader(log: &[u64], learners: &[u16]) -> Raft {
    let mut raft = node(1, members(3, learners), log);
    elect(&mut raft);
    let last = raft.last_id().index;
    raft.log_stable(0, last);
    drain(&mut raft);
    raft
}

/// Answers the first probe as a follower that has all of the leader's log but the no-op, stable.
fn follow(raft: &mut Raft, peer: NodeId) {
    let plan = raft.next_send(peer).unwrap();
    assert!(plan.wants_reply && plan.last < plan.first);
    raft.sent(peer, plan.last, 0);
    let at = plan.prev.index.get();
    raft.step(peer, accepted(raft.term().get(), at, at));
}

fn propose(raft: &mut Raft, count: usize) {
    for _ in 0..count {
        raft.propose().unwrap();
    }
}

fn send_all(raft: &mut Raft, peer: NodeId, bytes: u64) -> Option<LogIndex> {
    let plan = raft.next_send(peer)?;
    raft.sent(peer, plan.last, bytes);
    Some(plan.last)
}

// ---------------------------------------------------------------------------------------------- the leader's side

/// Raft paper 5.3; figure 2, leaders 3 and 4: entries leave from next_index on; what a follower says it has moves
/// next_index and match_index on; an entry on a majority is committed, and the followers are told.
#[test]
fn paper_5_3_a_leader_streams_counts_and_tells_the_commit_index() {
    let mut raft = leader(&[1], &[]);
    follow(&mut raft, n(2));
    assert_eq!(raft.progress(n(2)).unwrap().state(), ProgressState::Replicate);
    raft.propose().unwrap();
    let plan = raft.next_send(n(2)).unwrap();
    assert_eq!((plan.prev, plan.first, plan.last, plan.wants_reply), (id(1, 1), i(2), i(3), false));
    raft.sent(n(2), i(2), 100);
    assert_eq!(raft.next_send(n(2)).unwrap().first, i(3), "the rest of a prefix");
    raft.sent(n(2), i(3), 100);
    assert!(raft.next_send(n(2)).is_none());
    raft.step(n(2), accepted(2, 3, 3));
    assert_eq!(raft.commit_index(), i(2), "its own disk has the third entry not yet");
    raft.log_stable(0, i(3));
    assert_eq!(raft.commit_index(), i(3));
    let news = raft.next_send(n(2)).unwrap();
    assert!(news.last < news.first && news.commit == i(3), "an empty Append brings the commit index");
    raft.sent(n(2), news.last, 0);
    assert!(raft.next_send(n(2)).is_none(), "once");
}

/// Raft paper 5.4.2, figure 8; figure 2, leaders 5: an entry of an older term is not committed by counting its
/// copies, but along with one of the leader's own term.
#[test]
fn pitfall_13_figure_8_entries_of_an_older_term_are_not_committed_by_counting() {
    // Term 2's entry stands on a quorum, under a leader of term 4: committed only with an entry of term 4.
    let hard = HardState { term: t(3), ..HardState::default() };
    let mut raft = restored(1, members(3, &[]), &[1, 2], hard);
    elect(&mut raft);
    raft.log_stable(0, i(3));
    follow(&mut raft, n(2));
    assert_eq!(raft.progress(n(2)).unwrap().stable(), i(2));
    assert_eq!(raft.commit_index(), i(0), "entry 2 is stable on two of three, but of term 2");
    raft.step(n(2), accepted(4, 3, 3));
    assert_eq!(raft.commit_index(), i(3));
}

/// Raft thesis 10.2.1: the leader writes while it replicates, and counts itself once its own disk has the entry; the
/// followers alone may be a majority before that.
#[test]
fn pitfall_14_a_leader_counts_only_what_its_own_disk_has() {
    let mut raft = node(1, members(3, &[]), &[]);
    elect(&mut raft);
    raft.step(n(2), accepted(1, 1, 1));
    assert_eq!(raft.commit_index(), i(0), "its own no-op is not stable");
    raft.log_stable(0, i(1));
    assert_eq!(raft.commit_index(), i(1));
    // Appended is not stable at the peer either.
    raft.propose().unwrap();
    raft.log_stable(0, i(2));
    raft.step(n(2), accepted(1, 2, 1));
    assert_eq!(raft.commit_index(), i(1));
    // Two followers are a quorum without the leader's disk.
    raft.propose().unwrap();
    raft.step(n(2), accepted(1, 3, 3));
    raft.step(n(3), accepted(1, 3, 3));
    assert_eq!((raft.commit_index(), raft.stable_index()), (i(3), i(2)));
}

#[test]
fn pitfall_16_acknowledgements_of_another_term_do_not_count() {
    let mut raft = leader(&[1, 1], &[]);
    raft.step(n(2), accepted(1, 3, 3));
    let old = Message::HeartbeatReply { term: t(1), round: 1, appended: i(3), stable: i(3) };
    raft.step(n(3), old);
    assert_eq!((raft.commit_index(), raft.role()), (i(0), Role::Leader));
    raft.step(n(2), accepted(3, 3, 3));
    assert_eq!((raft.commit_index(), raft.role(), raft.term()), (i(0), Role::Follower, t(3)));
}

#[test]
fn pitfall_17_learners_and_strangers_are_never_counted() {
    let mut raft = leader(&[], &[4, 5]);
    for from in [4, 5, 6] {
        raft.step(n(from), accepted(1, 1, 1));
    }
    assert_eq!(raft.commit_index(), i(0));
    assert_eq!(raft.progress(n(4)).unwrap().stable(), i(1), "though they receive");
    raft.step(n(3), accepted(1, 1, 1));
    assert_eq!(raft.commit_index(), i(1));
}

#[test]
fn pitfall_21_a_heartbeat_answer_without_verified_entries_raises_nothing() {
    let mut raft = leader(&[1, 1], &[]);
    // A follower with a long log of its own that has verified nothing in this term.
    let mut follower = node(2, members(3, &[]), &[1, 1]);
    follower.step(n(1), Message::Heartbeat { term: t(2), commit: i(3), round: 1 });
    let (_, reply) = drain(&mut follower).messages.pop().unwrap();
    assert_eq!(reply, Message::HeartbeatReply { term: t(2), round: 1, appended: i(0), stable: i(0) });
    assert_eq!(follower.commit_index(), i(0));
    raft.step(n(2), reply);
    assert_eq!((raft.progress(n(2)).unwrap().stable(), raft.commit_index()), (i(0), i(0)));
}

#[test]
fn a_heartbeats_commit_index_is_clamped_to_what_the_peer_holds() {
    let mut raft = leader(&[], &[]);
    raft.propose().unwrap();
    raft.log_stable(0, i(2));
    raft.step(n(2), accepted(1, 2, 2));
    drain(&mut raft);
    raft.timer_fired(TimerKind::Heartbeat);
    let commits: Vec<_> = drain(&mut raft)
        .messages
        .into_iter()
        .map(|(to, m)| match m {
            Message::Heartbeat { commit, .. } => (to, commit),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(commits, [(n(2), i(2)), (n(3), i(0))]);
}

#[test]
fn pitfall_22_stale_and_doubled_replies_move_nothing_back() {
    let mut raft = leader(&[1, 1, 1, 1], &[]);
    let plan = raft.next_send(n(2)).unwrap();
    raft.sent(n(2), plan.last, 0);
    raft.step(n(2), rejected(2, 4, id(1, 1)));
    assert_eq!(raft.progress(n(2)).unwrap().next(), i(2));
    follow(&mut raft, n(2));
    assert_eq!(send_all(&mut raft, n(2), 1), Some(i(5)));
    let before = raft.progress(n(2)).unwrap().clone();
    // The old rejection again, one of something never sent, one far ahead, and older acknowledgements.
    for stale in [
        rejected(2, 4, id(1, 1)),
        rejected(2, 3, id(1, 1)),
        rejected(2, 90, id(1, 1)),
        accepted(2, 1, 1),
        accepted(2, 0, 0),
    ] {
        raft.step(n(2), stale.clone());
        assert_eq!(*raft.progress(n(2)).unwrap(), before, "{stale:?}");
    }
    // Acknowledgements that overtake each other: the higher one stands.
    raft.step(n(2), accepted(2, 5, 5));
    raft.step(n(2), accepted(2, 3, 2));
    assert_eq!((raft.progress(n(2)).unwrap().stable(), raft.commit_index()), (i(5), i(5)));
}

/// Probes until the follower accepts; returns how many probes that took.
fn probes_until_found(leader_log: &[u64], follower_log: &[u64]) -> (usize, LogIndex) {
    let mut raft = leader(leader_log, &[]);
    let term = raft.term().get();
    let mut follower = node(2, members(3, &[]), follower_log);
    for probes in 1..100 {
        let plan = raft.next_send(n(2)).expect("a probe");
        raft.sent(n(2), plan.last, 0);
        let probe = Message::Append {
            term: plan.term,
            prev: plan.prev,
            entries: Vec::new(),
            commit: plan.commit,
            wants_reply: true,
        };
        follower.step(n(1), probe);
        for (_, reply) in drain(&mut follower).messages {
            raft.step(n(2), reply);
        }
        if raft.progress(n(2)).unwrap().state() == ProgressState::Replicate {
            assert_eq!(raft.term().get(), term);
            return (probes, raft.progress(n(2)).unwrap().next());
        }
    }
    panic!("never found");
}

/// Raft paper 5.3; figure 2, leaders 4: after a refusal next_index moves back and the leader asks again; by a whole
/// term at once, as the end of the section suggests.
#[test]
fn pitfall_23_backtracking_takes_a_probe_a_term_not_an_entry() {
    // Figure 7 of the paper, with long runs.
    let run = |term: u64, count: usize| vec![term; count];
    let lead = [run(1, 300), run(4, 200), run(5, 200), run(6, 300)].concat();
    let follower_short = run(1, 100);
    assert_eq!(probes_until_found(&lead, &follower_short), (2, i(101)));
    let follower_f = [run(1, 300), run(2, 300), run(3, 500)].concat();
    let (probes, next) = probes_until_found(&lead, &follower_f);
    assert!(probes <= 4, "{probes} probes");
    assert_eq!(next, i(301));
    let follower_e = [run(1, 300), run(4, 700)].concat();
    let (probes, next) = probes_until_found(&lead, &follower_e);
    assert!(probes <= 3, "{probes} probes");
    assert_eq!(next, i(501));
    // Nothing in common, terms interleaved: still bounded by the terms.
    let odd: Vec<u64> = (0..20).flat_map(|k| run(2 * k + 1, 50)).collect();
    let even: Vec<u64> = (0..20).flat_map(|k| run(2 * k + 2, 50)).collect();
    let (probes, next) = probes_until_found(&even, &odd);
    assert!(probes <= 22, "{probes} probes");
    assert_eq!(next, i(1));
    assert_eq!(probes_until_found(&lead, &[]), (2, i(1)));
}

#[test]
fn pitfall_53_the_window_bounds_entries_and_bytes_in_flight() {
    let mut raft = leader(&[], &[]);
    follow(&mut raft, n(2));
    propose(&mut raft, 20);
    assert_eq!(send_all(&mut raft, n(2), 80), Some(i(8)), "eight entries fit");
    assert!(raft.next_send(n(2)).is_none());
    raft.step(n(2), accepted(1, 3, 0));
    raft.step(n(2), accepted(1, 8, 0));
    assert_eq!(raft.progress(n(2)).unwrap().in_flight_bytes(), 0);
    let plan = raft.next_send(n(2)).unwrap();
    raft.sent(n(2), plan.first, 1000);
    assert!(raft.next_send(n(2)).is_none(), "a thousand bytes fill it as well");
    raft.step(n(2), accepted(1, 9, 0));
    assert_eq!(raft.next_send(n(2)).unwrap().first, i(10));
}

#[test]
fn a_lost_connection_starts_again_from_a_probe_and_loses_nothing() {
    let mut raft = leader(&[], &[]);
    follow(&mut raft, n(2));
    propose(&mut raft, 5);
    send_all(&mut raft, n(2), 5).unwrap();
    raft.step(n(2), accepted(1, 4, 2));
    let commit = raft.commit_index();
    raft.peer_disconnected(n(2));
    raft.peer_connected(n(2));
    assert_eq!(raft.commit_index(), commit);
    let plan = raft.next_send(n(2)).unwrap();
    assert_eq!((plan.prev.index, plan.wants_reply), (i(2), true));
    raft.sent(n(2), plan.last, 0);
    assert!(raft.next_send(n(2)).is_none(), "one probe at a time");
    raft.step(n(2), accepted(1, 4, 4));
    assert_eq!(raft.next_send(n(2)).unwrap().first, i(5), "from where the follower is");
}

#[test]
fn a_window_of_which_nothing_arrives_is_found_out_by_the_next_rounds() {
    let mut raft = leader(&[], &[]);
    follow(&mut raft, n(2));
    let answer = |round| Message::HeartbeatReply { term: t(1), round, appended: i(0), stable: i(0) };
    raft.step(n(2), answer(1));
    send_all(&mut raft, n(2), 1).unwrap();
    for round in 2..=4 {
        raft.timer_fired(TimerKind::Heartbeat);
        raft.step(n(2), answer(round));
    }
    assert_eq!(raft.next_send(n(2)).unwrap().first, i(1), "it goes out again");
}

// -------------------------------------------------------------------------------------------- the follower's side

/// Raft paper 5.3; figure 2, AppendEntries 4 and 5: new entries are appended and acknowledged; differs: what is
/// appended and what is flushed are two numbers, and only the second one counts.
#[test]
fn paper_5_3_a_follower_verifies_appends_and_acknowledges_what_is_stable() {
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(1), append(2, id(1, 1), &[2, 2], 2));
    let ready = drain(&mut raft);
    assert_eq!(ready.log_ops, [LogOp::AppendReceived { first: i(2), last: i(3), skip: 0 }]);
    assert_eq!(outcomes(&ready), [ok(3, 1)]);
    assert_eq!(ready.commit_index, Some(i(2)));
    raft.log_stable(0, i(2));
    assert_eq!(outcomes(&drain(&mut raft)), [ok(3, 2)]);
    raft.log_stable(0, i(2));
    assert!(outcomes(&drain(&mut raft)).is_empty(), "no news, no word");
    raft.log_stable(0, i(3));
    assert_eq!(outcomes(&drain(&mut raft)), [ok(3, 3)]);
}

#[test]
fn an_append_that_asks_nothing_is_answered_by_the_stable_index_alone() {
    let mut raft = node(2, members(3, &[]), &[1]);
    let silent = |prev, entries: &[u64]| match append(1, prev, entries, 0) {
        Message::Append { term, prev, entries, commit, .. } => {
            Message::Append { term, prev, entries, commit, wants_reply: false }
        }
        other => other,
    };
    raft.step(n(1), silent(id(1, 1), &[1]));
    assert_eq!(outcomes(&drain(&mut raft)), [ok(2, 1)], "entry 1 was stable and is verified now");
    raft.step(n(1), silent(id(1, 2), &[1]));
    assert!(outcomes(&drain(&mut raft)).is_empty());
    raft.step(n(1), silent(id(1, 2), &[1]));
    assert!(outcomes(&drain(&mut raft)).is_empty());
    raft.log_stable(0, i(3));
    assert_eq!(outcomes(&drain(&mut raft)), [ok(3, 3)]);
}

/// Raft paper 5.3; figure 2, persistent state: an acknowledgement names what is on the disk and was compared with
/// this leader's log, no more.
#[test]
fn pitfall_15_an_acknowledgement_never_exceeds_what_is_stable_and_verified() {
    // Six entries are stable here; the leader has verified two of them.
    let mut raft = node(2, members(3, &[]), &[1, 1, 1, 1, 1, 1]);
    assert_eq!(outcome(&mut raft, append(2, id(1, 2), &[], 6)), ok(2, 2));
    raft.step(n(1), Message::Heartbeat { term: t(2), commit: i(6), round: 1 });
    let (_, reply) = drain(&mut raft).messages.pop().unwrap();
    assert_eq!(reply, Message::HeartbeatReply { term: t(2), round: 1, appended: i(2), stable: i(2) });
    assert_eq!(raft.commit_index(), i(2));
    // Verified, not stable.
    assert_eq!(outcome(&mut raft, append(2, id(1, 6), &[2, 2], 0)), ok(8, 6));
}

/// Raft paper 5.3; figure 2, AppendEntries 4: entries that are there already are left as they are, with all that
/// follows them.
#[test]
fn pitfall_18_shorter_append_never_deletes_matching_suffix() {
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(1), append(2, id(1, 1), &[2, 2, 2], 0));
    drain(&mut raft);
    for delayed in [append(2, id(1, 1), &[2], 0), append(2, id(1, 1), &[], 0), append(2, id(2, 2), &[2], 0)] {
        raft.step(n(1), delayed);
        let ready = drain(&mut raft);
        assert!(ready.log_ops.is_empty());
        assert_eq!(outcomes(&ready), [ok(4, 1)]);
    }
    assert_eq!(log_of(&raft), [1, 2, 2, 2]);
    // One that overlaps and goes further appends only the rest.
    raft.step(n(1), append(2, id(2, 2), &[2, 2, 2], 0));
    assert_eq!(drain(&mut raft).log_ops, [LogOp::AppendReceived { first: i(5), last: i(5), skip: 2 }]);
}

/// Raft paper 5.3; figure 2, AppendEntries 3: an entry of another term at the same index goes, and all that follow
/// it.
#[test]
fn pitfall_19_a_conflict_deletes_the_whole_tail() {
    let mut raft = node(2, members(3, &[]), &[1, 1, 2, 2, 2]);
    raft.step(n(1), append(3, id(1, 1), &[1, 3], 0));
    let ready = drain(&mut raft);
    assert_eq!(
        ready.log_ops,
        [
            LogOp::TruncateFrom { first_removed: i(3), generation: 1 },
            LogOp::AppendReceived { first: i(3), last: i(3), skip: 1 },
        ]
    );
    assert_eq!(log_of(&raft), [1, 1, 3]);
    assert_eq!(outcomes(&ready), [ok(3, 2)], "the stable index falls with the truncation");
    assert_eq!(raft.stable_index(), i(2));
}

/// Raft paper 5.3; figure 2, AppendEntries 5: the commit index is the leader's, or the last entry that this message
/// vouches for, whichever is lower; and never falls.
#[test]
fn pitfall_20_the_commit_index_stays_within_what_was_verified() {
    let mut raft = node(2, members(3, &[]), &[1, 1, 1, 1]);
    raft.step(n(1), append(2, id(1, 2), &[], 4));
    assert_eq!(raft.commit_index(), i(2), "entries 3 and 4 may conflict");
    raft.step(n(1), append(2, id(1, 2), &[2], 9));
    assert_eq!((raft.commit_index(), raft.last_id()), (i(3), id(2, 3)));
    raft.step(n(1), append(2, id(1, 1), &[], 1));
    assert_eq!(raft.commit_index(), i(3), "and never falls");
}

#[test]
fn pitfall_24_entries_that_retention_removed_are_no_conflict() {
    let mut raft = node(2, members(3, &[]), &[1, 1, 1, 1]);
    raft.step(n(1), append(1, id(1, 4), &[1], 4));
    drain(&mut raft);
    raft.log_trimmed(i(3));
    assert_eq!(outcome(&mut raft, append(1, id(1, 1), &[1, 1, 1, 1, 1], 4)), ok(6, 4));
    assert_eq!(outcome(&mut raft, append(1, id(1, 1), &[1], 4)), ok(6, 4));
    assert_eq!(raft.last_id(), id(1, 6));
}

#[test]
fn pitfall_27_two_catch_ups_in_flight_never_truncate_what_is_committed() {
    let catch_up = |from: usize, to: usize, commit: u64| {
        let all = [1, 1, 2, 2, 3, 3, 3];
        let prev = if from == 0 { EntryId::ZERO } else { id(all[from - 1], from as u64) };
        append(3, prev, &all[from..to], commit)
    };
    // Every order of two overlapping catch-ups, doubled.
    let sends = [catch_up(0, 4, 0), catch_up(2, 7, 7), catch_up(4, 6, 6), catch_up(0, 2, 2)];
    for order in 0..256usize {
        let mut raft = node(2, members(3, &[]), &[1, 1, 1, 1, 1]);
        let mut commit = i(0);
        for step in 0..4 {
            raft.step(n(1), sends[(order >> (2 * step)) & 3].clone());
            drain(&mut raft);
            assert!(raft.commit_index() >= commit);
            commit = raft.commit_index();
            assert!(log_of(&raft).len() as u64 >= commit.get());
        }
        raft.step(n(1), sends[0].clone());
        raft.step(n(1), sends[1].clone());
        assert_eq!(log_of(&raft), [1, 1, 2, 2, 3, 3, 3], "order {order:o}");
        assert_eq!(raft.commit_index(), i(7));
    }
}

#[test]
fn pitfall_28_a_stable_report_of_an_older_log_is_not_taken_for_the_new_one() {
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(1), append(2, id(1, 1), &[2, 2], 0));
    drain(&mut raft);
    // The writes of entries 2 and 3 are on their way when a leader of term 3 replaces them.
    raft.step(n(3), append(3, id(1, 1), &[3, 3], 0));
    let ready = drain(&mut raft);
    assert_eq!(truncations(&ready), 1);
    raft.log_stable(0, i(3));
    assert_eq!(raft.stable_index(), i(1), "that was the old entry 3");
    assert!(outcomes(&drain(&mut raft)).is_empty());
    raft.log_stable(1, i(3));
    raft.log_stable(1, i(2));
    raft.log_stable(2, i(3));
    assert_eq!(raft.stable_index(), i(3), "out of order, and a generation that is not yet");
    assert_eq!(outcomes(&drain(&mut raft)), [ok(3, 3)]);
    raft.log_stable(1, i(99));
    assert_eq!(raft.stable_index(), i(3));
}

#[test]
fn what_was_verified_for_one_leader_is_not_acknowledged_to_the_next() {
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(1), append(2, id(1, 1), &[2, 2], 0));
    raft.step(n(3), Message::Heartbeat { term: t(3), commit: i(0), round: 1 });
    drain(&mut raft);
    raft.log_stable(0, i(3));
    assert!(outcomes(&drain(&mut raft)).is_empty(), "the leader of term 3 has verified nothing here");
    assert_eq!(raft.stable_index(), i(3));
}

#[test]
fn an_append_reply_to_a_node_that_does_not_lead_is_ignored() {
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(1), Message::Heartbeat { term: t(1), commit: i(0), round: 1 });
    drain(&mut raft);
    let before = raft.clone();
    raft.step(n(3), accepted(1, 1, 1));
    raft.step(n(3), rejected(1, 1, EntryId::ZERO));
    assert!(raft == before);
}

#[test]
fn a_leader_that_has_a_committed_entry_otherwise_is_told_apart_before_its_message_is_stepped() {
    let mut raft = node(2, members(3, &[]), &[1, 1, 1]);
    raft.step(n(1), append(1, id(1, 3), &[], 3));
    assert_eq!(raft.commit_index(), i(3));
    let asked = |prev, entries: &[u64]| raft.contradicted_by(&append(3, prev, entries, 0));
    // The same, or only what is behind.
    assert_eq!(asked(id(1, 2), &[1, 3]), None);
    assert_eq!(asked(id(1, 3), &[3]), None);
    assert_eq!(asked(id(3, 9), &[3]), None, "a gap behind the committed part is no contradiction");
    // Another entry: in the message, and before it.
    assert_eq!(asked(id(1, 1), &[1, 3]), Some(i(3)));
    assert_eq!(asked(id(1, 1), &[2, 3]), Some(i(2)));
    assert_eq!(asked(id(2, 2), &[2]), Some(i(2)));
    // Nobody listens to a leader of an older term.
    raft.step(n(3), append(4, id(1, 3), &[], 0));
    assert_eq!(raft.contradicted_by(&append(3, id(1, 1), &[2], 0)), None);
}

#[test]
#[should_panic(expected = "order of calls")]
fn a_proposal_cannot_overtake_log_operations() {
    let mut raft = node(1, members(1, &[]), &[]);
    raft.step_down();
    raft.timer_fired(TimerKind::Election);
    let (version, _) = raft.ready().hard_state.unwrap();
    raft.hard_state_flushed(version);
    let _ = raft.propose();
}
