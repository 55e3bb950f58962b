//! The end of the log as the batcher knows it: appending, truncating, and what the next entry continues from.

use std::collections::VecDeque;

use super::configurations::Configurations;
use super::publish::Staging;
use super::replicate::PeerPort;
use super::{Batcher, BatcherCounters, BatcherSettings, commit, hard_state, pending, timers};
use crate::agent::commands::LogCommand;
use crate::agent::control::{Control, Fatal};
use crate::agent::rings::BatcherRings;
use crate::agent::rings::DeliveryNotice;
use crate::base::clock::Clock;
use crate::base::ids::{EntryId, LogIndex, Offset};
use crate::base::planted::{Bug, is_planted};
use crate::entry::{BatchAccumulator, Entry, EntryKind, LogFloor, SealContext};
use crate::log::{HotTail, Pulse, SegmentMark, StoredHardState};
use crate::metrics::Counters;
use crate::raft::{LogOp, LogView, Raft, RaftConfig, Restored};
use crate::stream::Producers;

/// What the next entry continues from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailState {
    /// Last appended index.
    pub index: LogIndex,
    /// Chain value of that entry.
    pub chain: u64,
    /// Offset that the next event gets.
    pub next_offset: Offset,
    /// Log time of that entry.
    pub log_time_ns: u64,
    /// This node's monotonic clock when it appended that entry.
    pub log_time_at_ns: u64,
}

/// What recovery hands to the batcher.
pub struct BatcherStart {
    /// For the core.
    pub restored: Restored,
    /// The newest configuration in the log, and those that a truncation could bring back.
    pub configurations: Configurations,
    /// The entry with the committed one, for checkpoints; `None` where none is known to be committed.
    pub configuration_entry: Option<Entry>,
    /// Where the log begins.
    pub floor: LogFloor,
    /// Where the segments behind the first one begin.
    pub marks: Vec<SegmentMark>,
    /// Hard state as found, pins included.
    pub hard_state: StoredHardState,
    /// The producers' table after applying everything up to `applied`, or up to `ahead`.
    pub producers: Producers,
    /// The last entry known to be committed (the commit hint).
    pub applied: commit::Applied,
    /// Of an installed checkpoint that the applied entries do not reach yet: its last entry.
    pub ahead: Option<commit::Applied>,
    /// Every entry after `applied`, in order.
    pub suffix: Vec<Entry>,
    /// Log time of the last entry.
    pub last_log_time_ns: u64,
    /// Truncations carried out by the writer so far.
    pub generation: u64,
    /// Beats whenever the log writer's disk has finished something.
    pub pulse: Pulse,
}

/// Sizes of the entries that the log writer has not yet written, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    sizes: VecDeque<(LogIndex, u64)>,
    bytes: u64,
}

impl Unwritten {
    /// Their sum.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn push(&mut self, index: LogIndex, bytes: u64) {
        self.sizes.push_back((index, bytes));
        self.bytes += bytes;
    }

    /// Everything up to `written` is in the page cache.
    pub(super) fn written_to(&mut self, written: LogIndex) {
        while let Some((_, bytes)) = self.sizes.pop_front_if(|(index, _)| *index <= written) {
            self.bytes -= bytes;
        }
    }

    fn truncate_from(&mut self, first_removed: LogIndex) {
        while let Some((_, bytes)) = self.sizes.pop_back_if(|(index, _)| *index >= first_removed) {
            self.bytes -= bytes;
        }
    }
}

impl<C: Clock> Batcher<C> {
    /// Assembles a batcher from what recovery found. Peers come with their rings.
    #[must_use]
    pub fn new(
        settings: BatcherSettings,
        start: BatcherStart,
        clock: C,
        mut rings: BatcherRings,
        control: Control,
        counters: &Counters,
    ) -> Self {
        let last = start.restored.log.last_id().index;
        let config =
            RaftConfig { id: settings.node_id, inflight_entries_limit: 1024, inflight_bytes_limit: 8 << 20 };
        let mut tail = TailState {
            index: start.applied.index,
            chain: start.applied.chain,
            next_offset: start.applied.next_offset,
            log_time_ns: start.last_log_time_ns,
            log_time_at_ns: 0,
        };
        let mut hot = HotTail::new(start.applied.index, settings.limits.hot_tail_bytes_limit);
        for entry in start.suffix {
            tail.index = entry.index();
            tail.chain = entry.chain();
            tail.next_offset = entry.header().next_offset();
            hot.push(entry);
        }
        assert_eq!(tail.index, last, "the suffix reaches the end of the log");
        let peers = rings.peers.drain(..).map(PeerPort::new).collect();
        rings.commit_tail.publish(start.applied.index.0, start.applied.next_offset.prev().0);
        rings.commit_tail.publish_floor(start.floor.offset.0);
        Self {
            clock,
            now_ns: 0,
            started_ns: 0,
            raft: Raft::new(config, start.restored),
            timers: timers::Timers::new(settings.timers, settings.seed),
            durability: start.configurations.newest().durability,
            configurations: start.configurations,
            membership: super::members::MembershipWork::default(),
            // What recovery found behind the commit hint counts as long as it is not committed.
            unsettled_bytes: hot.bytes(),
            hot,
            tail,
            applied: start.applied,
            ahead: start.ahead,
            producers: start.producers,
            accumulator: BatchAccumulator::new(settings.batch),
            staging: Staging::default(),
            pending: pending::Pending::new(start.applied.index),
            hard_state: hard_state::HardStateWriter::new(start.hard_state),
            peers,
            rings,
            control,
            counters: BatcherCounters::new(counters),
            log_backlog: VecDeque::new(),
            reply_backlog: VecDeque::new(),
            open_chunk: None,
            written: last,
            flushed: last,
            unwritten: Unwritten::default(),
            disk_watch: super::disk_watch::DiskWatch::new(start.pulse),
            handover: super::transfer::Handover::default(),
            retention: super::retention::Retention::new(start.floor, start.configuration_entry, start.marks),
            incoming: super::install::Incoming::default(),
            reads: Vec::new(),
            next_read_token: 1,
            led_before: false,
            opened: Vec::new(),
            settings,
        }
    }

