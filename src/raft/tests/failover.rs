//! Hints, repeated pre-votes, transfers of leadership, disks that hang.

use super::{accepted, append, drain, elect, i, id, members, n, node, sets_election, t};
use crate::base::ids::{EntryId, NodeId};
use crate::raft::{Message, ProgressState, Raft, Role, TimerKind, TimerRequest, TransferError};

fn pre_vote(term: u64, last: EntryId) -> Message {
    Message::PreVote { term: t(term), last }
}

fn heartbeat(term: u64, round: u64) -> Message {
    Message::Heartbeat { term: t(term), commit: i(0), round }
}

fn granted(term: u64) -> Message {
    Message::PreVoteReply { term: t(term), granted: true, last: EntryId::ZERO }
}

fn refused(term: u64) -> Message {
    Message::PreVoteReply { term: t(term), granted: false, last: EntryId::ZERO }
}

/// Whether `raft` grants what `from` asks.
fn grants(raft: &mut Raft, from: NodeId, message: Message) -> bool {
    raft.step(from, message);
    drain(raft).messages.iter().any(|(_, m)| matches!(m, Message::PreVoteReply { granted: true, .. }))
}

/// Whom it asks for a pre-vote next, letting up to `rounds` retry timers run out.
fn asks_within(raft: &mut Raft, rounds: usize) -> (usize, Vec<NodeId>) {
    let asked = |raft: &mut Raft| -> Vec<NodeId> {
        let messages = drain(raft).messages;
        messages.iter().filter(|(_, m)| matches!(m, Message::PreVote { .. })).map(|(to, _)| *to).collect()
    };
    for round in 0..=rounds {
        let to = asked(raft);
        if !to.is_empty() {
            return (round, to);
        }
        raft.timer_fired(TimerKind::PreVoteRetry);
    }
    (rounds, Vec::new())
}

/// A follower of node `leader` in term 1, with one entry.
fn follower(own: u16, voters: u16, leader: u16) -> Raft {
    let mut raft = node(own, members(voters, &[]), &[1]);
    raft.step(n(leader), heartbeat(1, 1));
    drain(&mut raft);
    raft
}

/// A leader of term 1 to whom node 2 has acknowledged the no-op, which is stable here as well.
fn leader_with_follower_2() -> Raft {
    let mut raft = node(1, members(3, &[]), &[]);
    elect(&mut raft);
    raft.log_stable(0, i(1));
    raft.next_send(n(2)).unwrap();
    raft.sent(n(2), i(0), 0);
    raft.step(n(2), accepted(1, 0, 0));
    raft.next_send(n(2)).unwrap();
    raft.sent(n(2), i(1), 100);
    raft.step(n(2), accepted(1, 1, 1));
    assert_eq!(raft.progress(n(2)).unwrap().state(), ProgressState::Replicate);
    assert_eq!(raft.commit_index(), i(1));
    drain(&mut raft);
    raft
}

fn told_to_campaign(raft: &mut Raft) -> Vec<NodeId> {
    let messages = drain(raft).messages;
    messages.iter().filter(|(_, m)| matches!(m, Message::TimeoutNow { .. })).map(|(to, _)| *to).collect()
}

/// Raft paper 5.2: differs: who knows for certain that the leader's process is gone asks at once, and does not wait
/// for its election timer.
#[test]
fn pitfall_10b_a_hint_voids_only_the_own_promise_and_only_for_that_leader() {
    let mut raft = follower(1, 3, 2);
    raft.suspect_leader(n(3));
    assert!(drain(&mut raft).messages.is_empty(), "node 3 does not lead");
    assert!(!grants(&mut raft, n(3), pre_vote(2, id(1, 1))), "the promise to node 2 holds");
    raft.suspect_leader(n(2));
    let ready = drain(&mut raft);
    assert_eq!(ready.messages, [(n(1 + 1), pre_vote(2, id(1, 1))), (n(3), pre_vote(2, id(1, 1)))]);
    assert!(ready.hard_state.is_none() && raft.term() == t(1), "nothing is written, no term changes");
    raft.step(n(2), heartbeat(1, 2));
    drain(&mut raft);
    assert_eq!(raft.leader(), Some(n(2)), "word from the leader ends it");
    assert!(!grants(&mut raft, n(3), pre_vote(2, id(1, 1))));
    raft.timer_fired(TimerKind::PreVoteRetry);
    assert!(drain(&mut raft).messages.is_empty(), "a retry on its way does nothing any more");
}

