//! The spine in one process: three nodes with real disks, sockets and threads, in both threading modes, spoken to with
//! raw frames so that the client library's cleverness hides nothing.

mod raw;

use std::time::{Duration, Instant};

use raw::{RawClient, start_cluster};
use tercet::base::ids::{Epoch, Offset, ProducerId, Sequence};
use tercet::config::ThreadingMode;
use tercet::protocol::client::{AckKind, NodeRole, PublishErrorCode, Purpose};

const LIMIT: Duration = Duration::from_secs(20);

/// The node that leads, once all agree.
fn leader_of(cluster: &raw::RawCluster) -> usize {
    let deadline = Instant::now() + LIMIT;
    loop {
        let statuses: Vec<_> = cluster.nodes.iter().map(|node| node.status()).collect();
        let leader = statuses.iter().position(|status| status.role == NodeRole::Leader);
        if let Some(place) = leader
            && statuses.iter().all(|status| status.leader_id == Some(statuses[place].node_id))
        {
            return place;
        }
        assert!(Instant::now() < deadline, "no leader: {statuses:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn events_round_trip(mode: ThreadingMode) {
    let cluster = start_cluster(3, mode);
    let leader = leader_of(&cluster);
    let mut client = RawClient::connect(cluster.nodes[leader].client, Purpose::Publisher);
    let opened = client.open_producer("raw");
    assert_eq!(opened.next_sequence, Sequence(1));
    for first in (1..=1000u64).step_by(50) {
        let bodies: Vec<String> = (first..first + 50).map(|n| format!("event {n}")).collect();
        client.publish(&opened, Sequence(first), &bodies);
    }
    let runs = client.acks(1000);
    assert!(runs.iter().all(|run| run.kind == AckKind::Written));
    assert_eq!(runs[0].first_offset, Offset(1));
    // The same again: nothing is added, and the offsets are those of the first time.
    client.publish(&opened, Sequence(401), &["event 401".to_owned(), "event 402".to_owned()]);
    let again = client.acks(2);
    assert!(again.iter().all(|run| run.kind == AckKind::Duplicate));
    assert_eq!(again[0].first_offset, Offset(401));
    // A gap is refused and names what is expected.
    client.publish(&opened, Sequence(5000), &["too far".to_owned()]);
    assert_eq!(client.publish_error(), PublishErrorCode::SequenceGap { expected: Sequence(1001) });
    // An id that nobody opened is unknown.
    client.publish_as(ProducerId(77_777), Epoch(1), Sequence(1), &["stranger".to_owned()]);
    assert_eq!(client.publish_error(), PublishErrorCode::UnknownProducer);
    for node in &cluster.nodes {
        let bodies = raw::read_all(node.client, 1000);
        assert_eq!(bodies.len(), 1000);
        for (place, body) in bodies.iter().enumerate() {
            assert_eq!(body, format!("event {}", place + 1).as_bytes());
        }
    }
    cluster.wait_equal(Offset(1000), LIMIT);
    cluster.shut_down();
}

#[test]
fn events_reach_a_quorum_and_every_reader_in_shared_mode() {
    events_round_trip(ThreadingMode::Shared);
}

#[test]
fn events_reach_a_quorum_and_every_reader_in_dedicated_mode() {
    events_round_trip(ThreadingMode::Dedicated);
}

#[test]
fn a_single_node_and_five_nodes_do_the_same() {
    for nodes in [1, 5] {
        let cluster = start_cluster(nodes, ThreadingMode::Shared);
        let leader = leader_of(&cluster);
        let mut client = RawClient::connect(cluster.nodes[leader].client, Purpose::Publisher);
        let opened = client.open_producer("raw");
        let bodies: Vec<String> = (1..=200).map(|n| format!("event {n}")).collect();
        client.publish(&opened, Sequence(1), &bodies);
        client.acks(200);
        for node in &cluster.nodes {
            assert_eq!(raw::read_all(node.client, 200).len(), 200);
        }
        cluster.wait_equal(Offset(200), LIMIT);
        cluster.shut_down();
    }
}

#[test]
fn a_restarted_cluster_remembers_events_and_producers() {
    let mut cluster = start_cluster(3, ThreadingMode::Shared);
    for round in 0..3u64 {
        let leader = leader_of(&cluster);
        let mut client = RawClient::connect(cluster.nodes[leader].client, Purpose::Publisher);
        let opened = client.open_producer("raw");
        assert_eq!(opened.next_sequence, Sequence(round * 100 + 1));
        assert_eq!(opened.epoch, Epoch(round as u32 + 1));
        let bodies: Vec<String> = (1..=100).map(|n| format!("round {round} event {n}")).collect();
        client.publish(&opened, Sequence(round * 100 + 1), &bodies);
        client.acks(100);
        cluster = cluster.restart();
    }
    leader_of(&cluster);
    for node in &cluster.nodes {
        assert_eq!(raw::read_all(node.client, 300).len(), 300);
    }
    cluster.wait_equal(Offset(300), LIMIT);
    cluster.shut_down();
}

#[test]
fn a_hard_state_that_is_older_than_the_log_is_refused() {
    let mut cluster = start_cluster(1, ThreadingMode::Shared);
    leader_of(&cluster);
    let node = cluster.nodes.remove(0);
    assert_eq!(node.running.shut_down(), None);
    let path = node.settings.data_dir.join("hard_state");
    let forgotten = tercet::log::StoredHardState::default();
    let mut bytes = std::fs::read(&path).expect("reads");
    let half = bytes.len() / 2;
    for (slot, number) in [(0, 1_000), (half, 1_001)] {
        let encoded = forgotten.encode(number);
        bytes[slot..slot + encoded.len()].copy_from_slice(&encoded);
    }
    std::fs::write(&path, bytes).expect("writes");
    let Err(error) = tercet::node::RunningNode::start(&node.settings) else { panic!("it starts") };
    assert_eq!(error.exit_code(), 4, "{error}");
    assert!(error.to_string().contains("hard_state"), "{error}");
}
