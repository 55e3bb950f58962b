//! Changes of membership: PITFALLS 17, 30 to 33, 48, and what a leader that is no voter does.

use super::{accepted, append, drain, elect, i, id, members, n, node, t};
use crate::base::ids::{EntryId, LogIndex};
use crate::raft::{
    ChangeError, HardState, Membership, MembershipLog, Message, PROMOTION_LAG_MAX, Raft, Restored, Role,
    TermRuns, TimerKind,
};

/// Voters 1 to 3 without 3, which learns.
fn third_learns() -> Membership {
    members(2, &[3])
}

/// Leader 1 of three voters; the no-op of its term (index 1) is committed where `is_committed`.
fn leader(is_committed: bool) -> Raft {
    let mut raft = node(1, members(3, &[]), &[]);
    elect(&mut raft);
    raft.log_stable(0, i(1));
    if is_committed {
        raft.step(n(2), accepted(1, 1, 1));
        raft.step(n(3), accepted(1, 1, 1));
        assert_eq!(raft.commit_index(), i(1));
    }
    drain(&mut raft);
    raft
}

/// The same, with node 3 demoted and that committed by both that remain (index 2).
fn without_third() -> Raft {
    let mut raft = leader(true);
    assert_eq!(raft.propose_membership(third_learns()), Ok(id(1, 2)));
    raft.log_stable(0, i(2));
    raft.step(n(2), accepted(1, 2, 2));
    assert_eq!(raft.commit_index(), i(2));
    drain(&mut raft);
    raft
}

fn vote(term: u64, last: EntryId) -> Message {
    Message::Vote { term: t(term), last }
}

/// Whether `raft` grants its vote of `term` to `from`.
fn grants(raft: &mut Raft, from: u16, term: u64, last: EntryId) -> bool {
    raft.step(n(from), vote(term, last));
    let said = drain(raft).messages;
    said.iter()
        .any(|(to, message)| *to == n(from) && matches!(message, Message::VoteReply { granted: true, .. }))
}

/// Ongaro's correction of 2015: a change of membership waits for a committed entry of the leader's own term.
#[test]
fn pitfall_30_a_change_waits_for_a_committed_entry_of_the_leaders_own_term() {
    let mut raft = leader(false);
    assert_eq!(raft.propose_membership(third_learns()), Err(ChangeError::NotReady));
    assert_eq!((raft.last_id().index, raft.membership()), (i(1), &members(3, &[])));
    // An older entry that is committed is not enough.
    let mut raft = node(1, members(3, &[]), &[1, 1]);
    raft.step(n(2), append(1, id(1, 2), &[], 2));
    drain(&mut raft);
    assert_eq!(raft.commit_index(), i(2));
    elect(&mut raft);
    assert_eq!(raft.may_change(&third_learns()), Err(ChangeError::NotReady));
    raft.log_stable(0, i(3));
    raft.step(n(2), accepted(2, 3, 3));
    assert_eq!(raft.may_change(&third_learns()), Ok(()));
}

/// Raft paper 6; Raft thesis 4.1: a configuration is in force from its append on, committed or not, and no longer
/// where its entry is cut.
#[test]
fn pitfall_31_a_membership_is_used_from_its_append_on_and_taken_back_with_its_entry() {
    // On the leader: two of two are needed at once, for the change itself.
    let mut raft = leader(true);
    raft.propose_membership(third_learns()).unwrap();
    raft.log_stable(0, i(2));
    raft.step(n(3), accepted(1, 2, 2));
    assert_eq!((raft.membership().quorum(), raft.commit_index()), (2, i(1)), "node 3 counts no more");
    raft.step(n(2), accepted(1, 2, 2));
    assert_eq!(raft.commit_index(), i(2));
    // On a follower, which it makes a learner; then another leader cuts that entry.
    let mut raft = node(3, members(3, &[]), &[1]);
    raft.step(n(1), append(2, id(1, 1), &[2, 2], 0));
    drain(&mut raft);
    raft.membership_appended(i(3), third_learns());
    assert_eq!((raft.role(), raft.membership_index()), (Role::Learner, i(3)));
    raft.timer_fired(TimerKind::Election);
    assert!(drain(&mut raft).messages.is_empty(), "it does not campaign");
    raft.step(n(2), append(3, id(2, 2), &[3], 0));
    drain(&mut raft);
    assert_eq!((raft.role(), raft.membership()), (Role::Follower, &members(3, &[])));
    raft.timer_fired(TimerKind::Election);
    assert_eq!(drain(&mut raft).messages.len(), 2, "it asks both again");
}

