//! Lays a node's agents onto threads: the only place that makes rings and threads (the brief's ReplicationManager).
//!
//! `shared`: one thread runs all agents but log writer and reader, which wait for the disk and so have threads of
//! their own in every mode. `dedicated`: a thread for each agent, pinned where cores are given. The agents are the
//! same; only who invokes them differs.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use mio::{Poll, Registry, Waker};

use super::clock::OsClock;
use super::idle::Idle;
use super::runner::{AgentSlot, ThreadPlan, WAKER, run};
use crate::agent::Agent;
use crate::agent::ack_receiver::AckReceiver;
use crate::agent::batcher::{Batcher, BatcherSettings, BatcherStart, Pins};
use crate::agent::conductor::{Conductor, ConductorSettings};
use crate::agent::control::{Control, Fatal};
use crate::agent::delivery::{Delivery, DeliveryLimits};
use crate::agent::dispatcher::{Dispatcher, DispatcherLimits};
use crate::agent::log_writer::LogWriter;
use crate::agent::mending::{Mending, MendingSettings};
use crate::agent::peer_sender::PeerSender;
use crate::agent::reader::Reader;
use crate::agent::reception::Welcome;
use crate::agent::ring::WakeHandle;
use crate::agent::rings::{AgentRole, BatcherRings, LogWriterRings, NodeRings, ReaderRings, make_rings};
use crate::base::ids::{LogIndex, NodeId};
use crate::entry::Durability;
use crate::log::{LogReader, LogStore, Mender, RealDisk, RealFile};
use crate::metrics::Counters;
use crate::net::{MioNet, MioStream};

/// How agents are laid onto threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ThreadingMode {
    /// `dedicated` where there are enough cores for it, else `shared`.
    #[default]
    Auto,
    /// One thread for all but log writer and reader.
    Shared,
    /// One thread for each agent.
    Dedicated,
}

/// Threads of a node.
#[derive(Clone, Debug, Default)]
pub struct Threading {
    /// The layout.
    pub mode: ThreadingMode,
    /// Core ids in the order of the roles: batcher (in `shared`: the shared thread), log writer, dispatcher, each
    /// peer's sender and ack receiver, delivery, reader, conductor. Fewer cores than threads: the rest floats.
    pub cores: Vec<usize>,
    /// What an idle thread does. Log writer, reader and conductor always park.
    pub idle: Idle,
}

/// The node's listeners, bound already.
pub struct Listeners {
    /// For peers.
    pub peer: mio::net::TcpListener,
    /// For clients.
    pub client: mio::net::TcpListener,
}

/// Everything that the agents of one node are made of.
pub struct NodeParts {
    /// The batcher's settings.
    pub batcher: BatcherSettings,
    /// What recovery found.
    pub start: BatcherStart,
    /// The conductor's settings; its `peers` are the members to talk to.
    pub conductor: ConductorSettings,
    /// Pinned incarnations.
    pub pins: Pins,
    /// What clients are told.
    pub welcome: Welcome,
    /// The opened log.
    pub store: LogStore<RealDisk>,
    /// Its last durable index.
    pub flushed: LogIndex,
    /// The cluster's durability.
    pub durability: Durability,
    /// Bound ports.
    pub listeners: Listeners,
    /// Layout of the threads.
    pub threading: Threading,
}

/// Everything that the agents of a mending node are made of.
pub struct MendingParts {
    /// The mending agent's settings.
    pub mending: MendingSettings,
    /// The damaged directory.
    pub mender: Mender<RealDisk>,
    /// The conductor's settings; its `peers` are those to ask.
    pub conductor: ConductorSettings,
    /// What clients are told.
    pub welcome: Welcome,
    /// Bound ports.
    pub listeners: Listeners,
    /// Layout of the threads.
    pub threading: Threading,
}

/// Why a node's threads could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A core id that this machine does not have (or this process may not use).
    #[error("threads.cores names core {wanted}, but this process may use {available:?}")]
    NoSuchCore {
        /// The id.
        wanted: usize,
        /// What there is.
        available: Vec<usize>,
    },
    /// The operating system refused a thread, a poll or a waker.
    #[error("cannot start a thread: {0}")]
    System(#[from] io::Error),
}

/// A running node's threads.
pub struct ReplicationManager {
    control: Control,
    wakes: Vec<WakeHandle>,
    threads: Vec<JoinHandle<()>>,
    mode: ThreadingMode,
}

