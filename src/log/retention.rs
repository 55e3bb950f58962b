//! The beginning of the log: checkpoints written beside the log's own writes, segments let go once two checkpoints do
//! without them, files used again, and a log that begins anew behind a leader's checkpoint.
//!
//! A checkpoint is written in steps, so that appends go on between them: (1) everything that it contains is flushed and
//! its bytes are written under a temporary name; (2) they are synced; (3) the file is renamed over the older of the two,
//! the directory is synced, and what neither of them needs is let go.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{
    CHECKPOINT_TEMPORARY, CheckpointFiles, CheckpointOrder, checkpoint_name, encode_prefix,
};
use super::disk::{Disk, DiskError, DiskErrorKind, DiskFile};
use super::error::LogError;
use super::layout::{HEADER_BYTES, HeaderFound, SPARE_NAME, SegmentHeader, Slot};
use super::scanner::Tail;
use super::segment::{CatalogChange, Segment};
use super::store::LogStore;
use crate::base::ids::LogIndex;
use crate::entry::{LogBase, LogFloor};
use crate::raft::TermRuns;

/// Trimmed files kept to be used again; further ones are unlinked.
pub const FREE_FILES_MAX: usize = 2;

/// Where a segment begins, and what stands before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentMark {
    /// The log could begin here.
    pub floor: LogFloor,
    /// Bytes of entries in the segment before.
    pub bytes_before: u64,
    /// Log time of the entry before, or a little later.
    pub log_time_ns: u64,
}

/// A segment that is no part of the log any more.
pub(super) struct Doomed<F> {
    pub segment: Arc<Segment<F>>,
    /// Everything in it was committed and trimmed.
    pub may_recycle: bool,
}

/// A checkpoint on its way to the disk.
enum Stage<F> {
    Ordered(CheckpointOrder),
    Written(F, Written),
    Synced(Written),
}

#[derive(Clone, Copy)]
struct Written {
    number: u64,
    first_seq: u64,
}

/// The two files, and what is on its way to them.
pub(super) struct Checkpoints<F> {
    /// Number and first segment of each whole file, by parity.
    whole: [Option<(u64, u64)>; 2],
    stage: Option<Stage<F>>,
    /// One that was ordered while another was being written.
    waiting: Option<CheckpointOrder>,
    /// The newest one that was begun, until both files hold it: the older file keeps segments that it does without.
    newest: Option<CheckpointOrder>,
}

impl<F> Checkpoints<F> {
    pub fn new(files: &CheckpointFiles) -> Self {
        Self { whole: files.whole, stage: None, waiting: None, newest: None }
    }

    fn is_copied(&self) -> bool {
        matches!(self.whole, [Some((_, one)), Some((_, other))] if one == other)
    }

    fn next_number(&self) -> u64 {
        self.whole.iter().flatten().map(|whole| whole.0 + 1).max().unwrap_or(1)
    }

    /// Files with lower numbers are needed by neither checkpoint.
    pub fn void_below(&self) -> u64 {
        match self.whole {
            [Some((_, one)), Some((_, other))] => one.min(other),
            _ => 0,
        }
    }
}

impl<D: Disk> LogStore<D> {
    /// Takes a checkpoint to be written; one that has not been begun is replaced.
    pub fn order_checkpoint(&mut self, order: CheckpointOrder) {
        if matches!(self.checkpoints.stage, None | Some(Stage::Ordered(_))) {
            self.checkpoints.stage = Some(Stage::Ordered(order));
        } else {
            self.checkpoints.waiting = Some(order);
        }
    }

    /// In quiet moments: the newest checkpoint takes the place of the older one too, where that one keeps segments.
    pub fn order_copy(&mut self) {
        if self.checkpoints.stage.is_some() {
            return;
        }
        match self.checkpoints.newest.take() {
            Some(order) if !self.checkpoints.is_copied() => {
                self.checkpoints.stage = Some(Stage::Ordered(order));
            }
            Some(_) | None => {}
        }
    }

    /// Whether a checkpoint is on its way.
    #[must_use]
    pub const fn has_checkpoint_work(&self) -> bool {
        self.checkpoints.stage.is_some()
    }

    /// Whether [`LogStore::order_copy`] would order one. Somebody has to come back for it: without a quiet moment more,
    /// the older checkpoint would keep its segments for as long as nothing happens.
    #[must_use]
    pub fn owes_copy(&self) -> bool {
        self.checkpoints.newest.is_some() && !self.checkpoints.is_copied()
    }

