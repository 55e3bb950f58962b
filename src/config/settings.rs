//! Settings that need no further check.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::base::clock::{NS_PER_MS, NS_PER_S};
use crate::base::ids::{ClusterId, Incarnation, NodeId};
use crate::entry::{Configuration, Durability, Member};

use super::error::ConfigError;
use super::raw::{Flag, RawSettings, Sources};

/// The cluster version that this program writes into a new cluster's configuration entry.
pub const CLUSTER_VERSION: u32 = 1;

/// A secret mixed into the cluster id. Never shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "(hidden)" })
    }
}

/// One node of the cluster and where it listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeAddresses {
    /// Its id.
    pub id: NodeId,
    /// Where clients connect.
    pub client: SocketAddr,
    /// Where the other nodes connect.
    pub peer: SocketAddr,
}

/// How batches are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchSettings {
    /// Most events, 1 to 64.
    pub events_max: usize,
    /// Most encoded bytes; one larger event still goes alone.
    pub bytes_max: usize,
    /// Longest wait for more while earlier batches are in flight.
    pub delay_max_ns: u64,
}

/// The log on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// What 'stable' asks of a node; a property of the cluster.
    pub durability: Durability,
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// Keep at least this many bytes of entries, in whole segments; `None`: keep all.
    pub retention_bytes: Option<u64>,
    /// Keep what is younger, by log time, in whole segments; `None`: keep all. With both, what either lets go goes.
    pub retention_age_ns: Option<u64>,
    /// Keep so many bytes more for members that are behind; `None`: four segments.
    pub retention_slack_bytes: Option<u64>,
    /// Whether files of trimmed segments are used again, or unlinked.
    pub recycles_segments: bool,
}

impl LogSettings {
    /// Bytes kept beyond retention for members that are behind.
    #[must_use]
    pub fn retention_slack_bytes(&self) -> u64 {
        self.retention_slack_bytes.unwrap_or(4 * self.segment_bytes)
    }
}

/// Failure detection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ElectionSettings {
    /// Between two heartbeats of a leader.
    pub heartbeat_interval_ns: u64,
    /// So many must be missed before a follower asks for pre-votes.
    pub missed_heartbeats: u32,
    /// A leader whose flush hangs for longer gives up leadership.
    pub disk_stall_limit_ns: u64,
}

/// The producers' table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerSettings {
    /// A producer idle for longer, by log time, expires.
    pub window_ns: u64,
    /// Most producers at once.
    pub max: u32,
}

/// How agents are laid onto threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ThreadingMode {
    /// Counts cores and chooses.
    Auto,
    /// One thread runs all agents but log writer and reader.
    Shared,
    /// One thread, and where pinned one core, for each agent.
    Dedicated,
}

/// What a thread does that finds no work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdleStrategy {
    /// Sleeps in its poll.
    Park,
    /// Spins, then yields, then sleeps.
    Backoff,
    /// Never leaves its core.
    Spin,
}

/// Threads of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreadSettings {
    /// Layout.
    pub mode: ThreadingMode,
    /// Core ids in the order of the roles; empty: no pinning. Whether they exist is for the runtime to find out.
    pub cores: Vec<usize>,
    /// Idle strategy.
    pub idle: IdleStrategy,
}

/// Run-time bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitSettings {
    /// Most client connections at once; further ones are refused.
    pub connections_max: u32,
}

/// Everything a node is told from outside, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Name of the cluster.
    pub cluster: String,
    /// Secret part of the cluster's identity; empty when not given.
    pub token: Token,
    /// This node.
    pub node_id: NodeId,
    /// Where its files lie; relative paths count from the working directory.
    pub data_dir: PathBuf,
    /// All nodes, this one included, sorted by id, without repetition, 1 to 7.
    pub nodes: Vec<NodeAddresses>,
    /// Batching.
    pub batch: BatchSettings,
    /// The log.
    pub log: LogSettings,
    /// Elections.
    pub election: ElectionSettings,
    /// Producers.
    pub producers: ProducerSettings,
    /// Threads.
    pub threads: ThreadSettings,
    /// Limits.
    pub limits: LimitSettings,
}

