//! The log writer: the only agent that writes files. Its trade is the disk, so it has a thread of its own in every
//! mode and may wait in `fdatasync`; one flush is in flight, and what arrives meanwhile gathers behind it (rule 7).

use super::Agent;
use super::commands::{LogCommand, LogEvent};
use super::control::{Control, Fatal};
use super::rings::LogWriterRings;
use crate::base::clock::NS_PER_MS;
use crate::base::ids::LogIndex;
use crate::base::net::Readiness;
use crate::entry::Durability;
use crate::log::{CatalogChange, Disk, LogError, LogStore, StoredHardState};
use crate::metrics::{Counter, Counters};

/// Entries taken into one write at most, so that one flush stays short.
const COMMANDS_LIMIT: usize = 1024;
/// Bytes taken into one write at most.
const BYTES_LIMIT: usize = 4 << 20;
/// Quiet time after which idle work begins.
const IDLE_AFTER_NS: u64 = NS_PER_MS;
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
}

impl LogWriterCounters {
    fn new(counters: &Counters) -> Self {
        Self {
            flushes: counters.register("log_writer_flushes"),
            bytes_written: counters.register("log_writer_bytes_written"),
            hard_state_writes: counters.register("log_writer_hard_state_writes"),
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
    catalog_backlog: Vec<CatalogChange<D::File>>,
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
        self.next_idle_ns
    }

    fn is_stalled(&self) -> bool {
        self.unreported.is_some() || self.hard_state_reports.is_some() || !self.catalog_backlog.is_empty()
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
            catalog_backlog: Vec::new(),
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
        let (commands, hard_state) = self.gather()?;
        work += commands;
        if let Some((write_id, state)) = hard_state {
            self.write_hard_state(&state)?;
            self.counters.hard_state_writes.increment();
            self.hard_state_reports = Some(LogEvent::HardStateFlushed { write_id });
        }
        if commands > 0 {
            self.write()?;
            self.next_idle_ns = Some(now_ns + IDLE_AFTER_NS);
        } else if self.next_idle_ns.is_some_and(|at| at <= now_ns) {
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
        self.store.write_hard_state(state)
    }

    /// Takes what is in the ring, bounded, into one write. Of several hard states only the newest is written.
    fn gather(&mut self) -> Result<(usize, Option<(u64, StoredHardState)>), LogError> {
        let mut hard_state = None;
        let (mut commands, mut bytes) = (0, 0);
        while commands < COMMANDS_LIMIT && bytes < BYTES_LIMIT {
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
                LogCommand::Append(entry) => {
                    bytes += entry.len_bytes();
                    self.store.append(entry)?;
                }
                LogCommand::TruncateFrom { first_removed, generation } => {
                    self.store.truncate_from(first_removed, generation)?;
                    self.generation = generation;
                    self.written = self.written.min(first_removed.prev());
                    self.flushed = self.flushed.min(first_removed.prev());
                }
                LogCommand::HardState { write_id, state } => hard_state = Some((write_id, state)),
            }
        }
        self.counters.bytes_written.add(bytes as u64);
        Ok((commands, hard_state))
    }

    /// Makes what was gathered stable in the cluster's sense, and reports it.
    fn write(&mut self) -> Result<(), LogError> {
        self.store.set_commit_hint(LogIndex(self.rings.commit_tail.commit_hint()));
        let before = (self.generation, self.written, self.flushed);
        match self.durability {
            Durability::Disk => self.flush()?,
            Durability::Memory => {
                self.written = self.store.write_staged()?.last;
                self.store.begin_writeback();
            }
        }
        if before != (self.generation, self.written, self.flushed) || self.unreported.is_some() {
            self.report();
        }
        if self.store.preparation_is_due() {
            self.store.prepare_slice()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        #[cfg(feature = "faults")]
        if crate::log::faults::is_planted(crate::log::faults::ACK_BEFORE_FLUSH) {
            let written = self.store.write_staged()?.last;
            (self.written, self.flushed) = (written, written);
            return Ok(());
        }
        if self.store.has_unflushed() {
            let flushed = self.store.flush()?;
            self.counters.flushes.increment();
            (self.written, self.flushed) = (flushed.last, flushed.last);
        }
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
        let idle = self.store.idle(now_ns)?;
        self.next_idle_ns = if idle.preparing { Some(now_ns + PREPARE_EVERY_NS) } else { idle.deadline_ns };
        Ok(usize::from(idle.watermark_flushed) + idle.unlinked)
    }

    fn report(&mut self) {
        self.unreported = Some(LogEvent::Progress {
            generation: self.generation,
            written: self.written,
            flushed: self.flushed,
        });
        // The reader first: whoever hears of the progress may ask it for what was written.
        self.hand_on_catalog();
        self.report_leftovers();
    }

    fn report_leftovers(&mut self) -> usize {
        let mut work = 0;
        let progress = if self.catalog_backlog.is_empty() { Some(&mut self.unreported) } else { None };
        for slot in [Some(&mut self.hard_state_reports), progress].into_iter().flatten() {
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
