//! What strangers may send: random bytes, half-open connections, impossible lengths, truncated frames, on either port.
//! Each time the connection is closed and counted, and nothing else changes.

mod raw;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use raw::{RawClient, RawCluster, start_cluster};
use tercet::base::ids::{ClusterId, GroupId, Incarnation, LogIndex, NodeId, Offset, Sequence};
use tercet::base::prng::Prng;
use tercet::config::ThreadingMode;
use tercet::entry::Durability;
use tercet::protocol::client::{ClientHello, ClientMessage, NodeRole, Purpose};
use tercet::protocol::frame::{ProtocolOffer, RefuseCode, split_frame};
use tercet::protocol::peer::{PeerFrame, PeerHello, PeerHelloReply, decode_peer_frame};

/// The same suite runs in both threading modes: the test binary's name says which.
fn mode() -> ThreadingMode {
    if env!("CARGO_CRATE_NAME").ends_with("_dedicated") {
        ThreadingMode::Dedicated
    } else {
        ThreadingMode::Shared
    }
}

fn counter(cluster: &RawCluster, node: usize, name: &str) -> u64 {
    let counters = cluster.nodes[node].status().counters;
    counters.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no counter {name}")).1
}

/// Sends bytes and waits until the node closes; true if it did before `limit`.
fn is_closed_after(address: SocketAddr, bytes: &[u8], limit: Duration) -> bool {
    let mut stream = TcpStream::connect(address).expect("connects");
    let _ = stream.write_all(bytes);
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let deadline = Instant::now() + limit;
    let mut sink = [0; 4096];
    while Instant::now() < deadline {
        match stream.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
    }
    false
}

fn hello_bytes(purpose: Purpose) -> Vec<u8> {
    let mut out = Vec::new();
    let hello = ClientHello { offer: ProtocolOffer::OURS, purpose, cluster_id: ClusterId(0), name: "x" };
    ClientMessage::Hello(hello).encode(GroupId(0), &mut out);
    out
}

fn publish_works(cluster: &RawCluster, first: u64) {
    wait_leader(cluster);
    let leader =
        cluster.nodes.iter().position(|node| node.status().role == NodeRole::Leader).expect("a leader");
    let mut client = RawClient::connect(cluster.nodes[leader].client, Purpose::Publisher);
    let opened = client.open_producer("steady");
    assert_eq!(opened.next_sequence, Sequence(first));
    client.publish(&opened, Sequence(first), &["still here".to_owned()]);
    assert_eq!(client.acks(1)[0].first_offset, Offset(first));
}