/// Raft thesis 4.2.3: differs: a hint voids nobody else's loyalty, so a wrong one deposes no leader.
#[test]
fn pitfall_10b_a_follower_that_hears_its_leader_refuses_the_pre_vote_of_one_with_a_hint() {
    let mut hinted = follower(1, 3, 2);
    let mut loyal = follower(3, 3, 2);
    hinted.suspect_leader(n(2));
    for _ in 0..40 {
        for (to, message) in drain(&mut hinted).messages {
            if to == n(3) {
                loyal.step(n(1), message);
            }
        }
        for (_, reply) in drain(&mut loyal).messages {
            hinted.step(n(3), reply);
        }
        hinted.timer_fired(TimerKind::PreVoteRetry);
    }
    assert_eq!((hinted.term(), loyal.term()), (t(1), t(1)), "a living leader is not deposed");
    assert_eq!(loyal.leader(), Some(n(2)));
}

#[test]
fn pitfall_10c_survivors_of_the_same_close_ask_one_after_the_other() {
    let mut first = follower(1, 3, 2);
    let mut second = follower(3, 3, 2);
    first.suspect_leader(n(2));
    second.suspect_leader(n(2));
    assert_eq!(asks_within(&mut first, 0).1, [n(2), n(3)]);
    assert!(drain(&mut second).messages.is_empty(), "it lets the lower id go first");
    assert!(grants(&mut second, n(1), pre_vote(2, id(1, 1))));
    assert_eq!(asks_within(&mut second, 11).1, [], "a granted pre-vote defers the own campaign");
    let (_, asked) = asks_within(&mut second, 3);
    assert_eq!(asked, [n(1), n(2)], "but not for ever");
}

#[test]
fn a_pre_vote_refused_for_the_leaders_sake_is_granted_the_moment_the_leader_is_known_to_be_gone() {
    let ask = pre_vote(2, id(1, 1));
    let mut late = follower(3, 3, 2);
    assert!(!grants(&mut late, n(1), ask.clone()), "it hears its leader");
    late.suspect_leader(n(2));
    assert_eq!(
        drain(&mut late).messages,
        [(n(1), Message::PreVoteReply { term: t(2), granted: true, last: id(1, 1) })]
    );
    assert_eq!(asks_within(&mut late, 11).1, [], "and lets it go first");

    let mut loyal = follower(3, 3, 2);
    assert!(!grants(&mut loyal, n(1), ask.clone()));
    loyal.step(n(2), heartbeat(1, 2));
    drain(&mut loyal);
    loyal.suspect_leader(n(2));
    assert!(drain(&mut loyal).messages.is_empty(), "the leader has spoken since: that one may ask no more");

    let mut first = follower(1, 3, 2);
    assert!(!grants(&mut first, n(3), ask));
    first.suspect_leader(n(2));
    let asked = drain(&mut first).messages;
    assert!(
        asked.iter().all(|(_, message)| matches!(message, Message::PreVote { .. })),
        "the lower id goes first"
    );
    assert_eq!(first.role(), Role::PreCandidate);
}

/// Raft paper 5.2: differs: random timeouts are not all that keeps votes from being split; of two that ask at once
/// one goes first.
#[test]
fn pitfall_10c_of_two_that_ask_at_once_exactly_one_is_granted() {
    let mut low = follower(1, 3, 2);
    let mut high = follower(3, 3, 2);
    for raft in [&mut low, &mut high] {
        raft.timer_fired(TimerKind::Election);
        assert_eq!(raft.role(), Role::PreCandidate);
        drain(raft);
    }
    assert!(!grants(&mut low, n(3), pre_vote(2, id(1, 1))), "the lower id goes first");
    assert!(grants(&mut high, n(1), pre_vote(2, id(1, 1))));
    assert_eq!(high.role(), Role::Follower);
    high.step(n(1), granted(2));
    assert_eq!(high.term(), t(1), "a late grant does not revive its campaign");
    low.step(n(3), granted(2));
    assert_eq!(low.role(), Role::Candidate);
}

#[test]
fn pitfall_10c_a_longer_log_goes_first_whatever_its_id_and_need_not_wait() {
    let mut short = follower(1, 3, 2);
    let mut long = follower(3, 3, 2);
    long.step(n(2), append(1, id(1, 1), &[1], 0));
    drain(&mut long);
    short.suspect_leader(n(2));
    long.suspect_leader(n(2));
    drain(&mut short);
    assert!(!grants(&mut long, n(1), pre_vote(2, id(1, 1))), "its log is longer");
    assert_eq!(asks_within(&mut long, 1), (1, vec![n(1), n(2)]));
    assert!(grants(&mut short, n(3), pre_vote(2, id(1, 2))));
}

