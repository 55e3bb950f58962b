//! Raft paper, section 7: compaction. Most of it is in `../checkpoints.rs`.

use super::super::{append, drain, i, id, members, n, node, rejected};
use super::{leader, ok, outcomes};
use crate::raft::{AppendOutcome, LogView, ProgressState};

/// Raft paper 7: what is removed is committed, and index and term of the last removed entry stay, for the check of the
/// first entry behind it.
#[test]
fn paper_7_the_last_removed_entry_is_still_known_for_the_consistency_check() {
    let mut raft = node(2, members(3, &[]), &[1, 1, 2, 2]);
    raft.step(n(1), append(2, id(2, 4), &[], 4));
    drain(&mut raft);
    raft.log_trimmed(i(4));
    assert_eq!((raft.log().first_index(), raft.last_id()), (i(5), id(2, 4)));
    raft.step(n(1), append(2, id(2, 4), &[2], 4));
    assert_eq!(outcomes(&drain(&mut raft)), [ok(5, 4)]);
    raft.step(n(1), append(2, id(2, 6), &[2], 4));
    let hint = id(2, 5);
    assert_eq!(outcomes(&drain(&mut raft)), [AppendOutcome::Rejected { prev_index: i(6), hint }]);
}

/// Raft paper 7: each node compacts its own log by itself, and removes only what is committed.
#[test]
#[should_panic(expected = "retention invariant")]
fn paper_7_what_is_not_committed_is_not_removed() {
    let mut raft = node(2, members(3, &[]), &[1, 1]);
    raft.step(n(1), append(1, id(1, 2), &[1], 2));
    raft.log_trimmed(i(3));
}

/// Raft paper 7: a vote is decided by the last entry, also where the checkpoint has swallowed it.
#[test]
fn paper_7_a_log_that_is_empty_behind_a_checkpoint_votes_by_its_last_entry() {
    let mut raft = node(2, members(3, &[]), &[1, 2, 2]);
    raft.step(n(1), append(2, id(2, 3), &[], 3));
    raft.log_trimmed(i(3));
    drain(&mut raft);
    assert!(!super::grants(&mut raft, n(3), super::vote(5, id(2, 2))));
    assert!(super::grants(&mut raft, n(3), super::vote(6, id(2, 3))));
}

/// Raft paper 7: differs: a follower that only has a longer conflicting tail is not sent a checkpoint: first the leader
/// looks for the place from which entries will do.
#[test]
fn differs_7_a_checkpoint_is_the_last_resort() {
    let mut raft = leader(3, &[1, 1, 2, 2]);
    raft.step(n(2), super::super::accepted(3, 5, 5));
    raft.log_trimmed(i(2));
    let plan = raft.next_send(n(3)).unwrap();
    raft.sent(n(3), plan.last, 0);
    raft.step(n(3), rejected(3, plan.prev.index.get(), id(1, 3)));
    assert!(!raft.needs_checkpoint(n(3)));
    let plan = raft.next_send(n(3)).unwrap();
    assert_eq!(plan.prev, id(1, 2), "the removed entry itself can be asked for");
    raft.sent(n(3), plan.last, 0);
    raft.step(n(3), super::super::accepted(3, 2, 2));
    assert_eq!(raft.progress(n(3)).unwrap().state(), ProgressState::Replicate);
    assert!(!raft.needs_checkpoint(n(3)));
}
