//! Raft thesis, chapter 4: changes of membership, one voter at a time. More of it is in `../membership.rs`.

use super::super::{accepted, append, drain, i, id, members, n, node, t};
use super::{Few, grants, heartbeat, leader, pre_vote, propose, vote};
use crate::base::ids::NodeId;
use crate::raft::{ChangeError, Membership, Role, TimerKind};

fn of(voters: &[u16], learners: &[u16]) -> Membership {
    let ids = |raw: &[u16]| raw.iter().copied().map(NodeId).collect();
    Membership::new(ids(voters), ids(learners)).unwrap()
}

/// Raft thesis 4.1, figure 4.3: where one voter comes or goes, every majority before shares a node with every majority
/// after, so there are never two leaders of one term by two configurations. Two at once would break that.
#[test]
fn thesis_4_1_majorities_of_neighbouring_configurations_share_a_node() {
    let majorities = |voters: u32| {
        let size = voters.count_ones() as usize / 2 + 1;
        (0u32..256).filter(move |set| set & !voters == 0 && set.count_ones() as usize == size)
    };
    let disjoint = |a: u32, b: u32| majorities(a).any(|one| majorities(b).any(|other| one & other == 0));
    for voters in 1..=6u32 {
        let (before, more, two_more) = ((1 << voters) - 1, (1 << (voters + 1)) - 1, (1 << (voters + 2)) - 1);
        assert!(!disjoint(before, more) && !disjoint(more, before));
        // Three and five, say: two of the old ones, three of the rest.
        assert_eq!(disjoint(before, two_more), voters % 2 == 1, "{voters} and two more");
    }
    let mut raft = leader(3, &[]);
    raft.step(n(2), accepted(1, 1, 1));
    assert_eq!(raft.may_change(&of(&[1, 2, 3, 4, 5], &[])), Err(ChangeError::TooMuch));
    assert_eq!(raft.may_change(&of(&[1, 2, 4], &[])), Err(ChangeError::TooMuch), "one for another is two");
}

/// Raft thesis 4.1: the entry of a change is itself committed by the majority that it makes.
#[test]
fn thesis_4_1_a_change_is_committed_by_the_configuration_that_it_makes() {
    let mut few = Few::new((1..=4).map(|id| node(id, members(3, &[4]), &[1])).collect());
    few.elect(1);
    assert_eq!(few.at(4).commit_index(), i(2));
    few.isolate(2);
    few.isolate(4);
    // Four voters need three: 1 and 3 were a majority of the old three.
    assert_eq!(few.at(1).propose_membership(members(4, &[])), Ok(id(2, 3)));
    few.settle();
    assert_eq!((few.at(3).last_id(), few.at(1).commit_index()), (id(2, 3), i(2)));
    few.cut.clear();
    (0..2).for_each(|_| {
        few.at(1).timer_fired(TimerKind::Heartbeat);
        few.settle();
    });
    assert_eq!(few.at(1).commit_index(), i(3));
}

/// Raft thesis 4.1: a leader that is deposed before its change was committed counts by the older configuration again
/// when the entry is cut.
#[test]
fn thesis_4_1_a_deposed_leader_takes_its_own_change_back() {
    let mut raft = leader(3, &[1]);
    raft.step(n(2), accepted(2, 2, 2));
    raft.propose_membership(of(&[1, 2], &[3])).unwrap();
    drain(&mut raft);
    assert_eq!((raft.membership().voters().len(), raft.membership_index()), (2, i(3)));
    raft.step(n(3), append(3, id(2, 2), &[3], 3));
    drain(&mut raft);
    assert_eq!((raft.membership().voters().len(), raft.membership_index()), (3, i(0)));
    assert_eq!((raft.role(), raft.last_id(), raft.commit_index()), (Role::Follower, id(3, 3), i(3)));
}

/// Raft thesis 4.1: differs: only members are heard, voters and learners alike: connections are made by configuration,
/// so a message of anybody else is no message of this cluster.
#[test]
fn differs_4_1_a_learner_is_heard_and_a_stranger_is_not() {
    let mut raft = node(1, members(3, &[4]), &[1]);
    raft.timer_fired(TimerKind::LeaderQuiet);
    drain(&mut raft);
    assert!(!grants(&mut raft, n(9), vote(2, id(1, 9))));
    assert_eq!(raft.term(), t(1));
    assert!(grants(&mut raft, n(4), vote(2, id(1, 9))), "it may be a voter by its own, newer configuration");
    raft.step(n(4), append(2, id(1, 1), &[2], 2));
    assert_eq!((raft.leader(), raft.commit_index()), (Some(n(4)), i(2)));
}

