//! A cluster inside the test's process, and a client that speaks raw frames over a blocking socket.

#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "../../tools/lab/ports.rs"]
mod ports;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tercet::base::clock::{NS_PER_MS, NS_PER_S};
use tercet::base::ids::{ClusterId, Epoch, GroupId, NodeId, Offset, ProducerId, Sequence};
use tercet::base::limits::FRAME_BYTES_MAX;
use tercet::config::{NodeAddresses, Settings, ThreadingMode};
use tercet::entry::{EventParts, encode_event};
use tercet::node::RunningNode;
use tercet::protocol::client::{
    AckRun, ClientHello, ClientHelloReply, ClientMessage, NodeRole, ProducerOpened, Publish,
    PublishErrorCode, Purpose, ServerMessage, Subscribe, SubscribeFrom,
};
use tercet::protocol::frame::{ProtocolOffer, split_frame_within};

const GROUP: GroupId = GroupId(0);

/// One node of the cluster.
pub struct RawNode {
    pub client: SocketAddr,
    pub settings: Settings,
    pub running: RunningNode,
}

/// What a status reply says, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawStatus {
    pub node_id: NodeId,
    pub role: NodeRole,
    pub leader_id: Option<NodeId>,
    pub last_offset: Offset,
    pub log_checksum_index: u64,
    pub log_checksum: u64,
    pub producers_checksum: u64,
    pub counters: Vec<(String, u64)>,
}

impl RawNode {
    pub fn status(&self) -> RawStatus {
        RawClient::connect(self.client, Purpose::Control).status()
    }
}

/// The cluster.
pub struct RawCluster {
    pub nodes: Vec<RawNode>,
    pub dir: TempDir,
}

/// Formats and starts a cluster. A client of raw frames follows no leader, so none is suspected because it did not get
/// its turn on a busy machine.
pub fn start_cluster(nodes: u16, mode: ThreadingMode) -> RawCluster {
    let dir = tempfile::tempdir().expect("a directory");
    let free = ports::free_addresses_in(23_000..31_000, 2 * usize::from(nodes)).expect("free ports");
    let addresses: Vec<NodeAddresses> = free
        .chunks_exact(2)
        .zip(1..)
        .map(|(pair, id)| NodeAddresses { id: NodeId(id), client: pair[0], peer: pair[1] })
        .collect();
    let nodes = addresses
        .iter()
        .map(|own| {
            let data_dir: PathBuf = dir.path().join(format!("node-{}", own.id));
            let mut settings = Settings::with_defaults("raw", own.id, data_dir, &addresses);
            settings.threads.mode = mode;
            settings.log.segment_bytes = 8 << 20;
            settings.election.heartbeat_interval_ns = 400 * NS_PER_MS;
            settings.election.disk_stall_limit_ns = 10 * NS_PER_S;
            tercet::node::format(&settings).expect("formats");
            start_node(settings)
        })
        .collect();
    RawCluster { nodes, dir }
}

fn start_node(settings: Settings) -> RawNode {
    let (running, _) = RunningNode::start(&settings).expect("starts");
    RawNode { client: settings.own().client, settings, running }
}

