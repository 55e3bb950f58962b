//! The writer's side of the log. One value, on the log writer's thread; it alone writes files.
//!
//! Order of calls: [`LogStore::open`], then any of `append`, `truncate_from`, `write_staged`, `flush`,
//! `write_hard_state`, `idle`, at the end `close`. After each of them readers' news wait in
//! [`LogStore::catalog_changes`].
//!
//! ```text
//! appended >= written >= flushed >= watermark on disk        (last index of each)
//!    append()    write_staged()   flush()      the next flush(), idle() or close()
//! ```
//!
//! A flush costs one vectored write of the staged entries, one 64-byte write of the watermark that the flush before
//! earned, and one fdatasync. The watermark lags one flush behind, so it never vouches for bytes of its own sync.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;
use std::vec::Drain;

use super::LogOptions;
use super::disk::{Disk, DiskError, DiskErrorKind, DiskFile, Lock};
use super::error::LogError;
use super::hard_state::{HardStateFile, StoredHardState};
use super::layout::{ENTRIES_POSITION, Slot};
use super::prepare::Spare;
use super::published::Published;
use super::pulse::Pulse;
use super::recovery::Live;
use super::retention::{Checkpoints, Doomed, SegmentMark};
use super::scanner::Tail;
use super::segment::CatalogChange;
use crate::base::ids::{ClusterId, EntryId, LogIndex};
use crate::base::planted::{Bug, is_planted};
use crate::entry::Entry;

/// Bytes written before their writeback is begun.
const WRITEBACK_BYTES: u64 = 1 << 20;
/// Entries in one vectored write; more staged ones take further writes.
const PARTS_MAX: usize = 256;

/// What [`LogStore::write_staged`] reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// As given to the latest truncation; zero before the first.
    pub generation: u64,
    /// Last index in the page cache and readable.
    pub last: LogIndex,
}

/// What [`LogStore::flush`] reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flushed {
    /// As given to the latest truncation; zero before the first.
    pub generation: u64,
    /// Last index that is durable.
    pub last: LogIndex,
}

/// The log's writer.
pub struct LogStore<D: Disk> {
    pub(super) disk: D,
    pub(super) group_dir: PathBuf,
    pub(super) options: LogOptions,
    pub(super) cluster_id: ClusterId,
    pub(super) hard_state: HardStateFile<D::File>,
    /// What it holds.
    pub(super) stored: StoredHardState,
    /// Segments that hold the log, ascending; the last one is appended to. Never empty.
    pub(super) live: Vec<Live<D::File>>,
    /// Highest segment number ever used here.
    pub(super) last_seq: u64,
    pub(super) staged: Vec<Entry>,
    /// With what is staged.
    pub(super) appended: Tail,
    /// In the file and published.
    pub(super) written: Tail,
    /// Durable. Its position is in the active segment.
    pub(super) flushed: Tail,
    pub(super) generation: u64,
    pub(super) commit_hint: LogIndex,
    pub(super) changes: Vec<CatalogChange<D::File>>,
    pub(super) spare: Option<Spare<D::File>>,
    /// Removed from the log, waiting until no reader holds them.
    pub(super) doomed: Vec<Doomed<D::File>>,
    /// The two checkpoint files, and one that is being written.
    pub(super) checkpoints: Checkpoints<D::File>,
    /// Files to use again.
    pub(super) free: Vec<PathBuf>,
    /// Segments begun and not yet told to anybody.
    pub(super) marks: Vec<SegmentMark>,
    /// Log time of the last appended entry.
    pub(super) last_log_time_ns: u64,
    /// Up to where writeback of the active segment was begun without waiting for it.
    pub(super) writeback_begun: u64,
    pub(super) idle: super::prepare::IdleState,
    pub(super) poison: Option<String>,
    pub(super) pulse: Pulse,
    pub(super) _lock: Lock,
}

impl<D: Disk> LogStore<D> {
    /// Refuses everything after a failure.
    pub(super) fn check(&self) -> Result<(), LogError> {
        match &self.poison {
            Some(reason) => Err(LogError::Poisoned(reason.clone())),
            None => Ok(()),
        }
    }

    /// Turns a disk error into the log's, and makes it final unless the disk is only full.
    pub(super) fn fail(&mut self, error: DiskError) -> LogError {
        if error.kind() != DiskErrorKind::Full {
            self.poison = Some(error.to_string());
        }
        error.into()
    }

    /// A failed sync is final whatever its reason: nobody knows what reached the device (PITFALLS 55).
    pub(super) fn fail_sync(&mut self, error: DiskError) -> LogError {
        self.poison = Some(error.to_string());
        error.into()
    }

