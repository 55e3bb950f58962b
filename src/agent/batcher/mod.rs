//! The replication batcher: owner of the Raft node, the producers' table and the hot tail (rule 1).
//!
//! One turn, in this order: what the log writer finished; what peers sent; timers; what clients ask; the batch that is
//! due; then whatever the core wants done (`settle`), and what peers may be sent. Every message to another agent that
//! must not be lost waits in a bounded backlog while its ring is full, and intake stops meanwhile (rule 4).
//!
//! ```text
//! requests ─▶ publish.rs ─▶ accumulator ─▶ seal ─▶ append (tail.rs) ─▶ log writer, peers (replicate.rs)
//! peers    ─▶ core.step ─▶ log ops (tail.rs) ─▶ log writer
//! core     ─▶ commit.rs ─▶ producers.apply ─▶ acknowledgements, delivery
//! ```

mod commit;
mod configurations;
mod disk_watch;
mod hard_state;
mod install;
mod members;
mod mending;
mod pending;
mod publish;
mod replicate;
mod retention;
mod status;
mod tail;
mod timers;
mod transfer;

use std::collections::VecDeque;

pub use commit::Applied;
pub(super) use configurations::way_back;
pub use configurations::{Configurations, memberships_of};
pub use hard_state::Pins;
pub use retention::RetentionSettings;
pub use tail::{BatcherStart, TailState};
pub use timers::TimerSettings;

use self::hard_state::HardStateWriter;
use self::pending::Pending;
use self::publish::Staging;
use self::replicate::PeerPort;
use self::tail::Unwritten;
use self::timers::Timers;
use super::Agent;
use super::commands::{BatcherReply, LogCommand, LogEvent, PublishChunk};
use super::control::Control;
use super::rings::BatcherRings;
use crate::base::clock::Clock;
use crate::base::ids::{Incarnation, LogIndex, NodeId, Offset};
use crate::base::net::Readiness;
use crate::entry::{BatchAccumulator, BatchLimits, Durability};
use crate::log::HotTail;
use crate::metrics::{Counter, Counters};
use crate::raft::{Raft, Role};
use crate::stream::{Opened, Producers};

/// Bounds of one turn and of what may be in flight.
#[derive(Clone, Copy, Debug)]
pub struct BatcherLimits {
    /// Messages taken from each peer in one turn.
    pub peer_messages_limit: usize,
    /// Publish frames taken in one turn.
    pub requests_limit: usize,
    /// Bytes of appended entries that are not yet applied, and of those not yet written here; intake stops beyond it.
    pub unsettled_bytes_limit: u64,
    /// Answers that wait for a commit, those to events which were sent again among them; intake stops beyond it.
    pub waiters_limit: usize,
    /// Bytes kept in the hot tail for peers that are a little behind.
    pub hot_tail_bytes_limit: u64,
    /// Entry bytes in one Append frame (or one entry that is larger).
    pub append_bytes_limit: usize,
}

impl Default for BatcherLimits {
    fn default() -> Self {
        Self {
            peer_messages_limit: 64,
            requests_limit: 256,
            unsettled_bytes_limit: 32 << 20,
            waiters_limit: 256 << 10,
            hot_tail_bytes_limit: 16 << 20,
            append_bytes_limit: 256 << 10,
        }
    }
}

/// What a batcher is told at assembly.
#[derive(Clone, Debug)]
pub struct BatcherSettings {
    /// This node.
    pub node_id: NodeId,
    /// This formatting of its disk.
    pub incarnation: Incarnation,
    /// When a batch is full or due.
    pub batch: BatchLimits,
    /// Heartbeats and election timeouts.
    pub timers: TimerSettings,
    /// A leader whose log writer reports nothing for so long gives up leadership.
    pub disk_stall_limit_ns: u64,
    /// What may go from the beginning of the log.
    pub retention: RetentionSettings,
    /// Seed of the jitter; must differ between nodes.
    pub seed: u64,
    /// Bounds.
    pub limits: BatcherLimits,
    /// Shown in `status`.
    pub version: &'static str,
}