    /// Header fields of the next entry, for the index that the core has just given out.
    pub(super) fn seal_context(&self, id: EntryId) -> SealContext {
        assert_eq!(id.index, self.tail.index.next(), "the core and the tail agree on the next index");
        let elapsed_ns = self.now_ns.saturating_sub(self.tail.log_time_at_ns);
        SealContext {
            term: id.term,
            index: id.index,
            prev_chain: self.tail.chain,
            base_offset: self.tail.next_offset,
            log_time_ns: self.tail.log_time_ns + elapsed_ns,
            timestamp_unix_ns: self.clock.unix_ns(),
        }
    }

    /// Appends one entry to the hot tail and hands it to the log writer.
    pub(super) fn append(&mut self, entry: Entry) {
        let header = entry.header();
        assert_eq!(header.index, self.tail.index.next(), "entries are appended without gaps");
        assert_eq!(header.prev_chain, self.tail.chain, "entries continue the chain");
        self.tail = TailState {
            index: header.index,
            chain: entry.chain(),
            next_offset: header.next_offset(),
            log_time_ns: header.log_time_ns,
            log_time_at_ns: self.now_ns,
        };
        self.unsettled_bytes += entry.len_bytes() as u64;
        self.unwritten.push(entry.index(), entry.len_bytes() as u64);
        self.hot.push(entry.clone());
        if entry.header().kind == EntryKind::Configuration {
            self.configure(&entry);
        }
        if is_planted(Bug::UncommittedDelivered) {
            let _ = self.rings.to_delivery.push(DeliveryNotice::Committed(entry.clone()));
        }
        self.hand_to_writer(LogCommand::Append(entry));
    }

    /// Carries out what the core decided about the log. `received` are the entries of the Append just stepped.
    pub(super) fn carry_out(&mut self, op: LogOp, received: &mut Vec<Entry>) {
        match op {
            LogOp::TruncateFrom { first_removed, generation } => self.truncate(first_removed, generation),
            LogOp::AppendReceived { first, last, skip } => {
                let fresh = received.drain(..).skip(skip);
                let fresh: Vec<Entry> = fresh.collect();
                assert_eq!(fresh.first().map(Entry::index), Some(first), "the core counts the same entries");
                assert_eq!(fresh.last().map(Entry::index), Some(last), "the core counts the same entries");
                for entry in fresh {
                    if entry.header().prev_chain != self.tail.chain
                        || entry.header().base_offset != self.tail.next_offset
                    {
                        self.control.fail(Fatal::Divergence(format!(
                            "the leader's entry at {} does not continue this node's log (chain {:016x} here, {:016x} \
                             there): the logs differ; stop and compare with `tercet log verify`",
                            entry.id(),
                            self.tail.chain,
                            entry.header().prev_chain
                        )));
                        return;
                    }
                    self.append(entry);
                }
            }
            LogOp::Install { id, generation } => self.install(id, generation),
            LogOp::AppendNoop { id } => {
                let entry = self.opening_entry(&self.seal_context(id));
                self.append(entry);
            }
        }
    }

    fn truncate(&mut self, first_removed: LogIndex, generation: u64) {
        assert!(first_removed > self.applied.index, "a committed entry is never removed");
        let mut removed_bytes = 0;
        let mut index = first_removed;
        while let Some(entry) = self.hot.get(index) {
            removed_bytes += entry.len_bytes() as u64;
            index = index.next();
        }
        self.unsettled_bytes = self.unsettled_bytes.saturating_sub(removed_bytes);
        self.hot.truncate_from(first_removed);
        self.unwritten.truncate_from(first_removed);
        self.written = self.written.min(first_removed.prev());
        self.flushed = self.flushed.min(first_removed.prev());
        self.producers.drop_overlay();
        if !is_planted(Bug::ConfigurationNotRolledBack) {
            self.unconfigure(first_removed);
        }
        let kept = first_removed.prev();
        let (chain, next_offset, log_time_ns) = if kept == self.applied.index {
            // Log time of the applied entry may be unknown after a restart; never going back is what matters.
            (self.applied.chain, self.applied.next_offset, self.tail.log_time_ns)
        } else {
            let entry = self.hot.get(kept).expect("entries past the applied index are in the hot tail");
            (entry.chain(), entry.header().next_offset(), entry.header().log_time_ns)
        };
        self.tail = TailState { index: kept, chain, next_offset, log_time_ns, log_time_at_ns: self.now_ns };
        self.hand_to_writer(LogCommand::TruncateFrom { first_removed, generation });
    }

    /// Keeps the hot tail within its bound, but never drops what is not applied or not yet readable from the log.
    pub(super) fn trim_hot_tail(&mut self) {
        let keep_from = self.applied.index.min(self.written).next();
        self.hot.trim(keep_from);
    }
}
