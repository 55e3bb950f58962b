//! Raft paper, section 5.2: elections.

use super::super::{append, config, drain, elect, i, id, members, n, node, sets_election, t, terms};
use super::{Few, candidate, grants, heartbeat, leader, pre_vote, pre_vote_reply, vote, vote_reply};
use crate::base::ids::EntryId;
use crate::raft::{HardState, LogOp, Message, Raft, Restored, Role, TermRuns, TimerKind, TimerRequest};

/// Raft paper 5.2: a node begins as a follower, whatever it was before, and waits for a leader's word; only a single
/// voter, who has nobody to wait for, does not.
#[test]
fn paper_5_2_a_node_begins_as_a_follower_that_waits_for_a_leader() {
    let hard_state = HardState { term: t(7), voted_for: Some(n(1)), claimed_tail: None };
    let log = TermRuns::from_terms(&terms(&[1, 7]));
    let restored = Restored { hard_state, memberships: members(3, &[]).into(), log, commit_hint: i(1) };
    let mut raft = Raft::new(config(1), restored);
    raft.start();
    let ready = drain(&mut raft);
    assert_eq!((raft.role(), raft.leader(), raft.term()), (Role::Follower, None, t(7)));
    assert!(sets_election(&ready) && ready.messages.is_empty() && ready.hard_state.is_none());
}

/// Raft paper 5.2; figure 2, followers 2: a follower whose timer runs out asks to be elected, in the order pre-vote,
/// vote, leadership; the entry that opens the term is the leader's first.
#[test]
fn paper_5_2_an_election_goes_from_pre_vote_to_vote_to_leadership_with_a_no_op() {
    let mut raft = node(1, members(3, &[]), &[1, 1]);
    raft.timer_fired(TimerKind::Election);
    let ready = drain(&mut raft);
    assert_eq!(raft.role(), Role::PreCandidate);
    assert_eq!(raft.term(), t(1), "a pre-vote changes no term");
    assert!(ready.hard_state.is_none());
    assert_eq!(ready.messages, [(n(2), pre_vote(2, id(1, 2))), (n(3), pre_vote(2, id(1, 2)))]);
    raft.step(n(3), pre_vote_reply(2));
    let ready = drain(&mut raft);
    assert_eq!((raft.role(), raft.term()), (Role::Candidate, t(2)));
    assert_eq!(ready.messages, [(n(2), vote(2, id(1, 2))), (n(3), vote(2, id(1, 2)))]);
    raft.step(n(2), vote_reply(2));
    let ready = drain(&mut raft);
    assert_eq!(raft.role(), Role::Leader);
    assert_eq!(ready.log_ops, [LogOp::AppendNoop { id: id(2, 3) }]);
    assert_eq!(ready.messages, [(n(2), heartbeat(2, 0, 1)), (n(3), heartbeat(2, 0, 1))]);
    for request in [
        TimerRequest::Set(TimerKind::Heartbeat),
        TimerRequest::Set(TimerKind::CheckQuorum),
        TimerRequest::Cancel(TimerKind::Election),
    ] {
        assert!(ready.timers.contains(&request), "{request:?}");
    }
}

/// Raft paper 5.2; figure 2, candidates 1: a candidate enters the next term, votes for itself, starts its election timer
/// anew, and asks all other voters; its own vote is on the disk before the first of them hears of it.
#[test]
fn paper_5_2_a_candidate_votes_for_itself_in_the_next_term_and_asks_everybody() {
    let mut raft = node(1, members(5, &[6]), &[1, 2]);
    raft.timer_fired(TimerKind::Election);
    drain(&mut raft);
    raft.step(n(2), pre_vote_reply(3));
    raft.step(n(3), pre_vote_reply(3));
    let ready = raft.ready();
    let (version, hard) = ready.hard_state.unwrap();
    assert_eq!((hard.term, hard.voted_for), (t(3), Some(n(1))));
    assert!(ready.messages.is_empty() && sets_election(&ready));
    raft.hard_state_flushed(version);
    let asked = drain(&mut raft).messages;
    assert_eq!(asked, (2..=5).map(|peer| (n(peer), vote(3, id(2, 2)))).collect::<Vec<_>>());
}

