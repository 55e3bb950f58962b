//! What a leader knows of a peer that forgets, falls silent, or needs what retention has removed.

use super::{accepted, drain, elect, i, id, members, n, node, rejected, t};
use crate::raft::{Message, ProgressState, Raft, TimerKind};

/// A leader of three with five stable entries, its peer n2 streaming and at `stable`.
fn streaming(stable: u64) -> Raft {
    let mut raft = node(1, members(3, &[]), &[1, 1, 1, 1]);
    elect(&mut raft);
    raft.log_stable(0, i(5));
    let probe = raft.next_send(n(2)).unwrap();
    raft.sent(n(2), probe.last, 0);
    raft.step(n(2), accepted(2, 4, stable.min(4)));
    let plan = raft.next_send(n(2)).unwrap();
    raft.sent(n(2), plan.last, 10);
    raft.step(n(2), accepted(2, 5, stable));
    drain(&mut raft);
    raft
}

fn beat(raft: &mut Raft, round: u64, appended: u64, stable: u64) {
    raft.timer_fired(TimerKind::Heartbeat);
    drain(raft);
    raft.step(n(2), Message::HeartbeatReply { term: t(2), round, appended: i(appended), stable: i(stable) });
}

#[test]
fn a_peer_that_restarted_is_noticed_by_what_it_no_longer_knows() {
    let mut raft = streaming(5);
    beat(&mut raft, 2, 5, 5);
    assert_eq!(raft.progress(n(2)).unwrap().state(), ProgressState::Replicate);
    let commit = raft.commit_index();
    beat(&mut raft, 3, 0, 0);
    assert_eq!(raft.progress(n(2)).unwrap().state(), ProgressState::Probe);
    assert_eq!(raft.commit_index(), commit, "what is committed stays so");
    // It lost a damaged tail: the probe moves back even below what it once called stable.
    let probe = raft.next_send(n(2)).unwrap();
    assert_eq!(probe.prev, id(2, 5));
    raft.sent(n(2), probe.last, 0);
    raft.step(n(2), rejected(2, 5, id(1, 3)));
    assert_eq!(raft.next_send(n(2)).unwrap().prev, id(1, 3));
}

#[test]
fn a_slow_disk_is_not_a_lost_window() {
    let mut raft = streaming(1);
    for round in 2..10 {
        beat(&mut raft, round, 5, 1);
        assert_eq!(raft.progress(n(2)).unwrap().state(), ProgressState::Replicate, "round {round}");
    }
}

#[test]
fn a_lost_probe_goes_out_again_after_a_heartbeat_round() {
    let mut raft = node(1, members(3, &[]), &[1]);
    elect(&mut raft);
    let probe = raft.next_send(n(2)).unwrap();
    raft.sent(n(2), probe.last, 0);
    assert!(raft.next_send(n(2)).is_none());
    raft.step(n(2), Message::HeartbeatReply { term: t(2), round: 1, appended: i(0), stable: i(0) });
    assert!(raft.next_send(n(2)).is_none(), "round 1 left before the probe");
    beat(&mut raft, 2, 0, 0);
    assert_eq!(raft.next_send(n(2)), Some(probe));
}

#[test]
fn a_peer_that_needs_what_retention_removed_is_asked_no_more_than_once_a_round() {
    let mut raft = streaming(5);
    raft.log_trimmed(i(4));
    raft.peer_connected(n(2));
    let mut probes = 0;
    for round in 2..6 {
        while let Some(plan) = raft.next_send(n(2)) {
            probes += 1;
            raft.sent(n(2), plan.last, 0);
            raft.step(n(2), rejected(2, plan.prev.index.get(), id(1, 2)));
        }
        beat(&mut raft, round, 0, 0);
    }
    assert!(probes <= 5, "{probes}");
    assert!(raft.progress(n(2)).unwrap().next() > i(4));
}

#[test]
fn a_node_that_leads_no_more_sends_nothing() {
    let mut raft = streaming(5);
    raft.step_down();
    assert!(raft.next_send(n(2)).is_none());
    raft.sent(n(2), i(5), 10);
    raft.peer_connected(n(2));
    assert!(raft.progress(n(2)).is_none());
}
