//! The log writer: the only agent that writes files. Its trade is the disk, so it has a thread of its own in every
//! mode and may wait in `fdatasync`; one flush is in flight, and what arrives meanwhile gathers behind it (rule 7).

use std::collections::VecDeque;

use super::Agent;
use super::commands::{Installation, LogCommand, LogEvent};
use super::control::{Control, Fatal};
use super::rings::LogWriterRings;
use crate::base::clock::NS_PER_MS;
use crate::base::ids::LogIndex;
use crate::base::net::Readiness;
use crate::base::planted::{Bug, is_planted};
use crate::entry::Durability;
use crate::log::{CatalogChange, Disk, LogError, LogStore, StoredHardState};
use crate::metrics::{Counter, Counters};

/// Entries taken into one write at most, so that one flush stays short.
const COMMANDS_LIMIT: usize = 1024;
/// Bytes taken into one write at most.
const BYTES_LIMIT: usize = 4 << 20;
/// Quiet time after which idle work begins.
const IDLE_AFTER_NS: u64 = NS_PER_MS;
/// How long to wait before asking a full disk again.
const FULL_RETRY_NS: u64 = 100 * NS_PER_MS;
/// Between two slices of the next segment while nothing else is to do.
const PREPARE_EVERY_NS: u64 = 5 * NS_PER_MS;

/// Counters that only the log writer writes.
#[derive(Debug)]
struct LogWriterCounters {
    // Flushes (fdatasync of the log).
    flushes: Counter,
    // Bytes of entries written.
    bytes_written: Counter,
    // Hard-state writes.
    hard_state_writes: Counter,
    // Times the disk had no room for the next segment.
    disk_full: Counter,
    // Checkpoints written.
    checkpoints: Counter,
}

impl LogWriterCounters {
    fn new(counters: &Counters) -> Self {
        Self {
            flushes: counters.register("log_writer_flushes"),
            bytes_written: counters.register("log_writer_bytes_written"),
            hard_state_writes: counters.register("log_writer_hard_state_writes"),
            disk_full: counters.register("log_writer_disk_full"),
            checkpoints: counters.register("log_writer_checkpoints"),
        }
    }
}

/// The agent.
pub struct LogWriter<D: Disk> {
    store: LogStore<D>,
    durability: Durability,
    rings: LogWriterRings<D::File>,
    control: Control,
    counters: LogWriterCounters,
    generation: u64,
    written: LogIndex,
    flushed: LogIndex,
    /// The newest report that found its ring full; a newer one replaces it.
    unreported: Option<LogEvent>,
    hard_state_reports: Option<LogEvent>,
    /// Whether the disk is full, while the batcher must still be told.
    full_report: Option<LogEvent>,
    /// The command that found the disk full; those behind it wait in the ring.
    held: Option<LogCommand>,
    /// While the disk is full: when it is asked again.
    full_until_ns: Option<u64>,
    catalog_backlog: Vec<CatalogChange<D::File>>,
    /// News of segments and checkpoints, which must not be lost.
    news: VecDeque<LogEvent>,
    next_idle_ns: Option<u64>,
    failed: bool,
}

impl<D: Disk> Agent for LogWriter<D> {
    fn name(&self) -> &'static str {
        "log-writer"
    }

    fn do_work(&mut self, now_ns: u64, _readiness: &[Readiness]) -> usize {
        if self.failed {
            return 0;
        }
        match self.turn(now_ns) {
            Ok(work) => work,
            Err(error) => {
                // Final: no retry, no further report, so no further acknowledgement (PITFALLS 55).
                self.failed = true;
                self.control.fail(Fatal::Disk(format!("disk error: {error}")));
                0
            }
        }
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.full_until_ns.or(self.next_idle_ns)
    }

    fn is_stalled(&self) -> bool {
        self.full_report.is_some()
            || self.unreported.is_some()
            || self.hard_state_reports.is_some()
            || !self.catalog_backlog.is_empty()
            || !self.news.is_empty()
    }

    fn on_close(&mut self) {
        if !self.failed
            && let Err(error) = self.store.close()
        {
            self.control.fail(Fatal::Disk(format!("disk error at shutdown: {error}")));
        }
    }
}

