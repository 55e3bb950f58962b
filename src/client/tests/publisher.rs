//! Publishing while all is well, or nearly.

use std::time::{Duration, Instant};

use super::fake::{CLUSTER, Cluster, PRODUCER, babbler, dead_address};
use crate::base::ids::{ClusterId, Epoch, Offset, Sequence};
use crate::client::{Ack, AckKind, ClientError, ClientOptions, Event, Publisher};
use crate::entry::Durability;

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes events `from..=to` with their sequences as bodies.
pub(super) fn publish_range(publisher: &mut Publisher, from: u64, to: u64) {
    for n in from..=to {
        assert_eq!(publisher.publish(&Event::new("quakes", &n.to_le_bytes())), Ok(Sequence(n)));
    }
}

/// Every sequence in order, each at its offset.
pub(super) fn assert_covers(acks: &[Ack], from: u64, to: u64) {
    let mut next = from;
    for (sequence, offset) in acks.iter().flat_map(Ack::iter) {
        assert_eq!((sequence, offset), (Sequence(next), Offset(next)));
        next += 1;
    }
    assert_eq!(next, to + 1);
}

/// The log holds sequences 1 to `to`, each once, in order, with its own body.
pub(super) fn assert_log(cluster: &Cluster, to: u64) {
    let state = cluster.state();
    let expected: Vec<(u64, Vec<u8>)> = (1..=to).map(|n| (n, n.to_le_bytes().to_vec())).collect();
    assert!(state.log == expected, "the log has {} events", state.log.len());
}

#[test]
fn pipelined_events_arrive_in_order_and_every_acknowledgement_names_its_offset() {
    let cluster = Cluster::start(3);
    let mut publisher = Publisher::open(cluster.options(), "usgs").unwrap();
    assert_eq!(publisher.identity(), (PRODUCER, Epoch(1)));
    assert_eq!((publisher.expected_sequence(), publisher.next_sequence()), (Sequence(1), Sequence(1)));
    let mut acks = Vec::new();
    publish_range(&mut publisher, 1, 5000);
    publisher.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    assert_eq!(publisher.outstanding(), 0);
    let begun = Instant::now();
    publisher.drain(PATIENCE, |_| {}).unwrap();
    assert!(begun.elapsed() < PATIENCE / 2, "with nothing outstanding there is nothing to wait for");
    assert_covers(&acks, 1, 5000);
    assert_log(&cluster, 5000);
    assert!(
        acks.iter()
            .all(|ack| ack.kind == AckKind::Written && !ack.resent && ack.durability == Durability::Disk)
    );
    let state = cluster.state();
    assert!(state.frames.iter().all(|frame| frame.len() <= 64));
    assert!(state.frames.len() < 1000, "events gather into frames: {}", state.frames.len());
}

#[test]
fn a_lone_event_leaves_at_once_without_a_poll() {
    let cluster = Cluster::start(1);
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    publisher.try_publish(&Event::new("t", b"x")).unwrap().unwrap();
    cluster.wait("the event", |state| state.log.len() == 1);
    let ack = publisher.publish_and_wait(&Event::new("t", b"y")).unwrap();
    assert_eq!((ack.first_sequence, ack.count, ack.first_offset), (Sequence(2), 1, Offset(2)));
    let mut earlier = Vec::new();
    publisher.poll(Duration::ZERO, |ack| earlier.push(ack)).unwrap();
    assert_eq!(earlier.iter().map(|ack| (ack.first_sequence.0, ack.count)).collect::<Vec<_>>(), [(1, 1)]);
}