    /// Does one step towards the checkpoint that was ordered; true once one is durable.
    ///
    /// # Errors
    /// Final. A full disk is none: the spare is given up for it, and then the step is done again.
    pub fn checkpoint_step(&mut self) -> Result<bool, LogError> {
        self.check()?;
        let Some(stage) = self.checkpoints.stage.take() else { return Ok(false) };
        self.checkpoints.stage = match stage {
            Stage::Ordered(order) => match self.write_checkpoint(&order)? {
                Some((file, written)) => {
                    self.checkpoints.newest = Some(order);
                    Some(Stage::Written(file, written))
                }
                None => Some(Stage::Ordered(order)),
            },
            Stage::Written(file, written) => {
                file.sync_data().map_err(|error| self.fail_sync(error))?;
                self.pulse.beat();
                Some(Stage::Synced(written))
            }
            Stage::Synced(written) => {
                self.name_checkpoint(written)?;
                self.let_prefix_go();
                self.checkpoints.stage = self.checkpoints.waiting.take().map(Stage::Ordered);
                return Ok(true);
            }
        };
        Ok(false)
    }

    /// Step 1. `None` where the disk is full.
    fn write_checkpoint(&mut self, order: &CheckpointOrder) -> Result<Option<(D::File, Written)>, LogError> {
        assert!(order.id.index <= self.appended.id.index, "what is checkpointed is in the log");
        // Recovery counts a checkpoint as a watermark.
        if order.id.index > self.flushed.id.index {
            self.flush()?;
        }
        let first = self.live.iter().rev().find(|live| live.segment.base_index() <= order.floor.index);
        let first = first.or(self.live.first()).map(|live| *live.segment.header());
        let Some(first) = first else { unreachable!("a log has a segment") };
        self.write_checkpoint_file(order, &first)
    }

    fn write_checkpoint_file(
        &mut self,
        order: &CheckpointOrder,
        first: &SegmentHeader,
    ) -> Result<Option<(D::File, Written)>, LogError> {
        let number = self.checkpoints.next_number();
        let prefix = encode_prefix(order, number, first);
        let path = self.group_dir.join(CHECKPOINT_TEMPORARY);
        let len = (prefix.len() + order.image.len()) as u64;
        if self.disk.exists(&path)? {
            self.disk.remove(&path)?;
        }
        let file = match self.disk.create(&path, len) {
            Ok(file) => file,
            Err(error) if error.kind() == DiskErrorKind::Full => {
                self.make_room()?;
                return Ok(None);
            }
            Err(error) => return Err(self.fail(error)),
        };
        let parts = [IoSlice::new(&prefix), IoSlice::new(&order.image)];
        match file.write_at(&parts, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == DiskErrorKind::Full => {
                self.make_room()?;
                return Ok(None);
            }
            Err(error) => return Err(self.fail(error)),
        }
        file.start_writeback(0, len);
        Ok(Some((file, Written { number, first_seq: first.seq })))
    }

    /// A checkpoint is what lets segments go, so it comes before files that are only kept ready.
    fn make_room(&mut self) -> Result<(), LogError> {
        let path = match self.free.pop() {
            Some(path) => path,
            None if self.spare.take().is_some() => self.group_dir.join(SPARE_NAME),
            None => return Ok(()),
        };
        self.disk.remove(&path).map_err(|error| self.fail(error))
    }

    fn name_checkpoint(&mut self, written: Written) -> Result<(), LogError> {
        let from = self.group_dir.join(CHECKPOINT_TEMPORARY);
        let to = self.group_dir.join(checkpoint_name(written.number));
        let renamed = self.disk.rename(&from, &to).and_then(|()| self.disk.sync_dir(&self.group_dir));
        renamed.map_err(|error| self.fail_sync(error))?;
        self.pulse.beat();
        self.checkpoints.whole[(written.number % 2) as usize] = Some((written.number, written.first_seq));
        Ok(())
    }

    /// Lets go of segments that neither checkpoint needs.
    fn let_prefix_go(&mut self) {
        let below = self.checkpoints.void_below();
        let gone = self.live.iter().take_while(|live| live.segment.seq() < below).count();
        assert!(gone < self.live.len(), "the segment in which the log begins stays");
        for live in self.live.drain(..gone) {
            self.changes.push(CatalogChange::Removed(live.segment.seq()));
            self.doomed.push(Doomed { segment: live.segment, may_recycle: true });
        }
    }

