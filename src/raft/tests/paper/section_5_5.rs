//! Raft paper, sections 5.5 and 5.6: crashes and time.

use super::super::cluster::run_seed;
use super::super::harness::Faults;
use super::super::{append, config, drain, i, id, log_of, members, n, node, t, terms};
use super::{Few, grants, heartbeat, ok, outcomes, pre_vote, vote};
use crate::base::ids::EntryId;
use crate::raft::{HardState, Message, Raft, Restored, Role, TermRuns, TimerKind};

/// What a restart makes of a node: its disk has everything that it said so far.
fn restarted(raft: &Raft, commit_hint: u64) -> Raft {
    let restored = Restored {
        hard_state: *raft.hard_state(),
        memberships: raft.membership().clone().into(),
        log: raft.log().clone(),
        commit_hint: i(commit_hint),
    };
    let mut raft = Raft::new(config(raft.id().0), restored);
    raft.start();
    drain(&mut raft);
    raft
}

/// Raft paper 5.5: requests may come twice; the second one changes nothing and is answered like the first.
#[test]
fn paper_5_5_every_request_is_idempotent() {
    let requests = [
        vote(5, id(1, 2)),
        heartbeat(5, 1, 3),
        append(5, id(1, 1), &[1, 5], 2),
        append(5, id(4, 9), &[5], 2),
        append(5, id(1, 2), &[], 2),
        Message::ClaimQuery { term: t(5), claimed: id(1, 2) },
    ];
    for message in requests {
        let mut raft = node(2, members(3, &[]), &[1, 1]);
        raft.step(n(1), message.clone());
        let first = drain(&mut raft);
        let before = raft.clone();
        raft.step(n(1), message.clone());
        let second = drain(&mut raft);
        assert!(raft == before, "{message:?}");
        assert_eq!(second.messages, first.messages, "{message:?}");
        assert!(second.log_ops.is_empty() && second.hard_state.is_none(), "{message:?}");
    }
}

/// Raft paper 5.5: a follower that crashed after it had stored entries and before it answered gets them again, and says
/// so.
#[test]
fn paper_5_5_entries_whose_answer_was_lost_are_acknowledged_again() {
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(1), append(2, id(1, 1), &[2, 2], 0));
    drain(&mut raft);
    raft.log_stable(0, i(3));
    drain(&mut raft);
    let mut raft = restarted(&raft, 1);
    raft.step(n(1), append(2, id(1, 1), &[2, 2], 0));
    let ready = drain(&mut raft);
    assert!(ready.log_ops.is_empty());
    assert_eq!(outcomes(&ready), [ok(3, 3)]);
}

/// Raft paper 5.5; figure 2, persistent state: term, vote and log outlive a restart.
#[test]
fn paper_5_5_a_restart_keeps_term_vote_and_log() {
    let mut raft = node(2, members(3, &[]), &[1]);
    raft.step(n(3), append(2, id(1, 1), &[2], 0));
    assert!(grants(&mut raft, n(1), vote(3, id(2, 2))));
    let mut raft = restarted(&raft, 0);
    assert_eq!((raft.term(), log_of(&raft)), (t(3), vec![1, 2]));
    assert!(!grants(&mut raft, n(3), vote(3, id(2, 9))), "it has voted in this term");
    assert!(grants(&mut raft, n(1), vote(3, id(2, 2))));
}

/// Raft paper 5.5; figure 2, volatile state: the commit index begins anew and only rises, and a leader is forgotten; a
/// hint from the disk may give the index a start, but never beyond the log.
#[test]
fn paper_5_5_a_restart_forgets_leader_and_commit_index_and_learns_them_again() {
    let mut raft = node(2, members(3, &[]), &[1, 1]);
    raft.step(n(1), append(1, id(1, 2), &[1], 3));
    drain(&mut raft);
    assert_eq!((raft.commit_index(), raft.leader()), (i(3), Some(n(1))));
    for (hint, begins) in [(0, 0), (2, 2), (99, 3)] {
        let mut raft = restarted(&raft, hint);
        assert_eq!((raft.commit_index(), raft.leader(), raft.role()), (i(begins), None, Role::Follower));
        raft.step(n(1), append(1, id(1, 1), &[1], 2));
        assert_eq!(raft.commit_index(), i(begins.max(2)));
        raft.step(n(1), append(1, id(1, 3), &[], 3));
        assert_eq!(raft.commit_index(), i(3));
    }
}

