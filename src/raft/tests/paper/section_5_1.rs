//! Raft paper, section 5.1: roles and terms.

use super::super::{accepted, append, drain, i, id, members, n, node, rejected, restored, t};
use super::{Few, candidate, heartbeat, leader, pre_vote, pre_vote_reply, vote, vote_reply};
use crate::base::ids::EntryId;
use crate::raft::{HardState, Message, Raft, Role, TimerKind};

/// A node of three in term 2 in each of the roles of a voter.
fn in_every_role() -> Vec<Raft> {
    let mut follower = node(1, members(3, &[]), &[1, 2]);
    follower.step(n(2), heartbeat(2, 0, 1));
    let mut asking = node(1, members(3, &[]), &[1, 2]);
    asking.timer_fired(TimerKind::Election);
    let (candidate, leader) = (candidate(3, &[1]), leader(3, &[1]));
    let mut all = vec![follower, asking, candidate, leader];
    all.iter_mut().for_each(|raft| drop(drain(raft)));
    let roles: Vec<Role> = all.iter().map(Raft::role).collect();
    assert_eq!(roles, [Role::Follower, Role::PreCandidate, Role::Candidate, Role::Leader]);
    assert!(all.iter().all(|raft| raft.term() == t(2)));
    all
}

/// Raft paper 5.1: a cluster of five goes on while two of its nodes are gone, and commits nothing without a third.
#[test]
fn paper_5_1_five_nodes_bear_the_loss_of_two() {
    let mut few = Few::new((1..=5).map(|id| node(id, members(5, &[]), &[1])).collect());
    few.elect(1);
    few.isolate(4);
    few.isolate(5);
    few.at(1).propose().unwrap();
    few.settle();
    assert_eq!(few.at(1).commit_index(), i(3));
    few.isolate(3);
    few.at(1).propose().unwrap();
    few.settle();
    assert_eq!((few.at(1).last_id(), few.at(1).commit_index()), (id(2, 4), i(3)));
    few.cut.clear();
    few.at(1).timer_fired(TimerKind::Heartbeat);
    few.settle();
    few.at(1).timer_fired(TimerKind::Heartbeat);
    few.settle();
    assert!((1..=5).all(|id| few.at(id).commit_index() == i(4)), "and the lost ones get everything");
}

/// Raft paper 5.1; figure 2, all servers 2: whoever sees a higher term, in a request or in an answer, takes it over and
/// is a follower in it that has not voted.
#[test]
fn paper_5_1_a_higher_term_makes_a_follower_of_everybody() {
    let refused = Message::VoteReply { term: t(9), granted: false, last: EntryId::ZERO };
    let answered = Message::HeartbeatReply { term: t(9), round: 0, appended: i(0), stable: i(0) };
    let messages = [
        heartbeat(9, 0, 1),
        append(9, EntryId::ZERO, &[], 0),
        vote(9, EntryId::ZERO), // too short a log, so it is refused
        refused,
        Message::PreVoteReply { term: t(9), granted: false, last: EntryId::ZERO },
        answered,
        accepted(9, 0, 0),
        rejected(9, 2, id(1, 1)),
    ];
    for message in messages {
        for mut raft in in_every_role() {
            let role = raft.role();
            raft.step(n(3), message.clone());
            drain(&mut raft);
            assert_eq!((raft.term(), raft.hard_state().voted_for), (t(9), None), "{role:?} at {message:?}");
            assert_eq!(raft.role(), Role::Follower, "{role:?} at {message:?}");
            assert_ne!(raft.leader(), Some(raft.id()), "{role:?} at {message:?}");
        }
    }
}

/// Raft paper 5.1; figure 2, AppendEntries 1: Appends and heartbeats of an older term are refused with the newer one,
/// and nothing of them is taken. The notice acknowledges nothing.
#[test]
fn paper_5_1_a_leader_of_an_older_term_is_told_so_and_such_a_notice_acknowledges_nothing() {
    // This node went on to term 6 by itself; without the notice the leader of term 5 would never reach it.
    let hard = HardState { term: t(6), voted_for: Some(n(2)), claimed_tail: None };
    let mut raft = restored(2, members(3, &[]), &[1, 5], hard);
    for message in [heartbeat(5, 0, 77), append(5, id(5, 2), &[5], 2)] {
        raft.step(n(1), message);
        let notice = Message::HeartbeatReply { term: t(6), round: 0, appended: i(0), stable: i(0) };
        assert_eq!(drain(&mut raft).messages, [(n(1), notice)]);
    }
    assert_eq!(raft.last_id(), id(5, 2), "and nothing of it is taken");
}