impl RawCluster {
    /// Waits until every node has the same committed log up to `offset`.
    pub fn wait_equal(&self, offset: Offset, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let all: Vec<RawStatus> = self.nodes.iter().map(RawNode::status).collect();
            let first = (all[0].log_checksum_index, all[0].log_checksum, all[0].producers_checksum);
            let same =
                all.iter().all(|s| (s.log_checksum_index, s.log_checksum, s.producers_checksum) == first);
            if same && all.iter().all(|status| status.last_offset == offset) {
                return;
            }
            assert!(Instant::now() < deadline, "nodes differ: {all:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops every node cleanly and starts it again.
    pub fn restart(self) -> Self {
        let settings: Vec<Settings> = self
            .nodes
            .into_iter()
            .map(|node| {
                assert_eq!(node.running.shut_down(), None);
                node.settings
            })
            .collect();
        Self { nodes: settings.into_iter().map(start_node).collect(), dir: self.dir }
    }

    /// Stops every node cleanly.
    pub fn shut_down(self) {
        for node in self.nodes {
            assert_eq!(node.running.shut_down(), None);
        }
    }
}

/// A client without any cleverness.
pub struct RawClient {
    stream: TcpStream,
    inbox: Vec<u8>,
}

impl RawClient {
    /// Connects and shakes hands.
    pub fn connect(address: SocketAddr, purpose: Purpose) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        let mut client = Self { stream, inbox: Vec::new() };
        client.send(&ClientMessage::Hello(ClientHello {
            offer: ProtocolOffer::OURS,
            purpose,
            cluster_id: ClusterId(0),
            name: "raw",
        }));
        client.receive(|message| match message {
            ServerMessage::HelloReply(ClientHelloReply::Accept(_)) => Some(()),
            other => panic!("not accepted: {other:?}"),
        });
        client
    }

    pub fn send(&mut self, message: &ClientMessage<'_>) {
        let mut out = Vec::new();
        message.encode(GROUP, &mut out);
        self.stream.write_all(&out).expect("writes");
    }

    /// Reads messages until `take` makes something of one.
    pub fn receive<R>(&mut self, mut take: impl FnMut(ServerMessage<'_>) -> Option<R>) -> R {
        loop {
            let split = split_frame_within(&self.inbox, FRAME_BYTES_MAX).expect("a sound frame");
            if let Some((frame, consumed)) = split {
                let taken = take(ServerMessage::decode(frame).expect("a message"));
                self.inbox.drain(..consumed);
                if let Some(result) = taken {
                    return result;
                }
                continue;
            }
            let mut chunk = [0; 65_536];
            let count = self.stream.read(&mut chunk).expect("reads in time");
            assert!(count > 0, "the node closed the connection");
            self.inbox.extend_from_slice(&chunk[..count]);
        }
    }

    pub fn open_producer(&mut self, name: &str) -> ProducerOpened {
        self.send(&ClientMessage::OpenProducer { request_id: 1, name });
        self.receive(|message| match message {
            ServerMessage::ProducerOpened(opened) => Some(opened),
            ServerMessage::LeaderNews { .. } => None,
            other => panic!("not opened: {other:?}"),
        })
    }

    pub fn publish(&mut self, opened: &ProducerOpened, first: Sequence, bodies: &[String]) {
        self.publish_as(opened.producer_id, opened.epoch, first, bodies);
    }

    pub fn publish_as(&mut self, producer_id: ProducerId, epoch: Epoch, first: Sequence, bodies: &[String]) {
        let mut bytes = Vec::new();
        for (body, sequence) in bodies.iter().zip(first.0..) {
            let event = EventParts {
                sequence: Sequence(sequence),
                timestamp_unix_ns: 0,
                priority: 0,
                topic: "raw",
                attributes: &[],
                body: body.as_bytes(),
            };
            encode_event(&mut bytes, &event).expect("encodes");
        }
        let event_count = bodies.len() as u16;
        self.send(&ClientMessage::Publish(Publish { producer_id, epoch, event_count, bytes: &bytes }));
    }

    /// Acknowledged runs until `count` events are acknowledged.
    pub fn acks(&mut self, count: u32) -> Vec<AckRun> {
        let mut runs: Vec<AckRun> = Vec::new();
        self.receive(|message| {
            match message {
                ServerMessage::PublishAck(ack) => runs.extend(ack.runs.iter()),
                ServerMessage::LeaderNews { .. } => {}
                other => panic!("no acknowledgement: {other:?}"),
            }
            (runs.iter().map(|run| run.count).sum::<u32>() >= count).then_some(())
        });
        runs
    }

    pub fn publish_error(&mut self) -> PublishErrorCode {
        self.receive(|message| match message {
            ServerMessage::PublishError(error) => Some(error.code),
            ServerMessage::LeaderNews { .. } => None,
            other => panic!("no error: {other:?}"),
        })
    }

    pub fn status(&mut self) -> RawStatus {
        self.send(&ClientMessage::StatusQuery { request_id: 9 });
        self.receive(|message| match message {
            ServerMessage::Status(status) => Some(RawStatus {
                node_id: status.node_id,
                role: status.role,
                leader_id: status.leader_id,
                last_offset: status.last_offset,
                log_checksum_index: status.log_checksum_index.0,
                log_checksum: status.log_checksum,
                producers_checksum: status.producers_checksum,
                counters: status.counters.iter().map(|c| (c.name.to_owned(), c.value)).collect(),
            }),
            _ => None,
        })
    }
}

/// Bodies of the first `count` events, as one node tells them.
pub fn read_all(address: SocketAddr, count: usize) -> Vec<Vec<u8>> {
    let mut client = RawClient::connect(address, Purpose::Subscriber);
    client.send(&ClientMessage::Subscribe(Subscribe {
        subscription: 1,
        from: SubscribeFrom::Earliest,
        credit_bytes: u32::MAX,
        filter: "",
    }));
    let mut bodies = Vec::new();
    let mut next = Offset(1);
    client.receive(|message| {
        if let ServerMessage::Entries(entries) = message {
            for entry in entries.iter() {
                let entry = entry.expect("a sound entry");
                for (offset, event) in &entry.events().expect("events") {
                    if offset >= next {
                        assert_eq!(offset, next, "no gap and no repeat");
                        next = offset.next();
                        bodies.push(event.body.to_vec());
                    }
                }
            }
        }
        (bodies.len() >= count).then_some(())
    });
    bodies
}
