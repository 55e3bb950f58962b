//! One whole simulated node: the real agents over the simulated network, disk and clock, invoked by hand.
//!
//! A *run* invokes all agents but log writer and reader until none finds anything to do. Those two have threads of their
//! own in a real node; here each has its own turns, a drawn disk delay after something was handed to it, so that replies
//! arrive between append and flush. What the log writer reports takes a while longer still, so that the batcher hears of
//! a flush after it has gone on (or has cut what was flushed), and a node can die in between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use super::disk::SimDisk;
use super::net::{Host, Owner, SharedWorld, SimClock, SimNet, SimStream};
use super::report::Violation;
use crate::agent::Agent;
use crate::agent::ack_receiver::AckReceiver;
use crate::agent::batcher::{Batcher, BatcherLimits, BatcherSettings, RetentionSettings, TimerSettings};
use crate::agent::boot::{BootError, Booted, boot};
use crate::agent::commands::{LogCommand, LogEvent};
use crate::agent::conductor::{Conductor, ConductorSettings};
use crate::agent::control::{Control, Fatal};
use crate::agent::delivery::{Delivery, DeliveryLimits};
use crate::agent::dispatcher::{Dispatcher, DispatcherLimits};
use crate::agent::log_writer::LogWriter;
use crate::agent::peer_sender::PeerSender;
use crate::agent::reader::Reader;
use crate::agent::reception::Welcome;
use crate::agent::ring::{RingReceiver, RingSender, WakeHandle, ring};
use crate::agent::rings::{NodeRings, make_rings};
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{ClusterId, GroupId, Incarnation, LogIndex, NodeId, Offset, Term};
use crate::base::prng::Prng;
use crate::entry::{
    BatchLimits, Configuration, Durability, Entry, Member, SealContext, encode_configuration,
};
use crate::log::{self, Identity, LogOptions, LogReader};
use crate::metrics::{Counter, Counters};
use crate::raft::claim::is_unknown_claim;

/// The only group.
pub const GROUP: GroupId = GroupId(0);
/// The simulated cluster.
pub const CLUSTER: ClusterId = ClusterId(0x7465_7263_6574);
/// Passes over the agents in one run: more of them is a livelock.
const PASSES_MAX: u64 = 20_000;
/// Reports of the log writer under way at most.
const REPORTS: usize = 256;
/// Commands looked at in one turn of the log writer at most.
const COMMANDS: usize = 4096;

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

    fn first_entry(&self) -> Entry {
        let context = SealContext {
            term: Term::ZERO,
            index: LogIndex(1),
            prev_chain: 0,
            base_offset: Offset(1),
            log_time_ns: 0,
            timestamp_unix_ns: 0,
        };
        let voters = self.ids().map(|node_id| Member { node_id, incarnation: Incarnation(0) }).collect();
        let configuration = Configuration {
            cluster_id: CLUSTER,
            cluster_version: 1,
            cluster_name: "simulated".to_owned(),
            durability: self.durability,
            producers_window_ns: 24 * 3600 * 1_000_000_000,
            producers_max: 1000,
            voters,
            learners: Vec::new(),
        };
        encode_configuration(&context, &configuration).expect("a sound configuration")
    }
}

/// The agents of a node that runs.
pub struct Running {
    control: Control,
    receivers: Vec<AckReceiver<SimNet>>,
    dispatcher: Dispatcher<SimNet>,
    /// For invariants.
    pub batcher: Batcher<SimClock>,
    senders: Vec<PeerSender<SimNet>>,
    delivery: Delivery<SimNet>,
    conductor: Conductor<SimNet>,
    /// For invariants.
    pub writer: LogWriter<SimDisk>,
    reader: Reader<SimDisk>,
    counters: Counters,
    /// Reports of the log writer that are under way, and where they go.
    reports: (RingReceiver<LogEvent>, RingSender<LogEvent>),
    /// Commands on their way to the log writer, looked at in passing.
    commands: (RingReceiver<LogCommand>, RingSender<LogCommand>),
}

/// Rare states that agents count, by their counters.
const COUNTED: [(&str, &str); 9] = [
    ("trim", "batcher_trims"),
    ("checkpoint", "log_writer_checkpoints"),
    ("checkpoint_installed", "batcher_checkpoints_installed"),
    ("checkpoint_reached", "batcher_checkpoints_reached"),
    ("duplicate", "batcher_duplicates"),
    ("leadership_lost", "batcher_leaderships_lost"),
    ("self_suspicion", "batcher_self_suspicions"),
    ("cold_read", "delivery_cold_reads"),
    ("handshake_timed_out", "conductor_timed_out"),
];

