//! Elections (Raft paper, sections 5.1, 5.2, 5.4.1; thesis, section 9.6).

use super::{
    append, drain, elect, i, id, log_of, members, n, node, restored, sets_election, t, terms, truncations,
};
use crate::base::ids::{COUNTER_MAX, EntryId, LogIndex, NodeId, Term};
use crate::raft::{HardState, Message, Raft, RaftConfig, Restored, Role, TermRuns, TimerKind, TimerRequest};

fn vote(term: u64, last: EntryId) -> Message {
    Message::Vote { term: t(term), last }
}

fn pre_vote(term: u64, last: EntryId) -> Message {
    Message::PreVote { term: t(term), last }
}

fn vote_reply(term: u64) -> Message {
    Message::VoteReply { term: t(term), granted: true, last: EntryId::ZERO }
}

fn pre_vote_reply(term: u64) -> Message {
    Message::PreVoteReply { term: t(term), granted: true, last: EntryId::ZERO }
}

fn heartbeat(term: u64, commit: u64, round: u64) -> Message {
    Message::Heartbeat { term: t(term), commit: i(commit), round }
}

/// Whether `raft` grants what `from` asks.
fn grants(raft: &mut Raft, from: NodeId, message: Message) -> bool {
    raft.step(from, message);
    drain(raft).messages.iter().any(|(_, m)| {
        matches!(m, Message::VoteReply { granted: true, .. } | Message::PreVoteReply { granted: true, .. })
    })
}

/// Raft paper 5.2; figure 2, persistent state: one vote a term, also for who steps down in it.
#[test]
fn pitfall_1_stepping_down_in_the_same_term_keeps_the_vote() {
    let mut raft = node(1, members(3, &[]), &[]);
    elect(&mut raft);
    (0..TimerKind::CHECKS_PER_TIMEOUT).for_each(|_| raft.timer_fired(TimerKind::CheckQuorum));
    let ready = drain(&mut raft);
    assert_eq!((raft.role(), raft.term()), (Role::Follower, t(1)));
    assert!(ready.hard_state.is_none());
    assert!(!grants(&mut raft, n(2), vote(1, id(1, 9))), "it voted for itself in term 1");
    assert_eq!(raft.hard_state().voted_for, Some(n(1)));
    // A follower that hears of the term's leader after voting for another keeps its vote as well.
    let mut raft = node(2, members(3, &[]), &[]);
    assert!(grants(&mut raft, n(1), vote(3, id(0, 0))));
    raft.step(n(3), heartbeat(3, 0, 1));
    assert!(!grants(&mut raft, n(3), vote(3, id(2, 9))));
    assert!(grants(&mut raft, n(1), vote(3, id(0, 0))), "the same candidate may ask again");
}

/// Raft paper 5.1; figure 2, persistent state: term and vote are on the disk before the answer leaves.
#[test]
fn pitfall_2_a_vote_waits_for_the_disk() {
    let mut raft = node(1, members(3, &[]), &[]);
    raft.step(n(2), vote(5, EntryId::ZERO));
    let ready = raft.ready();
    let (version, hard) = ready.hard_state.unwrap();
    assert_eq!((hard.term, hard.voted_for), (t(5), Some(n(2))));
    assert_eq!(ready.messages, []);
    assert_eq!(raft.held_count(), 1);
    raft.hard_state_flushed(version - 1);
    raft.hard_state_flushed(version + 7);
    assert_eq!(raft.ready().messages, [], "neither an older version nor one never handed out will do");
    raft.hard_state_flushed(version);
    let reply = Message::VoteReply { term: t(5), granted: true, last: EntryId::ZERO };
    assert_eq!(raft.ready().messages, [(n(2), reply)]);
}

#[test]
fn pitfall_2_a_term_learned_from_a_reply_or_a_leader_is_durable_before_any_answer() {
    let mut raft = node(1, members(3, &[]), &[]);
    raft.step(n(2), append(4, EntryId::ZERO, &[4], 0));
    raft.step(n(2), heartbeat(4, 0, 1));
    let ready = raft.ready();
    assert_eq!(ready.messages, []);
    raft.hard_state_flushed(ready.hard_state.unwrap().0);
    assert_eq!(raft.ready().messages.len(), 2);

    let mut raft = node(1, members(3, &[]), &[]);
    elect(&mut raft);
    let reply = Message::HeartbeatReply { term: t(9), round: 0, appended: i(0), stable: i(0) };
    raft.step(n(2), reply);
    assert_eq!((raft.role(), raft.term()), (Role::Follower, t(9)));
    assert_eq!(raft.ready().hard_state.unwrap().1.term, t(9));
}