/// A thread that is being planned.
struct Planned {
    name: String,
    poll: Poll,
    wake: WakeHandle,
    agents: Vec<AgentSlot>,
    has_sockets: bool,
    parks: bool,
}

impl Planned {
    fn new(name: &str, parks: bool) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let wake = WakeHandle::new(move || {
            // A waker that fails leaves the sleeper to its bounded sleep.
            let _ = waker.wake();
        });
        Ok(Self { name: name.to_owned(), poll, wake, agents: Vec::new(), has_sockets: false, parks })
    }
}

/// Threads by role.
struct Plan {
    threads: Vec<Planned>,
    place: BTreeMap<AgentRole, usize>,
    next_slot: u32,
}

impl Plan {
    fn new(mode: ThreadingMode, peers: &[NodeId]) -> io::Result<Self> {
        let mut plan = Self { threads: Vec::new(), place: BTreeMap::new(), next_slot: 0 };
        let mut socket_roles = vec![AgentRole::Batcher, AgentRole::Dispatcher];
        for peer in peers {
            socket_roles.push(AgentRole::PeerSender(*peer));
            socket_roles.push(AgentRole::AckReceiver(*peer));
        }
        socket_roles.extend([AgentRole::Delivery, AgentRole::Conductor]);
        if mode == ThreadingMode::Dedicated {
            plan.add_thread("batcher", false, &[AgentRole::Batcher])?;
            plan.add_thread("log-writer", true, &[AgentRole::LogWriter])?;
            for role in &socket_roles[1..] {
                plan.add_thread(&thread_name(*role), *role == AgentRole::Conductor, &[*role])?;
            }
            plan.add_thread("reader", true, &[AgentRole::Reader])?;
        } else {
            plan.add_thread("node", false, &socket_roles)?;
            plan.add_thread("log-writer", true, &[AgentRole::LogWriter])?;
            plan.add_thread("reader", true, &[AgentRole::Reader])?;
        }
        Ok(plan)
    }

    fn add_thread(&mut self, name: &str, parks: bool, roles: &[AgentRole]) -> io::Result<()> {
        self.threads.push(Planned::new(name, parks)?);
        for role in roles {
            self.place.insert(*role, self.threads.len() - 1);
        }
        Ok(())
    }

    fn wake_of(&self, role: AgentRole) -> WakeHandle {
        self.threads[self.place[&role]].wake.clone()
    }

    /// A network for the agent of this role, registering with its thread's poll.
    fn net_of(&mut self, role: AgentRole) -> io::Result<(MioNet, u32)> {
        let slot = self.next_slot;
        self.next_slot += 1;
        let thread = &mut self.threads[self.place[&role]];
        thread.has_sockets = true;
        let registry: Registry = thread.poll.registry().try_clone()?;
        Ok((MioNet::new(registry, slot), slot))
    }

    fn put(&mut self, role: AgentRole, slot: u32, agent: impl Agent + Send + 'static) {
        let place = self.place[&role];
        self.threads[place].agents.push(AgentSlot { slot, agent: Box::new(agent) });
    }

    /// For agents without sockets.
    fn put_plain(&mut self, role: AgentRole, agent: impl Agent + Send + 'static) {
        let slot = self.next_slot;
        self.next_slot += 1;
        self.put(role, slot, agent);
    }
}

fn thread_name(role: AgentRole) -> String {
    match role {
        AgentRole::Conductor => "conductor".to_owned(),
        AgentRole::Dispatcher => "dispatcher".to_owned(),
        AgentRole::Batcher => "batcher".to_owned(),
        AgentRole::LogWriter => "log-writer".to_owned(),
        AgentRole::Reader => "reader".to_owned(),
        AgentRole::Delivery => "delivery".to_owned(),
        AgentRole::PeerSender(peer) => format!("sender-{peer}"),
        AgentRole::AckReceiver(peer) => format!("receiver-{peer}"),
    }
}

/// Threads that `dedicated` needs for a node with so many peers.
const fn dedicated_threads(peers: usize) -> usize {
    6 + 2 * peers
}

impl ThreadingMode {
    /// What `auto` comes to on this machine.
    #[must_use]
    pub fn resolve(self, peers: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self {
            Self::Auto if cores > dedicated_threads(peers) => Self::Dedicated,
            Self::Auto => Self::Shared,
            other => other,
        }
    }
}