/// Raft paper 5.2; figure 2, candidates 2: a candidate leads with the votes of a majority of all voters, its own among
/// them, and with no fewer.
#[test]
fn paper_5_2_a_majority_elects_and_nothing_less() {
    for voters in 2..=7u16 {
        let mut raft = candidate(voters, &[1]);
        for peer in 2..=voters {
            let has = peer - 1;
            assert_eq!(raft.role() == Role::Leader, 2 * has > voters, "{has} of {voters}");
            raft.step(n(peer), vote_reply(2));
        }
        assert_eq!(raft.role(), Role::Leader);
    }
}

/// Raft paper 5.2: a voter is counted once, however often its answer arrives; a refusal does not count.
#[test]
fn paper_5_2_a_vote_is_counted_once_and_a_refusal_never() {
    let mut raft = node(1, members(5, &[]), &[]);
    raft.timer_fired(TimerKind::Election);
    for _ in 0..3 {
        raft.step(n(2), pre_vote_reply(1));
    }
    assert_eq!(raft.role(), Role::PreCandidate);
    raft.step(n(3), pre_vote_reply(1));
    drain(&mut raft);
    for _ in 0..3 {
        raft.step(n(2), vote_reply(1));
    }
    let refused = Message::VoteReply { term: t(1), granted: false, last: EntryId::ZERO };
    [3, 4, 5].into_iter().for_each(|from| raft.step(n(from), refused.clone()));
    assert_eq!(raft.role(), Role::Candidate);
}

/// Raft paper 5.2; figure 2, RequestVote 2: each node votes at most once in a term, first come, first served, and is
/// free again in the next one; the one it voted for may ask again.
#[test]
fn paper_5_2_first_come_first_served() {
    let mut raft = node(1, members(3, &[]), &[1]);
    assert!(grants(&mut raft, n(2), vote(2, id(1, 1))));
    assert!(!grants(&mut raft, n(3), vote(2, id(1, 9))), "however good its log is");
    assert!(grants(&mut raft, n(2), vote(2, id(1, 1))), "its answer may have been lost");
    assert!(grants(&mut raft, n(3), vote(3, id(1, 9))));
    assert!(!grants(&mut raft, n(2), vote(3, id(1, 1))));
}

/// Raft paper 5.2; figure 2, candidates 3: a candidate that hears from a leader of its term, or of a later one, follows
/// it; one of an earlier term does not stop it.
#[test]
fn paper_5_2_a_candidate_follows_a_leader_of_its_term_and_none_of_an_older_one() {
    for word in [heartbeat(2, 0, 1), append(2, id(1, 1), &[2], 0), heartbeat(5, 0, 1)] {
        let mut raft = candidate(3, &[1]);
        raft.step(n(2), heartbeat(1, 0, 1));
        raft.step(n(2), append(1, id(1, 1), &[1], 0));
        assert_eq!((raft.role(), raft.last_id()), (Role::Candidate, id(1, 1)));
        raft.step(n(3), word.clone());
        assert_eq!((raft.role(), raft.leader(), raft.term()), (Role::Follower, Some(n(3)), word.term()));
        raft.step(n(2), vote_reply(2));
        assert_eq!(raft.role(), Role::Follower, "a vote that comes now is too late");
    }
}

/// Raft paper 5.2; figure 2, candidates 4: a candidate whose timer runs out starts another election, in the next term;
/// here it asks for pre-votes first, so a candidate without a chance does not count terms up.
#[test]
fn paper_5_2_a_candidate_whose_timer_runs_out_starts_again() {
    let mut raft = candidate(3, &[1]);
    raft.timer_fired(TimerKind::Election);
    let ready = drain(&mut raft);
    assert_eq!((raft.role(), raft.term()), (Role::PreCandidate, t(2)));
    assert!(sets_election(&ready));
    assert_eq!(ready.messages[0], (n(2), pre_vote(3, id(1, 1))));
    raft.step(n(2), pre_vote_reply(3));
    assert_eq!((raft.role(), raft.term()), (Role::Candidate, t(3)));
}