#[test]
fn a_term_that_ends_drops_what_it_still_held() {
    let mut raft = node(1, members(5, &[]), &[]);
    raft.step(n(2), vote(5, EntryId::ZERO));
    raft.step(n(3), vote(6, EntryId::ZERO));
    let (version, hard) = raft.ready().hard_state.unwrap();
    assert_eq!((hard.term, hard.voted_for), (t(6), Some(n(3))));
    raft.hard_state_flushed(version);
    let to: Vec<_> = raft.ready().messages.into_iter().map(|(to, m)| (to, m.term())).collect();
    assert_eq!(to, [(n(3), t(6))]);
}

#[test]
fn pitfall_3_votes_of_an_older_term_or_campaign_do_not_count() {
    let mut raft = node(1, members(3, &[4]), &[]);
    raft.timer_fired(TimerKind::Election);
    raft.step(n(2), pre_vote_reply(1));
    drain(&mut raft);
    raft.timer_fired(TimerKind::Election);
    raft.step(n(3), pre_vote_reply(2));
    drain(&mut raft);
    assert_eq!((raft.role(), raft.term()), (Role::Candidate, t(2)));
    raft.step(n(2), vote_reply(1));
    raft.step(n(3), Message::VoteReply { term: t(2), granted: false, last: EntryId::ZERO });
    raft.step(n(4), vote_reply(2));
    assert_eq!(raft.role(), Role::Candidate, "an old vote, a refusal, a learner");
    raft.step(n(2), vote_reply(2));
    assert_eq!(raft.role(), Role::Leader);
}

#[test]
fn pitfall_4_a_candidates_own_vote_is_durable_before_it_asks_or_counts_it() {
    let mut raft = node(1, members(3, &[]), &[]);
    raft.timer_fired(TimerKind::Election);
    drain(&mut raft);
    raft.step(n(2), pre_vote_reply(1));
    let ready = raft.ready();
    let (version, hard) = ready.hard_state.unwrap();
    assert_eq!(hard.voted_for, Some(n(1)));
    assert_eq!(ready.messages, [], "no request before the own vote is on disk");
    // Even votes that could not have been asked for yet make no leader.
    raft.step(n(2), vote_reply(1));
    raft.step(n(3), vote_reply(1));
    assert_eq!(raft.role(), Role::Candidate);
    raft.hard_state_flushed(version);
    assert_eq!(raft.role(), Role::Leader);
}

#[test]
fn pitfall_5_the_term_never_falls() {
    // By truncation: the log's last term falls from 3 to 2, the node's stays.
    let mut raft = node(2, members(3, &[]), &[1, 3, 3]);
    raft.step(n(1), append(4, id(1, 1), &[2], 0));
    assert_eq!(log_of(&raft), [1, 2]);
    assert_eq!(raft.term(), t(4));
    // By restart: entries of term 3 reached the disk before the term did.
    let old = HardState { term: t(2), voted_for: Some(n(3)), claimed_tail: None };
    let raft = restored(2, members(3, &[]), &[1, 3, 3], old);
    assert_eq!(*raft.hard_state(), HardState { term: t(3), voted_for: None, claimed_tail: None });
}

/// Raft paper 5.4.1; figure 2, RequestVote 2: of two logs the one with the later last term is more up to date, of
/// equal terms the longer one.
#[test]
fn pitfall_6_up_to_date_compares_the_last_term_then_the_last_index() {
    for (last, granted) in
        [(id(3, 1), true), (id(2, 3), true), (id(2, 4), true), (id(2, 2), false), (id(1, 99), false)]
    {
        let mut raft = node(1, members(3, &[]), &[1, 2, 2]);
        raft.timer_fired(TimerKind::LeaderQuiet);
        assert_eq!(grants(&mut raft, n(2), pre_vote(9, last)), granted, "pre-vote {last:?}");
        assert_eq!(grants(&mut raft, n(2), vote(9, last)), granted, "vote {last:?}");
    }
}

