//! Subscribing: order, resume, filters, and damage.

use std::ops::ControlFlow;
use std::time::Duration;

use super::fake::{Cluster, babbler, dead_address};
use crate::base::ids::{Epoch, LogIndex, Offset, ProducerId, Sequence, Term};
use crate::client::{ClientError, ClientOptions, From, SubscribeOptions, Subscriber};
use crate::entry::{BatchAccumulator, BatchLimits, EventParts, ProducerRef, SealContext, encode_event};

const PATIENCE: Duration = Duration::from_secs(10);

/// Fills the cluster's log with `batches` batches of `each` events; topics `even` and `odd` by turns of a batch.
fn fill(cluster: &Cluster, batches: u64, each: u64) {
    let mut batch = BatchAccumulator::new(BatchLimits::default());
    let (mut offset, mut prev_chain) = (1, 0);
    let mut state = cluster.state();
    for index in 1..=batches {
        let base = offset;
        for _ in 0..each {
            let mut encoded = Vec::new();
            let parts = EventParts {
                sequence: Sequence(offset),
                timestamp_unix_ns: 5,
                priority: 1,
                topic: if index % 2 == 0 { "even" } else { "odd" },
                attributes: &[("k", b"v")],
                body: &offset.to_le_bytes(),
            };
            encode_event(&mut encoded, &parts).unwrap();
            batch
                .push(0, ProducerRef { id: ProducerId(1), epoch: Epoch(1), name: "usgs" }, &encoded)
                .unwrap();
            offset += 1;
        }
        let entry = batch.seal(&SealContext {
            term: Term(1),
            index: LogIndex(index),
            prev_chain,
            base_offset: Offset(base),
            log_time_ns: 0,
            timestamp_unix_ns: 0,
        });
        prev_chain = entry.chain();
        state.entries.push(entry.bytes().to_vec());
        state.offsets.push((base, offset));
    }
}

/// Reads offsets until `until` is passed.
fn read_offsets(subscriber: &mut Subscriber, until: u64) -> Result<Vec<u64>, ClientError> {
    let mut offsets = Vec::new();
    while subscriber.position() <= Offset(until) {
        let position = subscriber.position();
        let count = subscriber.poll(PATIENCE, |event| {
            assert_eq!(event.body, event.offset.0.to_le_bytes());
            offsets.push(event.offset.0);
            ControlFlow::Continue(())
        })?;
        assert!(count > 0 || subscriber.position() > position, "nothing in time");
    }
    Ok(offsets)
}

#[test]
fn events_come_whole_in_order_and_from_where_they_were_wanted() {
    let cluster = Cluster::start(1);
    fill(&cluster, 10, 7);
    for (from, first) in [(From::Earliest, 1), (From::Offset(Offset(24)), 24), (From::Offset(Offset(1)), 1)] {
        let mut subscriber = Subscriber::open(cluster.options(), SubscribeOptions::new(from)).unwrap();
        assert_eq!(subscriber.position(), Offset(first));
        assert_eq!(read_offsets(&mut subscriber, 70).unwrap(), (first..=70).collect::<Vec<_>>());
        assert_eq!(subscriber.progress(), (LogIndex(10), Offset(70)));
    }
    let latest = Subscriber::open(cluster.options(), SubscribeOptions::new(From::Latest)).unwrap();
    assert_eq!(latest.position(), Offset(71));
}

#[test]
fn one_event_at_a_time_with_everything_that_belongs_to_it() {
    let cluster = Cluster::start(1);
    fill(&cluster, 3, 5);
    let mut subscriber = Subscriber::open(cluster.options(), SubscribeOptions::new(From::Earliest)).unwrap();
    for n in 1..=15 {
        let event = subscriber.next(PATIENCE).unwrap().unwrap();
        assert_eq!((event.offset, event.sequence), (Offset(n), Sequence(n)));
        assert_eq!(subscriber.position(), Offset(n + 1));
        assert_eq!((event.producer.as_str(), event.priority, event.timestamp_unix_ns), ("usgs", 1, 5));
        assert_eq!(event.attributes, [("k".to_owned(), b"v".to_vec())]);
        assert_eq!(event.index, LogIndex((n - 1) / 5 + 1));
        assert_eq!(event.body, n.to_le_bytes());
    }
    assert_eq!(subscriber.next(Duration::from_millis(20)), Ok(None));
}

