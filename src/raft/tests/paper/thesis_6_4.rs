//! Raft thesis, section 6.4: reads without an entry. More of it is in `../reads.rs`.

use super::super::{drain, i, members, n, node};
use super::{Few, leader};
use crate::raft::{Message, ReadAborted, TimerKind};

/// Raft thesis 6.4: the answer is the commit index as it was when the read came, so what was acknowledged before the
/// read is in it, and entries that come later are not waited for.
#[test]
fn thesis_6_4_a_read_sees_what_was_committed_when_it_came() {
    let mut raft = leader(3, &[1]);
    raft.step(n(2), super::super::accepted(2, 2, 2));
    raft.read_index(1);
    raft.propose().unwrap();
    raft.log_stable(0, i(3));
    raft.step(n(2), super::super::accepted(2, 3, 3));
    assert_eq!(raft.commit_index(), i(3));
    let answer = Message::HeartbeatReply { term: super::super::t(2), round: 2, appended: i(3), stable: i(3) };
    raft.step(n(2), answer);
    assert_eq!(drain(&mut raft).reads, [(1, Ok(i(2)))]);
}

/// Raft thesis 6.4: a leader that was replaced without knowing it answers no read, however long it believes to lead.
#[test]
fn thesis_6_4_a_replaced_leader_answers_no_read() {
    let mut few = Few::new((1..=3).map(|id| node(id, members(3, &[]), &[1])).collect());
    few.elect(1);
    few.isolate(1);
    few.elect(2);
    few.at(2).propose().unwrap();
    few.settle();
    assert_eq!(few.at(2).commit_index(), i(4));
    few.at(1).read_index(7);
    for _ in 0..TimerKind::CHECKS_PER_TIMEOUT - 1 {
        few.at(1).timer_fired(TimerKind::Heartbeat);
        few.at(1).timer_fired(TimerKind::CheckQuorum);
        assert!(drain(few.at(1)).reads.is_empty());
    }
    few.at(1).timer_fired(TimerKind::CheckQuorum);
    few.at(1).timer_fired(TimerKind::CheckQuorum);
    let aborted = Err(ReadAborted::NotLeader { leader: None });
    assert_eq!(drain(few.at(1)).reads, [(7, aborted)]);
}

/// Raft thesis 6.4: learners confirm no leadership: their answers to a round count for nothing.
#[test]
fn thesis_6_4_a_learner_confirms_no_read() {
    let mut few = Few::new((1..=4).map(|id| node(id, members(3, &[4]), &[1])).collect());
    few.elect(1);
    few.isolate(2);
    few.isolate(3);
    few.at(1).read_index(7);
    for _ in 0..3 {
        few.at(1).timer_fired(TimerKind::Heartbeat);
        let beats = drain(few.at(1));
        assert!(beats.reads.is_empty());
        for (_, message) in beats.messages.into_iter().filter(|(to, _)| *to == n(4)) {
            few.at(4).step(n(1), message);
        }
        for (_, message) in drain(few.at(4)).messages {
            few.at(1).step(n(4), message);
        }
    }
    assert!(drain(few.at(1)).reads.is_empty());
}
