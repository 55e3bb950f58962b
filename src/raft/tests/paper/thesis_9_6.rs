//! Raft thesis, section 9.6: pre-votes. More of it is in `../elections.rs` and `../failover.rs`.

use super::super::{drain, id, members, n, node, t};
use super::{Few, grants, pre_vote, pre_vote_reply};
use crate::base::ids::EntryId;
use crate::raft::{Message, Role, TimerKind};

/// Raft thesis 9.6: a node enters a new term only after a majority has said that it would vote for it.
#[test]
fn thesis_9_6_a_new_term_needs_the_pre_votes_of_a_majority() {
    for voters in 2..=7u16 {
        let mut raft = node(1, members(voters, &[]), &[1]);
        raft.timer_fired(TimerKind::Election);
        for peer in 2..=voters {
            drain(&mut raft);
            let has = peer - 1;
            assert_eq!(raft.term() == t(2), 2 * has > voters, "{has} of {voters}");
            raft.step(n(peer), pre_vote_reply(2));
        }
    }
}

/// Raft thesis 9.6: a pre-vote is granted by the rule of votes: for the next term or a later one, and a log as good as
/// the own one.
#[test]
fn thesis_9_6_a_pre_vote_is_granted_by_the_rule_of_votes() {
    for (term, last, granted) in [
        (3, id(2, 2), true),
        (9, id(2, 2), true),
        (2, id(2, 2), false),
        (1, id(2, 9), false),
        (3, id(1, 9), false),
        (3, EntryId::ZERO, false),
    ] {
        let mut raft = node(2, members(3, &[]), &[1, 2]);
        raft.timer_fired(TimerKind::LeaderQuiet);
        drain(&mut raft);
        assert_eq!(grants(&mut raft, n(1), pre_vote(term, last)), granted, "term {term}, {last}");
    }
}

/// Raft thesis 9.6: a granted pre-vote promises nothing: nothing is written, others may get one too, and the vote itself
/// is free.
#[test]
fn thesis_9_6_a_pre_vote_promises_nothing() {
    let mut raft = node(3, members(3, &[]), &[1]);
    raft.timer_fired(TimerKind::LeaderQuiet);
    drain(&mut raft);
    for from in [1, 2, 1] {
        raft.step(n(from), pre_vote(2, id(1, 1)));
        let ready = drain(&mut raft);
        assert!(ready.hard_state.is_none());
        assert!(matches!(ready.messages[0].1, Message::PreVoteReply { granted: true, .. }));
    }
    assert!(grants(&mut raft, n(2), super::vote(2, id(1, 1))));
}

/// Raft thesis 9.6: where a majority has lost its leader, pre-votes do not stand in the way of an election.
#[test]
fn thesis_9_6_pre_votes_keep_nobody_from_electing() {
    for voters in [2, 3, 4, 5] {
        for first in 1..=voters {
            let mut few = Few::new((1..=voters).map(|id| node(id, members(voters, &[]), &[1])).collect());
            few.elect(first);
            assert_eq!((few.at(first).role(), few.at(first).term()), (Role::Leader, t(2)));
        }
    }
}