const DISPATCHER: u32 = 0;
const DELIVERY: u32 = 1;
const CONDUCTOR: u32 = 2;
const RECEIVERS: u32 = 10;
const SENDERS: u32 = 20;

impl Running {
    fn count(&self) -> usize {
        4 + self.receivers.len() + self.senders.len()
    }

    /// Agents in the order of an event's way, with the slot by which readiness finds them.
    fn agent(&mut self, place: usize) -> (u32, &mut dyn Agent) {
        let peers = self.receivers.len();
        if place < peers {
            return (RECEIVERS + place as u32, &mut self.receivers[place]);
        }
        match place - peers {
            0 => (DISPATCHER, &mut self.dispatcher),
            1 => (u32::MAX, &mut self.batcher),
            n if n < 2 + peers => (SENDERS + (n - 2) as u32, &mut self.senders[n - 2]),
            n if n == 2 + peers => (DELIVERY, &mut self.delivery),
            _ => (CONDUCTOR, &mut self.conductor),
        }
    }

    fn agents(&self) -> impl Iterator<Item = &dyn Agent> {
        let receivers = self.receivers.iter().map(|agent| agent as &dyn Agent);
        let senders = self.senders.iter().map(|agent| agent as &dyn Agent);
        let others: [&dyn Agent; 4] = [&self.dispatcher, &self.batcher, &self.delivery, &self.conductor];
        receivers.chain(senders).chain(others)
    }
}

/// How a node went down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// The process died; what it wrote stays in the page cache.
    Killed,
    /// The machine lost power: unflushed writes are kept, lost or torn.
    PowerLost,
}

/// What a run came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It goes on.
    Alive,
    /// A planned fault of its disk ended it.
    DiskFailed,
}

/// A node, running or not.
pub struct SimNode {
    /// Who.
    pub id: NodeId,
    /// Its disk, which outlives it.
    pub disk: SimDisk,
    /// Its agents, while it runs.
    pub running: Option<Running>,
    /// How often it has been started.
    pub life: u64,
    /// It went down with its page cache, or before it had got back what it lost then; see [`SimNode::is_in_doubt`].
    lost_cache: bool,
    /// It takes no turns before this (a stopped process).
    pub paused_until_ns: u64,
    /// It starts again then.
    pub restart_at_ns: Option<u64>,
    /// How often it was in states that matter and are rare.
    pub rare: BTreeMap<&'static str, u64>,
    /// Delay of log writer and reader: at least, at most.
    pub disk_delay_ns: (u64, u64),
    writer_due_ns: Option<u64>,
    reader_due_ns: Option<u64>,
    reports_due_ns: Option<u64>,
    /// Every entry that the log writer was ever handed, by chain value: what retention has let go is still known here.
    pub archive: BTreeMap<u64, Entry>,
    /// Something was put into a ring (or a deadline was met) since the last run.
    fresh: bool,
    world: SharedWorld,
    prng: Prng,
}

impl SimNode {
    /// A formatted node that does not run yet.
    #[must_use]
    pub fn format(id: NodeId, shape: &Shape, world: &SharedWorld, mut prng: Prng) -> Self {
        let disk = SimDisk::new(prng.next_u64());
        let incarnation = Incarnation(u128::from(prng.next_u64() | 1));
        let identity = Identity { cluster_id: CLUSTER, node_id: id, incarnation };
        let options = shape.log_options();
        log::format(&disk, Path::new("/data"), identity, &shape.first_entry(), &options)
            .expect("a healthy disk is formatted");
        Self {
            id,
            disk,
            running: None,
            life: 0,
            lost_cache: false,
            paused_until_ns: 0,
            restart_at_ns: None,
            rare: BTreeMap::new(),
            disk_delay_ns: (20_000, 2 * NS_PER_MS),
            writer_due_ns: None,
            reader_due_ns: None,
            reports_due_ns: None,
            archive: BTreeMap::from([(shape.first_entry().chain(), shape.first_entry())]),
            fresh: false,
            world: Rc::clone(world),
            prng,
        }
    }

    /// Its host on the network.
    #[must_use]
    pub const fn host(&self) -> Host {
        self.id.0
    }