#[test]
fn a_lost_connection_is_resumed_without_gap_or_repeat() {
    let cluster = Cluster::start(3);
    fill(&cluster, 40, 7);
    cluster.state().cut_after = vec![13, 5, 0, 9];
    let mut subscriber = Subscriber::open(cluster.options(), SubscribeOptions::new(From::Earliest)).unwrap();
    assert_eq!(read_offsets(&mut subscriber, 280).unwrap(), (1..=280).collect::<Vec<_>>());
    let nodes: Vec<u16> = cluster.state().subscribes.iter().map(|(node, _, _)| *node).collect();
    assert_eq!(nodes, [1, 2, 3, 1, 2], "each loss goes on at the next of the list");
}

#[test]
fn a_loss_in_the_middle_of_a_batch_is_resumed_in_the_middle_of_it() {
    let cluster = Cluster::start(2);
    fill(&cluster, 4, 10);
    let mut subscriber = Subscriber::open(cluster.options(), SubscribeOptions::new(From::Earliest)).unwrap();
    for n in 1..=13 {
        assert_eq!(subscriber.next(PATIENCE).unwrap().unwrap().offset, Offset(n));
    }
    cluster.cut(1);
    cluster.state().members.clear();
    for n in 14..=40 {
        assert_eq!(subscriber.next(PATIENCE).unwrap().unwrap().offset, Offset(n));
    }
}

#[test]
fn a_node_that_is_behind_repeats_nothing_and_the_next_one_leaves_no_gap() {
    let cluster = Cluster::start(3);
    fill(&cluster, 40, 7);
    cluster.state().behind = vec![(1, 13), (2, 5)];
    let mut subscriber = Subscriber::open(cluster.options(), SubscribeOptions::new(From::Earliest)).unwrap();
    let mut offsets = read_offsets(&mut subscriber, 91).unwrap();
    cluster.cut(1);
    // The node that is read from now has committed less than was delivered.
    let mut count = |subscriber: &mut Subscriber, wait| {
        let taken = |event: crate::client::Delivered<'_>| {
            offsets.push(event.offset.0);
            ControlFlow::Continue(())
        };
        subscriber.poll(wait, taken).unwrap()
    };
    while cluster.state().subscribes.len() < 2 {
        assert_eq!(count(&mut subscriber, Duration::from_millis(20)), 0);
    }
    assert_eq!(count(&mut subscriber, Duration::from_millis(50)), 0);
    let asked: Vec<_> = cluster.state().subscribes.iter().map(|(node, start, _)| (*node, *start)).collect();
    assert_eq!(asked, [(1, 1), (2, 92)]);
    cluster.cut(2);
    while subscriber.position() <= Offset(280) {
        count(&mut subscriber, PATIENCE);
    }
    assert_eq!(offsets, (1..=280).collect::<Vec<_>>());
}

#[test]
fn a_node_that_knows_of_no_leader_is_left_for_the_next_one() {
    let cluster = Cluster::start(3);
    fill(&cluster, 10, 7);
    cluster.state().behind = vec![(1, 4)];
    let mut subscriber = Subscriber::open(cluster.options(), SubscribeOptions::new(From::Earliest)).unwrap();
    let mut offsets = read_offsets(&mut subscriber, 28).unwrap();
    // Cut off from the others, but not from its clients. An election that ends soon is no reason to go.
    cluster.announce(2, None);
    assert_eq!(subscriber.poll(Duration::from_millis(200), |_| ControlFlow::Continue(())).unwrap(), 0);
    cluster.announce(2, Some(1));
    assert_eq!(subscriber.poll(Duration::from_millis(1_500), |_| ControlFlow::Continue(())).unwrap(), 0);
    assert_eq!(cluster.state().subscribes.len(), 1);
    cluster.announce(3, None);
    offsets.extend(read_offsets(&mut subscriber, 70).unwrap());
    assert_eq!(offsets, (1..=70).collect::<Vec<_>>());
    let asked: Vec<_> = cluster.state().subscribes.iter().map(|(node, start, _)| (*node, *start)).collect();
    assert_eq!(asked, [(1, 1), (2, 29)]);
}