#[test]
fn known_events_are_acknowledged_as_duplicates_and_publishing_goes_on_where_the_cluster_stands() {
    let cluster = Cluster::start(1);
    let mut first = Publisher::open(cluster.options(), "p").unwrap();
    publish_range(&mut first, 1, 10);
    first.drain(PATIENCE, |_| {}).unwrap();
    let mut again = Publisher::open(cluster.options(), "p").unwrap();
    assert_eq!((again.expected_sequence(), again.next_sequence()), (Sequence(11), Sequence(11)));
    again.start_at(Sequence(1));
    publish_range(&mut again, 1, 12);
    let mut acks = Vec::new();
    again.drain(PATIENCE, |ack| acks.push(ack)).unwrap();
    assert_covers(&acks, 1, 12);
    let duplicates: u32 = acks.iter().filter(|ack| ack.kind == AckKind::Duplicate).map(|ack| ack.count).sum();
    assert_eq!(duplicates, 10);
    assert!(acks.iter().all(|ack| !ack.resent), "they were another publisher's");
    assert_log(&cluster, 12);
}

#[test]
fn credits_and_the_window_bound_what_is_in_flight() {
    let cluster = Cluster::start(1);
    cluster.state().credit = (10, 1 << 20);
    cluster.state().ack_limit = 0;
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap().with_window(25);
    let mut taken = 0u64;
    while publisher.has_room() {
        taken += 1;
        publisher.try_publish(&Event::new("t", &taken.to_le_bytes())).unwrap().unwrap();
    }
    assert_eq!(taken, 25);
    assert_eq!(publisher.try_publish(&Event::new("t", b"")), Ok(None));
    for _ in 0..10 {
        publisher.poll(Duration::from_millis(10), |_| {}).unwrap();
    }
    assert_eq!(cluster.state().log.len(), 10, "no more than the credit is sent");
    cluster.release();
    publisher.drain(PATIENCE, |_| {}).unwrap();
    assert_log(&cluster, 25);
}

#[test]
fn byte_credits_bound_what_is_in_flight_but_one_larger_event_goes_alone() {
    let cluster = Cluster::start(1);
    cluster.state().credit = (1000, 4096);
    cluster.state().ack_limit = 0;
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    for _ in 0..8 {
        publisher.publish(&Event::new("t", &[1; 1000])).unwrap();
    }
    let large = vec![2; 1 << 20];
    publisher.publish(&Event::new("t", &large)).unwrap();
    publisher.poll(Duration::from_millis(100), |_| {}).unwrap();
    assert_eq!(cluster.state().log.len(), 3, "1,040 bytes each");
    cluster.release();
    publisher.drain(PATIENCE, |_| {}).unwrap();
    let state = cluster.state();
    assert_eq!(state.log.len(), 9);
    assert!(state.log[8].1 == large);
}

#[test]
fn the_largest_event_passes_and_a_larger_one_costs_nothing_but_an_error() {
    let cluster = Cluster::start(1);
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    let error = publisher.publish(&Event::new("t", &vec![0; (1 << 20) + 1])).unwrap_err();
    assert!(matches!(error, ClientError::EventTooLarge { bytes, limit } if bytes == limit + 1), "{error}");
    assert_eq!(error.exit_code(), 2);
    let error = publisher.publish(&Event::new("two words", b"")).unwrap_err();
    assert!(matches!(error, ClientError::BadTopic(_)) && error.exit_code() == 2, "{error}");
    assert_eq!((publisher.outstanding(), publisher.next_sequence()), (0, Sequence(1)));
    let body = vec![7; 1 << 20];
    assert_eq!(publisher.publish_and_wait(&Event::new("t", &body)).unwrap().first_offset, Offset(1));
    assert!(cluster.state().log[0].1 == body);
}

#[test]
fn a_dead_node_in_the_list_is_tolerated_and_unnamed_nodes_are_found() {
    let cluster = Cluster::start(3);
    let mut options = cluster.options();
    // A dead one and a follower: the leader is known from the follower's hello alone.
    options.servers = vec![dead_address(), cluster.addresses[2]];
    let mut publisher = Publisher::open(options, "p").unwrap();
    publish_range(&mut publisher, 1, 100);
    publisher.drain(PATIENCE, |_| {}).unwrap();
    assert_log(&cluster, 100);
}