    /// Recovers from its disk and runs.
    ///
    /// # Errors
    /// As [`boot`] says.
    pub fn start(&mut self, shape: &Shape) -> Result<(), BootError> {
        assert!(self.running.is_none(), "one life at a time");
        let booted = boot(self.disk.clone(), Path::new("/data"), shape.log_options())?;
        self.life += 1;
        self.note_rare("torn_tail_cut", u64::from(booted.cut.is_some()));
        self.note_rare("claimed_tail", u64::from(booted.start.restored.hard_state.claimed_tail.is_some()));
        let doubt = booted.start.restored.hard_state.claimed_tail.is_some_and(is_unknown_claim);
        self.note_rare("in_doubt", u64::from(doubt));
        self.restart_at_ns = None;
        self.paused_until_ns = 0;
        let seed = self.prng.next_u64();
        self.running = Some(assemble(self.id, seed, shape, &self.world, booted));
        self.fresh = true;
        let now_ns = self.world.borrow().now_ns();
        (self.writer_due_ns, self.reader_due_ns) = (Some(now_ns), Some(now_ns));
        Ok(())
    }

    /// Whether it may lack entries that it acknowledged.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match &self.running {
            Some(running) => running.batcher.raft().claimed_tail().is_some(),
            None => self.lost_cache,
        }
    }

    /// It is gone: agents, sockets, and what the disk had not made durable.
    pub fn die(&mut self, death: Death) {
        self.harvest();
        self.lost_cache = death == Death::PowerLost || self.is_in_doubt();
        self.world.borrow_mut().kill_host(self.host(), death == Death::PowerLost);
        self.running = None;
        (self.writer_due_ns, self.reader_due_ns, self.reports_due_ns) = (None, None, None);
        self.fresh = false;
        match death {
            Death::PowerLost => self.disk.restart(),
            Death::Killed => self.disk.kill(),
        }
    }

    /// An orderly end: every agent says its last words.
    pub fn close(&mut self) {
        self.harvest();
        if let Some(mut running) = self.running.take() {
            running.writer.on_close();
            running.batcher.on_close();
            self.world.borrow_mut().kill_host(self.host(), false);
            drop(running);
            self.disk.kill();
        }
    }

    fn note_rare(&mut self, name: &'static str, count: u64) {
        *self.rare.entry(name).or_insert(0) += count;
    }

    /// Takes down what a life that ends has seen.
    fn harvest(&mut self) {
        let Some(running) = &self.running else { return };
        let truncations = running.batcher.raft().log_generation();
        let counted = COUNTED.map(|(name, counter)| (name, running.counters.value(counter).unwrap_or(0)));
        self.note_rare("conflict_truncation", truncations);
        for (name, count) in counted {
            self.note_rare(name, count);
        }
    }

    /// When it next wants a turn by itself.
    #[must_use]
    pub fn next_due_ns(&self, now_ns: u64) -> Option<u64> {
        let Some(running) = &self.running else { return self.restart_at_ns };
        if now_ns < self.paused_until_ns {
            return Some(self.paused_until_ns);
        }
        let mut due = running.agents().filter_map(Agent::next_deadline_ns).min();
        let mut earlier = |at: Option<u64>| {
            due = match (due, at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        };
        earlier(self.writer_due_ns);
        earlier(self.reader_due_ns);
        earlier(self.reports_due_ns);
        earlier(running.writer.next_deadline_ns());
        earlier(running.reader.next_deadline_ns());
        if running.agents().any(Agent::is_stalled)
            || running.writer.is_stalled()
            || running.reader.is_stalled()
        {
            earlier(Some(now_ns + NS_PER_MS));
        }
        if self.fresh {
            earlier(Some(now_ns));
        }
        due
    }

    /// Who wants a turn now, for messages.
    #[must_use]
    pub fn describe_due(&self, now_ns: u64) -> String {
        let Some(running) = &self.running else { return format!("down, life {}", self.life) };
        let due = running.agents().filter(|agent| agent.next_deadline_ns().is_some_and(|at| at <= now_ns));
        let mut names: Vec<&str> = due.map(Agent::name).collect();
        if running.writer.next_deadline_ns().is_some_and(|at| at <= now_ns) {
            names.push(running.writer.name());
        }
        format!("{names:?}, log writer {:?}, reader {:?}", self.writer_due_ns, self.reader_due_ns)
    }

    /// Everything that is due now, until nothing is left to do.
    ///
    /// # Errors
    /// A livelock, or the node gave up for a reason that is no planned fault.
    pub fn run(&mut self, now_ns: u64, shape: &Shape) -> Result<Outcome, Violation> {
        if now_ns < self.paused_until_ns {
            return Ok(Outcome::Alive);
        }
        let Some(running) = &mut self.running else { return Ok(Outcome::Alive) };
        let delay_ns = self.prng.between(self.disk_delay_ns.0, self.disk_delay_ns.1);
        let writer_is_due =
            self.writer_due_ns.into_iter().chain(running.writer.next_deadline_ns()).any(|at| at <= now_ns);
        if writer_is_due {
            hand_on_commands(&mut running.commands, &mut self.archive);
            let work = running.writer.do_work(now_ns, &[]);
            self.writer_due_ns = (work > 0).then_some(now_ns + delay_ns);
            let late_ns = if self.prng.chance(500_000) { 0 } else { self.prng.below(delay_ns + 1) };
            self.reports_due_ns.get_or_insert(now_ns + late_ns);
        }
        if self.reports_due_ns.is_some_and(|at| at <= now_ns) {
            let all = hand_on_reports(&mut running.reports);
            self.reports_due_ns = (!all).then_some(now_ns + NS_PER_MS);
        }
        let reader_is_due =
            self.reader_due_ns.into_iter().chain(running.reader.next_deadline_ns()).any(|at| at <= now_ns);
        if reader_is_due {
            let work = running.reader.do_work(now_ns, &[]);
            self.reader_due_ns = (work > 0).then_some(now_ns + delay_ns);
        }
        if running.control.fatal().is_none() {
            let passes = run_agents(running, &self.world, self.id, now_ns, shape, &mut self.prng)?;
            self.fresh = false;
            if passes > 1 {
                self.writer_due_ns.get_or_insert(now_ns + delay_ns);
                self.reader_due_ns.get_or_insert(now_ns + delay_ns);
            }
        }
        match running.control.fatal() {
            None => Ok(Outcome::Alive),
            Some(Fatal::Disk(_)) => Ok(Outcome::DiskFailed),
            Some(fatal) => Err(Violation::new("nodes go on", format!("node {}: {}", self.id, fatal.line()))),
        }
    }
}

