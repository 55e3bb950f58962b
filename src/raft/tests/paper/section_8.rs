//! Raft paper, section 8: clients. That a retry is not applied twice is the room `stream`'s work: its tests are those of
//! pitfalls 40 to 43.

use super::super::{accepted, drain, i, id, log_of, members, n, node, t};
use super::{Few, heartbeat, leader};
use crate::raft::{NotLeader, ReadAborted, Role, TimerKind};

/// Raft paper 8; figure 2, leaders 2: a client's entry gets the next index, in the leader's term, and is committed when a
/// majority has it: before that nobody is told anything.
#[test]
fn paper_8_a_clients_entry_is_answered_for_once_it_is_committed() {
    let mut raft = leader(3, &[1]);
    raft.step(n(2), accepted(2, 2, 2));
    drain(&mut raft);
    assert_eq!(raft.propose(), Ok(id(2, 3)));
    assert_eq!(raft.propose(), Ok(id(2, 4)));
    raft.log_stable(0, i(4));
    assert!(!raft.has_ready(), "its own disk is one of three");
    raft.step(n(2), accepted(2, 3, 3));
    assert_eq!(drain(&mut raft).commit_index, Some(i(3)));
    raft.step(n(3), accepted(2, 4, 4));
    assert_eq!(drain(&mut raft).commit_index, Some(i(4)));
}

/// Raft paper 8: whoever does not lead takes nothing and names the leader, as far as it knows one.
#[test]
fn paper_8_a_follower_refuses_and_names_the_leader() {
    let mut raft = node(2, members(3, &[]), &[1]);
    assert_eq!(raft.propose(), Err(NotLeader { leader: None }));
    raft.step(n(3), heartbeat(1, 0, 1));
    drain(&mut raft);
    assert_eq!(raft.propose(), Err(NotLeader { leader: Some(n(3)) }));
    raft.read_index(4);
    assert_eq!(drain(&mut raft).reads, [(4, Err(ReadAborted::NotLeader { leader: Some(n(3)) }))]);
    raft.timer_fired(TimerKind::Election);
    drain(&mut raft);
    assert_eq!(raft.propose(), Err(NotLeader { leader: None }), "that one is not heard any more");
    assert_eq!(raft.last_id(), id(1, 1));
}

/// Raft paper 8: a new leader has all committed entries but does not know which they are; with a no-op of its own term
/// it finds out.
#[test]
fn paper_8_a_new_leader_learns_what_is_committed_by_its_no_op() {
    let mut few = Few::new((1..=3).map(|id| node(id, members(3, &[]), &[1])).collect());
    few.elect(1);
    few.isolate(3);
    few.at(1).propose().unwrap();
    // The entry reaches node 2, and the leader's next word, that it is committed, does not.
    drain(few.at(1));
    let plan = few.at(1).next_send(n(2)).unwrap();
    few.at(1).sent(n(2), plan.last, 1);
    let append = super::super::append(2, plan.prev, &[2], plan.commit.get());
    few.at(2).step(n(1), append);
    few.at(2).log_stable(0, i(3));
    assert_eq!((few.at(2).last_id(), few.at(2).commit_index()), (id(2, 3), i(2)));
    drain(few.at(2));
    few.cut.clear();
    few.isolate(1);
    few.elect(3);
    assert_eq!(few.at(3).role(), Role::PreCandidate, "its log lacks the entry");
    few.elect(2);
    assert_eq!((few.at(2).role(), few.at(2).commit_index()), (Role::Leader, i(4)));
    assert_eq!(log_of(few.at(2)), [1, 2, 2, 3]);
    assert_eq!((few.at(1).term(), few.at(1).role()), (t(2), Role::Leader), "it has not heard of that");
}