impl Settings {
    /// Reads file, environment and flags.
    ///
    /// # Errors
    /// [`ConfigError`], one line that names place and key.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let file = sources.read_file()?;
        let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
        Self::parse(file, &sources.environment, &sources.flags)
    }

    /// As [`load`](Self::load), from a file's name and text that are at hand.
    ///
    /// # Errors
    /// [`ConfigError`], one line that names place and key.
    ///
    /// # Panics
    /// When a flag names a key that does not exist: a mistake in the command line's code.
    pub fn parse(
        file: Option<(&str, &str)>,
        environment: &[(String, String)],
        flags: &[Flag],
    ) -> Result<Self, ConfigError> {
        super::validate::validate(&RawSettings::gather(file, environment, flags)?)
    }

    /// Settings with every default, for clusters that a program sets up (`tercet dev`, tests). `nodes` are sorted
    /// here; the rest of the checks is for [`parse`](Self::parse) of the rendered file.
    #[must_use]
    pub fn with_defaults(cluster: &str, node_id: NodeId, data_dir: PathBuf, nodes: &[NodeAddresses]) -> Self {
        let mut nodes = nodes.to_vec();
        nodes.sort_by_key(|node| node.id);
        Self {
            cluster: cluster.to_owned(),
            token: Token::default(),
            node_id,
            data_dir,
            nodes,
            batch: BatchSettings { events_max: 64, bytes_max: 1 << 20, delay_max_ns: NS_PER_MS },
            log: LogSettings {
                durability: Durability::Disk,
                segment_bytes: 64 << 20,
                retention_bytes: None,
                retention_age_ns: None,
                retention_slack_bytes: None,
                recycles_segments: true,
            },
            election: ElectionSettings {
                heartbeat_interval_ns: 50 * NS_PER_MS,
                missed_heartbeats: 3,
                disk_stall_limit_ns: 500 * NS_PER_MS,
            },
            producers: ProducerSettings { window_ns: 24 * 3_600 * NS_PER_S, max: 100_000 },
            threads: ThreadSettings {
                mode: ThreadingMode::Auto,
                cores: Vec::new(),
                idle: IdleStrategy::Park,
            },
            limits: LimitSettings { connections_max: 1024 },
        }
    }

    /// The cluster's id; see [`cluster_id`].
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        cluster_id(&self.cluster, &self.token, &self.nodes.iter().map(|node| node.id).collect::<Vec<_>>())
    }

    /// This node's addresses.
    ///
    /// # Panics
    /// When `node_id` is not in `nodes`, which checked settings rule out.
    #[must_use]
    pub fn own(&self) -> &NodeAddresses {
        self.node(self.node_id).expect("node_id is in the list of nodes")
    }

    /// One node's addresses.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeAddresses> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// All nodes but this one, sorted by id.
    pub fn others(&self) -> impl Iterator<Item = &NodeAddresses> {
        self.nodes.iter().filter(|node| node.id != self.node_id)
    }

    /// The configuration that `format` writes as the first log entry. It follows from what the nodes share, never
    /// from what is this node's own, so it is byte-identical on every node (rule 13). All are voters, and pinned at
    /// first contact.
    #[must_use]
    pub fn first_configuration(&self) -> Configuration {
        let member = |node: &NodeAddresses| Member { node_id: node.id, incarnation: Incarnation::default() };
        Configuration {
            cluster_id: self.cluster_id(),
            cluster_version: CLUSTER_VERSION,
            cluster_name: self.cluster.clone(),
            durability: self.log.durability,
            producers_window_ns: self.producers.window_ns,
            producers_max: self.producers.max,
            voters: self.nodes.iter().map(member).collect(),
            learners: Vec::new(),
        }
    }
}

/// The first 128 bits (big-endian) of SHA-256 over:
///
/// ```text
/// "tercet cluster id 1\n" | u32 bytes, name | u32 bytes, token (empty: none) | u16 count, u16 node ids, sorted
/// ```
///
/// with little-endian numbers. Fixed for ever: it lies in data directories and is compared in handshakes.
#[must_use]
pub fn cluster_id(name: &str, token: &Token, node_ids: &[NodeId]) -> ClusterId {
    let mut sorted: Vec<u16> = node_ids.iter().map(|id| id.0).collect();
    sorted.sort_unstable();
    let mut hasher = Sha256::new();
    hasher.update(b"tercet cluster id 1\n");
    for text in [name, &token.0] {
        hasher.update((text.len() as u32).to_le_bytes());
        hasher.update(text);
    }
    hasher.update((sorted.len() as u16).to_le_bytes());
    for id in sorted {
        hasher.update(id.to_le_bytes());
    }
    let digest = hasher.finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    ClusterId(u128::from_be_bytes(first))
}