/// Counters that only the batcher writes.
#[derive(Debug)]
struct BatcherCounters {
    // Batches sealed by this node as leader.
    batches_sealed: Counter,
    // Events sealed in them.
    events_sealed: Counter,
    // Entries committed and applied.
    entries_applied: Counter,
    // Times this node became leader.
    elections_won: Counter,
    // Times this node lost leadership.
    leaderships_lost: Counter,
    // Messages to a peer dropped because its ring was full (Raft sends them again).
    peer_messages_dropped: Counter,
    // Duplicates answered without an append, whatever became of the original by then.
    duplicates: Counter,
    // Of them, those whose original was in the log and not committed.
    duplicates_of_appended: Counter,
    // Of them, those whose original was still gathering.
    duplicates_of_gathering: Counter,
    // Times a late duty cycle of this node restarted its own suspicion.
    self_suspicions: Counter,
    // Times a peer's process was found gone: connections closed and another refused.
    peers_gone: Counter,
    // Times the disk took nothing for longer than `disk_stall_limit`.
    disk_stalls: Counter,
    // Transfers of leadership begun.
    transfers_begun: Counter,
    // Changes of membership proposed.
    member_changes: Counter,
    // Messages of a peer dropped because another formatting of its disk counts.
    peer_messages_refused: Counter,
    // Trims appended by this node as leader.
    trims: Counter,
    // Checkpoints handed to the log writer.
    checkpoints: Counter,
    // Checkpoints begun to be sent to peers that retention has left behind.
    checkpoints_sent: Counter,
    // Leaders' checkpoints with which this node's log began anew.
    checkpoints_installed: Counter,
    // Of these, such as this node's log has come up to.
    checkpoints_reached: Counter,
    // 1 while this node may have lost what it acknowledged (a claimed tail, known or unknown), else 0.
    in_doubt: Counter,
    // Voters that the log does not name and this node has not met: a cluster begins when there are none.
    voters_unmet: Counter,
    // Peers whose cluster knows another disk of this node and that refuse this one; 0 while there is a leader to follow.
    refused_by: Counter,
}

impl BatcherCounters {
    pub(super) fn new(counters: &Counters) -> Self {
        Self {
            batches_sealed: counters.register("batcher_batches_sealed"),
            events_sealed: counters.register("batcher_events_sealed"),
            entries_applied: counters.register("batcher_entries_applied"),
            elections_won: counters.register("batcher_elections_won"),
            leaderships_lost: counters.register("batcher_leaderships_lost"),
            peer_messages_dropped: counters.register("batcher_peer_messages_dropped"),
            duplicates: counters.register("batcher_duplicates"),
            duplicates_of_appended: counters.register("batcher_duplicates_of_appended"),
            duplicates_of_gathering: counters.register("batcher_duplicates_of_gathering"),
            self_suspicions: counters.register("batcher_self_suspicions"),
            peers_gone: counters.register("batcher_peers_gone"),
            disk_stalls: counters.register("batcher_disk_stalls"),
            transfers_begun: counters.register("batcher_transfers_begun"),
            member_changes: counters.register("batcher_member_changes"),
            peer_messages_refused: counters.register("batcher_peer_messages_refused"),
            trims: counters.register("batcher_trims"),
            checkpoints: counters.register("batcher_checkpoints"),
            checkpoints_sent: counters.register("batcher_checkpoints_sent"),
            checkpoints_installed: counters.register("batcher_checkpoints_installed"),
            checkpoints_reached: counters.register("batcher_checkpoints_reached"),
            in_doubt: counters.register("batcher_in_doubt"),
            voters_unmet: counters.register("batcher_voters_unmet"),
            refused_by: counters.register("batcher_refused_by"),
        }
    }
}

/// How much a batcher holds, for invariants in the simulator. In bytes but for the last three.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Holdings {
    /// Appended and not yet applied.
    pub unsettled_bytes: u64,
    /// Appended and not yet written by the log writer.
    pub unwritten_bytes: u64,
    /// In the hot tail.
    pub hot_bytes: u64,
    /// Answers that wait for a commit.
    pub waiters_count: usize,
    /// Commands that wait for room in the log writer's ring.
    pub log_backlog_count: usize,
    /// Answers that wait for room in the dispatcher's ring.
    pub reply_backlog_count: usize,
    /// Messages that the core keeps until the hard state is flushed.
    pub messages_count: usize,
}

/// The agent. See the module.
pub struct Batcher<C> {
    settings: BatcherSettings,
    clock: C,
    now_ns: u64,
    started_ns: u64,
    raft: Raft,
    timers: Timers,
    configurations: Configurations,
    membership: members::MembershipWork,
    durability: Durability,
    hot: HotTail,
    tail: TailState,
    /// State as of the applied (= committed) index.
    applied: commit::Applied,
    /// The last entry of an installed checkpoint that the log has yet to reach: `producers` and the configuration are as of
    /// it already, and entries up to it change neither.
    ahead: Option<commit::Applied>,
    producers: Producers,
    accumulator: BatchAccumulator,
    staging: Staging,
    pending: Pending,
    hard_state: HardStateWriter,
    peers: Vec<PeerPort>,
    rings: BatcherRings,
    control: Control,
    counters: BatcherCounters,
    /// Commands for the writer that found its ring full. Intake stops while it is not empty.
    log_backlog: VecDeque<LogCommand>,
    /// Replies that found the dispatcher's ring full. Intake stops while it is not empty.
    reply_backlog: VecDeque<BatcherReply>,
    /// A publish frame that could not be finished in its turn.
    open_chunk: Option<(PublishChunk, usize)>,
    written: LogIndex,
    flushed: LogIndex,
    /// Bytes of appended entries that are not yet applied.
    unsettled_bytes: u64,
    unwritten: Unwritten,
    disk_watch: disk_watch::DiskWatch,
    handover: transfer::Handover,
    retention: retention::Retention,
    incoming: install::Incoming,
    reads: Vec<status::OpenRead>,
    next_read_token: u64,
    led_before: bool,
    /// Producers opened by entries just applied, until their answers have left.
    opened: Vec<Opened>,
}

