//! Publishing while leaders change, connections break and nodes fall silent.

use std::time::{Duration, Instant};

use super::fake::{Cluster, dead_address};
use super::publisher::{PATIENCE, assert_covers, assert_log, publish_range};
use crate::base::ids::{Epoch, Sequence};
use crate::client::{Ack, AckKind, ClientError, ClientOptions, Event, Publisher};
use crate::protocol::client::PublishErrorCode;

pub(super) fn resent(acks: &[Ack]) -> u32 {
    acks.iter().filter(|ack| ack.resent).map(|ack| ack.count).sum()
}

/// Publishes 300 events of which the first 100 are acknowledged, and 200 are unknown at the leader, node 1.
pub(super) fn with_200_in_flight(cluster: &Cluster) -> (Publisher, Vec<Ack>) {
    cluster.state().ack_limit = 100;
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    publish_range(&mut publisher, 1, 300);
    let mut acks = Vec::new();
    let begun = Instant::now();
    while cluster.state().log.len() < 300 || publisher.outstanding() > 200 {
        publisher.poll(Duration::from_millis(5), |ack| acks.push(ack)).unwrap();
        assert!(begun.elapsed() < PATIENCE);
    }
    (publisher, acks)
}

#[test]
fn pitfall_26_a_new_leader_gets_everything_unacknowledged_again_in_order() {
    let cluster = Cluster::start(3);
    let (mut publisher, mut acks) = with_200_in_flight(&cluster);
    // 150 of them were on a quorum; the rest is lost with the old leader.
    cluster.elect(2, Some(150));
    let begun = Instant::now();
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    let silence_limit = cluster.options().leader_silence_limit;
    assert!(begun.elapsed() < silence_limit / 2, "the news came over a standing connection");
    assert_covers(&acks, 1, 300);
    assert_log(&cluster, 300);
    assert_eq!(resent(&acks), 200);
    let duplicates: u32 = acks.iter().filter(|ack| ack.kind == AckKind::Duplicate).map(|ack| ack.count).sum();
    assert_eq!(duplicates, 50, "in the cluster's words");
    assert_eq!(cluster.state().opens, 1, "an identity outlives its connections");
}

#[test]
fn a_lost_connection_to_the_same_leader_resends_without_opening_again() {
    let cluster = Cluster::start(1);
    let (mut publisher, mut acks) = with_200_in_flight(&cluster);
    cluster.state().ack_limit = usize::MAX;
    cluster.cut(1);
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    assert_covers(&acks, 1, 300);
    assert_log(&cluster, 300);
    assert_eq!(cluster.state().opens, 1);
}

#[test]
fn the_same_leader_elected_again_gets_everything_again_too() {
    let cluster = Cluster::start(3);
    let (mut publisher, mut acks) = with_200_in_flight(&cluster);
    cluster.elect(1, Some(150));
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    assert_covers(&acks, 1, 300);
    assert_log(&cluster, 300);
}

#[test]
fn a_redirect_is_followed_while_opening_and_while_publishing() {
    let cluster = Cluster::start(3);
    // Hellos say what was true a moment ago.
    cluster.state().claimed = Some((1, Some(1)));
    cluster.state().leader = Some(3);
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    publish_range(&mut publisher, 1, 50);
    let mut acks = Vec::new();
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    // Now the leader steps down in silence: the next publish is turned away.
    cluster.state().leader = Some(2);
    cluster.state().term = 2;
    publish_range(&mut publisher, 51, 400);
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    assert_covers(&acks, 1, 400);
    assert_log(&cluster, 400);
}

#[test]
fn a_leader_that_takes_nothing_and_names_nobody_is_asked_again_later() {
    let cluster = Cluster::start(1);
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    cluster.state().leader = None;
    cluster.state().claimed = Some((1, Some(1)));
    publish_range(&mut publisher, 1, 10);
    publisher.poll(Duration::from_millis(300), |_| {}).unwrap();
    let frames = cluster.state().frames.len();
    assert_eq!(frames, 0);
    cluster.state().leader = Some(1);
    publisher.drain(PATIENCE, |_| {}).unwrap();
    assert_log(&cluster, 10);
}

#[test]
fn a_gap_in_what_still_waits_here_is_closed_by_sending_again() {
    let cluster = Cluster::start(1);
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    cluster.state().lose_frame = Some(2);
    publish_range(&mut publisher, 1, 1000);
    let mut acks = Vec::new();
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    assert!(resent(&acks) > 0);
    assert_covers(&acks, 1, 1000);
    assert_log(&cluster, 1000);
}

#[test]
fn beginning_past_what_the_cluster_has_is_a_sequence_gap_and_final() {
    let cluster = Cluster::start(1);
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    publisher.start_at(Sequence(5));
    publisher.publish(&Event::new("t", b"")).unwrap();
    let error = publisher.drain(PATIENCE, |_| {}).unwrap_err();
    assert_eq!(error, ClientError::SequenceGap { expected: Sequence(1), sent: Sequence(5) });
    assert_eq!(error.exit_code(), 2);
    assert_eq!(publisher.try_publish(&Event::new("t", b"")), Err(error));
}

