//! One whole simulated node: the real agents over the simulated network, disk and clock, invoked by hand.
//!
//! A *run* invokes all agents but log writer and reader until none finds anything to do. Those two have threads of their
//! own in a real node; here each has its own turns, a drawn disk delay after something was handed to it, so that replies
//! arrive between append and flush. What the log writer reports takes a while longer still, so that the batcher hears of
//! a flush after it has gone on (or has cut what was flushed), and a node can die in between.
//!
//! A node whose disk is damaged mends itself as a real one does: what `node/` decides at a start is decided here by the
//! same rules ([`SimNode::start`]).

mod assemble;
mod clock;
mod running;
mod shape;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

pub use clock::LocalClock;
pub use running::{Core, Running, Serving};
pub use shape::{CLUSTER, DATA_DIR, GROUP, Shape, client_address, peer_address};

use super::coverage::{rare, recovery_row};
use super::disk::SimDisk;
use super::net::{Host, Owner, SharedWorld};
use super::report::Violation;
use crate::agent::Agent;
use crate::agent::boot::{BootError, boot_as_told};
use crate::agent::control::Fatal;
use crate::base::clock::{NS_PER_MS, NS_PER_S};
use crate::base::ids::{Incarnation, LogIndex, NodeId};
use crate::base::planted::{Bug, is_planted};
use crate::base::prng::Prng;
use crate::entry::Entry;
use crate::log::layout::{HEADER_BYTES, HeaderFound, SegmentHeader};
use crate::log::{self, Identity, LogError, Mender};
use crate::raft::claim::is_unknown_claim;
use assemble::Site;

/// Rare states that agents count, by their counters.
const COUNTED: [(&str, &str); 15] = [
    ("trim", "batcher_trims"),
    ("checkpoint", "log_writer_checkpoints"),
    ("checkpoint_installed", "batcher_checkpoints_installed"),
    ("checkpoint_reached", "batcher_checkpoints_reached"),
    ("duplicate", "batcher_duplicates"),
    ("duplicate_of_appended", "batcher_duplicates_of_appended"),
    ("duplicate_of_gathering", "batcher_duplicates_of_gathering"),
    ("leadership_lost", "batcher_leaderships_lost"),
    ("self_suspicion", "batcher_self_suspicions"),
    ("cold_read", "delivery_cold_reads"),
    ("handshake_timed_out", "conductor_timed_out"),
    ("entry_mended", "mending_entries_mended"),
    ("mending_answer", "mending_answers"),
    ("disk_stall_noticed", "batcher_disk_stalls"),
    ("disk_full_noticed", "log_writer_disk_full"),
];

/// How a node went down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// The process died; what it wrote stays in the page cache.
    Killed,
    /// The machine lost power: unflushed writes are kept, lost or torn.
    PowerLost,
}

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It goes on.
    Alive,
    /// A planned fault of its disk ended it.
    DiskFailed,
    /// Its agents are to be started anew: damage was found, or is mended.
    Anew,
    /// It cannot mend what is damaged.
    GaveUp(String),
}

/// A node, running or not.
pub struct SimNode {
    /// Who.
    pub id: NodeId,
    /// Its disk, which outlives it.
    pub disk: SimDisk,
    /// Which formatting of its disk it has.
    pub incarnation: Incarnation,
    /// How often its disk was formatted.
    pub formattings: u32,
    /// Its agents, while it runs.
    pub running: Option<Running>,
    /// How often it has been started.
    pub life: u64,
    /// Its monotonic clock; another one after each loss of power.
    pub clock: LocalClock,
    /// It went down with its page cache, or before it had got back what it lost then; see [`SimNode::is_in_doubt`].
    lost_cache: bool,
    /// It takes no turns before this (a stopped process).
    pub paused_until_ns: u64,
    /// Its disk does nothing before this.
    pub stalled_until_ns: u64,
    /// Its disk has room again then.
    pub space_at_ns: Option<u64>,
    /// It starts again then.
    pub restart_at_ns: Option<u64>,
    /// How often it was in states that matter and are rare.
    pub rare: BTreeMap<&'static str, u64>,
    /// Delay of log writer and reader: at least, at most.
    pub disk_delay_ns: (u64, u64),
    /// What the log writer reports is late by this at most, besides.
    pub report_delay_ns: u64,
    writer_due_ns: Option<u64>,
    reader_due_ns: Option<u64>,
    reports_due_ns: Option<u64>,
    /// When the next answer of the reader comes.
    answers_due_ns: Option<u64>,
    /// The damage that this process has met last.
    last_damage: Option<String>,
    /// It mends since then.
    pub mends_since_ns: Option<u64>,
    /// The last thing it did was to mend.
    has_mended: bool,
    /// It has mended since it last took part, in this process or an earlier one.
    was_mending: bool,
    /// This life began with a log that was mended just before, or without what somebody has given up.
    pub began_mended: bool,
    /// Damage was found while it took part: the next start reads all.
    reads_all: bool,
    /// It was started then.
    serves_since_ns: u64,
    /// Its next start is told to go on without what it claims.
    pub accepts_loss: bool,
    /// Every entry that the log writer was ever handed, by chain value: what retention has let go is still known here.
    pub archive: BTreeMap<u64, Entry>,
    /// Something was put into a ring (or a deadline was met) since the last run.
    fresh: bool,
    world: SharedWorld,
    prng: Prng,
}