/// Raft paper 5.2; figure 2, followers 2: only a leader's word and a granted vote keep a follower from campaigning.
#[test]
fn pitfall_7_only_a_grant_or_the_current_leader_resets_the_election_timer() {
    let mut raft = node(1, members(3, &[]), &[1, 2]);
    let mut resets = |message: Message| {
        raft.step(n(2), message);
        sets_election(&drain(&mut raft))
    };
    assert!(!resets(vote(5, id(1, 9))), "a refused vote, though its term is newer");
    assert!(!resets(heartbeat(4, 0, 1)), "a leader of an older term");
    assert!(!resets(append(4, id(2, 2), &[], 0)), "an Append of an older term");
    assert!(!resets(pre_vote(6, id(2, 2))), "a refused pre-vote");
    assert!(!resets(vote_reply(5)) && !resets(pre_vote_reply(6)));
    assert!(resets(vote(6, id(2, 2))), "a granted vote");
    assert!(resets(heartbeat(6, 0, 1)), "the leader");
    assert!(resets(append(6, id(2, 2), &[6], 0)), "the leader's entries");
}

/// Raft thesis 9.6 and 4.2.3: who hears a leader refuses, and so does the leader.
#[test]
fn pitfall_8_a_pre_vote_is_refused_while_the_leader_lives() {
    let mut raft = node(1, members(3, &[]), &[1]);
    assert!(!grants(&mut raft, n(3), pre_vote(2, id(1, 1))), "just started: a leader may be there");
    raft.timer_fired(TimerKind::LeaderQuiet);
    assert!(grants(&mut raft, n(3), pre_vote(2, id(1, 1))));
    raft.step(n(2), heartbeat(1, 0, 1));
    assert!(!grants(&mut raft, n(3), pre_vote(2, id(1, 1))));
    assert_eq!(raft.term(), t(1));
    raft.timer_fired(TimerKind::LeaderQuiet);
    assert!(grants(&mut raft, n(3), pre_vote(2, id(1, 1))));
    // A leader itself refuses.
    let mut leader = node(1, members(3, &[]), &[]);
    elect(&mut leader);
    assert!(!grants(&mut leader, n(3), pre_vote(7, id(6, 9))));
    assert_eq!((leader.role(), leader.term()), (Role::Leader, t(1)));
}

#[test]
fn pitfall_9_a_node_with_a_lower_term_learns_it_by_pre_vote_and_then_wins() {
    let mut low = node(1, members(2, &[]), &[1, 1, 1]);
    let high_hard = HardState { term: t(7), ..HardState::default() };
    let mut high = restored(2, members(2, &[]), &[1, 1], high_hard);
    high.timer_fired(TimerKind::LeaderQuiet);
    for _ in 0..2 {
        low.timer_fired(TimerKind::Election);
        // Carry messages until both are quiet.
        loop {
            let (from_low, from_high) = (drain(&mut low).messages, drain(&mut high).messages);
            if from_low.is_empty() && from_high.is_empty() {
                break;
            }
            from_low.into_iter().for_each(|(_, message)| high.step(n(1), message));
            from_high.into_iter().for_each(|(_, message)| low.step(n(2), message));
        }
    }
    assert_eq!((low.role(), low.term()), (Role::Leader, t(8)));
    assert_eq!(high.leader(), Some(n(1)));
}

#[test]
fn pitfall_10c_a_granted_pre_vote_defers_the_own_campaign() {
    let mut raft = node(1, members(3, &[]), &[1]);
    raft.timer_fired(TimerKind::LeaderQuiet);
    raft.step(n(2), pre_vote(2, id(1, 1)));
    assert!(sets_election(&drain(&mut raft)));
}

#[test]
fn pitfall_11_and_25_a_node_whose_log_failed_leads_no_more_and_stays_silent() {
    let mut raft = node(1, members(3, &[]), &[]);
    elect(&mut raft);
    let proposed = raft.propose().unwrap();
    raft.read_index(4);
    raft.log_failed();
    assert_eq!(raft.role(), Role::Follower);
    assert!(raft.propose().is_err(), "{proposed:?} is never given again in this term");
    assert!(raft.next_send(n(2)).is_none());
    let ready = drain(&mut raft);
    assert!(ready.messages.is_empty() && ready.reads.len() == 1);
    raft.timer_fired(TimerKind::LeaderQuiet);
    raft.timer_fired(TimerKind::Election);
    raft.step(n(2), pre_vote(9, id(8, 99)));
    raft.step(n(2), vote(9, id(8, 99)));
    raft.step(n(2), heartbeat(9, 0, 1));
    raft.log_stable(0, i(2));
    let ready = drain(&mut raft);
    assert!(ready.messages.is_empty() && ready.hard_state.is_none());
    assert_eq!((raft.term(), raft.stable_index()), (t(1), i(0)));
}