#[test]
fn a_leader_that_lost_acknowledged_events_is_found_out() {
    let cluster = Cluster::start(1);
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    publish_range(&mut publisher, 1, 20);
    publisher.drain(PATIENCE, |_| {}).unwrap();
    cluster.state().log.truncate(10);
    cluster.state().expected = 11;
    publish_range(&mut publisher, 21, 21);
    let error = publisher.drain(PATIENCE, |_| {}).unwrap_err();
    assert_eq!(error, ClientError::SequenceGap { expected: Sequence(11), sent: Sequence(21) });
}

#[test]
fn a_newer_opening_fences_the_older_publisher_for_good() {
    let cluster = Cluster::start(1);
    let mut old = Publisher::open(cluster.options(), "p").unwrap();
    let mut new = Publisher::open(cluster.options(), "p").unwrap();
    assert_eq!(new.identity().1, Epoch(2));
    old.publish(&Event::new("t", b"")).unwrap();
    let error = old.drain(PATIENCE, |_| {}).unwrap_err();
    assert_eq!(error, ClientError::Fenced { epoch: 2 });
    assert_eq!(old.publish_and_wait(&Event::new("t", b"")).unwrap_err(), error);
    publish_range(&mut new, 1, 5);
    new.drain(PATIENCE, |_| {}).unwrap();
    assert_log(&cluster, 5);
}

#[test]
fn pitfall_43_an_expired_identity_is_an_error_and_never_a_second_opening() {
    let cluster = Cluster::start(1);
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    cluster.state().refuse = Some(PublishErrorCode::UnknownProducer);
    publish_range(&mut publisher, 1, 3);
    let error = publisher.drain(PATIENCE, |_| {}).unwrap_err();
    assert_eq!(error, ClientError::IdentityExpired { waiting: 3 });
    assert_eq!(cluster.state().opens, 1);
}

#[test]
fn a_silent_leader_is_left_for_the_one_that_others_name() {
    let cluster = Cluster::start(3);
    let mut options = cluster.options();
    options.leader_silence_limit = ClientOptions::LEADER_SILENCE_LIMIT;
    assert_eq!(options.leader_silence_limit, Duration::from_millis(100), "the default");
    let mut publisher = Publisher::open(options, "p").unwrap();
    publish_range(&mut publisher, 1, 10);
    publisher.drain(PATIENCE, |_| {}).unwrap();
    cluster.state().frozen = vec![1];
    publish_range(&mut publisher, 11, 20);
    publisher.poll(Duration::from_millis(250), |_| {}).unwrap();
    assert_eq!(publisher.outstanding(), 10);
    cluster.elect(2, Some(10));
    let mut acks = Vec::new();
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    assert_covers(&acks, 11, 20);
    assert_log(&cluster, 20);
}

#[test]
fn a_leader_silent_but_alive_is_asked_by_ping_and_not_left() {
    let cluster = Cluster::start(1);
    let mut options = cluster.options();
    options.leader_silence_limit = Duration::from_secs(2);
    let mut publisher = Publisher::open(options, "p").unwrap();
    cluster.state().ack_limit = 0;
    publish_range(&mut publisher, 1, 5);
    publisher.poll(Duration::from_secs(5), |_| {}).unwrap();
    assert_eq!(cluster.state().frames.iter().flatten().filter(|sequence| **sequence == 1).count(), 1);
    cluster.release();
    let mut acks = Vec::new();
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    assert_eq!(resent(&acks), 0);
}

#[test]
fn leaders_that_come_and_go_at_random_lose_nothing_and_double_nothing() {
    for seed in 1..=5 {
        come_and_go(seed);
    }
}

fn come_and_go(seed: u64) {
    let cluster = Cluster::start(3);
    let mut prng = crate::base::prng::Prng::new(seed);
    let mut options = cluster.options();
    options.servers = vec![dead_address(), cluster.addresses[1]];
    let mut publisher = Publisher::open(options, "p").unwrap().with_window(500);
    let mut acks: Vec<Ack> = Vec::new();
    let mut sent = 0u64;
    for _ in 0..40 {
        for _ in 0..prng.below(200) {
            if publisher.try_publish(&Event::new("t", &(sent + 1).to_le_bytes())).unwrap().is_some() {
                sent += 1;
            }
        }
        publisher.poll(Duration::from_millis(prng.below(4)), |ack| acks.push(ack)).unwrap();
        let acknowledged: usize = acks.iter().map(|ack| ack.count as usize).sum();
        match prng.below(4) {
            // What was acknowledged is on a quorum, whatever the client knows of it: the fake keeps all it told.
            0 => {
                cluster.elect(1 + prng.below(3) as u16, None);
            }
            1 => cluster.cut(1 + prng.below(3) as u16),
            2 => {
                let mut state = cluster.state();
                state.ack_limit = acknowledged.max(state.log.len()) + 20;
            }
            _ => {}
        }
    }
    cluster.release();
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    assert_covers(&acks, 1, sent);
    assert_log(&cluster, sent);
    assert!(sent >= 500, "seed {seed}: {sent}");
}
