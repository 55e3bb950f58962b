//! Publishing through changes of leadership: whose word moves a publisher, and what the new leader gets.

use std::time::Duration;

use super::fake::Cluster;
use super::publisher::{PATIENCE, assert_covers, assert_log, publish_range};
use super::publisher_trouble::{resent, with_200_in_flight};
use crate::client::Publisher;

/// Everything that left for a leader after the first `frames` frames, in the order in which it came.
fn sent_after(cluster: &Cluster, frames: usize) -> Vec<u64> {
    cluster.state().frames[frames..].concat()
}

#[test]
fn one_node_that_names_a_newer_leader_is_enough_although_the_old_one_is_alive() {
    for teller in [2, 3] {
        let cluster = Cluster::start(3);
        // The old leader commits nothing, hears of nothing, and answers every ping.
        let (mut publisher, mut acks) = with_200_in_flight(&cluster);
        publisher.poll(Duration::from_millis(100), |ack| acks.push(ack)).unwrap();
        assert_eq!(publisher.outstanding(), 200);
        let frames = cluster.state().frames.len();
        cluster.elect_as_told_by(2, Some(150), &[teller]);
        publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
        assert_covers(&acks, 1, 300);
        assert_log(&cluster, 300);
        assert_eq!(resent(&acks), 200);
        assert_eq!(sent_after(&cluster, frames), (101..=300).collect::<Vec<_>>(), "once, in order");
        assert_eq!(cluster.state().opens, 1, "under the same identity");
    }
}

#[test]
fn a_killed_leader_is_replaced_over_connections_that_stand() {
    let cluster = Cluster::start(3);
    let (mut publisher, mut acks) = with_200_in_flight(&cluster);
    cluster.wait("connections to all", |state| state.welcomed.len() == 3);
    let frames = cluster.state().frames.len();
    // Whoever dials it again gets no answer.
    cluster.state().frozen = vec![1];
    cluster.cut(1);
    publisher.poll(Duration::from_millis(20), |ack| acks.push(ack)).unwrap();
    publish_range(&mut publisher, 301, 310);
    assert_eq!(sent_after(&cluster, frames), [0; 0], "nobody leads");
    cluster.elect_as_told_by(3, Some(150), &[2]);
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    assert_covers(&acks, 1, 310);
    assert_log(&cluster, 310);
    assert_eq!(sent_after(&cluster, frames), (101..=310).collect::<Vec<_>>());
    let mut welcomed = cluster.state().welcomed.clone();
    welcomed.sort_unstable();
    assert_eq!(welcomed, [1, 2, 3], "one connection each: none was made for the change");
}

#[test]
fn a_term_without_a_leader_keeps_what_is_in_flight_where_it_is_and_sends_nothing_new() {
    let cluster = Cluster::start(3);
    let (mut publisher, mut acks) = with_200_in_flight(&cluster);
    let frames = cluster.state().frames.len();
    cluster.announce(2, None);
    publisher.poll(Duration::from_millis(300), |ack| acks.push(ack)).unwrap();
    publish_range(&mut publisher, 301, 305);
    publisher.poll(Duration::from_millis(50), |ack| acks.push(ack)).unwrap();
    assert_eq!(cluster.state().frames.len(), frames, "an election is under way");
    // What the old leader had on a quorum it may still acknowledge, truly.
    cluster.release();
    while publisher.outstanding() > 5 {
        publisher.poll(PATIENCE, |ack| acks.push(ack)).unwrap();
    }
    assert_eq!(resent(&acks), 0);
    cluster.state().term = 2;
    cluster.elect(1, Some(300));
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    assert_covers(&acks, 1, 305);
    assert_eq!(sent_after(&cluster, frames), (301..=305).collect::<Vec<_>>());
}

#[test]
fn leadership_that_returns_again_and_again_loses_and_doubles_nothing() {
    let cluster = Cluster::start(3);
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    let mut acks = Vec::new();
    for round in 0..30_u64 {
        cluster.state().ack_limit = (round * 20) as usize + 10;
        publish_range(&mut publisher, round * 20 + 1, round * 20 + 20);
        publisher.poll(Duration::from_millis(2), |ack| acks.push(ack)).unwrap();
        // The same node again, or its neighbour and back. What may be acknowledged already is kept, whatever of it has
        // arrived by now: looked at beforehand, it would be less than the next moment acknowledges.
        cluster.elect(1 + (round % 5 / 3) as u16, None);
        publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    }
    assert_covers(&acks, 1, 600);
    assert_log(&cluster, 600);
}
