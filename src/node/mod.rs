//! Floor 5: a node put together from its settings: identity, log, recovery, producers, ports, threads.
//!
//! ```text
//! Settings ─▶ open (lock, recover, rebuild producers) ─▶ bind ports ─▶ ReplicationManager::start ─▶ RunningNode
//!                │ damage below the watermark                              ▲
//!                └─▶ ReplicationManager::start_mending ─▶ whole again ─────┘ (from the beginning)
//! ```

mod error;
mod format;
mod mending;
mod open;

use std::time::{Duration, Instant};

pub use error::NodeError;
pub use format::{Formatted, format};

use crate::agent::batcher::{BatcherLimits, BatcherSettings, RetentionSettings, TimerSettings};
use crate::agent::boot::Booted;
use crate::agent::conductor::ConductorSettings;
use crate::agent::control::{Control, Fatal};
use crate::agent::reception::Welcome;
use crate::base::checksum::fold64;
use crate::base::ids::{EntryId, GroupId, LogIndex};
use crate::config::{self, Settings};
use crate::entry::{BatchLimits, Configuration};
use crate::log::{Identity, RealDisk};
use crate::net::bind_listener;
use crate::raft::LogView;
use crate::raft::claim::is_unknown_claim;
use crate::runtime::{Idle, Listeners, NodeParts, ReplicationManager, Threading, ThreadingMode};

/// The only group of a node, for now.
pub const GROUP: GroupId = GroupId(0);
/// How long a shutdown waits for what is in flight.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// A node whose threads run: taking part, or mending what is damaged on its disk.
pub struct RunningNode {
    settings: Settings,
    /// Until it has taken part once.
    accept_loss: bool,
    /// None once going on has failed.
    manager: Option<ReplicationManager>,
    /// The first of what is being mended, while that is all that the node does.
    mending: Option<String>,
    /// What was mended last, or found damaged last: the same again means that it cannot be mended.
    last_damage: Option<String>,
    /// Damage was found while the node took part: the next start reads the whole log.
    reads_all: bool,
}

/// What a node may have acknowledged and lost (rule 11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// The entry whose torn end is on its disk.
    Torn(EntryId),
    /// It does not know what: a node of a `memory` cluster, back from a reboot without a clean stop.
    Unknown,
}

impl Claim {
    fn of(claimed: EntryId) -> Self {
        if is_unknown_claim(claimed) { Self::Unknown } else { Self::Torn(claimed) }
    }
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
    /// What it may have acknowledged and lost: it neither campaigns nor votes for shorter logs until that is settled.
    pub claim: Option<Claim>,
    /// What it was told to give up of that.
    pub given_up: Option<Claim>,
    /// Something below the watermark is damaged: the node asks the others for it before it takes part.
    pub is_mending: bool,
}

impl RunningNode {
    /// Opens the data directory, recovers, binds both ports and starts the threads. When it returns, the node takes
    /// part and accepts connections, or mends first ([`StartReport::is_mending`]); call [`RunningNode::go_on`] every
    /// now and then.
    ///
    /// # Errors
    /// [`NodeError`], with one line that says what to do and an exit code.
    pub fn start(settings: &Settings) -> Result<(Self, StartReport), NodeError> {
        Self::start_as_told(settings, false)
    }

    /// As [`RunningNode::start`]; with `accept_loss` the node takes part although it may have lost what it acknowledged.
    /// For a `memory` cluster in which a quorum of machines went down without a clean stop (decision 0008), and for a
    /// torn tail where nobody is left to tell whether its entry counts (decision 0009): acknowledged events that no node
    /// has are gone.
    ///
    /// # Errors
    /// As [`RunningNode::start`].
    pub fn start_as_told(settings: &Settings, accept_loss: bool) -> Result<(Self, StartReport), NodeError> {
        let settings = settings.clone();
        let mut node =
            Self { settings, accept_loss, manager: None, mending: None, last_damage: None, reads_all: false };
        let report = node.launch()?;
        Ok((node, report))
    }

