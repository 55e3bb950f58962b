//! The correction of the single-server change that Ongaro published in 2015: without it two leaders that each begin with
//! a change of their own may commit by majorities that share nobody.

use super::super::{accepted, config, drain, elect, i, id, members, n, node, t};
use crate::base::ids::NodeId;
use crate::raft::{
    ChangeError, HardState, Membership, MembershipLog, Raft, Restored, Role, TermRuns, TimerKind,
};

fn of(voters: &[u16]) -> Membership {
    Membership::new(voters.iter().copied().map(NodeId).collect(), Vec::new()).unwrap()
}

/// Ongaro's correction of 2015: the case that it was written for: of four nodes one leader removes a node and reaches
/// nobody, a second one makes another change, and the first one comes back. Each must first commit an entry of its own
/// term, by a majority of the old configuration, and so the two cannot both go on.
#[test]
fn correction_2015_two_leaders_do_not_make_changes_that_share_no_majority() {
    // Node 1 leads term 2 of {1,2,3,4}; before its no-op is committed it may change nothing.
    let mut first = node(1, members(4, &[]), &[1]);
    elect(&mut first);
    first.log_stable(0, i(2));
    drain(&mut first);
    assert_eq!(first.may_change(&of(&[1, 2, 3])), Err(ChangeError::NotReady));
    // Two of four are no majority; three are, and then whoever is elected later has that no-op.
    first.step(n(2), accepted(2, 2, 2));
    assert_eq!(first.may_change(&of(&[1, 2, 3])), Err(ChangeError::NotReady));
    first.step(n(3), accepted(2, 2, 2));
    assert_eq!(first.may_change(&of(&[1, 2, 3])), Ok(()));
    // The second leader, whose voters have not got it, cannot have been elected meanwhile.
    let mut voters = [node(2, members(4, &[]), &[1, 2]), node(3, members(4, &[]), &[1, 2])];
    assert!(voters.iter_mut().all(|raft| !super::grants(raft, n(4), super::vote(3, id(1, 1)))));
}

/// Ongaro's correction of 2015: a change that an older leader has left in the log is committed before the next one is
/// made: along with the first entry of the new term, by the configuration that it makes.
#[test]
fn correction_2015_a_change_left_over_is_committed_before_the_next_one() {
    let mut memberships = MembershipLog::new(i(1), members(3, &[]));
    memberships.push(i(2), members(4, &[]));
    let restored = Restored {
        hard_state: HardState { term: t(2), ..HardState::default() },
        memberships,
        log: TermRuns::from_terms(&super::super::terms(&[1, 2])),
        commit_hint: i(1),
    };
    let mut raft = Raft::new(config(1), restored);
    raft.start();
    elect(&mut raft);
    raft.log_stable(0, i(3));
    drain(&mut raft);
    assert_eq!(raft.may_change(&members(3, &[4])), Err(ChangeError::InProgress));
    raft.step(n(2), accepted(3, 3, 3));
    assert_eq!((raft.commit_index(), raft.membership().quorum()), (i(1), 3), "two of four voters");
    raft.step(n(4), accepted(3, 3, 3));
    assert_eq!(raft.commit_index(), i(3));
    assert_eq!(raft.may_change(&members(3, &[4])), Ok(()));
}

/// Ongaro's correction of 2015: the rule is the leader's, in each of its terms anew.
#[test]
fn correction_2015_each_term_needs_an_entry_of_its_own() {
    let mut raft = node(1, members(3, &[]), &[1]);
    for term in 2..5 {
        elect(&mut raft);
        let last = raft.last_id().index;
        raft.log_stable(0, last);
        drain(&mut raft);
        assert_eq!(raft.may_change(&of(&[1, 2])), Err(ChangeError::NotReady), "term {term}");
        raft.step(n(2), accepted(term, last.get(), last.get()));
        assert_eq!(raft.may_change(&of(&[1, 2])), Ok(()), "term {term}");
        raft.step_down();
        raft.timer_fired(TimerKind::LeaderQuiet);
        drain(&mut raft);
        assert_eq!(
            (raft.role(), raft.may_change(&of(&[1, 2]))),
            (Role::Follower, Err(ChangeError::NotLeader))
        );
    }
}
