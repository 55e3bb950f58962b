//! Followers that retention has left behind, and checkpoints that come to them (Raft paper, section 7).

use super::{accepted, append, drain, elect, i, id, members, n, node, rejected, t};
use crate::base::ids::EntryId;
use crate::raft::{AppendOutcome, LogOp, LogView, Message, ProgressState, Raft, Ready, Role};

fn answers(ready: &Ready) -> Vec<(u64, u64)> {
    let of = |message: &Message| match message {
        Message::AppendReply { outcome: AppendOutcome::Accepted { appended, stable }, .. } => {
            Some((appended.get(), stable.get()))
        }
        _ => None,
    };
    ready.messages.iter().filter_map(|(_, message)| of(message)).collect()
}

fn receive(raft: &mut Raft, term: u64, at: EntryId) -> Ready {
    raft.checkpoint_received(n(1), t(term), at, members(3, &[]).into());
    drain(raft)
}

/// Raft paper 7, figure 13 (7 and 8): a checkpoint beyond the log replaces it, and entries go on behind it.
#[test]
fn paper_7_a_follower_far_behind_begins_anew_and_acknowledges_once_it_is_durable() {
    let mut raft = node(2, members(3, &[]), &[1, 1]);
    let ready = receive(&mut raft, 4, id(3, 90));
    assert_eq!(ready.log_ops, [LogOp::Install { id: id(3, 90), generation: 1 }]);
    assert_eq!(ready.commit_index, Some(i(90)));
    assert_eq!(answers(&ready), [(90, 0)], "nothing is stable yet");
    assert_eq!((raft.last_id(), raft.term(), raft.leader()), (id(3, 90), t(4), Some(n(1))));
    // What the old log's writer still reports is about another log (PITFALLS 28).
    raft.log_stable(0, i(2));
    assert_eq!(answers(&drain(&mut raft)), []);
    raft.log_stable(1, i(90));
    assert_eq!(answers(&drain(&mut raft)), [(90, 90)]);
    // And the log goes on behind it.
    raft.step(n(1), append(4, id(3, 90), &[4, 4], 91));
    let ready = drain(&mut raft);
    assert_eq!(ready.log_ops, [LogOp::AppendReceived { first: i(91), last: i(92), skip: 0 }]);
    assert_eq!(ready.commit_index, Some(i(91)));
}

/// Raft paper 7, figure 13 (6): where the log has the checkpoint's last entry, what follows it stays.
#[test]
fn pitfall_36_an_older_checkpoint_keeps_the_newer_suffix_and_a_conflicting_boundary_is_cut() {
    // Committed as far: nothing is installed.
    let mut raft = node(2, members(3, &[]), &[1, 1, 1, 1]);
    raft.step(n(1), append(1, id(1, 4), &[1], 4));
    drain(&mut raft);
    let ready = receive(&mut raft, 1, id(1, 3));
    assert_eq!(ready.log_ops, []);
    assert_eq!(raft.last_id(), id(1, 5));
    // Not committed here as far, but the entry is there: the suffix stays, and what it vouches for is committed.
    let mut raft = node(2, members(3, &[]), &[1, 1, 1, 1]);
    let ready = receive(&mut raft, 1, id(1, 3));
    assert_eq!((ready.log_ops.len(), ready.commit_index), (0, Some(i(3))));
    assert_eq!(raft.last_id(), id(1, 4));
    // Another entry stands at its index: all of it goes, also what is longer.
    let mut raft = node(2, members(3, &[]), &[1, 1, 1, 1]);
    let ready = receive(&mut raft, 2, id(2, 3));
    assert_eq!(ready.log_ops, [LogOp::Install { id: id(2, 3), generation: 1 }]);
    assert_eq!((raft.last_id(), raft.commit_index()), (id(2, 3), i(3)));
}

/// Raft paper 7, figure 13 (1): a checkpoint of an older term changes nothing.
#[test]
fn paper_7_a_checkpoint_of_an_older_leader_or_of_nobody_changes_nothing() {
    let mut raft = node(2, members(3, &[]), &[3, 3]);
    for (from, term) in [(1, 2), (9, 5)] {
        raft.checkpoint_received(n(from), t(term), id(2, 90), members(3, &[]).into());
        let ready = drain(&mut raft);
        assert_eq!((ready.log_ops.len(), answers(&ready).len(), ready.commit_index), (0, 0, None));
    }
    // An entry of a later term than the leader's cannot be in its log.
    raft.checkpoint_received(n(1), t(3), id(4, 90), members(3, &[]).into());
    assert_eq!((raft.last_id(), raft.commit_index()), (id(3, 2), i(0)));
}

/// A leader of three whose log begins behind index 6.
fn trimmed_leader() -> Raft {
    let mut raft = node(1, members(3, &[]), &[1, 1, 1, 1, 1, 1, 1, 1]);
    elect(&mut raft);
    raft.log_stable(0, i(9));
    drain(&mut raft);
    for peer in [2, 3] {
        let plan = raft.next_send(n(peer)).unwrap();
        raft.sent(n(peer), plan.last, 0);
    }
    raft.step(n(2), accepted(2, 9, 9));
    drain(&mut raft);
    assert_eq!((raft.role(), raft.commit_index()), (Role::Leader, i(9)));
    raft.log_trimmed(i(6));
    raft
}

/// Raft paper 7: a leader sends a checkpoint where it has removed the next entry that a follower needs.
#[test]
fn paper_7_a_leader_finds_out_who_needs_a_checkpoint_and_goes_on_from_it() {
    let mut raft = trimmed_leader();
    assert!(!raft.needs_checkpoint(n(3)), "it may just have a shorter log");
    raft.step(n(3), rejected(2, 8, id(1, 2)));
    let plan = raft.next_send(n(3)).unwrap();
    assert_eq!((plan.prev, plan.wants_reply), (id(1, 6), true), "the log's beginning is asked for");
    raft.sent(n(3), plan.last, 0);
    raft.step(n(3), rejected(2, 6, id(1, 2)));
    assert!(raft.needs_checkpoint(n(3)));
    assert_eq!(raft.next_send(n(3)), None);
    raft.checkpoint_sent(n(3), i(9));
    assert!(!raft.needs_checkpoint(n(3)));
    assert_eq!(raft.next_send(n(3)), None, "its answer is waited for");
    raft.step(n(3), accepted(2, 9, 0));
    assert_eq!(raft.progress(n(3)).unwrap().state(), ProgressState::Replicate);
    assert_eq!(raft.propose().unwrap(), id(2, 10));
    assert_eq!(raft.next_send(n(3)).map(|plan| (plan.prev, plan.last)), Some((id(2, 9), i(10))));
}

#[test]
fn a_checkpoint_that_got_lost_is_sent_again() {
    let mut raft = trimmed_leader();
    raft.step(n(3), rejected(2, 8, id(1, 2)));
    let plan = raft.next_send(n(3)).unwrap();
    raft.sent(n(3), plan.last, 0);
    raft.step(n(3), rejected(2, 6, id(1, 2)));
    raft.checkpoint_sent(n(3), i(9));
    // The connection breaks: everything is asked anew, and found anew.
    raft.peer_disconnected(n(3));
    raft.peer_connected(n(3));
    assert!(!raft.needs_checkpoint(n(3)));
    for _ in 0..4 {
        let Some(plan) = raft.next_send(n(3)) else { break };
        raft.sent(n(3), plan.last, 0);
        raft.step(n(3), rejected(2, plan.prev.index.get(), id(1, 2)));
    }
    assert!(raft.needs_checkpoint(n(3)));
    assert_eq!(raft.log().first_index(), i(7));
}