#[test]
fn pitfall_12_a_leader_told_to_give_up_keeps_term_and_vote() {
    let mut raft = node(1, members(3, &[]), &[]);
    elect(&mut raft);
    raft.step_down();
    let ready = drain(&mut raft);
    assert!(sets_election(&ready));
    assert!(ready.timers.contains(&TimerRequest::Cancel(TimerKind::Heartbeat)));
    assert_eq!((raft.role(), raft.term(), raft.leader()), (Role::Follower, t(1), None));
    assert_eq!(raft.hard_state().voted_for, Some(n(1)));
    assert!(grants(&mut raft, n(2), pre_vote(2, id(1, 1))), "and supports the next at once");
}

/// Raft thesis 6.2: a leader that has not heard a majority for an election timeout steps down.
#[test]
fn thesis_6_2_check_quorum_counts_voters_heard_within_one_timeout() {
    let mut raft = node(1, members(5, &[6]), &[]);
    elect(&mut raft);
    let answer = |round| Message::HeartbeatReply { term: t(1), round, appended: i(0), stable: i(0) };
    // Heard in different steps: both within the timeout.
    raft.step(n(2), answer(1));
    raft.timer_fired(TimerKind::CheckQuorum);
    raft.step(n(3), answer(1));
    // Node 2 was heard just before the first step, node 3 just before the second.
    for step in 2..TimerKind::CHECKS_PER_TIMEOUT {
        raft.timer_fired(TimerKind::CheckQuorum);
        assert_eq!(raft.role(), Role::Leader, "step {step}");
        // The same answers again, those of a learner, and one to a round never started: nobody is heard.
        for from in [2, 3, 6] {
            raft.step(n(from), answer(1));
        }
        raft.step(n(4), answer(2));
    }
    raft.timer_fired(TimerKind::CheckQuorum);
    assert_eq!(raft.role(), Role::Follower, "a timeout after node 2 was heard there is no quorum");
}

/// Raft thesis 4.2.1: a learner receives entries, neither votes nor campaigns, and counts for nothing.
#[test]
fn pitfall_34_learners_never_campaign_and_are_not_asked() {
    let mut raft = node(4, members(3, &[4]), &[1]);
    assert_eq!(raft.role(), Role::Learner);
    raft.timer_fired(TimerKind::LeaderQuiet);
    raft.timer_fired(TimerKind::Election);
    raft.suspect_leader(n(1));
    raft.timer_fired(TimerKind::PreVoteRetry);
    raft.step(n(1), Message::TimeoutNow { term: t(1) });
    let ready = drain(&mut raft);
    assert!(ready.messages.is_empty() && ready.hard_state.is_none() && ready.timers.is_empty());
    assert_eq!((raft.role(), raft.term()), (Role::Learner, t(1)));
    raft.step(n(1), append(2, id(1, 1), &[2], 1));
    assert_eq!((raft.role(), raft.last_id()), (Role::Learner, id(2, 2)));
    let mut voter = node(1, members(3, &[4]), &[1]);
    voter.timer_fired(TimerKind::Election);
    let asked: Vec<_> = drain(&mut voter).messages.into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked, [n(2), n(3)]);
    voter.step(n(4), Message::PreVoteReply { term: t(2), granted: true, last: id(1, 1) });
    assert_eq!(voter.role(), Role::PreCandidate, "a learner's grant counts for nothing");
}

/// Raft thesis 3.10: the order to campaign counts only from the leader of this very term.
#[test]
fn pitfall_35_a_stale_timeout_now_does_nothing() {
    let mut raft = node(1, members(3, &[]), &[1]);
    raft.step(n(2), Message::TimeoutNow { term: t(1) });
    raft.step(n(2), heartbeat(1, 0, 1));
    raft.step(n(3), Message::TimeoutNow { term: t(1) });
    raft.step(n(2), Message::TimeoutNow { term: t(2) });
    assert_eq!((raft.role(), raft.term()), (Role::Follower, t(1)), "no leader, not the leader, another term");
    raft.step(n(2), Message::TimeoutNow { term: t(1) });
    assert_eq!((raft.role(), raft.term()), (Role::Candidate, t(2)));
    drain(&mut raft);
    raft.step(n(2), Message::TimeoutNow { term: t(1) });
    assert_eq!(raft.term(), t(2));
}