    /// The log begins anew with a leader's checkpoint, behind `base`: whatever stood here is void. The checkpoint is written
    /// into both files first, so none of the two can bring the old log back. `generation` tags what is written from now on.
    ///
    /// # Errors
    /// Final, but for a full disk: then the call may be repeated, and must be before anything is appended.
    ///
    /// # Panics
    /// When `generation` does not grow, or the order's log does not begin behind `base`: bugs of the caller.
    pub fn install_checkpoint(
        &mut self,
        order: &CheckpointOrder,
        base: &LogBase,
        generation: u64,
    ) -> Result<(), LogError> {
        self.check()?;
        assert!(generation > self.generation, "generations grow");
        assert!(
            order.floor == base.floor() && base.id.index <= order.id.index,
            "the log begins behind its base"
        );
        assert!(order.runs == TermRuns::after(base.id), "nothing is in an installed log");
        self.staged.clear();
        self.appended = self.written;
        (self.checkpoints.stage, self.checkpoints.waiting, self.checkpoints.newest) = (None, None, None);
        let at = Tail { id: base.id, chain: base.chain, next_offset: base.next_offset, end_position: 0 };
        let header = SegmentHeader {
            cluster_id: self.cluster_id,
            group: self.options.group(),
            seq: self.last_seq + 1,
            generation,
            base_index: order.floor.index,
            base_offset: order.floor.offset,
            base_chain: at.chain,
            base_term: at.id.term,
            segment_bytes: self.options.segment_bytes(),
            // Not known yet, and only heads that are rebuilt are made of this.
            recycled: true,
        };
        for _ in 0..2 {
            let Some((checkpoint, written)) = self.write_checkpoint_file(order, &header)? else {
                return Err(self.still_full());
            };
            checkpoint.sync_data().map_err(|error| self.fail_sync(error))?;
            self.name_checkpoint(written)?;
        }
        self.commit_hint = self.commit_hint.max(base.id.index);
        let (file, recycled) = self.take_spare()?;
        let header = SegmentHeader { recycled, ..header };
        let slot = Slot::fresh(&header, self.commit_hint);
        let named = self.name_segment(&file, &header, &slot);
        named.map_err(|error| self.fail_sync(error))?;
        self.last_seq = header.seq;
        for dead in self.live.drain(..) {
            self.changes.push(CatalogChange::Removed(dead.segment.seq()));
            self.doomed.push(Doomed { segment: dead.segment, may_recycle: false });
        }
        self.last_log_time_ns = base.log_time_ns;
        // Marks of the old log may be under way to whoever keeps them; this one comes behind and takes their place.
        self.marks.clear();
        self.note_mark(at, &header);
        self.begin_in(header, slot, file);
        self.generation = generation;
        Ok(())
    }

    fn still_full(&mut self) -> LogError {
        let path = self.group_dir.join(CHECKPOINT_TEMPORARY);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        self.fail(DiskError::new("write", &path, full))
    }

    /// Notes where a segment begins.
    pub(super) fn note_mark(&mut self, at: Tail, header: &SegmentHeader) {
        let bytes_before = at.end_position.saturating_sub(super::layout::ENTRIES_POSITION);
        let floor = LogFloor { index: header.base_index, offset: header.base_offset };
        self.marks.push(SegmentMark { floor, bytes_before, log_time_ns: self.last_log_time_ns });
    }

    /// Where segments were begun since the last call, in order.
    pub fn take_marks(&mut self) -> std::vec::Drain<'_, SegmentMark> {
        self.marks.drain(..)
    }

    /// Keeps a file that held trimmed segment `seq`, or unlinks it where there are enough.
    ///
    /// The names on the way from a trimmed segment to a new one are not synced one by one, and a crash may keep the
    /// last of them and lose that the first was taken away: then one file has two names, and under the other one it is
    /// part of the log. Such a file holds the newer segment's head, which was synced before it got that name.
    pub(super) fn keep_free(&mut self, path: PathBuf, seq: u64) -> Result<(), LogError> {
        let wanted = self.free.len() < FREE_FILES_MAX && self.options.recycles();
        if wanted && self.holds_only(&path, seq)? {
            self.free.push(path);
            return Ok(());
        }
        self.disk.remove(&path).map_err(|error| self.fail(error))
    }

    fn holds_only(&self, path: &Path, seq: u64) -> Result<bool, LogError> {
        let file = self.disk.open(path, false)?;
        let mut head = [0; HEADER_BYTES];
        // One that cannot be read is worth no more than a new one.
        let is_read = file.read_at(&mut head, 0).is_ok();
        let is_its_own =
            matches!(SegmentHeader::decode(&head), HeaderFound::Good(header) if header.seq == seq);
        Ok(is_read && is_its_own && file.len_bytes()? == self.options.segment_bytes())
    }

    /// A free file, named `spare`.
    pub(super) fn take_free(&mut self) -> Result<Option<D::File>, DiskError> {
        let Some(path) = self.free.pop() else { return Ok(None) };
        let spare = self.group_dir.join(SPARE_NAME);
        self.disk.rename(&path, &spare)?;
        self.disk.open(&spare, true).map(Some)
    }

    /// First index of the first segment here.
    #[must_use]
    pub fn first_index(&self) -> LogIndex {
        self.live.first().map_or(LogIndex::ZERO, |live| live.segment.base_index())
    }
}