/// Raft thesis 4.2.1: a learner gets everything, and while it is one it moves no commit index and no quorum.
#[test]
fn thesis_4_2_1_a_learner_catches_up_without_being_counted() {
    let fresh = |peer| node(peer, members(3, &[4, 5]), &[1]);
    let mut few = Few::new((1..=3).map(fresh).collect());
    few.elect(1);
    propose(few.at(1), 40);
    few.settle();
    for peer in [4, 5] {
        few.nodes.insert(n(peer), fresh(peer));
        few.at(1).peer_connected(n(peer));
        few.settle();
        assert_eq!((few.at(peer).last_id(), few.at(peer).commit_index()), (id(2, 42), i(42)));
    }
    few.isolate(2);
    few.isolate(3);
    few.at(1).propose().unwrap();
    few.settle();
    // Three disks of five have it, but one of three voters.
    assert!([4, 5].iter().all(|&peer| few.at(peer).last_id() == id(2, 43)));
    assert_eq!(few.at(1).commit_index(), i(42));
    assert_eq!((few.at(4).role(), few.at(5).role()), (Role::Learner, Role::Learner));
}

/// Raft thesis 4.2.2: while its own removal is not committed a leader leads a cluster that it is no voter of; when it is,
/// another one leads, and the removed one neither campaigns nor votes itself in again.
#[test]
fn thesis_4_2_2_a_removed_leader_makes_place_for_another() {
    let mut few = Few::new((1..=3).map(|id| node(id, members(3, &[]), &[1])).collect());
    few.elect(1);
    let last = few.at(1).propose_membership(of(&[2, 3], &[1])).unwrap();
    few.settle();
    assert_eq!(few.at(1).role(), Role::Learner);
    assert!(few.at(1).commit_index() >= last.index, "it has seen its removal through");
    let leads = [2, 3].into_iter().find(|&id| few.at(id).role() == Role::Leader);
    assert_eq!((leads, few.at(1).term()), (Some(2), t(3)), "the best successor, told to campaign");
    few.at(1).timer_fired(TimerKind::Election);
    assert!(drain(few.at(1)).messages.is_empty());
}

/// Raft thesis 4.2.3: a removed node that does not know it asks to be elected again and again; nobody who hears a leader
/// supports it, and its asking moves no term.
#[test]
fn thesis_4_2_3_a_removed_node_disturbs_nobody() {
    let mut few = Few::new((1..=4).map(|id| node(id, members(4, &[]), &[1])).collect());
    few.elect(1);
    few.isolate(4);
    few.at(1).propose_membership(members(3, &[4])).unwrap();
    few.settle();
    few.cut.clear();
    for _ in 0..30 {
        few.at(4).timer_fired(TimerKind::Election);
        // Nothing but what node 4 asks arrives: its leader's word would tell it.
        for (to, message) in drain(few.at(4)).messages {
            few.nodes.get_mut(&to).unwrap().step(n(4), message);
        }
        for id in 1..=3 {
            for (to, message) in drain(few.at(id)).messages {
                assert_eq!(to, n(4), "only answers to it");
                few.at(4).step(n(id), message);
            }
        }
    }
    assert_eq!(few.at(4).term(), t(2));
    assert_eq!((few.at(1).role(), few.at(1).term()), (Role::Leader, t(2)));
}

/// Raft thesis 4.2.3: when there is no leader any more, a removed node gets votes by its log, and cannot have the better
/// one: it lacks its own removal, which a majority has.
#[test]
fn thesis_4_2_3_a_removed_node_lacks_its_own_removal() {
    let mut few = Few::new((1..=4).map(|id| node(id, members(4, &[]), &[1])).collect());
    few.elect(1);
    few.isolate(4);
    few.at(1).propose_membership(members(3, &[4])).unwrap();
    few.settle();
    for id in 1..=3 {
        let raft = few.at(id);
        raft.step_down();
        raft.timer_fired(TimerKind::LeaderQuiet);
        drain(raft);
        assert!(!grants(raft, n(4), pre_vote(9, id_before_removal())), "n{id}");
        assert!(!grants(raft, n(4), vote(9, id_before_removal())), "n{id}");
        raft.step(n(if id == 1 { 2 } else { 1 }), heartbeat(9, 0, 1));
    }
}

fn id_before_removal() -> crate::base::ids::EntryId {
    id(2, 2)
}