#[test]
fn strangers_malformed_messages_and_huge_numbers_change_nothing() {
    let mut raft = node(1, members(3, &[]), &[1, 1]);
    let before = raft.clone();
    let huge = Term(u64::MAX);
    let far = LogIndex(u64::MAX);
    let broken = [
        Message::Vote { term: huge, last: id(1, 9) },
        Message::Vote { term: Term::ZERO, last: id(1, 9) },
        Message::Vote { term: t(2), last: EntryId::new(t(1), far) },
        Message::Vote { term: t(2), last: EntryId::new(t(1), i(0)) },
        Message::PreVote { term: Term(COUNTER_MAX + 1), last: id(1, 9) },
        Message::Append {
            term: t(2),
            prev: EntryId::new(t(1), far),
            entries: terms(&[2]),
            commit: i(0),
            wants_reply: true,
        },
        Message::Append {
            term: t(2),
            prev: id(1, 2),
            entries: terms(&[2, 1]),
            commit: i(0),
            wants_reply: true,
        },
        Message::Append { term: t(2), prev: id(1, 2), entries: terms(&[3]), commit: i(0), wants_reply: true },
        Message::Append { term: t(2), prev: id(2, 2), entries: terms(&[1]), commit: i(0), wants_reply: true },
        Message::Append { term: t(2), prev: id(1, 2), entries: terms(&[]), commit: far, wants_reply: true },
        Message::Heartbeat { term: t(2), commit: far, round: 1 },
        Message::Heartbeat { term: t(2), commit: i(0), round: 0 },
        Message::ClaimQuery { term: t(2), claimed: id(2, 9) },
    ];
    for message in broken {
        raft.step(n(2), message);
    }
    raft.step(n(1), vote(9, id(8, 9)));
    raft.step(n(7), vote(9, id(8, 9)));
    assert!(raft == before);
}

#[test]
fn pitfall_52_the_largest_counters_do_not_wrap() {
    let mut log = TermRuns::after(EntryId::new(Term(COUNTER_MAX - 9), LogIndex(COUNTER_MAX - 9)));
    log.push(Term(COUNTER_MAX - 9));
    let hard_state = HardState { term: Term(COUNTER_MAX - 9), ..HardState::default() };
    let config = RaftConfig { id: n(1), inflight_entries_limit: u32::MAX, inflight_bytes_limit: u64::MAX };
    let restored =
        Restored { hard_state, memberships: members(3, &[]).into(), log, commit_hint: LogIndex(u64::MAX) };
    let mut raft = Raft::new(config, restored);
    raft.start();
    elect(&mut raft);
    raft.propose().unwrap();
    raft.step(
        n(2),
        Message::AppendReply {
            term: raft.term(),
            outcome: crate::raft::AppendOutcome::Accepted {
                appended: LogIndex(COUNTER_MAX),
                stable: LogIndex(COUNTER_MAX),
            },
        },
    );
    assert_eq!(raft.commit_index(), LogIndex(COUNTER_MAX - 8), "an acknowledgement of what never was");
    assert!(raft.next_send(n(2)).is_some());
    raft.log_stable(0, LogIndex(u64::MAX));
    assert_eq!(raft.stable_index(), LogIndex(COUNTER_MAX - 6));
    assert_eq!(truncations(&drain(&mut raft)), 0);
}

#[test]
fn the_state_is_clone_eq_and_hash_and_stays_bounded() {
    use std::hash::{DefaultHasher, Hash, Hasher};
    fn hash(raft: &Raft) -> u64 {
        let mut hasher = DefaultHasher::new();
        raft.hash(&mut hasher);
        hasher.finish()
    }
    let mut raft = node(1, members(7, &[]), &[1, 1]);
    let twin = raft.clone();
    assert!(raft == twin && hash(&raft) == hash(&twin));
    raft.timer_fired(TimerKind::LeaderQuiet);
    assert!(raft != twin);
    // No disk answers: whatever comes in, what waits does not grow beyond a message a peer and kind.
    for round in 1..2_000u64 {
        let from = n(2 + (round % 6) as u16);
        raft.step(from, vote(5, id(4, 1 + round)));
        raft.step(from, pre_vote(900, id(4, round + 3)));
        raft.step(from, heartbeat(2, 0, round));
        raft.step(from, append(4, id(4, 1 + round), &[4], 0));
        raft.ready();
    }
    assert!(raft.held_count() <= 6 * 5, "{}", raft.held_count());
}