#[test]
fn pitfall_10c_one_that_can_win_nothing_stands_in_nobodys_way_for_ever() {
    let mut low = follower(1, 5, 2);
    low.timer_fired(TimerKind::Election);
    drain(&mut low);
    assert!(!grants(&mut low, n(3), pre_vote(2, id(1, 1))));
    for _ in 0..15 {
        low.timer_fired(TimerKind::PreVoteRetry);
        drain(&mut low);
    }
    assert_eq!(low.role(), Role::PreCandidate, "nobody answered");
    assert!(grants(&mut low, n(3), pre_vote(2, id(1, 1))));
}

#[test]
fn pitfall_10c_one_that_speaks_and_hears_nothing_is_let_go_first_only_once() {
    let mut raft = follower(3, 3, 2);
    raft.timer_fired(TimerKind::LeaderQuiet);
    raft.step(n(1), pre_vote(2, id(1, 1)));
    assert!(sets_election(&drain(&mut raft)), "the first grant defers the own campaign");
    raft.step(n(1), pre_vote(2, id(1, 1)));
    let ready = drain(&mut raft);
    assert!(ready.messages.iter().any(|(_, m)| matches!(m, Message::PreVoteReply { granted: true, .. })));
    assert!(!sets_election(&ready), "the second does not");
    raft.timer_fired(TimerKind::Election);
    drain(&mut raft);
    assert!(grants(&mut raft, n(1), pre_vote(2, id(1, 1))));
    assert_eq!(raft.role(), Role::PreCandidate, "it goes on asking");
    raft.step(n(2), heartbeat(1, 2));
    raft.timer_fired(TimerKind::LeaderQuiet);
    drain(&mut raft);
    raft.step(n(1), pre_vote(2, id(1, 1)));
    assert!(sets_election(&drain(&mut raft)), "after word from a leader it counts anew");
}

#[test]
fn refused_and_lost_pre_votes_are_asked_for_again_but_granted_ones_are_not() {
    let mut raft = follower(1, 5, 2);
    raft.timer_fired(TimerKind::Election);
    let ready = drain(&mut raft);
    assert!(ready.timers.contains(&TimerRequest::Set(TimerKind::PreVoteRetry)));
    raft.step(n(3), refused(1));
    raft.step(n(4), granted(2));
    raft.timer_fired(TimerKind::PreVoteRetry);
    assert_eq!(asks_within(&mut raft, 0).1, [n(2), n(3), n(5)]);
    raft.step(n(3), granted(2));
    assert_eq!(raft.role(), Role::Candidate, "both grants count");
    drain(&mut raft);
    raft.timer_fired(TimerKind::PreVoteRetry);
    assert!(drain(&mut raft).messages.is_empty(), "the canvass is over");
}

#[test]
fn the_tries_of_a_canvass_are_bounded() {
    let mut raft = follower(1, 3, 2);
    raft.timer_fired(TimerKind::Election);
    let mut asked = 0;
    for _ in 0..100 {
        asked += drain(&mut raft).messages.len();
        raft.timer_fired(TimerKind::PreVoteRetry);
    }
    assert_eq!(asked, 2 * 40);
}

#[test]
fn pitfall_9_a_node_that_learns_a_higher_term_by_a_refusal_asks_again_in_it() {
    let mut raft = follower(1, 3, 2);
    raft.timer_fired(TimerKind::Election);
    drain(&mut raft);
    raft.step(n(3), refused(7));
    assert_eq!(raft.term(), t(7));
    drain(&mut raft);
    raft.timer_fired(TimerKind::PreVoteRetry);
    assert_eq!(drain(&mut raft).messages[0], (n(2), pre_vote(8, id(1, 1))));
}

/// Raft thesis 3.10: the leader takes no requests, brings the target up to date, and then tells it to campaign.
#[test]
fn pitfall_35_a_transfer_target_is_caught_up_before_it_is_told() {
    let mut raft = leader_with_follower_2();
    raft.propose().unwrap();
    raft.log_stable(0, i(2));
    raft.next_send(n(2)).unwrap();
    raft.sent(n(2), i(2), 100);
    raft.transfer_to(n(2)).unwrap();
    assert!(raft.is_transferring());
    assert!(told_to_campaign(&mut raft).is_empty(), "entry 2 is not stable there yet");
    assert_eq!(raft.transfer_to(n(3)), Err(TransferError::InProgress));
    raft.step(n(2), accepted(1, 2, 2));
    assert_eq!(raft.commit_index(), i(2));
    assert_eq!(told_to_campaign(&mut raft), [n(2)]);
    raft.step(n(2), accepted(1, 2, 2));
    assert!(told_to_campaign(&mut raft).is_empty(), "told once");
    raft.step(n(2), Message::Vote { term: t(2), last: id(1, 2) });
    assert_eq!((raft.role(), raft.term()), (Role::Follower, t(2)));
    assert!(!raft.is_transferring());
}