/// Raft paper 5.5: a candidate and a leader that crash come back as followers that have voted for themselves.
#[test]
fn paper_5_5_candidates_and_leaders_come_back_as_followers() {
    for mut raft in [super::candidate(3, &[1]), super::leader(3, &[1])] {
        let term = raft.term();
        raft = restarted(&raft, 0);
        assert_eq!((raft.role(), raft.term()), (Role::Follower, term));
        assert!(!grants(&mut raft, n(2), vote(term.get(), id(9, 9).min(id(1, 9)))));
    }
}

/// Raft paper 5.5: a follower that was down gets everything when it is back, without an election.
#[test]
fn paper_5_5_a_follower_that_was_down_is_brought_up_to_date() {
    let mut few = Few::new((1..=3).map(|id| node(id, members(3, &[]), &[1])).collect());
    few.elect(1);
    let down = few.nodes.remove(&n(3)).unwrap();
    few.at(1).peer_disconnected(n(3));
    for _ in 0..20 {
        few.at(1).propose().unwrap();
        few.settle();
    }
    few.nodes.insert(n(3), restarted(&down, 2));
    few.at(1).peer_connected(n(3));
    few.settle();
    assert_eq!((few.at(3).last_id(), few.at(3).commit_index()), (id(2, 22), i(22)));
    assert_eq!((few.at(1).role(), few.at(1).term()), (Role::Leader, t(2)));
}

/// Raft paper 5.5; figure 2, persistent state: differs: entries of a term may reach the disk before the term itself does;
/// a restart takes the term of the last entry, in which this node has told nobody anything.
#[test]
fn differs_5_5_the_term_is_never_below_that_of_the_last_entry() {
    for (term, vote, want) in [(2, Some(n(3)), None), (3, Some(n(3)), Some(n(3)))] {
        let hard_state = HardState { term: t(term), voted_for: vote, claimed_tail: None };
        let log = TermRuns::from_terms(&terms(&[1, 3]));
        let restored = Restored { hard_state, memberships: members(3, &[]).into(), log, commit_hint: i(0) };
        let raft = Raft::new(config(2), restored);
        assert_eq!((raft.term(), raft.hard_state().voted_for), (t(3), want));
    }
}

/// Raft paper 5.6: safety does not depend on time: timers that run out at any moment cost elections, and nothing else.
#[test]
fn paper_5_6_safety_does_not_depend_on_timers() {
    let (mut leaders, mut committed) = (0, 0);
    for seed in 3_000..3_040 {
        let faults = Faults { spurious_timer: 200_000, delay_max: 12, ..Faults::NONE };
        let cluster = run_seed(seed, 3, &[], faults);
        leaders += cluster.leaders.len();
        committed += cluster.committed.len();
    }
    assert!(leaders > 80 && committed > 400, "{leaders} leaders, {committed} entries");
}

/// Raft paper 5.6: a timer that was cancelled, or comes twice, changes no term and deposes nobody by itself.
#[test]
fn paper_5_6_a_stray_timer_moves_no_term() {
    let mut follower = node(2, members(3, &[]), &[1]);
    follower.step(n(1), heartbeat(1, 0, 1));
    for mut raft in [follower, super::candidate(3, &[1]), super::leader(3, &[1])] {
        drain(&mut raft);
        let (term, role) = (raft.term(), raft.role());
        for kind in TimerKind::ALL {
            for _ in 0..3 {
                raft.timer_fired(kind);
                let asked = drain(&mut raft).messages;
                let votes = asked.iter().any(|(_, message)| matches!(message, Message::Vote { .. }));
                assert!(!votes && raft.term() == term, "{role:?} and {kind:?}");
            }
        }
    }
    let mut alone = node(2, members(3, &[]), &[1]);
    alone.timer_fired(TimerKind::Election);
    assert_eq!(drain(&mut alone).messages.len(), 2);
    assert!(!grants(&mut alone, n(3), pre_vote(1, EntryId::ZERO)), "nobody is asked about a term that is");
}
