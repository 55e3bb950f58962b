//! Read barriers (Raft thesis, section 6.4).

use super::{accepted, drain, elect, i, id, members, n, node, t};
use crate::raft::{Message, READS_PENDING_MAX, Raft, ReadAborted, Role, TimerKind};

fn answer(round: u64) -> Message {
    Message::HeartbeatReply { term: t(1), round, appended: i(0), stable: i(0) }
}

/// A leader of three in term 1 whose no-op is committed; round 1 is out and unanswered.
fn leader() -> Raft {
    let mut raft = node(1, members(3, &[]), &[]);
    elect(&mut raft);
    raft.log_stable(0, i(1));
    raft.step(n(2), accepted(1, 1, 1));
    drain(&mut raft);
    assert_eq!(raft.commit_index(), i(1));
    raft
}

/// Raft paper 8; Raft thesis 6.4: a new leader does not know what is committed before its own first entry is.
#[test]
fn pitfall_44_no_read_before_an_entry_of_the_term_is_committed() {
    let mut raft = node(1, members(3, &[]), &[]);
    elect(&mut raft);
    raft.read_index(7);
    for round in 1..=3 {
        raft.step(n(2), answer(round));
        raft.step(n(3), answer(round));
        raft.timer_fired(TimerKind::Heartbeat);
        assert!(drain(&mut raft).reads.is_empty(), "what older leaders committed is not known yet");
    }
    raft.log_stable(0, i(1));
    raft.step(n(2), accepted(1, 1, 1));
    raft.step(n(2), answer(4));
    assert_eq!(drain(&mut raft).reads, [(7, Ok(i(1)))]);
}

/// Raft paper 8; Raft thesis 6.4: a leader makes sure that it has not been deposed, by a majority's answers to
/// heartbeats that left after the read came.
#[test]
fn pitfall_45_a_round_that_left_before_the_read_confirms_nothing() {
    let mut raft = leader();
    raft.read_index(7);
    let started = drain(&mut raft).messages;
    assert!(matches!(started[0].1, Message::Heartbeat { round: 2, .. }), "{started:?}");
    raft.step(n(2), answer(1));
    raft.step(n(3), answer(1));
    assert!(drain(&mut raft).reads.is_empty());
    raft.step(n(3), answer(2));
    assert_eq!(drain(&mut raft).reads, [(7, Ok(i(1)))]);
}

/// Raft thesis 6.4: one round of heartbeats serves all reads that wait for it.
#[test]
fn thesis_6_4_reads_share_rounds() {
    let mut raft = leader();
    (0..100).for_each(|token| raft.read_index(token));
    let beats = drain(&mut raft).messages.len();
    assert_eq!(beats, 2, "one round for the first read; the others wait for the next");
    raft.step(n(2), answer(2));
    let ready = drain(&mut raft);
    assert_eq!((ready.reads.len(), ready.messages.len()), (1, 2));
    raft.step(n(3), answer(3));
    assert_eq!(drain(&mut raft).reads.len(), 99);
}

/// Raft thesis 6.4: only a leader answers reads, and those that wait end with its leadership.
#[test]
fn thesis_6_4_reads_are_refused_by_others_aborted_with_the_leadership_and_bounded() {
    let mut raft = node(2, members(3, &[]), &[]);
    raft.step(n(1), Message::Heartbeat { term: t(1), commit: i(0), round: 1 });
    raft.read_index(1);
    assert_eq!(drain(&mut raft).reads, [(1, Err(ReadAborted::NotLeader { leader: Some(n(1)) }))]);
    let mut raft = leader();
    (0..READS_PENDING_MAX as u64 + 2).for_each(|token| raft.read_index(token));
    let refused = drain(&mut raft).reads;
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().all(|(_, read)| *read == Err(ReadAborted::TooMany)));
    (0..TimerKind::CHECKS_PER_TIMEOUT).for_each(|_| raft.timer_fired(TimerKind::CheckQuorum));
    assert_eq!(raft.role(), Role::Follower);
    assert_eq!(drain(&mut raft).reads.len(), READS_PENDING_MAX);
}

/// Raft thesis 6.4: a leader that is its own majority needs no round.
#[test]
fn thesis_6_4_a_single_voter_answers_at_once() {
    let mut raft = node(1, members(1, &[]), &[]);
    drain(&mut raft);
    raft.read_index(1);
    assert!(drain(&mut raft).reads.is_empty());
    raft.log_stable(0, i(1));
    raft.read_index(2);
    assert_eq!(raft.last_id(), id(1, 1));
    assert_eq!(drain(&mut raft).reads, [(1, Ok(i(1))), (2, Ok(i(1)))]);
}