/// Archives what is to be appended.
fn hand_on_commands(
    (from, to): &mut (RingReceiver<LogCommand>, RingSender<LogCommand>),
    archive: &mut BTreeMap<u64, Entry>,
) {
    while to.slots() > 0 {
        let Some(command) = from.pop() else { return };
        if let LogCommand::Append(entry) = &command {
            archive.insert(entry.chain(), entry.clone());
        }
        assert!(to.push(command).is_ok(), "there was a place");
    }
}

/// Says whether all of them found a place.
fn hand_on_reports((from, to): &mut (RingReceiver<LogEvent>, RingSender<LogEvent>)) -> bool {
    while to.slots() > 0 {
        let Some(report) = from.pop() else { return true };
        assert!(to.push(report).is_ok(), "there was a place");
    }
    from.is_empty()
}

/// Invokes the agents until a whole pass finds nothing. Says how many passes it took.
fn run_agents(
    running: &mut Running,
    world: &SharedWorld,
    id: NodeId,
    now_ns: u64,
    shape: &Shape,
    prng: &mut Prng,
) -> Result<u64, Violation> {
    let mut order: Vec<usize> = (0..running.count()).collect();
    let mut passes = 0;
    loop {
        passes += 1;
        if shape.interleaved {
            for last in (1..order.len()).rev() {
                order.swap(last, prng.below(last as u64 + 1) as usize);
            }
        }
        let mut work = 0;
        for place in &order {
            let (slot, agent) = running.agent(*place);
            let readiness = world.borrow_mut().take_ready((id.0, slot));
            work += agent.do_work(now_ns, &readiness);
        }
        if (work == 0 && !world.borrow().host_is_ready(id.0)) || running.control.is_stopped() {
            return Ok(passes);
        }
        if passes > PASSES_MAX {
            let what = format!("node {id} finds work without end at {now_ns} ns");
            return Err(Violation::new("no livelock", what));
        }
    }
}