/// Raft paper 6; Raft thesis 4.1: differs: not the paper's joint consensus: one voter at a time, and the next change
/// only when the last one is committed.
#[test]
fn pitfall_32_one_change_at_a_time_of_one_voter_and_a_restart_brings_nobody_back() {
    let mut raft = leader(true);
    assert_eq!(raft.may_change(&members(1, &[2, 3])), Err(ChangeError::TooMuch));
    raft.propose_membership(third_learns()).unwrap();
    assert_eq!(raft.may_change(&members(3, &[])), Err(ChangeError::InProgress));
    raft.log_stable(0, i(2));
    raft.step(n(2), accepted(1, 2, 2));
    raft.step(n(3), accepted(1, 2, 2));
    drain(&mut raft);
    assert_eq!(raft.may_change(&members(3, &[])), Ok(()), "the last one is committed");
    // A restart with the log's memberships: the newest counts, and a truncation brings the older one back.
    let mut memberships = MembershipLog::new(i(1), members(3, &[]));
    memberships.push(i(3), third_learns());
    let restored = Restored {
        hard_state: HardState { term: t(1), ..HardState::default() },
        memberships,
        log: TermRuns::from_terms(&super::terms(&[1, 1, 1])),
        commit_hint: i(1),
    };
    let mut raft = Raft::new(super::config(3), restored);
    raft.start();
    drain(&mut raft);
    assert_eq!(raft.role(), Role::Learner);
    raft.step(n(2), append(2, id(1, 2), &[2], 0));
    assert_eq!((raft.role(), raft.membership_index()), (Role::Follower, i(1)));
}

/// Raft thesis 4.1: who is asked for a vote, or gets entries, does not look whether the sender is a voter by its own
/// configuration.
#[test]
fn pitfall_33_a_learner_just_promoted_that_does_not_know_it_yet_votes_when_it_is_asked() {
    let mut learner = node(3, third_learns(), &[1]);
    learner.timer_fired(TimerKind::LeaderQuiet);
    drain(&mut learner);
    assert!(grants(&mut learner, 2, 2, id(1, 2)), "by the candidate's membership it is a voter");
    assert!(!grants(&mut learner, 1, 2, id(1, 2)), "and votes once a term");
    assert_eq!(learner.role(), Role::Learner);
    // The other way round: who does not know of the promotion yet votes for the promoted one, and follows it.
    let mut voter = node(2, third_learns(), &[1]);
    assert!(grants(&mut voter, 3, 2, id(1, 2)));
    voter.step(n(3), append(2, id(1, 1), &[1, 2], 0));
    drain(&mut voter);
    assert_eq!((voter.leader(), voter.last_id()), (Some(n(3)), id(2, 3)));
}

#[test]
fn pitfall_17_a_demoted_voter_is_counted_neither_for_commits_nor_for_check_quorum() {
    let mut raft = without_third();
    raft.propose().unwrap();
    raft.log_stable(0, i(3));
    raft.step(n(3), accepted(1, 3, 3));
    assert_eq!(raft.commit_index(), i(2));
    for _ in 0..2 * TimerKind::CHECKS_PER_TIMEOUT {
        raft.step(n(3), accepted(1, 3, 3));
        raft.timer_fired(TimerKind::CheckQuorum);
    }
    assert_eq!(raft.role(), Role::Follower, "a learner is no quorum, however alive");
}

#[test]
fn pitfall_48_a_node_whose_log_names_another_formatting_neither_votes_nor_campaigns() {
    let mut raft = node(3, members(3, &[]).denying(n(3)), &[1]);
    raft.timer_fired(TimerKind::LeaderQuiet);
    raft.timer_fired(TimerKind::Election);
    assert!(drain(&mut raft).messages.is_empty());
    raft.step(n(1), Message::PreVote { term: t(2), last: id(1, 1) });
    raft.step(n(1), vote(2, id(1, 1)));
    raft.step(n(1), Message::ClaimQuery { term: t(2), claimed: id(1, 1) });
    assert!(drain(&mut raft).messages.is_empty(), "its word would count as that of the node that is meant");
    assert_eq!((raft.role(), raft.term()), (Role::Learner, t(1)));
}