#[test]
fn with_one_server_it_stays_with_that_node() {
    let cluster = Cluster::start(3);
    fill(&cluster, 20, 3);
    cluster.state().cut_after = vec![4, 4];
    let mut options = cluster.options();
    options.servers = vec![cluster.addresses[1]];
    let mut subscriber = Subscriber::open(options, SubscribeOptions::new(From::Earliest)).unwrap();
    assert_eq!(read_offsets(&mut subscriber, 60).unwrap(), (1..=60).collect::<Vec<_>>());
    assert!(cluster.state().subscribes.iter().all(|(node, _, _)| *node == 2));
}

#[test]
fn a_dead_server_is_passed_by_and_none_at_all_is_an_error_in_time() {
    let cluster = Cluster::start(1);
    fill(&cluster, 2, 3);
    let mut options = cluster.options();
    options.servers = vec![dead_address(), cluster.addresses[0]];
    let mut subscriber = Subscriber::open(options, SubscribeOptions::new(From::Earliest)).unwrap();
    assert_eq!(read_offsets(&mut subscriber, 6).unwrap().len(), 6);

    let mut options = ClientOptions::new(vec![dead_address()]);
    options.no_progress_timeout = Duration::from_millis(100);
    let error = Subscriber::open(options, SubscribeOptions::new(From::Earliest)).unwrap_err();
    assert!(matches!(error, ClientError::NoNodeReachable { .. }) && error.exit_code() == 3, "{error}");
}

#[test]
fn filters_pass_what_matches_and_the_position_moves_past_the_rest() {
    let cluster = Cluster::start(1);
    fill(&cluster, 6, 4);
    for (filter, expected) in [("even", 12), ("e*", 12), ("*", 24), ("nothing", 0)] {
        let mut wish = SubscribeOptions::new(From::Earliest);
        filter.clone_into(&mut wish.filter);
        let mut subscriber = Subscriber::open(cluster.options(), wish).unwrap();
        let offsets = read_offsets(&mut subscriber, 24).unwrap();
        assert_eq!(offsets.len(), expected, "{filter}");
        assert!(filter == "*" || offsets.iter().all(|offset| (offset - 1) / 4 % 2 == 1));
    }
    for filter in ["two words", "a*b", "**"] {
        let mut wish = SubscribeOptions::new(From::Earliest);
        filter.clone_into(&mut wish.filter);
        let error = Subscriber::open(cluster.options(), wish).unwrap_err();
        assert!(matches!(error, ClientError::BadFilter(_)) && error.exit_code() == 2, "{error}");
    }
}

#[test]
fn a_batch_left_out_by_a_filter_on_the_server_is_no_gap() {
    let cluster = Cluster::start(1);
    fill(&cluster, 6, 4);
    let mut state = cluster.state();
    for place in [4, 2, 0] {
        state.entries.remove(place);
        state.offsets.remove(place);
    }
    drop(state);
    let mut wish = SubscribeOptions::new(From::Earliest);
    "even".clone_into(&mut wish.filter);
    let mut subscriber = Subscriber::open(cluster.options(), wish).unwrap();
    assert_eq!(read_offsets(&mut subscriber, 24).unwrap().len(), 12);
    // Without a filter the same is missing events.
    let mut subscriber = Subscriber::open(cluster.options(), SubscribeOptions::new(From::Earliest)).unwrap();
    let error = read_offsets(&mut subscriber, 24).unwrap_err();
    assert!(matches!(error, ClientError::OffsetGap { expected: Offset(1), found: Offset(5), .. }), "{error}");
    assert_eq!(error.exit_code(), 4);
}