fn format_disk(id: NodeId, shape: &Shape, prng: &mut Prng) -> (SimDisk, Incarnation) {
    let disk = SimDisk::new(prng.next_u64());
    let incarnation = Incarnation(u128::from(prng.next_u64() | 1));
    let identity = Identity { cluster_id: CLUSTER, node_id: id, incarnation };
    log::format(&disk, Path::new(DATA_DIR), identity, &shape.first_entry(), &shape.log_options())
        .expect("a healthy disk is formatted");
    (disk, incarnation)
}

impl SimNode {
    /// A formatted node that does not run yet.
    #[must_use]
    pub fn format(id: NodeId, shape: &Shape, world: &SharedWorld, mut prng: Prng) -> Self {
        let (disk, incarnation) = format_disk(id, shape, &mut prng);
        let clock = LocalClock::new(world.borrow().now_ns(), prng.between(1, 1000) * NS_PER_S);
        Self {
            id,
            disk,
            incarnation,
            formattings: 1,
            running: None,
            life: 0,
            clock,
            lost_cache: false,
            paused_until_ns: 0,
            stalled_until_ns: 0,
            space_at_ns: None,
            restart_at_ns: None,
            rare: BTreeMap::new(),
            disk_delay_ns: (20_000, 2 * NS_PER_MS),
            report_delay_ns: 0,
            writer_due_ns: None,
            reader_due_ns: None,
            reports_due_ns: None,
            answers_due_ns: None,
            last_damage: None,
            mends_since_ns: None,
            has_mended: false,
            was_mending: false,
            began_mended: false,
            reads_all: false,
            serves_since_ns: 0,
            accepts_loss: false,
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

    /// The agents that take part, if it runs and does not mend.
    #[must_use]
    pub fn serving(&self) -> Option<&Serving> {
        self.running.as_ref().and_then(Running::serving)
    }

    /// It runs, to mend what is damaged.
    #[must_use]
    pub fn is_mending(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.serving().is_none())
    }

    /// Recovers from its disk and runs; or mends first, where that is needed.
    ///
    /// # Errors
    /// As [`boot`] says.
    pub fn start(&mut self, shape: &Shape) -> Result<(), BootError> {
        assert!(self.running.is_none(), "one life at a time");
        self.life += 1;
        self.restart_at_ns = None;
        self.paused_until_ns = 0;
        if let Some(row) = recovery_row(&self.disk, shape) {
            self.note_rare(row, 1);
        }
        let (seed, world, clock) = (self.prng.next_u64(), Rc::clone(&self.world), self.clock.clone());
        let (id, incarnation) = (self.id, self.incarnation);
        let site = Site { id, incarnation, seed, shape, world: &world, clock: &clock };
        let options = shape.log_options();
        let options = if self.reads_all { options.reading_all() } else { options };
        match boot_as_told(self.disk.clone(), Path::new(DATA_DIR), options, self.accepts_loss) {
            Ok(booted) => {
                self.note_start(&booted);
                self.running = Some(site.serving(booted));
            }
            Err(error) => {
                let mender = self.mender(error, shape)?;
                match mender {
                    Some(mender) => self.running = Some(site.mending(mender)),
                    None => return self.start(shape),
                }
            }
        }
        self.fresh = true;
        let now_ns = self.world.borrow().now_ns();
        self.mends_since_ns = self.is_mending().then_some(now_ns);
        self.serves_since_ns = now_ns;
        (self.writer_due_ns, self.reader_due_ns) = (Some(now_ns), Some(now_ns));
        Ok(())
    }

    fn note_start(&mut self, booted: &crate::agent::boot::Booted<SimDisk>) {
        let claimed = booted.start.restored.hard_state.claimed_tail;
        self.note_rare("torn_tail_cut", u64::from(booted.cut.is_some()));
        self.note_rare("claimed_tail", u64::from(claimed.is_some()));
        self.note_rare("in_doubt", u64::from(claimed.is_some_and(is_unknown_claim)));
        self.note_rare("started_ahead", u64::from(booted.start.ahead.is_some()));
        self.began_mended = std::mem::take(&mut self.was_mending) || self.accepts_loss;
        (self.reads_all, self.accepts_loss) = (false, false);
        if std::mem::take(&mut self.has_mended) {
            // Mending has helped: the same damage at another time is another matter.
            self.last_damage = None;
        }
    }

    /// The directory cannot be opened; where that is damage that others can mend, the node does that first. `None`: the
    /// head of a file was rebuilt, and the start is tried again.
    fn mender(&mut self, error: BootError, shape: &Shape) -> Result<Option<Mender<SimDisk>>, BootError> {
        if !matches!(error, BootError::Log(LogError::Corrupt(_) | LogError::MissingSegment { .. })) {
            return Err(error);
        }
        let mender = match Mender::open(self.disk.clone(), Path::new(DATA_DIR), shape.log_options()) {
            Ok(mender) => mender,
            Err(LogError::Corrupt(_) | LogError::MissingSegment { .. }) => return Err(error),
            Err(other) => return Err(other.into()),
        };
        let first = mender.runs().first().map(ToString::to_string);
        let rebuilt = mender.rebuilt().first().map(|file| file.display().to_string());
        self.note_rare("head_rebuilt", mender.rebuilt().len() as u64);
        if first.is_none() && rebuilt.is_some() && rebuilt != self.last_damage {
            self.last_damage = rebuilt;
            return Ok(None);
        }
        if first.is_none() || first == self.last_damage || shape.nodes < 2 {
            return Err(error);
        }
        self.note_rare("started_to_mend", 1);
        (self.last_damage, self.has_mended, self.was_mending) = (first, true, true);
        Ok(Some(mender))
    }

    /// Whether it may lack entries that it acknowledged.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match self.serving() {
            Some(serving) => serving.batcher.raft().claimed_tail().is_some(),
            None => self.lost_cache,
        }
    }

    /// It has claimed a torn tail for so long, and has no leader.
    #[must_use]
    pub fn waits_with_a_claim(&self, now_ns: u64, patience_ns: u64) -> Option<LogIndex> {
        let raft = self.serving()?.batcher.raft();
        let waits = raft.leader().is_none() && self.serves_since_ns + patience_ns < now_ns;
        raft.claimed_tail().filter(|_| waits).map(|claimed| claimed.index)
    }

    /// While it mends: the first entry of what it asks the others about.
    #[must_use]
    pub fn asks_about(&self) -> Option<LogIndex> {
        self.running.as_ref().and_then(Running::asks_about)
    }

    /// It is gone: agents, sockets, and what the disk had not made durable.
    pub fn die(&mut self, death: Death) {
        self.harvest();
        self.lost_cache = death == Death::PowerLost || self.is_in_doubt();
        self.world.borrow_mut().kill_host(self.host(), death == Death::PowerLost);
        self.running = None;
        (self.writer_due_ns, self.reader_due_ns, self.reports_due_ns) = (None, None, None);
        self.answers_due_ns = None;
        self.fresh = false;
        self.mends_since_ns = None;
        // Another process knows nothing of what this one has met.
        (self.last_damage, self.has_mended, self.reads_all) = (None, false, false);
        match death {
            Death::PowerLost => {
                let now_ns = self.world.borrow().now_ns();
                self.clock = LocalClock::new(now_ns, self.prng.between(1, 1000) * NS_PER_S);
                self.disk.restart();
            }
            Death::Killed => self.disk.kill(),
        }
    }

    /// Its disk is lost, and a new one is formatted under the same id.
    pub fn replace_disk(&mut self, shape: &Shape) {
        self.die(Death::PowerLost);
        (self.disk, self.incarnation) = format_disk(self.id, shape, &mut self.prng);
        self.formattings += 1;
        (self.lost_cache, self.was_mending) = (false, false);
        self.space_at_ns = None;
    }

    /// An orderly end: every agent says its last words.
    pub fn close(&mut self) {
        self.harvest();
        if let Some(mut running) = self.running.take() {
            if let Some(serving) = running.serving_mut() {
                serving.writer.on_close();
                serving.batcher.on_close();
            }
            self.world.borrow_mut().kill_host(self.host(), false);
            drop(running);
            self.disk.kill();
        }
        (self.writer_due_ns, self.reader_due_ns, self.reports_due_ns) = (None, None, None);
        self.answers_due_ns = None;
        self.fresh = false;
    }

    /// Counts a state that matters and is rare.
    pub fn note_rare(&mut self, name: &'static str, count: u64) {
        *self.rare.entry(name).or_insert(0) += count;
    }

    /// Takes down what a life that ends has seen.
    fn harvest(&mut self) {
        let Some(running) = &self.running else { return };
        // An installation begins a new generation of the log too.
        let generations = running.serving().map_or(0, |serving| serving.batcher.raft().log_generation());
        let installed = running.counters.value("batcher_checkpoints_installed").unwrap_or(0);
        let truncations = generations.saturating_sub(installed);
        let counted = COUNTED.map(|(name, counter)| (name, running.counters.value(counter).unwrap_or(0)));
        self.note_rare("conflict_truncation", truncations);
        let heads = self.disk.files().into_iter().map(|file| self.disk.peek(&file, 0, HEADER_BYTES));
        let is_recycled = |head: &Vec<u8>| matches!(SegmentHeader::decode(head), HeaderFound::Good(header) if header.recycled);
        let recycled = heads.filter(is_recycled).count() as u64;
        self.note_rare(rare::RECYCLED, recycled);
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
        let own = running.next_deadline_ns().map(|at| self.clock.world_when(at));
        let disk = [self.writer_due_ns, self.reader_due_ns, self.reports_due_ns, self.answers_due_ns]
            .into_iter()
            .flatten();
        // A disk that does nothing keeps its agents' deadlines waiting; the node's other agents go on.
        let disk = disk.map(|at| at.max(self.stalled_until_ns));
        let again = running.is_stalled().then_some(now_ns + NS_PER_MS);
        let fresh = self.fresh.then_some(now_ns);
        let own = own.map(|at| self.not_in_vain(running, at, now_ns));
        disk.chain(own).chain(again).chain(fresh).chain(self.space_at_ns).min()
    }

    /// While the disk stalls, a deadline of the log writer (or the reader) that has passed must not make time stand still.
    fn not_in_vain(&self, running: &Running, at_ns: u64, now_ns: u64) -> u64 {
        if now_ns >= self.stalled_until_ns || at_ns > now_ns {
            return at_ns;
        }
        let others = running.agents().filter_map(Agent::next_deadline_ns).min();
        others.map_or(self.stalled_until_ns, |at| self.clock.world_when(at).min(self.stalled_until_ns))
    }

    /// Who wants a turn now, for messages.
    #[must_use]
    pub fn describe_due(&self, now_ns: u64) -> String {
        let Some(running) = &self.running else { return format!("down, life {}", self.life) };
        let own_ns = self.clock.at(now_ns);
        let due = running.agents().filter(|agent| agent.next_deadline_ns().is_some_and(|at| at <= own_ns));
        let names: Vec<&str> = due.map(Agent::name).collect();
        format!("{names:?}, log writer {:?}, reader {:?}", self.writer_due_ns, self.reader_due_ns)
    }

    /// Everything that is due now, until nothing is left to do.
    ///
    /// # Errors
    /// A livelock, or the node gave up for a reason that is no planned fault.
    pub fn run(&mut self, now_ns: u64, shape: &Shape) -> Result<Outcome, Violation> {
        if self.space_at_ns.is_some_and(|at| at <= now_ns) {
            self.space_at_ns = None;
            self.disk.set_capacity(u64::MAX);
        }
        if now_ns < self.paused_until_ns || self.running.is_none() {
            return Ok(Outcome::Alive);
        }
        let delay_ns = self.prng.between(self.disk_delay_ns.0, self.disk_delay_ns.1);
        if now_ns >= self.stalled_until_ns {
            self.run_disk(now_ns, delay_ns);
            self.run_answers(now_ns, delay_ns);
        }
        let Some(running) = &mut self.running else { return Ok(Outcome::Alive) };
        if running.control.fatal().is_none() {
            let (at, order) = ((self.id, now_ns), shape.interleaved);
            let passes = running.run_agents(at, &self.clock, &self.world, order, &mut self.prng)?;
            self.fresh = false;
            if passes > 1 {
                self.writer_due_ns.get_or_insert(now_ns + delay_ns);
                self.reader_due_ns.get_or_insert(now_ns + delay_ns);
            }
        }
        self.outcome()
    }

    /// The turns of log writer and reader.
    fn run_disk(&mut self, now_ns: u64, delay_ns: u64) {
        let own_ns = self.clock.at(now_ns);
        let Some(serving) = self.running.as_mut().and_then(Running::serving_mut) else {
            (self.writer_due_ns, self.reader_due_ns, self.reports_due_ns) = (None, None, None);
            self.answers_due_ns = None;
            return;
        };
        let is_due = |at: Option<u64>, deadline: Option<u64>| {
            at.is_some_and(|at| at <= now_ns) || deadline.is_some_and(|at| at <= own_ns)
        };
        if is_due(self.writer_due_ns, serving.writer.next_deadline_ns()) {
            serving.hand_on_commands(&mut self.archive);
            let work = serving.writer.do_work(own_ns, &[]);
            self.writer_due_ns = (work > 0).then_some(now_ns + delay_ns);
            let late_ns = if self.prng.chance(500_000) { 0 } else { self.prng.below(delay_ns + 1) };
            let late_ns = late_ns + self.prng.below(self.report_delay_ns + 1);
            self.reports_due_ns.get_or_insert(now_ns + late_ns);
        }
        if self.reports_due_ns.is_some_and(|at| at <= now_ns) {
            let all = serving.hand_on_reports();
            self.reports_due_ns = (!all).then_some(now_ns + NS_PER_MS);
        }
        if is_due(self.reader_due_ns, serving.reader.next_deadline_ns()) {
            let work = serving.reader.do_work(own_ns, &[]);
            self.reader_due_ns = (work > 0).then_some(now_ns + delay_ns);
            self.answers_due_ns.get_or_insert(now_ns);
        }
    }

    /// Answers of the reader, one after the other.
    fn run_answers(&mut self, now_ns: u64, delay_ns: u64) {
        if self.answers_due_ns.is_none_or(|at| at > now_ns) {
            return;
        }
        let Some(serving) = self.running.as_mut().and_then(Running::serving_mut) else {
            self.answers_due_ns = None;
            return;
        };
        let all = serving.hand_on_answer();
        self.answers_due_ns = (!all).then_some(now_ns + delay_ns);
    }

    /// What the agents have come to; what `node/` makes of it in a real process.
    fn outcome(&mut self) -> Result<Outcome, Violation> {
        let Some(running) = &self.running else { return Ok(Outcome::Alive) };
        match running.control.fatal() {
            None => {}
            Some(Fatal::Disk(_)) => return Ok(Outcome::DiskFailed),
            Some(Fatal::Divergence(text)) if running.serving().is_none() => {
                return Ok(Outcome::GaveUp(text));
            }
            Some(fatal) => {
                return Err(Violation::new("nodes go on", format!("node {}: {}", self.id, fatal.line())));
            }
        }
        if running.serving().is_none() {
            return Ok(if running.control.is_stopped() { Outcome::Anew } else { Outcome::Alive });
        }
        match running.control.damage() {
            None => Ok(Outcome::Alive),
            found if found == self.last_damage => {
                // A start that reads all finds what a reader found, and mends it or says why not.
                let what = found.unwrap_or_default();
                let what =
                    format!("node {}: {what}; it was found before, and mending found nothing", self.id);
                Err(Violation::new("what is found damaged is mended", what))
            }
            found => {
                (self.last_damage, self.reads_all) = (found, !is_planted(Bug::DamageNotLookedFor));
                self.note_rare("damage_found_while_serving", 1);
                Ok(Outcome::Anew)
            }
        }
    }
}

/// Readiness of clients goes by this.
#[must_use]
pub const fn client_owner(host: Host) -> Owner {
    (host, 0)
}