impl ReplicationManager {
    /// Makes rings, agents and threads, and lets them run.
    ///
    /// # Errors
    /// A core that does not exist, or the operating system refuses something.
    pub fn start(parts: NodeParts, control: Control) -> Result<Self, StartError> {
        let (threading, peers) = (parts.threading.clone(), parts.conductor.peers.clone());
        Self::start_with(&threading, &peers, control, |plan, rings, control, counters| {
            place_agents(plan, parts, rings, control, counters)
        })
    }

    /// As [`ReplicationManager::start`], but with the mending agent in the batcher's place, and neither log writer nor
    /// reader: nothing of the directory is open but what the mending agent holds. The threads end when it is whole.
    ///
    /// # Errors
    /// As [`ReplicationManager::start`].
    pub fn start_mending(parts: MendingParts, control: Control) -> Result<Self, StartError> {
        let (threading, peers) = (parts.threading.clone(), parts.conductor.peers.clone());
        Self::start_with(&threading, &peers, control, |plan, rings, control, counters| {
            place_mending_agents(plan, parts, rings, control, counters)
        })
    }

    fn start_with(
        threading: &Threading,
        peers: &[(NodeId, SocketAddr)],
        control: Control,
        place: impl FnOnce(&mut Plan, NodeRings<MioStream, RealFile>, &Control, &Counters) -> io::Result<()>,
    ) -> Result<Self, StartError> {
        let cores = choose_cores(&threading.cores)?;
        let peers: Vec<NodeId> = peers.iter().map(|(peer, _)| *peer).collect();
        let mode = threading.mode.resolve(peers.len());
        let idle = threading.idle;
        let counters = Counters::new();
        let mut plan = Plan::new(mode, &peers)?;
        let rings = make_rings::<MioStream, RealFile>(&peers, |role| plan.wake_of(role), &counters);
        place(&mut plan, rings, &control, &counters)?;
        let wakes = plan.threads.iter().map(|thread| thread.wake.clone()).collect();
        let mut manager = Self { control, wakes, threads: Vec::new(), mode };
        for (place, planned) in plan.threads.into_iter().enumerate() {
            let core = cores.get(place).copied();
            if let Err(error) = manager.spawn(planned, core, idle) {
                manager.control.stop();
                manager.join();
                return Err(error.into());
            }
        }
        Ok(manager)
    }

    fn spawn(&mut self, planned: Planned, core: Option<core_affinity::CoreId>, idle: Idle) -> io::Result<()> {
        let thread_name = planned.name.clone();
        let plan = ThreadPlan {
            name: planned.name,
            agents: planned.agents,
            poll: planned.poll,
            wake: planned.wake,
            core,
            idle: if planned.parks { Idle::Park } else { idle },
            has_sockets: planned.has_sockets,
        };
        let (control, wakes) = (self.control.clone(), self.wakes.clone());
        let body = move || {
            let name = plan.name.clone();
            if let Err(error) = run(plan, OsClock, control.clone()) {
                control.fail(Fatal::Disk(format!("thread {name}: the poll failed: {error}")));
            }
            // One thread that ends ends the node: the others must not sleep through it.
            control.stop();
            for wake in &wakes {
                wake.notify();
            }
        };
        self.threads.push(std::thread::Builder::new().name(thread_name).spawn(body)?);
        Ok(())
    }

    /// The layout that was chosen.
    #[must_use]
    pub const fn mode(&self) -> ThreadingMode {
        self.mode
    }

    /// The node's switches.
    #[must_use]
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// Wakes every thread, so that a switch is seen now.
    pub fn wake_all(&self) {
        for wake in &self.wakes {
            wake.notify();
        }
    }

    /// True once some thread has ended.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        // A thread that panicked has told nobody.
        self.control.is_stopped() || self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Stops every thread after its current turn and waits for them.
    pub fn stop(mut self) -> Option<Fatal> {
        self.control.stop();
        self.wake_all();
        self.join();
        self.control.fatal()
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.control.fail(Fatal::Divergence("a thread panicked; see the message above".to_owned()));
            }
        }
    }
}

/// What a node that takes part and one that mends have in common.
struct Surroundings {
    conductor: ConductorSettings,
    pins: Pins,
    welcome: Welcome,
    listeners: Listeners,
}

