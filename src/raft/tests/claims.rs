//! The claimed tail (rule 11; PITFALLS 60).

use super::{append, drain, i, id, members, n, restored, t};
use crate::base::ids::EntryId;
use crate::raft::claim::unknown_claim;
use crate::raft::{HardState, Message, Raft, Role, TimerKind};

/// A node of `voters` in term 2 whose log holds entries 1 to 3 (term 1) and whose disk once held more.
fn claimant(voters: u16, claimed: EntryId) -> Raft {
    claimant_beside(voters, &[], claimed)
}

/// The same, with learners in its log.
fn claimant_beside(voters: u16, learners: &[u16], claimed: EntryId) -> Raft {
    let hard = HardState { term: t(2), voted_for: None, claimed_tail: Some(claimed) };
    restored(1, members(voters, learners), &[1, 1, 1], hard)
}

fn votes_for(raft: &mut Raft, term: u64, last: EntryId) -> bool {
    raft.step(n(2), Message::Vote { term: t(term), last });
    drain(raft).messages.iter().any(|(_, m)| matches!(m, Message::VoteReply { granted: true, .. }))
}

/// From a node whose last entry is that.
fn reply(term: u64, last: EntryId) -> Message {
    claiming_reply(term, last, last)
}

/// From a node that claims more than it has.
fn claiming_reply(term: u64, claimed: EntryId, last: EntryId) -> Message {
    Message::ClaimReply { term: t(term), claimed, last }
}

/// Raft paper 5.4.1: differs: a node whose disk has lost the bytes of entries that it may have acknowledged compares
/// candidates with what it claims, not with what is left.
#[test]
fn differs_5_4_1_a_claimant_votes_only_for_candidates_that_reach_its_claim() {
    let mut raft = claimant(3, id(2, 5));
    assert!(!votes_for(&mut raft, 3, id(1, 3)), "as far as its log, short of its claim");
    assert!(!votes_for(&mut raft, 4, id(2, 4)));
    raft.timer_fired(TimerKind::LeaderQuiet);
    raft.step(n(3), Message::PreVote { term: t(5), last: id(2, 4) });
    let refused = drain(&mut raft).messages;
    assert!(matches!(refused[0].1, Message::PreVoteReply { granted: false, .. }));
    assert!(votes_for(&mut raft, 5, id(2, 5)));
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)), "a vote settles nothing");
}

/// Raft paper 5.2: differs: a node with a claimed tail does not campaign; it asks how far the others reach.
#[test]
fn differs_5_2_a_claimant_asks_instead_of_campaigning_and_leaves_its_term_alone() {
    let mut raft = claimant(3, id(2, 5));
    raft.timer_fired(TimerKind::Election);
    let ready = drain(&mut raft);
    let query = Message::ClaimQuery { term: t(3), claimed: id(2, 5) };
    assert_eq!(ready.messages, [(n(2), query.clone()), (n(3), query)]);
    assert_eq!((raft.role(), raft.term()), (Role::Follower, t(2)));
    // Nor by a transfer.
    raft.step(n(2), Message::Heartbeat { term: t(2), commit: i(0), round: 1 });
    raft.step(n(2), Message::TimeoutNow { term: t(2) });
    assert_eq!((raft.role(), raft.term()), (Role::Follower, t(2)));
}

#[test]
fn a_claim_is_written_again_at_start_and_kept_in_every_later_version() {
    let hard_state = HardState { term: t(2), voted_for: None, claimed_tail: Some(id(2, 5)) };
    let log = crate::raft::TermRuns::from_terms(&super::terms(&[1, 1, 1]));
    let found =
        crate::raft::Restored { hard_state, memberships: members(3, &[]).into(), log, commit_hint: i(0) };
    let mut raft = Raft::new(super::config(1), found);
    assert_eq!(raft.ready().hard_state, Some((1, hard_state)));
    raft.step(n(2), Message::Heartbeat { term: t(7), commit: i(0), round: 1 });
    let (_, hard) = raft.ready().hard_state.unwrap();
    assert_eq!((hard.term, hard.claimed_tail), (t(7), Some(id(2, 5))));
}