#[test]
fn a_list_without_a_living_node_or_leader_gives_up_in_time() {
    let short = Duration::from_secs(1);
    let mut options = ClientOptions::new(vec![dead_address(), dead_address()]);
    options.no_progress_timeout = short;
    let begun = Instant::now();
    let error = Publisher::open(options, "p").unwrap_err();
    assert!(matches!(error, ClientError::NoNodeReachable { .. }) && error.exit_code() == 3, "{error}");
    assert!((short..short * 5).contains(&begun.elapsed()));

    let cluster = Cluster::start(3);
    cluster.state().leader = None;
    let mut options = cluster.options();
    options.no_progress_timeout = short;
    let error = Publisher::open(options, "p").unwrap_err();
    assert!(matches!(error, ClientError::NoLeader { .. }) && error.exit_code() == 3, "{error}");
}

#[test]
fn a_leader_that_acknowledges_nothing_is_no_progress() {
    let cluster = Cluster::start(1);
    cluster.state().ack_limit = 0;
    let mut options = cluster.options();
    options.no_progress_timeout = Duration::from_secs(2);
    let mut publisher = Publisher::open(options, "p").unwrap();
    publish_range(&mut publisher, 1, 3);
    let error = publisher.poll(PATIENCE, |_| {}).unwrap_err();
    assert!(matches!(error, ClientError::NoProgress { waiting: 3, .. }) && error.exit_code() == 3, "{error}");
    // Nothing is lost by it.
    cluster.release();
    publisher.drain(PATIENCE, |_| {}).unwrap();
}

#[test]
fn another_cluster_is_refused() {
    let cluster = Cluster::start(1);
    let mut options = cluster.options();
    options.cluster_id = Some(ClusterId(CLUSTER.0 + 1));
    let error = Publisher::open(options, "p").unwrap_err();
    assert!(matches!(error, ClientError::WrongCluster { .. }) && error.exit_code() == 2, "{error}");
}

#[test]
fn bad_producer_names_are_refused_before_anything_is_dialled() {
    for name in ["", "two\nlines", &"x".repeat(256)] {
        let error = Publisher::open(ClientOptions::new(vec![dead_address()]), name).unwrap_err();
        assert!(matches!(error, ClientError::BadProducerName(_)) && error.exit_code() == 2, "{error}");
    }
}

#[test]
fn pitfall_51_random_bytes_from_a_server_are_an_error_and_never_a_panic() {
    let mut prng = crate::base::prng::Prng::new(3);
    for round in 0..12 {
        let mut words = vec![0; 64 + round * 300];
        prng.fill(&mut words);
        if round % 3 == 0 {
            words[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        } else if round % 3 == 1 {
            // A believable length, and nonsense behind it.
            words[..12].copy_from_slice(&[64, 0, 0, 0, 0x80, 0, 0, 0, 48, 0, 0, 0]);
        }
        let mut options = ClientOptions::new(vec![babbler(words)]);
        // On a starved machine the server may not have spoken yet when patience ends: then with more of it.
        let patience = (0..8).map(|doubled| Duration::from_millis(60 << doubled));
        let said = patience.map(|patience| {
            options.no_progress_timeout = patience;
            let error = Publisher::open(options.clone(), "p").unwrap_err();
            assert!(matches!(error, ClientError::NoNodeReachable { .. }), "{error}");
            error.to_string()
        });
        let said: Vec<String> = said.skip_while(|error| error.contains("no answer yet")).take(1).collect();
        assert!(said[0].contains("frame"), "it says what the server did: {said:?}");
    }
}

#[test]
fn a_waker_interrupts_a_poll_from_another_thread() {
    let cluster = Cluster::start(1);
    let mut publisher = Publisher::open(cluster.options(), "p").unwrap();
    let waker = publisher.waker();
    let begun = Instant::now();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        waker.wake().unwrap();
    });
    assert_eq!(publisher.poll(PATIENCE, |_| {}), Ok(0));
    assert!(begun.elapsed() < PATIENCE / 2);
    other.join().unwrap();
}