fn conductor_settings(
    id: NodeId,
    seed: u64,
    peers: &[NodeId],
    booted: &Booted<SimDisk>,
) -> ConductorSettings {
    ConductorSettings {
        cluster_id: CLUSTER,
        node_id: id,
        incarnation: booted.identity.incarnation,
        group: GROUP,
        durability: booted.start.configurations.newest().durability,
        cluster_version: booted.start.configurations.newest().cluster_version,
        peers: peers.iter().map(|peer| (*peer, peer_address(*peer))).collect(),
        members: booted.start.configurations.newest().members().copied().collect(),
        configuration_index: booted.start.configurations.index(),
        connections_limit: 64,
        handshakes_limit: 64,
        handshake_timeout_ns: ConductorSettings::HANDSHAKE_TIMEOUT_NS,
        seed: seed ^ 1,
    }
}

fn welcome(id: NodeId, shape: &Shape, durability: Durability) -> Welcome {
    let members = shape.ids().map(|member| (member, client_address(member).to_string()));
    Welcome { cluster_id: CLUSTER, node_id: id, group: GROUP, durability, members: members.collect() }
}

fn batcher_settings(id: NodeId, seed: u64, shape: &Shape, booted: &Booted<SimDisk>) -> BatcherSettings {
    BatcherSettings {
        node_id: id,
        incarnation: booted.identity.incarnation,
        batch: shape.batch,
        timers: shape.timers,
        disk_stall_limit_ns: shape.disk_stall_limit_ns,
        retention: shape.retention,
        seed,
        limits: shape.batcher,
        version: "simulated",
    }
}

fn assemble(id: NodeId, seed: u64, shape: &Shape, world: &SharedWorld, booted: Booted<SimDisk>) -> Running {
    let peers: Vec<NodeId> = shape.ids().filter(|peer| *peer != id).collect();
    let counters = Counters::new();
    let control = Control::new();
    let mut rings: NodeRings<SimStream, _> = make_rings(&peers, |_| WakeHandle::none(), &counters);
    let (to_relay, reports_in) = ring(REPORTS, WakeHandle::none(), Counter::detached());
    let reports_out = std::mem::replace(&mut rings.log_writer.to_batcher, to_relay);
    let (to_writer, commands_out) = ring(COMMANDS, WakeHandle::none(), Counter::detached());
    let commands_in = std::mem::replace(&mut rings.log_writer.from_batcher, commands_out);
    let net = |slot: u32| SimNet::new(Rc::clone(world), (id.0, slot));
    let durability = booted.start.configurations.newest().durability;
    let welcome = welcome(id, shape, durability);
    let conductor_settings = conductor_settings(id, seed, &peers, &booted);
    let batcher_settings = batcher_settings(id, seed, shape, &booted);
    let (generation, flushed) = (booted.start.generation, booted.store.flushed_index());
    let pins = booted.start.hard_state.pins.clone();
    let clock = SimClock::new(Rc::clone(world));
    let listeners = net(CONDUCTOR);
    let (peer_port, client_port) =
        (listeners.listen(peer_address(id), true), listeners.listen(client_address(id), false));
    let conductor = Conductor::new(
        listeners,
        conductor_settings,
        (peer_port, client_port),
        pins,
        rings.conductor,
        control.clone(),
        &counters,
    );
    let receivers = rings.receivers.into_iter().enumerate();
    let senders = rings.senders.into_iter().enumerate();
    Running {
        receivers: receivers
            .map(|(at, ends)| AckReceiver::new(net(RECEIVERS + at as u32), ends, &counters))
            .collect(),
        dispatcher: Dispatcher::new(
            net(DISPATCHER),
            welcome.clone(),
            DispatcherLimits::default(),
            rings.dispatcher,
            counters.clone(),
        ),
        batcher: Batcher::new(
            batcher_settings,
            booted.start,
            clock,
            rings.batcher,
            control.clone(),
            &counters,
        ),
        senders: senders
            .map(|(at, ends)| PeerSender::new(net(SENDERS + at as u32), GROUP, ends, &counters))
            .collect(),
        delivery: Delivery::new(net(DELIVERY), welcome, shape.delivery, rings.delivery, &counters),
        conductor: conductor.expect("simulated listeners register"),
        writer: LogWriter::new(
            booted.store,
            durability,
            flushed,
            generation,
            rings.log_writer,
            control.clone(),
            &counters,
        ),
        reader: Reader::new(LogReader::new(), rings.reader, control.clone()),
        counters,
        reports: (reports_in, reports_out),
        commands: (commands_in, to_writer),
        control,
    }
}

/// Readiness of clients goes by this.
#[must_use]
pub const fn client_owner(host: Host) -> Owner {
    (host, 0)
}