/// Raft thesis 4.2.1: differs: the learner's flushed log must also name it, for votes and acknowledgements count only
/// from the formatting of a disk that the log names.
#[test]
fn differs_4_2_1_a_learner_whose_log_does_not_name_it_yet_does_not_become_a_voter() {
    let mut raft = without_third();
    raft.peer_disconnected(n(3));
    let (named, last) = (raft.membership_index().get(), raft.last_id().index.get());
    raft.step(n(3), accepted(1, last, named - 1));
    assert_eq!(raft.may_change(&members(3, &[])), Err(ChangeError::NotCaughtUp), "a restart would deny it");
    raft.step(n(3), accepted(1, last, named));
    assert_eq!(raft.may_change(&members(3, &[])), Ok(()));
}

/// Raft thesis 4.2.1: a new server has to catch up before it counts, and must be there.
#[test]
fn thesis_4_2_1_a_voter_comes_only_once_it_has_caught_up_and_was_heard_lately() {
    let mut raft = without_third();
    let last = 2 + PROMOTION_LAG_MAX + 1;
    for _ in 2..last {
        raft.propose().unwrap();
    }
    raft.log_stable(0, i(last));
    raft.step(n(2), accepted(1, last, last));
    // What node 3 had acknowledged before is forgotten with its disk.
    raft.peer_disconnected(n(3));
    assert_eq!(raft.may_change(&members(3, &[])), Err(ChangeError::NotCaughtUp));
    raft.step(n(3), accepted(1, last, 2));
    assert_eq!(
        raft.may_change(&members(3, &[])),
        Err(ChangeError::NotCaughtUp),
        "one entry too few is stable"
    );
    raft.step(n(3), accepted(1, last, 3));
    assert_eq!(raft.may_change(&members(3, &[])), Ok(()));
    for _ in 0..TimerKind::CHECKS_PER_TIMEOUT {
        raft.propose().unwrap();
        let last = raft.last_id().index;
        raft.step(n(2), accepted(1, last.get(), last.get()));
        raft.timer_fired(TimerKind::CheckQuorum);
    }
    assert_eq!(raft.role(), Role::Leader);
    assert_eq!(raft.may_change(&members(3, &[])), Err(ChangeError::NotCaughtUp), "silent for a timeout");
}

#[test]
fn nobody_is_demoted_where_the_rest_that_is_heard_is_no_quorum() {
    let mut raft = leader(true);
    for _ in 0..TimerKind::CHECKS_PER_TIMEOUT {
        raft.propose().unwrap();
        let last = raft.last_id().index.get();
        raft.step(n(3), accepted(1, last, last));
        raft.timer_fired(TimerKind::CheckQuorum);
    }
    assert_eq!(raft.role(), Role::Leader);
    assert_eq!(raft.may_change(&third_learns()), Err(ChangeError::NoQuorum), "node 2 is silent");
    let second_learns = Membership::new(vec![n(1), n(3)], vec![n(2)]).unwrap();
    assert_eq!(raft.may_change(&second_learns), Ok(()));
}

/// Raft thesis 4.2.2: a leader that is removed leads on without counting itself until that is committed; then it
/// hands over instead of leaving its place to a timeout.
#[test]
fn thesis_4_2_2_a_leader_that_is_no_voter_any_more_leads_until_that_is_committed_and_hands_over() {
    let mut raft = leader(true);
    raft.propose_membership(Membership::new(vec![n(2), n(3)], vec![n(1)]).unwrap()).unwrap();
    raft.log_stable(0, LogIndex(2));
    raft.step(n(2), accepted(1, 2, 2));
    assert_eq!((raft.role(), raft.commit_index()), (Role::Leader, i(1)), "its own disk counts no more");
    drain(&mut raft);
    raft.step(n(3), accepted(1, 2, 2));
    assert_eq!((raft.role(), raft.commit_index()), (Role::Learner, i(2)));
    let said = drain(&mut raft).messages;
    assert!(said.iter().any(|(to, message)| *to == n(2) && matches!(message, Message::TimeoutNow { .. })));
}