/// Raft paper 5.4.1: differs: a leader settles the claim once its entries are flushed here.
#[test]
fn differs_5_4_1_a_leader_settles_the_claim_once_its_entries_are_stable_here() {
    let mut raft = claimant(3, id(2, 5));
    raft.step(n(2), append(3, id(1, 3), &[2, 2], 0));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)), "appended only: a crash would lose the entry again");
    raft.log_stable(0, i(4));
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)));
    raft.log_stable(0, i(5));
    let ready = raft.ready();
    let (version, hard) = ready.hard_state.unwrap();
    assert_eq!(hard.claimed_tail, None);
    raft.hard_state_flushed(version);
    raft.timer_fired(TimerKind::Election);
    assert_eq!(raft.role(), Role::PreCandidate);
}

#[test]
fn a_leader_with_another_entry_in_its_place_settles_it_too() {
    let mut raft = claimant(3, id(2, 5));
    raft.step(n(2), append(4, id(1, 3), &[3, 3, 4], 0));
    raft.log_stable(0, i(6));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), None);
}

#[test]
fn stable_entries_that_no_leader_of_this_term_verified_settle_nothing() {
    let mut raft = claimant(3, id(2, 5));
    raft.step(n(2), append(3, id(1, 3), &[3, 3], 0));
    raft.step(n(3), Message::Heartbeat { term: t(4), commit: i(0), round: 1 });
    raft.log_stable(0, i(5));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)));
}

/// Raft paper 5.4.1: differs: what no majority can have acknowledged need not be claimed: enough others without it
/// settle the claim.
#[test]
fn differs_5_4_1_the_others_settle_it_when_none_of_them_can_have_it() {
    let mut raft = claimant(3, id(2, 5));
    raft.step(n(2), reply(3, id(1, 3)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)), "one of two others is not enough of three");
    raft.step(n(2), reply(3, id(1, 3)));
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)), "nor the same one twice");
    raft.step(n(3), reply(3, id(1, 2)));
    assert_eq!(raft.claimed_tail(), None);
    assert!(drain(&mut raft).hard_state.is_some());
}

/// The model checker's find: the entry comes back, is not flushed yet, and the others' answers drop the claim; a crash
/// loses the entry once more, and nobody answers for it.
#[test]
fn what_the_others_reach_settles_nothing_before_it_is_stable_here() {
    let mut raft = claimant(3, id(2, 5));
    raft.step(n(2), append(2, id(1, 3), &[2, 2], 0));
    raft.step(n(2), reply(3, id(2, 5)));
    raft.step(n(3), reply(3, id(1, 3)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)), "appended only");
    raft.log_stable(0, i(5));
    raft.step(n(3), reply(3, id(1, 3)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), None, "flushed");
}

#[test]
fn one_that_has_it_keeps_the_claim() {
    let mut raft = claimant(3, id(2, 5));
    raft.step(n(2), reply(3, id(1, 3)));
    raft.step(n(3), reply(3, id(2, 5)));
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)));
}

#[test]
fn one_that_reaches_past_our_log_but_short_of_the_claim_lowers_it() {
    // Entry 5 is nobody's, but entry 4 may be committed with our help: 'no' to 5 must not forget 4.
    let mut raft = claimant(3, id(2, 5));
    raft.step(n(2), reply(3, id(1, 3)));
    raft.step(n(3), reply(3, id(2, 4)));
    assert_eq!(raft.claimed_tail(), Some(id(2, 4)));
    drain(&mut raft);
    assert!(!votes_for(&mut raft, 6, id(1, 3)));
    assert!(votes_for(&mut raft, 7, id(2, 4)));
}

#[test]
fn an_answer_from_the_claims_own_term_binds_nobody() {
    // Its sender may yet help the leader of term 2 to commit entry 5 with our old acknowledgement.
    let mut raft = claimant(3, id(2, 5));
    raft.step(n(2), reply(2, id(1, 3)));
    raft.step(n(3), reply(2, id(1, 3)));
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)));
}