fn wait_leader(cluster: &RawCluster) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !cluster.nodes.iter().any(|node| node.status().role == NodeRole::Leader) {
        assert!(Instant::now() < deadline, "no leader");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn strangers_are_closed_and_counted_and_nothing_else_changes() {
    let cluster = start_cluster(3, mode());
    wait_leader(&cluster);
    publish_works(&cluster, 1);
    let client = cluster.nodes[0].client;
    let peer = cluster.nodes[0].settings.own().peer;
    let mut prng = Prng::new(7);
    let mut cases: Vec<Vec<u8>> = vec![vec![0xff; 64], vec![0; 64], b"GET / HTTP/1.1\r\n\r\n".to_vec()];
    for _ in 0..20 {
        let mut bytes = vec![0; prng.between(16, 3000) as usize];
        prng.fill(&mut bytes);
        cases.push(bytes);
    }
    // A good hello with one bit flipped.
    for place in [0, 4, 8, 12, 16, 20] {
        let mut bytes = hello_bytes(Purpose::Control);
        bytes[place] ^= 0x10;
        cases.push(bytes);
    }
    let before = counter(&cluster, 0, "conductor_malformed");
    for bytes in &cases {
        for address in [client, peer] {
            assert!(is_closed_after(address, bytes, Duration::from_secs(5)), "{bytes:02x?} on {address}");
        }
    }
    assert!(counter(&cluster, 0, "conductor_malformed") > before);
    publish_works(&cluster, 2);
    cluster.wait_equal(Offset(2), Duration::from_secs(20));
    cluster.shut_down();
}

#[test]
fn half_open_connections_and_truncated_hellos_are_closed_in_time() {
    let cluster = start_cluster(1, mode());
    wait_leader(&cluster);
    let addresses = [cluster.nodes[0].client, cluster.nodes[0].settings.own().peer];
    for address in addresses {
        assert!(is_closed_after(address, b"", Duration::from_secs(10)), "silence on {address}");
        let hello = hello_bytes(Purpose::Control);
        assert!(
            is_closed_after(address, &hello[..hello.len() - 1], Duration::from_secs(10)),
            "half on {address}"
        );
    }
    assert!(counter(&cluster, 0, "conductor_timed_out") >= 3);
    publish_works(&cluster, 1);
    cluster.shut_down();
}

#[test]
fn impossible_frames_after_a_good_hello_end_the_connection_alone() {
    let cluster = start_cluster(1, mode());
    wait_leader(&cluster);
    let client = cluster.nodes[0].client;
    let huge = u32::MAX.to_le_bytes();
    for purpose in [Purpose::Publisher, Purpose::Subscriber, Purpose::Control] {
        let mut bytes = hello_bytes(purpose);
        bytes.extend_from_slice(&huge);
        bytes.extend_from_slice(&[0; 60]);
        assert!(is_closed_after(client, &bytes, Duration::from_secs(5)), "{purpose:?}");
        // A message that does not go with the purpose, and a second hello.
        let mut twice = hello_bytes(purpose);
        twice.extend_from_slice(&hello_bytes(purpose));
        assert!(is_closed_after(client, &twice, Duration::from_secs(5)), "second hello as {purpose:?}");
        if purpose != Purpose::Control {
            let mut transfer = hello_bytes(purpose);
            ClientMessage::TransferLeadership { request_id: 1, to: NodeId(1) }
                .encode(GroupId(0), &mut transfer);
            assert!(is_closed_after(client, &transfer, Duration::from_secs(5)), "transfer as {purpose:?}");
        }
    }
    assert!(counter(&cluster, 0, "dispatcher_clients_refused") >= 4);
    assert!(counter(&cluster, 0, "delivery_subscribers_refused") >= 2);
    publish_works(&cluster, 1);
    cluster.shut_down();
}

/// Says a peer's hello and returns the answer.
fn peer_reply(address: SocketAddr, hello: &PeerHello) -> Option<RefuseCode> {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut out = Vec::new();
    hello.encode(&mut out);
    stream.write_all(&out).expect("writes");
    let mut inbox = Vec::new();
    loop {
        if let Some((frame, _)) = split_frame(&inbox).expect("a sound frame") {
            return match decode_peer_frame(frame).expect("a reply") {
                PeerFrame::HelloReply(PeerHelloReply::Accept { .. }) => None,
                PeerFrame::HelloReply(PeerHelloReply::Refuse { code, .. }) => Some(code),
                other => panic!("{other:?}"),
            };
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).expect("reads");
        assert!(count > 0, "closed without an answer");
        inbox.extend_from_slice(&chunk[..count]);
    }
}

#[test]
fn pitfall_47_and_48_other_clusters_and_reformatted_peers_are_refused() {
    let cluster = start_cluster(3, mode());
    wait_leader(&cluster);
    let settings = &cluster.nodes[0].settings;
    let address = settings.own().peer;
    let good = PeerHello {
        offer: ProtocolOffer::OURS,
        cluster_id: settings.cluster_id(),
        from: NodeId(2),
        to: NodeId(1),
        incarnation: Incarnation(1),
        group: GroupId(0),
        durability: Durability::Disk,
        cluster_version: 1,
        configuration_index: LogIndex(1),
    };
    // Both real peers have been pinned once they all agree on a leader and a log.
    publish_works(&cluster, 1);
    cluster.wait_equal(Offset(1), Duration::from_secs(20));
    let cases = [
        (PeerHello { cluster_id: ClusterId(5), ..good }, RefuseCode::WrongCluster),
        (PeerHello { to: NodeId(3), ..good }, RefuseCode::WrongNode),
        (PeerHello { from: NodeId(9), ..good }, RefuseCode::UnknownMember),
        (good, RefuseCode::IncarnationMismatch),
    ];
    for (hello, code) in cases {
        assert_eq!(peer_reply(address, &hello), Some(code), "{hello:?}");
    }
    publish_works(&cluster, 2);
    cluster.shut_down();
}

#[test]
fn a_node_set_to_another_durability_is_refused() {
    let cluster = start_cluster(3, mode());
    let settings = &cluster.nodes[0].settings;
    let hello = PeerHello {
        offer: ProtocolOffer::OURS,
        cluster_id: settings.cluster_id(),
        from: NodeId(2),
        to: NodeId(1),
        incarnation: cluster_incarnation(&cluster, 1),
        group: GroupId(0),
        durability: Durability::Memory,
        cluster_version: 1,
        configuration_index: LogIndex(1),
    };
    assert_eq!(peer_reply(settings.own().peer, &hello), Some(RefuseCode::DurabilityMismatch));
    cluster.shut_down();
}

fn cluster_incarnation(cluster: &RawCluster, node: usize) -> Incarnation {
    let dir = &cluster.nodes[node].settings.data_dir;
    tercet::log::Identity::read(&tercet::log::RealDisk, dir).expect("an identity").incarnation
}

#[test]
fn who_asks_and_never_reads_is_held_up_and_costs_nobody_else_anything() {
    let cluster = start_cluster(1, mode());
    wait_leader(&cluster);
    for purpose in [Purpose::Subscriber, Purpose::Control] {
        let mut stream = TcpStream::connect(cluster.nodes[0].client).expect("connects");
        stream.write_all(&hello_bytes(purpose)).expect("writes");
        stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let mut pings = Vec::new();
        for request_id in 0..2_000 {
            ClientMessage::Ping { request_id }.encode(GroupId(0), &mut pings);
        }
        // The node stops reading (or closes) once its answers are not taken; buffers of the system hold some more.
        let limit = 128 << 20;
        let mut sent = 0;
        while sent < limit && stream.write_all(&pings).is_ok() {
            sent += pings.len();
        }
        assert!(
            sent < limit,
            "{purpose:?}: the node took in {sent} bytes of questions whose answers nobody reads"
        );
    }
    publish_works(&cluster, 1);
    cluster.shut_down();
}

#[test]
fn half_open_connections_keep_nobody_out() {
    let cluster = start_cluster(3, mode());
    wait_leader(&cluster);
    let mut held = Vec::new();
    for _ in 0..400 {
        for node in &cluster.nodes {
            held.push(TcpStream::connect(node.client).expect("connects"));
        }
    }
    publish_works(&cluster, 1);
    drop(held);
    cluster.wait_equal(Offset(1), Duration::from_secs(20));
    cluster.shut_down();
}
