//! Direct proofs of pitfalls that a random run may pass by: each test fails as soon as the rule it names is broken.

use super::{accepted, append, drain, elect, i, id, log_of, members, n, node, rejected, restored, t};
use crate::base::ids::EntryId;
use crate::raft::{HardState, Message, Raft, ReadAborted, Role, TimerKind};

/// Node 1 led term 2 with entries 2 to 4 in flight, lost them to a leader of term 3, and leads again in term 4. Its
/// own disk has all of its log: 1 of term 1, 2 of term 3, 3 of term 4.
fn leader_once_more() -> Raft {
    let mut raft = node(1, members(3, &[]), &[1]);
    elect(&mut raft);
    for _ in 0..2 {
        raft.propose().unwrap();
    }
    raft.log_stable(0, i(4));
    raft.step(n(3), append(3, id(1, 1), &[3], 0));
    drain(&mut raft);
    elect(&mut raft);
    raft.log_stable(1, i(3));
    drain(&mut raft);
    assert_eq!((log_of(&raft), raft.term()), (vec![1, 3, 4], t(4)));
    assert_eq!((raft.stable_index(), raft.commit_index()), (i(3), i(0)));
    raft
}

#[test]
fn pitfall_16_what_was_acknowledged_to_this_node_in_an_older_term_counts_for_nothing_now() {
    let mut raft = leader_once_more();
    raft.read_index(7);
    drain(&mut raft);
    let before = raft.clone();
    // Given in term 2 for entries that are gone, and in term 3; indexes, rounds and hints all fit the present log.
    for term in [2, 3] {
        for from in [2, 3] {
            raft.step(n(from), accepted(term, 3, 3));
            raft.step(n(from), rejected(term, 2, id(1, 1)));
            let (round, appended, stable) = (1, i(3), i(3));
            raft.step(n(from), Message::HeartbeatReply { term: t(term), round, appended, stable });
        }
    }
    assert!(raft == before, "commit, progress, rounds and check-quorum are as they were");
    assert_eq!(raft.commit_index(), i(0));
    raft.step(n(2), accepted(4, 3, 3));
    assert_eq!(raft.commit_index(), i(3), "the same words in this term count");
}

#[test]
fn pitfall_16_a_follower_vouches_to_a_new_leader_only_for_what_that_leader_has_verified() {
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(1), append(2, id(1, 1), &[2, 2, 2], 0));
    raft.log_stable(0, i(4));
    drain(&mut raft);
    let word = |raft: &mut Raft, message| {
        raft.step(n(3), message);
        drain(raft).messages.pop().unwrap().1
    };
    // Four entries are verified for term 2 and stable; the leader of term 3 may have others in their place.
    let reply = word(&mut raft, Message::Heartbeat { term: t(3), commit: i(4), round: 1 });
    assert_eq!(reply, Message::HeartbeatReply { term: t(3), round: 1, appended: i(0), stable: i(0) });
    assert_eq!(word(&mut raft, append(3, id(1, 1), &[], 4)), accepted(3, 1, 1));
    assert_eq!(raft.commit_index(), i(1));
    assert_eq!(word(&mut raft, append(3, id(2, 2), &[], 4)), accepted(3, 2, 2));
}

#[test]
fn pitfall_28_a_flush_of_entries_that_were_cut_vouches_for_none_that_took_their_place() {
    // Entries 2 and 3 of term 2 are being written here when a leader of term 3 puts others there.
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(1), append(2, id(1, 1), &[2, 2], 0));
    raft.step(n(3), append(3, id(1, 1), &[3, 3], 0));
    drain(&mut raft);
    assert_eq!((raft.log_generation(), raft.stable_index()), (1, i(1)));
    let before = raft.clone();
    for index in 1..=9 {
        raft.log_stable(0, i(index));
        raft.log_stable(2, i(index));
        assert!(raft == before, "a report of another log, up to {index}");
    }
    assert!(drain(&mut raft).messages.is_empty(), "and nothing is acknowledged by it");
    raft.log_stable(1, i(3));
    assert_eq!(drain(&mut raft).messages, [(n(3), accepted(3, 3, 3))]);
}

#[test]
fn pitfall_28_a_late_report_does_not_commit_what_a_new_leader_has_not_flushed() {
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(1), append(2, id(1, 1), &[2, 2], 0));
    raft.step(n(3), append(3, id(1, 1), &[3], 0));
    drain(&mut raft);
    elect(&mut raft);
    assert_eq!(log_of(&raft), [1, 3, 4]);
    raft.step(n(1), accepted(4, 3, 3));
    // The old entries 2 and 3 reached the disk; of the new ones, one other disk has them and this one has not.
    raft.log_stable(0, i(3));
    assert_eq!((raft.stable_index(), raft.commit_index()), (i(1), i(0)));
    raft.log_stable(1, i(3));
    assert_eq!(raft.commit_index(), i(3));
}