    fn launch(&mut self) -> Result<StartReport, NodeError> {
        let settings = &self.settings;
        let me = settings.nodes.iter().find(|node| node.id == settings.node_id);
        let me = me.ok_or(NodeError::NotInNodes(settings.node_id))?;
        // Ports first: a port in use must not cost a recovery, and nothing is accepted before the runner turns.
        let listeners = Listeners { peer: bind_listener(me.peer)?, client: bind_listener(me.client)? };
        let opened = match open::open(settings, self.accept_loss, self.reads_all) {
            Ok(opened) => opened,
            Err(error) => return self.launch_mending(error, listeners),
        };
        let last = opened.start.restored.log.last_id().index;
        if let Some(ahead) = opened.start.ahead {
            tracing::info!(
                "the log ends at index {last}, before the checkpoint that it began with, at {}: the rest is fetched",
                ahead.index
            );
        }
        let mut report = StartReport {
            last_index: last.0,
            commit_hint: opened.start.applied.index.0,
            cut: opened.cut.clone(),
            mode: ThreadingMode::Auto,
            claim: opened.start.restored.hard_state.claimed_tail.map(Claim::of),
            given_up: opened.given_up.map(Claim::of),
            is_mending: false,
        };
        let manager = ReplicationManager::start(parts(settings, opened, listeners), Control::new())?;
        report.mode = manager.mode();
        self.manager = Some(manager);
        (self.accept_loss, self.reads_all) = (false, false);
        if self.mending.take().is_some() {
            // Mending has helped: the same damage at another time is another matter.
            self.last_damage = None;
        }
        Ok(report)
    }

    /// The directory cannot be opened; where that is damage that others can mend, the node does that first.
    fn launch_mending(&mut self, error: NodeError, listeners: Listeners) -> Result<StartReport, NodeError> {
        let settings = &self.settings;
        let Some(mender) = mending::mender(settings, &error)? else { return Err(error) };
        for file in mender.rebuilt() {
            tracing::warn!("the head of {} was damaged, and is rebuilt from its neighbours", file.display());
        }
        let first = mender.runs().first().map(ToString::to_string);
        let rebuilt = mender.rebuilt().first().map(|file| file.display().to_string());
        if first.is_none() && rebuilt.is_some() && rebuilt != self.last_damage {
            drop((mender, listeners));
            self.last_damage = rebuilt;
            return self.launch();
        }
        if first.is_none() || first == self.last_damage || settings.nodes.len() < 2 {
            return Err(error);
        }
        let last_index = mender.last_index().0;
        let parts = mending::parts(settings, mender, listeners)?;
        let manager = ReplicationManager::start_mending(parts, Control::new())?;
        let mode = manager.mode();
        self.last_damage.clone_from(&first);
        (self.manager, self.mending) = (Some(manager), first);
        Ok(StartReport {
            last_index,
            commit_hint: 0,
            cut: None,
            mode,
            claim: None,
            given_up: None,
            is_mending: true,
        })
    }

    /// Starts anew where the node has to: when everything is mended, and when damage is found while it takes part.
    /// `None`: nothing has changed.
    ///
    /// # Errors
    /// As [`RunningNode::start`]; the node does not run any more.
    pub fn go_on(&mut self) -> Result<Option<StartReport>, NodeError> {
        let Some(manager) = &self.manager else { return Ok(None) };
        let control = manager.control();
        if self.mending.is_some() {
            if !manager.is_ending() || control.is_draining() || control.fatal().is_some() {
                return Ok(None);
            }
        } else {
            match control.damage() {
                None => return Ok(None),
                found if found == self.last_damage => {
                    let what = found.unwrap_or_default();
                    return Err(NodeError::Damaged(format!(
                        "{what}; it was found before, and mending found nothing"
                    )));
                }
                // It may lie farther back than a start looks.
                found => (self.last_damage, self.reads_all) = (found, true),
            }
        }
        let fatal = self.manager.take().and_then(Self::end);
        fatal.map_or_else(|| self.launch().map(Some), |fatal| Err(NodeError::Fatal(fatal)))
    }