/// Raft thesis 3.10: differs: the target is told only when everything is committed too, so that no client is left in
/// doubt.
#[test]
fn pitfall_35_nobody_is_told_while_an_entry_is_not_committed() {
    let mut raft = leader_with_follower_2();
    raft.propose().unwrap();
    raft.next_send(n(2)).unwrap();
    raft.sent(n(2), i(2), 100);
    raft.transfer_to(n(2)).unwrap();
    // Stable on the target alone, which is no quorum: this node's own disk is not there yet.
    raft.step(n(2), accepted(1, 2, 2));
    assert!(told_to_campaign(&mut raft).is_empty());
    raft.log_stable(0, i(2));
    assert_eq!(told_to_campaign(&mut raft), [n(2)]);
}

/// Raft thesis 3.10: a transfer that takes an election timeout is given up, and the leader takes requests again.
#[test]
fn pitfall_35_a_transfer_that_fails_resumes_writes_and_a_stale_word_does_nothing() {
    let mut raft = leader_with_follower_2();
    raft.transfer_to(n(3)).unwrap();
    assert!(told_to_campaign(&mut raft).is_empty());
    raft.timer_fired(TimerKind::Transfer);
    assert!(!raft.is_transferring());
    assert_eq!(raft.propose().unwrap(), id(1, 2));
    let mut target = follower(2, 3, 1);
    for stale in [Message::TimeoutNow { term: t(0) }, Message::TimeoutNow { term: t(2) }] {
        target.step(n(1), stale);
    }
    target.step(n(3), Message::TimeoutNow { term: t(1) });
    assert_eq!((target.role(), target.term()), (Role::Follower, t(1)), "not from the leader of this term");
    target.step(n(1), Message::TimeoutNow { term: t(1) });
    assert_eq!((target.role(), target.term()), (Role::Candidate, t(2)));
}

/// Raft thesis 3.10: leadership goes to another voter, and from a leader.
#[test]
fn thesis_3_10_transfers_to_nobody_to_learners_and_by_followers_are_refused() {
    let mut raft = node(1, members(2, &[3]), &[]);
    assert_eq!(raft.transfer_to(n(2)), Err(TransferError::NotLeader));
    elect(&mut raft);
    for target in [1, 3, 9] {
        assert_eq!(raft.transfer_to(n(target)), Err(TransferError::NotAVoter), "{target}");
    }
    assert_eq!(raft.transfer_to(n(2)), Ok(()));
}

/// Raft thesis 3.10: nothing is proposed while leadership is handed over.
#[test]
#[should_panic(expected = "nothing is proposed while leadership is handed over")]
fn thesis_3_10_a_proposal_while_leadership_is_handed_over_is_a_bug_of_the_caller() {
    let mut raft = leader_with_follower_2();
    raft.transfer_to(n(3)).unwrap();
    drain(&mut raft);
    let _ = raft.propose();
}

#[test]
fn pitfall_12_a_leader_whose_disk_hangs_hands_over_and_does_not_campaign_until_it_goes_on() {
    let mut raft = leader_with_follower_2();
    assert_eq!(raft.best_successor(), Some(n(2)), "node 3 has acknowledged nothing");
    raft.set_disk_stalled(true);
    assert_eq!(raft.role(), Role::Follower);
    assert_eq!(told_to_campaign(&mut raft), [n(2)]);
    raft.timer_fired(TimerKind::LeaderQuiet);
    raft.timer_fired(TimerKind::Election);
    let ready = drain(&mut raft);
    assert!(ready.messages.is_empty(), "its vote for itself would not become durable");
    assert!(sets_election(&ready));
    raft.step(n(2), heartbeat(2, 1));
    raft.suspect_leader(n(2));
    raft.step(n(2), Message::TimeoutNow { term: t(2) });
    assert_eq!((raft.role(), raft.term()), (Role::Follower, t(2)));
    drain(&mut raft);
    raft.set_disk_stalled(false);
    raft.timer_fired(TimerKind::Election);
    assert_eq!(raft.role(), Role::PreCandidate);
}

#[test]
fn a_single_voter_whose_disk_hangs_has_nobody_to_hand_over_to() {
    let mut raft = node(1, members(1, &[]), &[]);
    assert_eq!(raft.role(), Role::Leader);
    raft.set_disk_stalled(true);
    assert_eq!(raft.role(), Role::Leader, "its entries wait for the disk as ever");
}