impl<C: Clock> Agent for Batcher<C> {
    fn name(&self) -> &'static str {
        "batcher"
    }

    fn do_work(&mut self, now_ns: u64, _readiness: &[Readiness]) -> usize {
        self.begin_turn(now_ns);
        let mut work = self.listen();
        // Who cannot go on says nothing more, also in the turn in which that turned out.
        if !self.control.is_stopped() {
            work += self.serve();
        }
        if !self.control.is_stopped() {
            work += self.pass_on();
        }
        work
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        let batch = self.accumulator.deadline_ns();
        let deadlines = [
            self.timers.next_deadline_ns(),
            batch,
            self.disk_watch_deadline_ns(),
            self.handover_deadline_ns(),
            self.trim_deadline_ns(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn is_stalled(&self) -> bool {
        !self.log_backlog.is_empty() || !self.reply_backlog.is_empty()
    }
}

impl<C: Clock> Batcher<C> {
    /// What the disk, the other nodes and the clock say.
    fn listen(&mut self) -> usize {
        let mut work = self.drain_backlogs();
        work += self.drain_log_events();
        self.settle(Vec::new());
        work += self.drain_notices();
        self.tell_members();
        self.say_why_it_waits();
        self.watch_disk();
        work += self.drain_peers();
        work += self.fire_timers();
        self.settle(Vec::new());
        work
    }

    /// What clients want, and what this node wants of itself.
    fn serve(&mut self) -> usize {
        let mut work = self.drain_requests();
        work += self.seal_if_due();
        work += self.trim_if_due();
        self.go_on_with_handover();
        self.settle(Vec::new());
        work
    }

    /// What others are to know.
    fn pass_on(&mut self) -> usize {
        let mut work = self.pump_peers();
        self.settle(Vec::new());
        self.publish_readable();
        self.trim_hot_tail();
        work += self.checkpoint_if_due();
        self.check_drained();
        work
    }

    /// The Raft node, for invariants in the simulator.
    #[must_use]
    pub const fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The producers' table as of [`Batcher::state`], for invariants in the simulator.
    #[must_use]
    pub const fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Applied index and the chain value there.
    #[must_use]
    pub fn applied(&self) -> (LogIndex, u64) {
        (self.applied.index, self.applied.chain)
    }

    /// The offset behind the last event that is applied.
    #[must_use]
    pub fn applied_next_offset(&self) -> Offset {
        self.applied.next_offset
    }

    /// Index as of which the producers' table is, and the chain value there: as [`Batcher::applied`], or further while the
    /// log has yet to reach an installed checkpoint.
    #[must_use]
    pub fn state(&self) -> (LogIndex, u64) {
        let Applied { index, chain, .. } = self.state_point();
        (index, chain)
    }

    /// The configuration in force and the committed one, for invariants in the simulator.
    #[must_use]
    pub const fn configurations(&self) -> &Configurations {
        &self.configurations
    }

    /// How much it holds, for invariants in the simulator.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        Holdings {
            unsettled_bytes: self.unsettled_bytes,
            unwritten_bytes: self.unwritten.bytes(),
            hot_bytes: self.hot.bytes(),
            waiters_count: self.pending.count(),
            log_backlog_count: self.log_backlog.len(),
            reply_backlog_count: self.reply_backlog.len(),
            messages_count: self.raft.held_count(),
        }
    }

    fn is_leader(&self) -> bool {
        self.raft.role() == Role::Leader
    }

    /// Self-suspicion: a node whose own duty cycle was late must not suspect others for what it did not hear.
    fn begin_turn(&mut self, now_ns: u64) {
        if self.started_ns == 0 {
            self.started_ns = now_ns;
            self.tail.log_time_at_ns = now_ns;
            self.pin_committed();
            self.note_met();
            self.raft.start();
        }
        self.now_ns = now_ns;
        // Asleep until a deadline is no lateness; waking up far behind one is.
        let behind_ns = self.timers.next_deadline_ns().map_or(0, |deadline| now_ns.saturating_sub(deadline));
        if behind_ns > self.settings.timers.heartbeat_interval_ns && !self.is_leader() {
            self.counters.self_suspicions.increment();
            self.timers.restart_suspicion(now_ns);
        }
    }

    fn drain_backlogs(&mut self) -> usize {
        let mut work = 0;
        while let Some(command) = self.log_backlog.pop_front() {
            if let Err(back) = self.rings.to_writer.push(command) {
                self.log_backlog.push_front(back);
                break;
            }
            work += 1;
        }
        while let Some(reply) = self.reply_backlog.pop_front() {
            if let Err(back) = self.rings.to_dispatcher.push(reply) {
                self.reply_backlog.push_front(back);
                break;
            }
            work += 1;
        }
        work
    }

    /// Hands a command to the log writer, in order, never losing it.
    fn hand_to_writer(&mut self, command: LogCommand) {
        if !self.log_backlog.is_empty() {
            self.log_backlog.push_back(command);
        } else if let Err(back) = self.rings.to_writer.push(command) {
            self.log_backlog.push_back(back);
        }
    }

    /// Hands a reply to the dispatcher, in order, never losing it.
    fn reply(&mut self, reply: BatcherReply) {
        if !self.reply_backlog.is_empty() {
            self.reply_backlog.push_back(reply);
        } else if let Err(back) = self.rings.to_dispatcher.push(reply) {
            self.reply_backlog.push_back(back);
        }
    }

    fn drain_log_events(&mut self) -> usize {
        let mut work = 0;
        while let Some(event) = self.rings.from_writer.pop() {
            work += 1;
            match event {
                LogEvent::Progress { generation, written, flushed } => {
                    self.disk_watch.progressed(self.now_ns);
                    if generation == self.raft.log_generation() {
                        // An older report may speak of entries that are gone (PITFALLS 28).
                        (self.written, self.flushed) = (written, flushed);
                        self.unwritten.written_to(written);
                    }
                    let stable = match self.durability {
                        Durability::Disk => flushed,
                        Durability::Memory => written,
                    };
                    self.raft.log_stable(generation, stable);
                    self.publish_hint();
                }
                LogEvent::SegmentBegun(mark) => self.retention.note_segment(mark),
                LogEvent::CheckpointWritten => self.retention.checkpoint_written(),
                LogEvent::Full(is_full) => self.disk_watch.is_full = is_full,
                LogEvent::HardStateFlushed { write_id } => {
                    self.disk_watch.progressed(self.now_ns);
                    self.hard_state_flushed(write_id);
                }
            }
        }
        work
    }

    /// Both applied and, in its present form, written: what the reader may be asked for.
    fn publish_readable(&self) {
        let index = self.applied.index.min(self.written);
        let next_offset = match self.hot.get(index.next()) {
            _ if index == self.applied.index => self.applied.next_offset,
            Some(entry) => entry.header().base_offset,
            // A log that begins anew is not on the disk yet, and nothing of it can be read. (Whoever believed that it
            // could would ask again and again.)
            None => Offset(1),
        };
        self.rings.commit_tail.publish_readable(index.0, next_offset.prev().0);
    }

    fn publish_hint(&self) {
        self.rings.commit_tail.publish_hint(self.raft.commit_index().0, self.flushed.0);
    }

    fn fire_timers(&mut self) -> usize {
        let mut work = 0;
        // Six kinds exist; more than that in one turn would be a timer that re-arms itself in the past.
        while work < 8
            && let Some(kind) = self.timers.take_due(self.now_ns)
        {
            self.raft.timer_fired(kind);
            self.settle(Vec::new());
            work += 1;
        }
        work
    }

    /// Intake may go on: nothing waits for a full ring, and what is in flight is bounded.
    fn may_take_in(&self) -> bool {
        self.writer_keeps_up()
            && !self.raft.is_transferring()
            && self.reply_backlog.is_empty()
            && self.unsettled_bytes < self.settings.limits.unsettled_bytes_limit
            // Events that are sent again append nothing, so bytes do not bound them while nothing commits.
            && self.pending.count() < self.settings.limits.waiters_limit
    }

    /// What waits for the log writer is bounded in bytes too, whatever the quorum does without this disk.
    fn writer_keeps_up(&self) -> bool {
        self.log_backlog.is_empty() && self.unwritten.bytes() < self.settings.limits.unsettled_bytes_limit
    }

    fn check_drained(&mut self) {
        if self.control.is_draining()
            && !self.control.is_drained()
            && self.accumulator.is_empty()
            && self.open_chunk.is_none()
            && self.pending.is_empty()
            && self.reply_backlog.is_empty()
            && self.has_handed_over()
        {
            self.control.set_drained();
        }
    }
}
