//! Raft thesis, section 3.10: leadership transfer. The refusals and failures are in `../failover.rs`.

use super::super::{drain, i, id, members, n, node, t};
use super::{Few, grants, heartbeat, pre_vote, vote};
use crate::raft::{HardState, Message, Raft, Role};

/// Node 2, which hears from leader 1 of term 2.
fn follower() -> Raft {
    let hard = HardState { term: t(2), ..HardState::default() };
    let mut raft = super::super::restored(2, members(3, &[]), &[1, 2], hard);
    raft.step(n(1), heartbeat(2, 0, 1));
    drain(&mut raft);
    raft
}

/// Raft thesis 3.10: the target enters the next term and asks for votes at once, without waiting for its timer and
/// without pre-votes, which the others would refuse while they hear the old leader.
#[test]
fn thesis_3_10_the_target_campaigns_at_once_and_without_pre_votes() {
    let mut raft = follower();
    raft.step(n(1), Message::TimeoutNow { term: t(2) });
    let ready = drain(&mut raft);
    assert_eq!((raft.role(), raft.term()), (Role::Candidate, t(3)));
    assert_eq!(ready.messages, [(n(1), vote(3, id(2, 2))), (n(3), vote(3, id(2, 2)))]);
}

/// Raft thesis 3.10: a request for a vote is answered by the log alone, also by a node that hears from a leader; a
/// pre-vote is not.
#[test]
fn thesis_3_10_the_others_vote_for_the_target_although_they_hear_a_leader() {
    let mut raft = follower();
    assert!(!grants(&mut raft, n(3), pre_vote(3, id(2, 2))));
    assert!(grants(&mut raft, n(3), vote(3, id(2, 2))));
    assert_eq!((raft.term(), raft.leader()), (t(3), None));
}

/// Raft thesis 3.10: the whole of it: the target leads in the next term, has everything, and the old leader follows it.
#[test]
fn thesis_3_10_leadership_moves_and_nothing_is_lost() {
    for target in [2, 3] {
        let mut few = Few::new((1..=3).map(|id| node(id, members(3, &[]), &[1])).collect());
        few.elect(1);
        few.isolate(target);
        few.at(1).propose().unwrap();
        few.settle();
        few.cut.clear();
        assert_eq!(few.at(1).transfer_to(n(target)), Ok(()));
        assert!(few.at(1).is_transferring());
        few.at(1).timer_fired(crate::raft::TimerKind::Heartbeat);
        few.settle();
        few.at(1).timer_fired(crate::raft::TimerKind::Heartbeat);
        few.settle();
        assert_eq!((few.at(target).role(), few.at(target).term()), (Role::Leader, t(3)), "n{target}");
        assert_eq!((few.at(1).leader(), few.at(1).is_transferring()), (Some(n(target)), false));
        assert!((1..=3).all(|id| few.at(id).commit_index() == i(4)));
    }
}