    fn control(&self) -> Option<&Control> {
        self.manager.as_ref().map(ReplicationManager::control)
    }

    /// True once some thread gave up or ended.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        let Some(manager) = &self.manager else { return true };
        // A node that has mended everything only goes on.
        let goes_on = self.mending.is_some() && manager.control().fatal().is_none();
        manager.is_ending() && !goes_on
    }

    /// The node takes part, and both ports accept.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.mending.is_none() && self.control().is_some_and(Control::is_ready)
    }

    /// Refuses new events, finishes what is in flight (bounded), flushes and ends every thread. Returns why the node
    /// could not go on, if it could not.
    pub fn shut_down(self) -> Option<Fatal> {
        self.manager.and_then(Self::end)
    }

    fn end(manager: ReplicationManager) -> Option<Fatal> {
        manager.control().drain();
        manager.wake_all();
        let begun = Instant::now();
        while !manager.control().is_drained() && !manager.is_ending() && begun.elapsed() < DRAIN_LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Acknowledgements that were decided last must leave before the sockets close.
        std::thread::sleep(Duration::from_millis(20));
        manager.stop()
    }
}

/// The conductor's settings, from what the settings file says and what holds for the cluster.
fn conductor(
    settings: &Settings,
    identity: &Identity,
    (configuration_index, configuration): (LogIndex, &Configuration),
    seed: u64,
) -> ConductorSettings {
    let others = settings.nodes.iter().filter(|node| node.id != settings.node_id);
    ConductorSettings {
        cluster_id: identity.cluster_id,
        node_id: settings.node_id,
        incarnation: identity.incarnation,
        group: GROUP,
        durability: configuration.durability,
        cluster_version: configuration.cluster_version,
        peers: others.map(|node| (node.id, node.peer)).collect(),
        members: configuration.members().copied().collect(),
        configuration_index,
        connections_limit: settings.limits.connections_max as usize,
        handshakes_limit: ConductorSettings::HANDSHAKES_LIMIT,
        handshake_timeout_ns: ConductorSettings::HANDSHAKE_TIMEOUT_NS,
        seed: fold64(seed, 1),
    }
}

fn welcome(settings: &Settings, identity: &Identity, configuration: &Configuration) -> Welcome {
    Welcome {
        cluster_id: identity.cluster_id,
        node_id: settings.node_id,
        group: GROUP,
        durability: configuration.durability,
        members: settings.nodes.iter().map(|node| (node.id, node.client.to_string())).collect(),
    }
}

/// Differs between nodes and between starts of one node, so that elections do not split in step.
fn seed(identity: &Identity) -> u64 {
    fold64(identity.incarnation.0 as u64, u64::from(std::process::id()))
}

fn parts(settings: &Settings, opened: Booted<RealDisk>, listeners: Listeners) -> NodeParts {
    let incarnation = opened.identity.incarnation;
    let seed = seed(&opened.identity);
    let configuration = opened.start.configurations.newest();
    let index = opened.start.configurations.index();
    let conductor = conductor(settings, &opened.identity, (index, configuration), seed);
    let welcome = welcome(settings, &opened.identity, configuration);
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
        retention: RetentionSettings {
            bytes: settings.log.retention_bytes,
            age_ns: settings.log.retention_age_ns,
            slack_bytes: settings.log.retention_slack_bytes(),
        },
        seed,
        limits: BatcherLimits::default(),
        version: env!("CARGO_PKG_VERSION"),
    };
    NodeParts {
        batcher,
        conductor,
        pins: opened.start.hard_state.pins.clone(),
        welcome,
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