impl<D: Disk> LogWriter<D> {
    /// An agent over an opened store whose last durable index is `flushed`.
    pub fn new(
        store: LogStore<D>,
        durability: Durability,
        flushed: LogIndex,
        generation: u64,
        rings: LogWriterRings<D::File>,
        control: Control,
        counters: &Counters,
    ) -> Self {
        Self {
            store,
            durability,
            rings,
            control,
            counters: LogWriterCounters::new(counters),
            generation,
            written: flushed,
            flushed,
            unreported: None,
            hard_state_reports: None,
            full_report: None,
            held: None,
            full_until_ns: None,
            catalog_backlog: Vec::new(),
            news: VecDeque::new(),
            next_idle_ns: Some(0),
            failed: false,
        }
    }

    /// The store, for invariants in the simulator.
    #[must_use]
    pub const fn store(&self) -> &LogStore<D> {
        &self.store
    }

    fn turn(&mut self, now_ns: u64) -> Result<usize, LogError> {
        let mut work = self.report_leftovers();
        if self.full_until_ns.is_some_and(|until_ns| now_ns < until_ns) {
            return Ok(work);
        }
        let (commands, hard_state) = self.gather(now_ns)?;
        work += commands;
        if let Some((write_id, state)) = hard_state {
            self.write_hard_state(&state)?;
            self.counters.hard_state_writes.increment();
            self.hard_state_reports = Some(LogEvent::HardStateFlushed { write_id });
        }
        if commands > 0 {
            self.write()?;
            self.next_idle_ns = Some(now_ns + IDLE_AFTER_NS);
        }
        if self.held.is_some() {
            // The watermark, and files that can be let go: that is what makes room.
            work += self.idle(now_ns)?;
        } else if commands == 0 && self.next_idle_ns.is_some_and(|at| at <= now_ns) {
            work += self.idle(now_ns)?;
        }
        self.hand_on_catalog();
        work += self.report_leftovers();
        Ok(work)
    }

    fn write_hard_state(&mut self, state: &StoredHardState) -> Result<(), LogError> {
        #[cfg(feature = "faults")]
        if crate::log::faults::is_planted(crate::log::faults::VOTE_NOT_PERSISTED) {
            return Ok(());
        }
        if is_planted(Bug::HardStateNotWritten) {
            return Ok(());
        }
        self.store.write_hard_state(state)
    }

    /// Takes what is in the ring, bounded, into one write. Of several hard states only the newest is written. Stops at
    /// a full disk, and begins there the next time.
    fn gather(&mut self, now_ns: u64) -> Result<(usize, Option<(u64, StoredHardState)>), LogError> {
        let mut hard_state = None;
        let (mut commands, mut bytes) = (0, 0);
        if let Some(held) = self.held.take() {
            bytes += self.carry_out(held, now_ns)?;
            commands += 1;
        }
        while commands < COMMANDS_LIMIT && bytes < BYTES_LIMIT && self.held.is_none() {
            // Hard state is durable before entries behind it may be: an entry of a term that a restart does not know
            // of must never be found in the log.
            if hard_state.is_some()
                && !matches!(self.rings.from_batcher.peek(), Some(LogCommand::HardState { .. }))
            {
                break;
            }
            let Some(command) = self.rings.from_batcher.pop() else { break };
            commands += 1;
            match command {
                LogCommand::HardState { write_id, state } => hard_state = Some((write_id, state)),
                command => bytes += self.carry_out(command, now_ns)?,
            }
        }
        self.counters.bytes_written.add(bytes as u64);
        Ok((commands, hard_state))
    }