#[test]
fn an_answer_of_no_binds_first_and_then_leaves() {
    let hard = HardState { term: t(2), ..HardState::default() };
    let mut raft = restored(2, members(3, &[]), &[1, 1, 1], hard);
    let query = Message::ClaimQuery { term: t(3), claimed: id(2, 5) };
    raft.step(n(1), query.clone());
    assert!(drain(&mut raft).messages.is_empty(), "a leader may live, and will settle it");
    raft.timer_fired(TimerKind::LeaderQuiet);
    raft.step(n(1), query);
    let ready = raft.ready();
    assert_eq!(ready.hard_state.unwrap().1.term, t(3));
    assert!(ready.messages.is_empty(), "the term first");
    raft.hard_state_flushed(ready.hard_state.unwrap().0);
    assert_eq!(raft.ready().messages, [(n(1), reply(3, id(1, 3)))]);
}

#[test]
fn one_that_has_it_says_so_and_moves_no_term() {
    let hard = HardState { term: t(2), ..HardState::default() };
    let mut raft = restored(2, members(3, &[]), &[1, 1, 1, 2, 2, 2], hard);
    raft.step(n(1), Message::ClaimQuery { term: t(3), claimed: id(2, 5) });
    assert_eq!(drain(&mut raft).messages, [(n(1), reply(2, id(2, 6)))]);
    assert_eq!(raft.term(), t(2));
    // One that answers for a damaged tail of its own does not deny it.
    let hard = HardState { term: t(2), voted_for: None, claimed_tail: Some(id(2, 7)) };
    let mut other = restored(3, members(3, &[]), &[1], hard);
    other.timer_fired(TimerKind::LeaderQuiet);
    other.step(n(1), Message::ClaimQuery { term: t(3), claimed: id(2, 5) });
    let answer = claiming_reply(3, id(2, 7), id(1, 1));
    assert_eq!(drain(&mut other).messages, [(n(1), answer)], "nor does it say that it has the entry whole");
}

#[test]
fn a_living_leader_is_not_deposed_by_a_query() {
    let mut leader = restored(1, members(3, &[]), &[1], HardState { term: t(1), ..HardState::default() });
    super::elect(&mut leader);
    leader.step(n(2), Message::ClaimQuery { term: t(9), claimed: id(8, 50) });
    assert_eq!((leader.role(), leader.term()), (Role::Leader, t(2)));
    // In a term above the claim's it may answer as it is.
    leader.step(n(2), Message::ClaimQuery { term: t(3), claimed: id(1, 7) });
    assert_eq!(leader.role(), Role::Leader);
    assert!(drain(&mut leader).messages.contains(&(n(2), reply(2, id(2, 2)))));
}

#[test]
fn claims_that_the_log_covers_or_a_single_voter_has_are_settled_at_start() {
    let hard = HardState { term: t(2), voted_for: Some(n(3)), claimed_tail: Some(id(1, 3)) };
    let raft = restored(1, members(3, &[]), &[1, 1, 1, 2], hard);
    assert_eq!(*raft.hard_state(), HardState { claimed_tail: None, ..hard });
    let mut alone = claimant(1, id(2, 5));
    drain(&mut alone);
    assert_eq!((alone.claimed_tail(), alone.role()), (None, Role::Leader));
}

#[test]
fn even_clusters_need_fewer_answers() {
    let mut raft = claimant(2, id(2, 5));
    raft.step(n(2), reply(3, id(1, 3)));
    assert_eq!(raft.claimed_tail(), None, "of two, entry 5 would need both");
    let mut raft = claimant(4, id(2, 5));
    raft.step(n(2), reply(3, id(1, 3)));
    assert!(raft.claimed_tail().is_some());
    raft.step(n(4), reply(3, id(1, 3)));
    assert_eq!(raft.claimed_tail(), None);
}

