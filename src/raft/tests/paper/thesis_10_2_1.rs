//! Raft thesis, section 10.2.1: the leader's disk beside replication. More of it is in `../replication.rs`.

use super::super::{accepted, elect, i, id, members, n, node};
use super::{grants, leader};

/// Raft thesis 10.2.1: entries leave for the followers before the leader's own disk has them.
#[test]
fn thesis_10_2_1_entries_leave_before_the_leaders_own_flush() {
    let mut raft = node(1, members(3, &[]), &[1]);
    elect(&mut raft);
    let plan = raft.next_send(n(2)).unwrap();
    raft.sent(n(2), plan.last, 0);
    raft.step(n(2), accepted(2, 1, 1));
    raft.propose().unwrap();
    let plan = raft.next_send(n(2)).unwrap();
    assert_eq!((plan.first, plan.last, raft.stable_index()), (i(2), i(3), i(1)));
}

/// Raft thesis 10.2.1: a leader may commit what its own disk lacks; when it loses that in a crash, the majority that
/// committed it still has it, and the old leader can be elected only behind it.
#[test]
fn thesis_10_2_1_what_is_committed_without_the_leaders_disk_outlives_it() {
    let mut raft = leader(3, &[1]);
    raft.propose().unwrap();
    raft.step(n(2), accepted(2, 3, 3));
    assert_eq!(raft.commit_index(), i(2));
    raft.step(n(3), accepted(2, 3, 3));
    assert_eq!((raft.commit_index(), raft.stable_index()), (i(3), i(2)));
    // The leader comes back without it; the two others refuse it.
    for peer in [2, 3] {
        let mut voter = node(peer, members(3, &[]), &[1, 2, 2]);
        assert!(!grants(&mut voter, n(1), super::vote(3, id(2, 2))));
    }
}