    /// Appends or truncates; gives the bytes appended. Where the disk is full, the command is held instead.
    fn carry_out(&mut self, command: LogCommand, now_ns: u64) -> Result<usize, LogError> {
        let (done, bytes) = match &command {
            LogCommand::Append(entry) => (self.store.append(entry.clone()), entry.len_bytes()),
            LogCommand::TruncateFrom { first_removed, generation } => {
                (self.truncate(*first_removed, *generation), 0)
            }
            LogCommand::Install(installation) => (self.install(installation), 0),
            LogCommand::Checkpoint(order) => {
                self.store.order_checkpoint((**order).clone());
                (Ok(()), 0)
            }
            LogCommand::HardState { .. } => unreachable!("hard state is gathered and written apart"),
        };
        match done {
            Ok(()) => {
                if self.full_until_ns.take().is_some() {
                    tracing::info!("the disk has room again");
                    self.full_report = Some(LogEvent::Full(false));
                }
                Ok(bytes)
            }
            Err(error) if error.is_retryable() => {
                if self.full_until_ns.is_none() {
                    self.counters.disk_full.increment();
                    tracing::error!("{error}; this node takes no more entries until there is room again");
                    self.full_report = Some(LogEvent::Full(true));
                }
                self.full_until_ns = Some(now_ns + FULL_RETRY_NS);
                self.held = Some(command);
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    fn truncate(&mut self, first_removed: LogIndex, generation: u64) -> Result<(), LogError> {
        self.store.truncate_from(first_removed, generation)?;
        self.generation = generation;
        self.written = self.written.min(first_removed.prev());
        self.flushed = self.flushed.min(first_removed.prev());
        Ok(())
    }

    /// Whatever was reported before is void; what is reported next begins behind the checkpoint.
    fn install(&mut self, installation: &Installation) -> Result<(), LogError> {
        let Installation { order, base, generation } = installation;
        self.store.install_checkpoint(order, base, *generation)?;
        self.generation = *generation;
        (self.written, self.flushed) = (base.id.index, base.id.index);
        // Owed also where nothing follows: the node's stable index comes from reports alone.
        self.unreported = Some(self.progress());
        // A checkpoint that was under way is forgotten, and so are marks of the old log.
        self.news.retain(|event| !matches!(event, LogEvent::SegmentBegun(_)));
        self.news.push_back(LogEvent::CheckpointWritten);
        Ok(())
    }

    /// Makes what was gathered stable in the cluster's sense, and reports it.
    fn write(&mut self) -> Result<(), LogError> {
        self.store.set_commit_hint(LogIndex(self.rings.commit_tail.commit_hint()));
        if is_planted(Bug::CommitHintTooHigh) {
            self.store.set_commit_hint(self.written);
        }
        let before = (self.generation, self.written, self.flushed);
        match self.durability {
            Durability::Disk => self.flush()?,
            Durability::Memory => {
                self.written = self.store.write_staged()?.last;
                // What a roll has flushed: the commit hint goes by it. Under load there is no other flush, and the next
                // start would hold everything behind the last one as not yet committed.
                self.flushed = self.store.flushed_index();
                self.store.begin_writeback();
            }
        }
        if before != (self.generation, self.written, self.flushed) || self.unreported.is_some() {
            self.report();
        }
        // A few steps a segment, and the next one's preparation waits for what they let go. That itself waits for nothing:
        // where segments roll faster than checkpoints are written, there is always a step to take.
        let stepped = self.checkpoint_step()?;
        if self.store.has_doomed() {
            self.store.unlink_free()?;
        }
        if !stepped && self.store.preparation_is_due() {
            self.store.prepare_slice()?;
        }
        Ok(())
    }

    /// One step towards a checkpoint, where one was ordered.
    fn checkpoint_step(&mut self) -> Result<bool, LogError> {
        if !self.store.has_checkpoint_work() {
            return Ok(false);
        }
        if self.store.checkpoint_step()? {
            self.counters.checkpoints.increment();
            // Of a copy too: one report more does no harm.
            self.news.push_back(LogEvent::CheckpointWritten);
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), LogError> {
        #[cfg(feature = "faults")]
        if crate::log::faults::is_planted(crate::log::faults::ACK_BEFORE_FLUSH) {
            let written = self.store.write_staged()?.last;
            (self.written, self.flushed) = (written, written);
            return Ok(());
        }
        if is_planted(Bug::FlushReportedAfterWrite) {
            let written = self.store.write_staged()?.last;
            (self.written, self.flushed) = (written, written);
            return Ok(());
        }
        if self.store.has_unflushed() {
            self.store.flush()?;
            self.counters.flushes.increment();
        }
        // A roll flushes too, also one that then finds the disk full.
        let flushed = self.store.flushed_index();
        (self.written, self.flushed) = (flushed, flushed);
        Ok(())
    }

    /// Nothing to append: the watermark, the next segment, files that nobody holds; and in a `memory` cluster the
    /// flush that nobody waits for.
    fn idle(&mut self, now_ns: u64) -> Result<usize, LogError> {
        let flushed_before = self.flushed;
        self.store.set_commit_hint(LogIndex(self.rings.commit_tail.commit_hint()));
        self.flush()?;
        if self.flushed != flushed_before {
            self.report();
        }
        #[cfg(feature = "faults")]
        if crate::log::faults::is_planted(crate::log::faults::ACK_BEFORE_FLUSH) {
            // The lone watermark would sync all that was never flushed.
            self.next_idle_ns = Some(now_ns + IDLE_AFTER_NS);
            return Ok(0);
        }
        self.store.order_copy();
        let stepped = self.checkpoint_step()?;
        let idle = self.store.idle(now_ns)?;
        // A reader that still holds a segment lets go of it within moments; nobody tells when.
        let checkpoints = self.store.has_checkpoint_work() || self.store.owes_copy();
        let again = idle.preparing || checkpoints || idle.waiting_for_readers;
        self.next_idle_ns = if again { Some(now_ns + PREPARE_EVERY_NS) } else { idle.deadline_ns };
        Ok(usize::from(idle.watermark_flushed) + usize::from(stepped) + idle.unlinked)
    }

    const fn progress(&self) -> LogEvent {
        LogEvent::Progress { generation: self.generation, written: self.written, flushed: self.flushed }
    }

    fn report(&mut self) {
        self.unreported = Some(self.progress());
        // The reader first: whoever hears of the progress may ask it for what was written.
        self.hand_on_catalog();
        self.report_leftovers();
    }

    fn report_leftovers(&mut self) -> usize {
        let mut work = 0;
        self.news.extend(self.store.take_marks().map(LogEvent::SegmentBegun));
        while let Some(event) = self.news.pop_front() {
            if let Err(back) = self.rings.to_batcher.push(event) {
                self.news.push_front(back);
                break;
            }
            work += 1;
        }
        let progress = if self.catalog_backlog.is_empty() { Some(&mut self.unreported) } else { None };
        for slot in
            [Some(&mut self.full_report), Some(&mut self.hard_state_reports), progress].into_iter().flatten()
        {
            if let Some(event) = slot.take() {
                match self.rings.to_batcher.push(event) {
                    Ok(()) => work += 1,
                    Err(back) => *slot = Some(back),
                }
            }
        }
        work
    }

    fn hand_on_catalog(&mut self) {
        self.catalog_backlog.extend(self.store.catalog_changes());
        let mut kept = Vec::new();
        for change in self.catalog_backlog.drain(..) {
            if !kept.is_empty() {
                kept.push(change);
            } else if let Err(back) = self.rings.to_reader.push(change) {
                kept.push(back);
            }
        }
        self.catalog_backlog = kept;
    }
}