/// What the claimant lost may begin with the promotion of its learners, and what follows may be committed by it and
/// them: of voters 1, 2 and learner 3, by 1 and 3, while leader 2 has not flushed it and loses it in a crash. Those that
/// were voters before then deny it truly, and all of them together would elect a leader without it.
#[test]
fn learners_may_have_been_promoted_in_what_was_lost_so_theirs_is_the_last_word() {
    for (voters, learners) in [(2, &[3][..]), (4, &[5]), (3, &[4, 5])] {
        let mut raft = claimant_beside(voters, learners, id(2, 5));
        for voter in 2..=voters {
            raft.step(n(voter), reply(3, id(1, 3)));
            drain(&mut raft);
            assert_eq!(raft.claimed_tail(), Some(id(2, 5)), "{voters} voters, and {voter} denies it");
        }
        for learner in learners {
            raft.step(n(*learner), reply(3, id(2, 5)));
            drain(&mut raft);
        }
        assert_eq!(raft.claimed_tail(), Some(id(2, 5)), "{learners:?} have it");
        assert!(!votes_for(&mut raft, 4, id(1, 3)), "one that lacks it");
        assert!(votes_for(&mut raft, 5, id(2, 5)));
        // Where they deny it too, nobody else can have it.
        let mut raft = claimant_beside(voters, learners, id(2, 5));
        for member in 2..=voters + learners.len() as u16 {
            assert_eq!(raft.claimed_tail(), Some(id(2, 5)));
            raft.step(n(member), reply(3, id(1, 3)));
            drain(&mut raft);
        }
        assert_eq!(raft.claimed_tail(), None);
    }
}

// A `memory` cluster after an unclean reboot (rule 6): nobody knows how far the claim reached.

/// A node of `voters` in term 2 whose log holds entries 1 to 3 (term 1), and that lost what else its page cache held.
fn in_doubt(voters: u16) -> Raft {
    claimant(voters, unknown_claim(t(2)))
}

#[test]
fn pitfall_60_a_node_in_doubt_helps_nobody_who_may_lack_what_it_lost() {
    let mut raft = in_doubt(3);
    assert!(!votes_for(&mut raft, 3, id(1, 3)), "as far as what is left of its log");
    assert!(
        !votes_for(&mut raft, 4, id(2, 900)),
        "however long, in a term in which it may have acknowledged more"
    );
    raft.timer_fired(TimerKind::Election);
    assert_eq!(raft.role(), Role::Follower, "nor does it campaign");
    assert!(votes_for(&mut raft, 5, id(3, 4)), "whose leader was elected without nodes in doubt");
    assert!(raft.claimed_tail().is_some(), "a vote settles nothing");
}