/// Raft paper 5.2: where votes are split nobody leads in that term, and the one whose timer runs out first is elected in
/// the next one.
#[test]
fn paper_5_2_a_split_vote_elects_nobody_and_the_next_term_does() {
    let mut few = Few::new((1..=4).map(|id| node(id, members(4, &[]), &[1])).collect());
    // Two pairs that do not hear of each other before they have voted.
    for id in 1..=4 {
        few.at(id).timer_fired(TimerKind::LeaderQuiet);
        drain(few.at(id));
    }
    for (own, other, third) in [(1, 2, 3), (4, 3, 2)] {
        few.at(own).timer_fired(TimerKind::Election);
        few.at(own).step(n(other), pre_vote_reply(2));
        few.at(own).step(n(third), pre_vote_reply(2));
        drain(few.at(own));
        assert!(grants(few.at(other), n(own), vote(2, id(1, 1))));
        few.at(own).step(n(other), vote_reply(2));
    }
    assert!((1..=4).all(|id| few.at(id).role() != Role::Leader), "two votes of four each");
    few.settle();
    assert!((1..=4).all(|id| few.at(id).role() != Role::Leader && few.at(id).term() == t(2)));
    few.elect(4);
    assert_eq!((few.at(4).role(), few.at(4).term()), (Role::Leader, t(3)));
}

/// Raft paper 5.2; figure 2, leaders 1: a leader says so at once to everybody, and again whenever its heartbeat timer
/// runs out, whether there are entries or not.
#[test]
fn paper_5_2_a_leader_keeps_its_followers_by_heartbeats() {
    let mut raft = leader(3, &[1]);
    for round in 2..10 {
        raft.timer_fired(TimerKind::Heartbeat);
        let ready = drain(&mut raft);
        assert_eq!(ready.messages, [(n(2), heartbeat(2, 0, round)), (n(3), heartbeat(2, 0, round))]);
        assert!(ready.timers.contains(&TimerRequest::Set(TimerKind::Heartbeat)));
    }
    let mut follower = node(2, members(3, &[]), &[1]);
    follower.step(n(1), heartbeat(2, 0, 1));
    let ready = drain(&mut follower);
    assert!(sets_election(&ready) && follower.leader() == Some(n(1)));
}

/// Raft paper 5.2: a single voter is a majority of one; it leads when its own vote is on its disk.
#[test]
fn paper_5_2_a_single_voter_elects_itself_through_the_disk() {
    let membership = members(1, &[]);
    let hard_state = HardState { term: t(4), ..HardState::default() };
    let log = TermRuns::from_terms(&terms(&[1, 4]));
    let mut raft =
        Raft::new(config(1), Restored { hard_state, memberships: membership.into(), log, commit_hint: i(1) });
    raft.start();
    let ready = raft.ready();
    let (version, hard) = ready.hard_state.unwrap();
    assert_eq!((hard.term, hard.voted_for), (t(5), Some(n(1))));
    assert_eq!(raft.role(), Role::Candidate, "not before its vote is durable");
    raft.hard_state_flushed(version);
    assert_eq!(raft.role(), Role::Leader);
    assert_eq!(drain(&mut raft).log_ops, [LogOp::AppendNoop { id: id(5, 3) }]);
    assert_eq!(raft.commit_index(), i(1));
    raft.log_stable(0, i(3));
    assert_eq!(raft.commit_index(), i(3));
}

/// Raft paper 5.2, figure 3: there is at most one leader in a term; a node that sees two stops rather than follow both.
#[test]
#[should_panic(expected = "election safety")]
fn paper_5_2_a_second_leader_in_a_term_stops_the_node() {
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(1), Message::Heartbeat { term: t(1), commit: i(0), round: 1 });
    raft.step(n(3), Message::Heartbeat { term: t(1), commit: i(0), round: 1 });
}

/// Raft paper 5.2: a leader has voted for itself, and votes for nobody else in its term.
#[test]
fn paper_5_2_a_leader_votes_for_nobody_else_in_its_term() {
    let mut raft = node(1, members(3, &[]), &[1]);
    elect(&mut raft);
    assert!(!grants(&mut raft, n(2), vote(2, id(2, 9))));
    assert_eq!((raft.role(), raft.hard_state().voted_for), (Role::Leader, Some(n(1))));
    assert!(grants(&mut raft, n(2), vote(3, id(2, 9))), "in the next one it may");
}