/// Places every agent but those that `core` places in the batcher's stead, log writer and reader, whose rings are given
/// back. In a shared thread, turns follow an event's way: peers and clients in, batcher, peers and clients out.
fn place_around(
    plan: &mut Plan,
    around: Surroundings,
    rings: NodeRings<MioStream, RealFile>,
    (control, counters): (&Control, &Counters),
    core: impl FnOnce(&mut Plan, BatcherRings),
) -> io::Result<(LogWriterRings<RealFile>, ReaderRings<RealFile>)> {
    let Surroundings { conductor, pins, welcome, listeners } = around;
    let group = conductor.group;
    for receiver in rings.receivers {
        let role = AgentRole::AckReceiver(receiver.peer);
        let (net, slot) = plan.net_of(role)?;
        plan.put(role, slot, AckReceiver::new(net, receiver, counters));
    }
    let (net, slot) = plan.net_of(AgentRole::Dispatcher)?;
    let limits = DispatcherLimits::default();
    let dispatcher = Dispatcher::new(net, welcome.clone(), limits, rings.dispatcher, counters.clone());
    plan.put(AgentRole::Dispatcher, slot, dispatcher);
    core(plan, rings.batcher);
    for sender in rings.senders {
        let role = AgentRole::PeerSender(sender.peer);
        let (net, slot) = plan.net_of(role)?;
        plan.put(role, slot, PeerSender::new(net, group, sender, counters));
    }
    let (net, slot) = plan.net_of(AgentRole::Delivery)?;
    let delivery = Delivery::new(net, welcome, DeliveryLimits::default(), rings.delivery, counters);
    plan.put(AgentRole::Delivery, slot, delivery);
    let (net, slot) = plan.net_of(AgentRole::Conductor)?;
    let ports = (listeners.peer, listeners.client);
    let conductor = Conductor::new(net, conductor, ports, pins, rings.conductor, control.clone(), counters)?;
    plan.put(AgentRole::Conductor, slot, conductor);
    Ok((rings.log_writer, rings.reader))
}

fn place_agents(
    plan: &mut Plan,
    parts: NodeParts,
    rings: NodeRings<MioStream, RealFile>,
    control: &Control,
    counters: &Counters,
) -> io::Result<()> {
    let NodeParts { conductor, pins, welcome, listeners, batcher, start, .. } = parts;
    let around = Surroundings { conductor, pins, welcome, listeners };
    let generation = start.generation;
    let (writer, reader) = place_around(plan, around, rings, (control, counters), |plan, rings| {
        let batcher = Batcher::new(batcher, start, OsClock, rings, control.clone(), counters);
        plan.put_plain(AgentRole::Batcher, batcher);
    })?;
    let (store, durability, flushed) = (parts.store, parts.durability, parts.flushed);
    let writer = LogWriter::new(store, durability, flushed, generation, writer, control.clone(), counters);
    plan.put_plain(AgentRole::LogWriter, writer);
    plan.put_plain(AgentRole::Reader, Reader::<RealDisk>::new(LogReader::new(), reader, control.clone()));
    Ok(())
}

fn place_mending_agents(
    plan: &mut Plan,
    parts: MendingParts,
    rings: NodeRings<MioStream, RealFile>,
    control: &Control,
    counters: &Counters,
) -> io::Result<()> {
    let MendingParts { mending, mender, conductor, welcome, listeners, .. } = parts;
    let around = Surroundings { conductor, pins: mending.pins.clone(), welcome, listeners };
    let place = |plan: &mut Plan, rings| {
        let mending = Mending::new(mending, mender, rings, control.clone(), counters);
        plan.put_plain(AgentRole::Batcher, mending);
    };
    place_around(plan, around, rings, (control, counters), place).map(|_| ())
}

/// Real core ids, as asked for.
fn choose_cores(wanted: &[usize]) -> Result<Vec<core_affinity::CoreId>, StartError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let available = core_affinity::get_core_ids().unwrap_or_default();
    wanted
        .iter()
        .map(|id| {
            available.iter().find(|core| core.id == *id).copied().ok_or_else(|| StartError::NoSuchCore {
                wanted: *id,
                available: available.iter().map(|core| core.id).collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{StartError, ThreadingMode, choose_cores};

    #[test]
    fn a_core_that_is_not_there_is_named() {
        assert!(matches!(choose_cores(&[99_999]), Err(StartError::NoSuchCore { wanted: 99_999, .. })));
        assert!(choose_cores(&[]).expect("no cores").is_empty());
    }

    #[test]
    fn auto_shares_where_cores_are_few() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let expected = if cores > 10 { ThreadingMode::Dedicated } else { ThreadingMode::Shared };
        assert_eq!(ThreadingMode::Auto.resolve(2), expected);
        assert_eq!(ThreadingMode::Dedicated.resolve(2), ThreadingMode::Dedicated);
    }
}