#[test]
fn pitfall_60_a_node_in_doubt_takes_part_again_once_it_is_where_its_leader_was_when_asked() {
    let mut raft = in_doubt(3);
    // The leader whose entries it had acknowledged still leads: the same term.
    raft.step(n(2), Message::Heartbeat { term: t(2), commit: i(4), round: 1 });
    let query = Message::ClaimQuery { term: t(3), claimed: unknown_claim(t(2)) };
    assert!(drain(&mut raft).messages.contains(&(n(2), query)));
    // All that is committed is here, but not all that it may have acknowledged.
    raft.step(n(2), append(2, id(1, 3), &[2], 4));
    raft.log_stable(0, i(4));
    drain(&mut raft);
    raft.step(n(2), reply(2, id(2, 6)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(id(2, 6)));
    raft.step(n(2), append(2, id(2, 4), &[2], 4));
    raft.log_stable(0, i(5));
    drain(&mut raft);
    assert!(!votes_for(&mut raft, 3, id(2, 5)), "short of it");
    let mut raft = in_doubt(3);
    raft.step(n(2), append(2, id(1, 3), &[2, 2, 2], 4));
    raft.log_stable(0, i(6));
    raft.step(n(2), reply(2, id(2, 6)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), None, "it was there already");
    raft.timer_fired(TimerKind::Election);
    assert_eq!(raft.role(), Role::PreCandidate);
}

#[test]
fn only_the_leader_of_this_term_settles_an_unknown_claim_alone() {
    let mut raft = in_doubt(3);
    raft.step(n(2), Message::Heartbeat { term: t(2), commit: i(0), round: 1 });
    raft.step(n(3), reply(2, id(1, 3)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(unknown_claim(t(2))), "another follower");
    let mut raft = in_doubt(3);
    raft.step(n(2), reply(2, id(2, 6)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(unknown_claim(t(2))), "one that this node does not know to lead");
}

#[test]
fn nodes_in_doubt_settle_nothing_among_themselves_and_whole_ones_do() {
    let mut raft = in_doubt(3);
    raft.step(n(2), claiming_reply(3, unknown_claim(t(2)), id(1, 3)));
    raft.step(n(3), reply(3, id(2, 5)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(unknown_claim(t(2))), "a quorum rebooted: an operator must say so");
    raft.step(n(2), reply(3, id(1, 3)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)), "both others are whole: the furthest of them");
    // This is how the other one answers.
    let mut other = in_doubt(3);
    other.timer_fired(TimerKind::LeaderQuiet);
    other.step(n(2), Message::ClaimQuery { term: t(3), claimed: unknown_claim(t(2)) });
    let said = drain(&mut other).messages;
    assert!(said.contains(&(n(2), claiming_reply(3, unknown_claim(t(2)), id(1, 3)))), "{said:?}");
}

#[test]
fn a_leader_tells_a_node_in_doubt_how_far_it_is_and_goes_on_leading() {
    let mut leader = restored(1, members(3, &[]), &[1], HardState { term: t(1), ..HardState::default() });
    super::elect(&mut leader);
    leader.step(n(2), Message::ClaimQuery { term: t(3), claimed: unknown_claim(t(2)) });
    assert_eq!((leader.role(), leader.term()), (Role::Leader, t(2)));
    assert!(drain(&mut leader).messages.contains(&(n(2), reply(2, id(2, 2)))));
}

#[test]
fn a_single_voter_in_doubt_waits_for_an_operator() {
    let mut alone = in_doubt(1);
    alone.timer_fired(TimerKind::Election);
    drain(&mut alone);
    assert_eq!((alone.role(), alone.claimed_tail()), (Role::Follower, Some(unknown_claim(t(2)))));
}

#[test]
fn pitfall_60_an_entry_that_is_torn_on_every_disk_that_had_it_keeps_nobody_from_leading() {
    // Power failed everywhere: node 2 claims what node 1 claims, and neither will ever have it.
    let mut raft = claimant(3, id(2, 5));
    raft.step(n(2), claiming_reply(3, id(2, 5), id(1, 3)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)), "node 3 may have it");
    raft.step(n(3), reply(3, id(1, 2)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), None);
    raft.timer_fired(TimerKind::Election);
    assert_eq!(raft.role(), Role::PreCandidate);
}

#[test]
fn of_what_is_torn_everywhere_only_what_nobody_has_whole_is_given_up() {
    let mut raft = claimant(3, id(2, 7));
    raft.step(n(2), claiming_reply(3, id(2, 7), id(2, 5)));
    raft.step(n(3), reply(3, id(1, 3)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)), "node 2 has that one");
    // Of five, one that is silent may have everything.
    let mut raft = claimant(5, id(2, 5));
    raft.step(n(2), claiming_reply(3, id(2, 5), id(1, 3)));
    raft.step(n(3), reply(3, id(1, 3)));
    raft.step(n(4), reply(3, id(1, 3)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)));
    raft.step(n(5), claiming_reply(3, unknown_claim(t(2)), id(1, 3)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), Some(id(2, 5)), "and one in doubt may have had it");
    raft.step(n(5), reply(3, id(1, 3)));
    drain(&mut raft);
    assert_eq!(raft.claimed_tail(), None);
}
