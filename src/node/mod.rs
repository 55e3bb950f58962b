//! Floor 5: a node put together from its settings: identity, log, recovery, producers, ports, threads.
//!
//! ```text
//! Settings ─▶ open (lock, recover, rebuild producers) ─▶ bind ports ─▶ ReplicationManager::start ─▶ RunningNode
//! ```

mod error;
mod format;
mod open;

use std::time::{Duration, Instant};

pub use error::NodeError;
pub use format::{Formatted, format};

use crate::agent::batcher::{BatcherLimits, BatcherSettings, TimerSettings};
use crate::agent::boot::Booted;
use crate::agent::conductor::ConductorSettings;
use crate::agent::control::{Control, Fatal};
use crate::agent::reception::Welcome;
use crate::base::checksum::fold64;
use crate::base::ids::GroupId;
use crate::config::{self, Settings};
use crate::entry::BatchLimits;
use crate::log::RealDisk;
use crate::net::bind_listener;
use crate::raft::LogView;
use crate::runtime::{Idle, Listeners, NodeParts, ReplicationManager, Threading, ThreadingMode};

/// The only group of a node, for now.
pub const GROUP: GroupId = GroupId(0);
/// How long a shutdown waits for what is in flight.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// A node whose threads run.
pub struct RunningNode {
    manager: ReplicationManager,
}

/// What recovery found, for the start-up lines.
pub struct StartReport {
    /// Last entry in the log.
    pub last_index: u64,
    /// Committed as far as this node knows by itself.
    pub commit_hint: u64,
    /// One line about a torn tail that was cut, if one was.
    pub cut: Option<String>,
    /// The layout that was chosen.
    pub mode: ThreadingMode,
}

impl RunningNode {
    /// Opens the data directory, recovers, binds both ports and starts the threads. When it returns, the node takes
    /// part and accepts connections.
    ///
    /// # Errors
    /// [`NodeError`], with one line that says what to do and an exit code.
    pub fn start(settings: &Settings) -> Result<(Self, StartReport), NodeError> {
        let me = settings.nodes.iter().find(|node| node.id == settings.node_id);
        let me = me.ok_or(NodeError::NotInNodes(settings.node_id))?;
        // Ports first: a port in use must not cost a recovery, and nothing is accepted before the runner turns.
        let listeners = Listeners { peer: bind_listener(me.peer)?, client: bind_listener(me.client)? };
        let opened = open::open(settings)?;
        let last = opened.start.restored.log.last_id().index;
        let mut report = StartReport {
            last_index: last.0,
            commit_hint: opened.start.applied_index.0,
            cut: opened.cut.clone(),
            mode: ThreadingMode::Auto,
        };
        let manager = ReplicationManager::start(parts(settings, opened, listeners), Control::new())?;
        report.mode = manager.mode();
        Ok((Self { manager }, report))
    }

    /// True once some thread gave up or ended.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.manager.is_ending()
    }

    /// Both ports accept.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.manager.control().is_ready()
    }

    /// Refuses new events, finishes what is in flight (bounded), flushes and ends every thread. Returns why the node
    /// could not go on, if it could not.
    pub fn shut_down(self) -> Option<Fatal> {
        self.manager.control().drain();
        self.manager.wake_all();
        let begun = Instant::now();
        while !self.manager.control().is_drained() && !self.is_ending() && begun.elapsed() < DRAIN_LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Acknowledgements that were decided last must leave before the sockets close.
        std::thread::sleep(Duration::from_millis(20));
        self.manager.stop()
    }
}

fn parts(settings: &Settings, opened: Booted<RealDisk>, listeners: Listeners) -> NodeParts {
    let incarnation = opened.identity.incarnation;
    // Differs between nodes and between starts of one node, so that elections do not split in step.
    let seed = fold64(incarnation.0 as u64, u64::from(std::process::id()));
    let others = settings.nodes.iter().filter(|node| node.id != settings.node_id);
    let members = settings.nodes.iter().map(|node| (node.id, node.client.to_string())).collect();
    let configuration = &opened.start.configuration;
    let conductor = ConductorSettings {
        cluster_id: opened.identity.cluster_id,
        node_id: settings.node_id,
        incarnation,
        group: GROUP,
        durability: configuration.durability,
        cluster_version: configuration.cluster_version,
        peers: others.map(|node| (node.id, node.peer)).collect(),
        connections_limit: settings.limits.connections_max as usize,
        handshakes_limit: ConductorSettings::HANDSHAKES_LIMIT,
        handshake_timeout_ns: ConductorSettings::HANDSHAKE_TIMEOUT_NS,
        seed: fold64(seed, 1),
    };
    let batcher = BatcherSettings {
        node_id: settings.node_id,
        incarnation,
        batch: BatchLimits {
            events_max: settings.batch.events_max,
            bytes_max: settings.batch.bytes_max,
            delay_max_ns: settings.batch.delay_max_ns,
        },
        timers: TimerSettings {
            heartbeat_interval_ns: settings.election.heartbeat_interval_ns,
            missed_heartbeats: settings.election.missed_heartbeats,
        },
        disk_stall_limit_ns: settings.election.disk_stall_limit_ns,
        seed,
        limits: BatcherLimits::default(),
        version: env!("CARGO_PKG_VERSION"),
    };
    NodeParts {
        batcher,
        conductor,
        pins: opened.start.hard_state.pins.clone(),
        welcome: Welcome {
            cluster_id: opened.identity.cluster_id,
            node_id: settings.node_id,
            group: GROUP,
            durability: configuration.durability,
            members,
        },
        flushed: opened.start.restored.log.last_id().index,
        durability: configuration.durability,
        store: opened.store,
        start: opened.start,
        listeners,
        threading: threading(settings),
    }
}

fn threading(settings: &Settings) -> Threading {
    Threading {
        mode: match settings.threads.mode {
            config::ThreadingMode::Auto => ThreadingMode::Auto,
            config::ThreadingMode::Shared => ThreadingMode::Shared,
            config::ThreadingMode::Dedicated => ThreadingMode::Dedicated,
        },
        cores: settings.threads.cores.clone(),
        idle: match settings.threads.idle {
            config::IdleStrategy::Park => Idle::Park,
            config::IdleStrategy::Backoff => Idle::Backoff,
            config::IdleStrategy::Spin => Idle::Spin,
        },
    }
}