/// Raft paper 5.1; figure 2, RequestVote 1: a request for a vote in an older term is refused with the newer one, however
/// good the candidate's log is.
#[test]
fn paper_5_1_a_vote_in_an_older_term_is_refused_with_the_newer_one() {
    for mut raft in in_every_role() {
        let before = *raft.hard_state();
        raft.step(n(3), vote(1, id(1, 99)));
        let last = raft.last_id();
        let refused = Message::VoteReply { term: t(2), granted: false, last };
        assert_eq!(drain(&mut raft).messages, [(n(3), refused)], "{:?}", raft.role());
        assert_eq!(*raft.hard_state(), before);
    }
}

/// Raft paper 5.1; figure 2, followers 1: candidates and leaders are answered, and answers that nobody waits for change
/// nothing.
#[test]
fn paper_5_1_requests_are_answered_and_stray_answers_change_nothing() {
    let mut raft = node(1, members(3, &[]), &[1]);
    let mut answers = |message: Message| {
        raft.step(n(2), message);
        drain(&mut raft).messages.len()
    };
    assert_eq!(answers(pre_vote(2, id(1, 1))), 1);
    assert_eq!(answers(vote(2, id(1, 1))), 1);
    assert_eq!(answers(heartbeat(2, 0, 1)), 1);
    assert_eq!(answers(append(2, id(1, 1), &[2], 0)), 1);
    let before = raft.clone();
    let answered = Message::HeartbeatReply { term: t(2), round: 1, appended: i(1), stable: i(1) };
    for stray in [
        vote_reply(2),
        vote_reply(1),
        pre_vote_reply(3),
        accepted(2, 1, 1),
        rejected(2, 1, id(0, 0)),
        answered,
    ] {
        raft.step(n(3), stray);
    }
    assert!(raft == before);
}

/// Raft paper 5.1: what was said in an older term counts for nothing in a newer one, neither votes nor acknowledgements.
#[test]
fn paper_5_1_answers_of_an_older_term_change_nothing() {
    let answered = Message::HeartbeatReply { term: t(1), round: 1, appended: i(1), stable: i(1) };
    for mut raft in in_every_role() {
        let before = raft.clone();
        let late =
            [vote_reply(1), pre_vote_reply(2), accepted(1, 1, 1), rejected(1, 1, id(0, 0)), answered.clone()];
        for message in late {
            raft.step(n(2), message);
        }
        assert!(raft == before, "{:?}", before.role());
    }
}

/// Raft paper 5.1: terms rise by one from election to election, and each begins with an entry of its leader, so along a
/// log they never fall.
#[test]
fn paper_5_1_terms_rise_by_one_an_election() {
    let mut few = Few::new((1..=3).map(|id| node(id, members(3, &[]), &[1])).collect());
    for (round, leader) in [1, 2, 3, 1, 3].into_iter().enumerate() {
        few.elect(leader);
        assert_eq!((few.at(leader).role(), few.at(leader).term()), (Role::Leader, t(round as u64 + 2)));
    }
    assert!((1..=3).all(|id| super::super::log_of(few.at(id)) == [1, 2, 3, 4, 5, 6]));
}

/// Raft paper 5.1: differs: a question whether somebody would be elected carries a term that nobody is in yet, so it
/// moves nobody's term, and neither does its grant.
#[test]
fn differs_5_1_a_pre_vote_with_a_higher_term_moves_no_term() {
    for mut raft in in_every_role() {
        let (before, hard) = (raft.role(), *raft.hard_state());
        raft.step(n(3), pre_vote(9, id(8, 99)));
        raft.step(n(3), pre_vote_reply(9));
        raft.step(n(3), Message::TimeoutNow { term: t(9) });
        let ready = drain(&mut raft);
        assert!(ready.hard_state.is_none() && *raft.hard_state() == hard, "{before:?}");
    }
}
