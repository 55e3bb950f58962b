//! What is the same for all nodes of one simulated cluster.

use std::net::SocketAddr;

use crate::agent::batcher::{BatcherLimits, RetentionSettings, TimerSettings};
use crate::agent::delivery::DeliveryLimits;
use crate::base::ids::{ClusterId, GroupId, Incarnation, LogIndex, NodeId, Offset, Term};
use crate::entry::{
    BatchLimits, Configuration, Durability, Entry, Member, SealContext, encode_configuration,
};
use crate::log::LogOptions;

/// The only group.
pub const GROUP: GroupId = GroupId(0);
/// The simulated cluster.
pub const CLUSTER: ClusterId = ClusterId(0x7465_7263_6574);
/// Where a node's data lies on its disk.
pub const DATA_DIR: &str = "/data";

/// What is the same for all nodes of one simulated cluster.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many nodes.
    pub nodes: u16,
    /// What stable means.
    pub durability: Durability,
    /// Length of a segment.
    pub segment_bytes: u64,
    /// When a batch is full or due.
    pub batch: BatchLimits,
    /// The batcher's bounds, small so that they are met.
    pub batcher: BatcherLimits,
    /// Delivery's bounds, small so that the log is read.
    pub delivery: DeliveryLimits,
    /// Heartbeats.
    pub timers: TimerSettings,
    /// See `BatcherSettings`.
    pub disk_stall_limit_ns: u64,
    /// What goes from the beginning of the log.
    pub retention: RetentionSettings,
    /// Agents take turns in a drawn order, as threads of their own would.
    pub interleaved: bool,
}

/// Where a node listens for peers.
#[must_use]
pub fn peer_address(node: NodeId) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node.0 as u8], 9100))
}

/// Where a node listens for clients.
#[must_use]
pub fn client_address(node: NodeId) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node.0 as u8], 9000))
}

impl Shape {
    /// All nodes.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.nodes).map(NodeId)
    }

    /// Layout of the log.
    #[must_use]
    pub const fn log_options(&self) -> LogOptions {
        LogOptions::for_tests(GROUP, self.segment_bytes)
    }

    /// Whether anything ever goes from the beginning of the log.
    #[must_use]
    pub const fn has_retention(&self) -> bool {
        self.retention.bytes.is_some() || self.retention.age_ns.is_some()
    }

    /// The configuration that every log begins with; it names no disk.
    #[must_use]
    pub fn first_configuration(&self) -> Configuration {
        let voters = self.ids().map(|node_id| Member { node_id, incarnation: Incarnation(0) }).collect();
        Configuration {
            cluster_id: CLUSTER,
            cluster_version: 1,
            cluster_name: "simulated".to_owned(),
            durability: self.durability,
            producers_window_ns: 24 * 3600 * 1_000_000_000,
            producers_max: 1000,
            voters,
            learners: Vec::new(),
        }
    }

    /// The entry that every log begins with.
    #[must_use]
    pub fn first_entry(&self) -> Entry {
        let context = SealContext {
            term: Term::ZERO,
            index: LogIndex(1),
            prev_chain: 0,
            base_offset: Offset(1),
            log_time_ns: 0,
            timestamp_unix_ns: 0,
        };
        encode_configuration(&context, &self.first_configuration()).expect("a sound configuration")
    }
}