#[test]
fn pitfall_60_a_claimed_tail_binds_every_vote_until_it_is_settled() {
    // The log ends at 3 of term 1; a valid header says that entry 5 of term 2 was here.
    let claim = id(2, 5);
    let asks: [fn(u64, EntryId) -> Message; 2] = [
        |term, last| Message::PreVote { term: t(term), last },
        |term, last| Message::Vote { term: t(term), last },
    ];
    for ask in asks {
        let hard = HardState { term: t(2), voted_for: None, claimed_tail: Some(claim) };
        let mut raft = restored(1, members(3, &[]), &[1, 1, 1], hard);
        raft.timer_fired(TimerKind::LeaderQuiet);
        let cases = [
            (id(1, 3), false),
            (id(1, 99), false),
            (id(2, 4), false),
            (id(2, 5), true),
            (id(2, 6), true),
            (id(3, 4), true),
        ];
        for (step, (last, granted)) in (3u64..).zip(cases) {
            raft.step(n(2), ask(step, last));
            let said = drain(&mut raft).messages;
            let yes = said.iter().any(|(_, message)| {
                matches!(
                    message,
                    Message::VoteReply { granted: true, .. } | Message::PreVoteReply { granted: true, .. }
                )
            });
            assert_eq!((said.len(), yes), (1, granted), "{:?}", ask(step, last));
            assert_eq!(raft.claimed_tail(), Some(claim), "a vote settles nothing");
        }
        // The claim is settled by a leader whose log is stable here; only then are shorter logs good enough again.
        let term = raft.term().get() + 10;
        raft.step(n(3), append(term, id(1, 3), &[term, term], 0));
        raft.log_stable(0, i(5));
        drain(&mut raft);
        assert_eq!(raft.claimed_tail(), None);
        raft.timer_fired(TimerKind::LeaderQuiet);
        raft.step(n(2), ask(term + 1, id(term, 5)));
        let (_, reply) = drain(&mut raft).messages.pop().unwrap();
        assert!(matches!(
            reply,
            Message::VoteReply { granted: true, .. } | Message::PreVoteReply { granted: true, .. }
        ));
    }
}

#[test]
fn pitfall_60_a_node_with_a_claimed_tail_does_not_campaign_by_any_way() {
    let hard = HardState { term: t(2), voted_for: None, claimed_tail: Some(id(2, 5)) };
    let mut raft = restored(1, members(3, &[]), &[1, 1, 1], hard);
    for _ in 0..3 {
        raft.timer_fired(TimerKind::LeaderQuiet);
        raft.timer_fired(TimerKind::Election);
        let said = drain(&mut raft).messages;
        assert!(said.iter().all(|(_, message)| matches!(message, Message::ClaimQuery { .. })), "{said:?}");
    }
    raft.step(n(2), Message::Heartbeat { term: t(2), commit: i(0), round: 1 });
    raft.step(n(2), Message::TimeoutNow { term: t(2) });
    drain(&mut raft);
    assert_eq!((raft.role(), raft.term()), (Role::Follower, t(2)));
}

#[test]
fn pitfall_45_a_leader_that_slept_through_its_end_confirms_no_read_and_commits_nothing() {
    let mut raft = node(1, members(3, &[]), &[]);
    elect(&mut raft);
    raft.log_stable(0, i(1));
    raft.step(n(2), accepted(1, 1, 1));
    drain(&mut raft);
    // Answers to the round that left before it slept wait in its sockets; it is asked first thing on waking.
    raft.propose().unwrap();
    raft.log_stable(0, i(2));
    raft.read_index(7);
    for from in [2, 3] {
        let (round, appended, stable) = (1, i(1), i(1));
        raft.step(n(from), Message::HeartbeatReply { term: t(1), round, appended, stable });
    }
    let woken = drain(&mut raft);
    assert!(
        woken.reads.is_empty() && woken.commit_index.is_none(),
        "those answers are older than the question"
    );
    // The others went on to term 2: the first answer to a newer heartbeat says so.
    let (round, appended, stable) = (0, i(0), i(0));
    raft.step(n(2), Message::HeartbeatReply { term: t(2), round, appended, stable });
    raft.read_index(8);
    let ready = drain(&mut raft);
    let refused = Err(ReadAborted::NotLeader { leader: None });
    assert_eq!(ready.reads, [(7, refused), (8, refused)]);
    assert_eq!((raft.role(), raft.commit_index()), (Role::Follower, i(1)));
    assert!(raft.propose().is_err());
}

#[test]
fn pitfall_21_an_answer_to_a_heartbeat_of_another_term_raises_nothing_either() {
    let mut raft = node(2, members(3, &[]), &[1, 1]);
    // Verified by nobody in this term, whatever the heartbeat's commit index says.
    raft.step(n(1), Message::Heartbeat { term: t(4), commit: i(2), round: 3 });
    assert_eq!(raft.commit_index(), i(0));
    raft.step(n(1), append(4, id(1, 1), &[], 2));
    raft.step(n(1), Message::Heartbeat { term: t(4), commit: i(2), round: 4 });
    assert_eq!(raft.commit_index(), i(1), "no further than what was verified");
}