#[test]
fn pitfall_51_a_damaged_entry_is_an_error_after_what_came_before_it() {
    let cluster = Cluster::start(1);
    fill(&cluster, 5, 4);
    let middle = cluster.state().entries[2].len() / 2;
    cluster.state().entries[2][middle] ^= 1;
    let mut subscriber = Subscriber::open(cluster.options(), SubscribeOptions::new(From::Earliest)).unwrap();
    let error = read_offsets(&mut subscriber, 20).unwrap_err();
    assert!(matches!(error, ClientError::Corrupt { offset: Offset(9), .. }), "{error}");
    assert_eq!(error.exit_code(), 4);
    assert_eq!(subscriber.position(), Offset(9));
    // Healed (or at a better node), it goes on from there.
    cluster.state().entries[2][middle] ^= 1;
    assert_eq!(read_offsets(&mut subscriber, 20).unwrap(), (9..=20).collect::<Vec<_>>());
}

#[test]
fn entries_of_another_log_are_told_by_their_chain() {
    let (cluster, other) = (Cluster::start(1), Cluster::start(1));
    fill(&cluster, 4, 5);
    fill(&other, 1, 6);
    fill(&other, 3, 5);
    // The second entry of a log whose first entry differs, under fitting offsets.
    let mut batch = BatchAccumulator::new(BatchLimits::default());
    let mut encoded = Vec::new();
    let parts = EventParts {
        sequence: Sequence(1),
        timestamp_unix_ns: 0,
        priority: 0,
        topic: "t",
        attributes: &[],
        body: &6u64.to_le_bytes(),
    };
    encode_event(&mut encoded, &parts).unwrap();
    batch.push(0, ProducerRef { id: ProducerId(1), epoch: Epoch(1), name: "x" }, &encoded).unwrap();
    let foreign = batch.seal(&SealContext {
        term: Term(1),
        index: LogIndex(2),
        prev_chain: 12345,
        base_offset: Offset(6),
        log_time_ns: 0,
        timestamp_unix_ns: 0,
    });
    cluster.state().entries[1] = foreign.bytes().to_vec();
    let mut subscriber = Subscriber::open(cluster.options(), SubscribeOptions::new(From::Earliest)).unwrap();
    let error = read_offsets(&mut subscriber, 20).unwrap_err();
    assert!(matches!(error, ClientError::Corrupt { offset: Offset(6), .. }), "{error}");
}

#[test]
fn nodes_that_cannot_read_their_logs_are_passed_by_until_none_is_left() {
    let cluster = Cluster::start(3);
    fill(&cluster, 5, 4);
    cluster.state().unreadable = vec![1, 2];
    let mut subscriber = Subscriber::open(cluster.options(), SubscribeOptions::new(From::Earliest)).unwrap();
    assert_eq!(read_offsets(&mut subscriber, 20).unwrap().len(), 20);
    cluster.state().unreadable = vec![1, 2, 3];
    cluster.cut(3);
    let error = subscriber.next(PATIENCE).unwrap_err();
    assert!(matches!(error, ClientError::ReadFailed { offset: Offset(21), .. }), "{error}");
}

#[test]
fn credit_is_given_back_as_entries_are_taken() {
    let cluster = Cluster::start(1);
    fill(&cluster, 100, 60);
    let bytes: u64 = cluster.state().entries.iter().map(|entry| entry.len() as u64).sum();
    let mut wish = SubscribeOptions::new(From::Earliest);
    wish.credit_bytes = 64 << 10;
    let mut subscriber = Subscriber::open(cluster.options(), wish).unwrap();
    assert_eq!(cluster.state().credits, 0);
    read_offsets(&mut subscriber, 6000).unwrap();
    subscriber.poll(Duration::from_millis(20), |_| ControlFlow::Continue(())).unwrap();
    cluster.wait("credit", |state| state.credits > bytes - (64 << 10) && state.credits <= bytes);
}

#[test]
fn random_bytes_from_a_server_are_no_panic() {
    for words in [vec![0xff; 100], vec![0; 100], b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()] {
        let mut options = ClientOptions::new(vec![babbler(words)]);
        options.no_progress_timeout = Duration::from_millis(60);
        let error = Subscriber::open(options, SubscribeOptions::new(From::Latest)).unwrap_err();
        assert!(matches!(error, ClientError::NoNodeReachable { .. }), "{error}");
    }
}