    pub(super) fn active(&self) -> &Live<D::File> {
        let Some(active) = self.live.last() else { unreachable!("a log has a segment") };
        active
    }

    fn active_mut(&mut self) -> &mut Live<D::File> {
        let Some(active) = self.live.last_mut() else { unreachable!("a log has a segment") };
        active
    }

    /// News for readers since the last call, in order.
    pub fn catalog_changes(&mut self) -> Drain<'_, CatalogChange<D::File>> {
        self.changes.drain(..)
    }

    /// The last appended entry, staged ones included.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.appended.id
    }

    /// The stretch of the newest file that is durable while the watermark on the disk does not say so yet, if there is one:
    /// damage there looks like a torn write.
    #[must_use]
    pub fn unvouched(&self) -> Option<(PathBuf, std::ops::Range<u64>)> {
        let (active, end) = (self.active(), self.flushed.end_position);
        let begins = active.slot.end_position;
        (begins < end).then(|| (active.segment.path().to_owned(), begins..end))
    }

    /// Chain value of the last appended entry.
    #[must_use]
    pub fn last_chain(&self) -> u64 {
        self.appended.chain
    }

    /// Truncations carried out so far, as they were numbered.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Last durable index.
    #[must_use]
    pub fn flushed_index(&self) -> LogIndex {
        self.flushed.id.index
    }

    /// Whether [`LogStore::flush`] has anything to do.
    #[must_use]
    pub fn has_unflushed(&self) -> bool {
        self.appended.id.index > self.flushed.id.index
    }

    /// Number of live segments, the active one included.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.live.len()
    }

    /// Stages an entry. Rolls first when it does not fit: what was staged is written and synced, the next segment's
    /// header is durable under its name, and the full one is sealed, all before the new one accepts anything
    /// (PITFALLS 56, 57).
    ///
    /// # Errors
    /// The roll failed. When the disk is full (`is_retryable`) the entry is not staged and may be appended again later.
    ///
    /// # Panics
    /// When the entry does not continue the log, or is larger than a segment can hold: bugs of the caller.
    pub fn append(&mut self, entry: Entry) -> Result<(), LogError> {
        self.check()?;
        let header = entry.header();
        assert!(
            self.appended.is_continued_by(header),
            "{} does not continue the log after {}",
            header.id(),
            self.appended.id
        );
        let len = u64::from(header.total_bytes);
        assert!(ENTRIES_POSITION + len <= self.options.segment_bytes(), "an entry fits a segment");
        let room = self.active().segment.header().segment_bytes;
        if self.appended.end_position + len > room {
            self.roll()?;
        }
        self.appended = self.appended.after(header);
        self.last_log_time_ns = header.log_time_ns;
        self.staged.push(entry);
        Ok(())
    }

    /// Writes what is staged into the page cache by one vectored write and publishes it to readers. Not durable yet.
    ///
    /// # Errors
    /// The write failed. When the disk is full, everything stays staged and the call may be repeated.
    pub fn write_staged(&mut self) -> Result<Written, LogError> {
        self.check()?;
        if !self.staged.is_empty() {
            if let Err(error) = self.write_parts() {
                return Err(self.fail(error));
            }
            self.publish_staged();
        }
        Ok(Written { generation: self.generation, last: self.written.id.index })
    }

    /// Begins writeback of what was written and not flushed, a piece at a time, without waiting. For logs that are not
    /// flushed batch by batch (durability `memory`): otherwise a whole segment is dirty when the next roll must sync
    /// it, and the writer stands still for as long as the disk needs for 64 MiB.
    pub fn begin_writeback(&mut self) {
        let end = self.written.end_position;
        if end < self.writeback_begun {
            // A roll or a truncation went on in another file.
            self.writeback_begun = ENTRIES_POSITION;
        }
        let len = end.saturating_sub(self.writeback_begun);
        if len >= WRITEBACK_BYTES {
            self.active().segment.file().start_writeback(self.writeback_begun, len);
            self.writeback_begun = end;
        }
    }

    fn write_parts(&self) -> Result<(), DiskError> {
        let file = self.active().segment.file();
        let mut position = self.written.end_position;
        for chunk in self.staged.chunks(PARTS_MAX) {
            let mut parts = [IoSlice::new(&[]); PARTS_MAX];
            let mut len = 0;
            for (part, entry) in parts.iter_mut().zip(chunk) {
                *part = IoSlice::new(entry.bytes());
                len += entry.len_bytes() as u64;
            }
            file.write_at(&parts[..chunk.len()], position)?;
            position += len;
        }
        assert!(position == self.appended.end_position, "staged entries end where the log ends");
        Ok(())
    }

    fn publish_staged(&mut self) {
        let segment = Arc::clone(&self.active().segment);
        for entry in &self.staged {
            segment.note(entry.header(), self.written.end_position);
            self.written = self.written.after(entry.header());
        }
        self.staged.clear();
        let Tail { id, next_offset, end_position, .. } = self.written;
        segment.publish(Published { last_index: id.index, next_offset, end_position });
    }

    /// Makes everything appended so far durable: the staged entries, with them the watermark that the flush before
    /// earned, and one fdatasync.
    ///
    /// # Errors
    /// Final, except for a full disk before the sync.
    pub fn flush(&mut self) -> Result<Flushed, LogError> {
        self.write_staged()?;
        if self.written.id.index > self.flushed.id.index {
            if is_planted(Bug::WatermarkBeforeData) {
                self.flushed = self.written;
            }
            if self.slot_is_behind() {
                self.write_slot(|slot| slot)?;
            }
            self.sync_active()?;
        }
        Ok(Flushed { generation: self.generation, last: self.flushed.id.index })
    }

    pub(super) fn sync_active(&mut self) -> Result<(), LogError> {
        if let Err(error) = self.active().segment.file().sync_data()
            && !is_planted(Bug::FailedFlushIgnored)
        {
            return Err(self.fail_sync(error));
        }
        self.flushed = self.written;
        self.pulse.beat();
        Ok(())
    }

    /// Beats whenever the disk has finished a step that the writer waited for.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Whether the watermark on disk (or on its way there) says less than is known.
    pub(super) fn slot_is_behind(&self) -> bool {
        let slot = &self.active().slot;
        self.flushed.id.index > slot.flushed_index || self.commit_hint > slot.commit_hint || slot.clean
    }

    /// Writes the next watermark slot of the active segment, which speaks for what is flushed. `change` may add flags.
    pub(super) fn write_slot(&mut self, change: impl FnOnce(Slot) -> Slot) -> Result<(), LogError> {
        let slot = change(Slot {
            number: self.active().slot.number + 1,
            flushed_index: self.flushed.id.index,
            end_position: self.flushed.end_position,
            chain: self.flushed.chain,
            commit_hint: self.commit_hint,
            next_seq: None,
            clean: false,
        });
        let written = self.active().write_slot(slot);
        if let Err(error) = written {
            return Err(self.fail(error));
        }
        self.active_mut().slot = slot;
        Ok(())
    }

    /// Makes the hard state durable.
    ///
    /// # Errors
    /// Final.
    pub fn write_hard_state(&mut self, state: &StoredHardState) -> Result<(), LogError> {
        self.check()?;
        let written = self.hard_state.write(state);
        self.stored.clone_from(state);
        written.map_err(|error| self.fail_sync(error))
    }

    /// Remembers the commit index for the next watermark; it never falls. Costs nothing.
    pub fn set_commit_hint(&mut self, commit_index: LogIndex) {
        self.commit_hint = self.commit_hint.max(commit_index);
    }

    /// Flushes everything and writes both watermark slots, marked clean, so that the next start need not search for
    /// torn writes; then the hard state says that nothing is left that a reboot could lose. The store takes nothing
    /// more afterwards.
    ///
    /// # Errors
    /// Final.
    pub fn close(&mut self) -> Result<(), LogError> {
        self.flush()?;
        // One after the other: a crash between them leaves a whole slot.
        for _ in 0..2 {
            self.write_slot(|slot| Slot { clean: true, ..slot })?;
            self.sync_active()?;
        }
        self.write_hard_state(&StoredHardState { closed: true, ..self.stored.clone() })?;
        let copied = self.hard_state.sync_copy();
        copied.map_err(|error| self.fail_sync(error))?;
        self.unlink_free()?;
        self.poison = Some("it was closed".to_owned());
        Ok(())
    }
}

impl<F: DiskFile> Live<F> {
    /// Writes a slot into this segment's file; durable after the next sync.
    pub fn write_slot(&self, slot: Slot) -> Result<(), DiskError> {
        let position = Slot::position_of(slot.number);
        self.segment.file().write_at(&[IoSlice::new(&slot.encode())], position)
    }

    /// Seals the segment, durably, in both blocks: the seal is all that tells of a segment behind it whose file is lost,
    /// so one damaged block must not hide it. One block after the other, so that a crash tears one at most.
    pub fn seal(&mut self, seal: Slot) -> Result<(), DiskError> {
        assert!(seal.next_seq.is_some(), "a seal names the segment that goes on");
        for slot in [seal, Slot { number: seal.number + 1, ..seal }] {
            let written = self.write_slot(slot).and_then(|()| self.segment.file().sync_data());
            self.slot = slot;
            written?;
        }
        self.is_sealed_twice = true;
        Ok(())
    }
}
