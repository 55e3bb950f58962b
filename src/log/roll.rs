//! Going on in another segment: because one is full, because a suffix was truncated, because a tail was torn.
//!
//! The steps and what a crash after each of them leaves:
//!
//! 1. what is kept of the old segment is synced - nothing has changed;
//! 2. the new file's header and slots are written and synced under the name `spare` - it is forgotten;
//! 3. it is renamed and the directory synced - it is there, empty; its base values vouch for what stands before;
//! 4. the old segment is sealed with the new one's number in both blocks, each synced - as after 3;
//! 5. files that the new one supersedes whole are let go - as after 4.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, DiskError, DiskErrorKind, DiskFile};
use super::error::{Corruption, LogError};
use super::hold::is_alone;
use super::layout::{SPARE_NAME, SegmentHeader, Slot, encode_head, free_name, segment_name};
use super::recovery::Live;
use super::retention::{Doomed, FREE_FILES_MAX};
use super::scanner::{Scanner, Tail};
use super::segment::{CatalogChange, Segment};
use super::store::LogStore;
use crate::base::ids::LogIndex;
use crate::base::planted::{Bug, is_planted};

impl<D: Disk> LogStore<D> {
    /// Seals the full active segment and goes on in a fresh one.
    pub(super) fn roll(&mut self) -> Result<(), LogError> {
        self.write_staged()?;
        if is_planted(Bug::RollWithoutSync) {
            self.flushed = self.written;
        }
        if self.written.id.index > self.flushed.id.index {
            self.sync_active()?;
        }
        self.start_segment(self.written, self.generation)
    }

    /// Removes the suffix from `first_removed` on (a conflict, section 5.3 of the Raft paper). Bytes already published
    /// stay as they are for whoever reads them; the log goes on in a fresh segment. `generation` tags what is written
    /// and flushed from now on.
    ///
    /// # Errors
    /// The fresh segment could not be made. When the disk is full the call may be repeated, and must be before
    /// anything is appended.
    ///
    /// # Panics
    /// When `first_removed` is the first entry of the log or `generation` does not grow: bugs of the caller.
    pub fn truncate_from(&mut self, first_removed: LogIndex, generation: u64) -> Result<(), LogError> {
        self.check()?;
        assert!(
            first_removed > LogIndex(1),
            "the first entry is the cluster's configuration and never conflicts"
        );
        assert!(generation > self.generation, "generations grow");
        let staged_first = self.written.id.index.next();
        let kept = usize::try_from(first_removed.since(staged_first)).unwrap_or(usize::MAX);
        self.staged.truncate(kept);
        self.appended = self.staged.iter().fold(self.written, |tail, entry| tail.after(entry.header()));
        if first_removed <= self.written.id.index {
            self.cut_written(first_removed, generation)?;
        }
        self.generation = generation;
        Ok(())
    }

    fn cut_written(&mut self, first_removed: LogIndex, generation: u64) -> Result<(), LogError> {
        let cut = match self.tail_before(first_removed) {
            Ok(cut) => cut,
            Err(error) => {
                self.poison = Some(error.to_string());
                return Err(error);
            }
        };
        // What the fresh header vouches for must be durable before it.
        if cut.id.index > self.flushed.id.index {
            self.sync_active()?;
        }
        self.start_segment(cut, generation)
    }

    /// The end of the log if it ended before `first_removed`, found by walking headers from the sparse index.
    fn tail_before(&self, first_removed: LogIndex) -> Result<Tail, LogError> {
        let kept = first_removed.prev();
        let holds = |live: &&Live<D::File>| live.segment.base_index() <= kept;
        let Some(live) = self.live.iter().rev().find(holds) else {
            // Everything behind an installed checkpoint goes.
            let first = self.live[0].segment.header();
            assert!(
                first.base_index == first_removed,
                "what is committed is not truncated, nor what is trimmed"
            );
            return Ok(Tail::before(first));
        };
        let segment = &*live.segment;
        let mut tail = Tail::before(segment.header());
        if let Some(point) = segment.point_for_index(kept) {
            tail.end_position = point.position;
            tail.chain = point.prev_chain;
            tail.id.index = point.index.prev();
            tail.next_offset = point.base_offset;
        }
        let mut scanner = Scanner::new(segment.file(), segment.published().end_position);
        while tail.id.index < kept {
            let position = tail.end_position;
            match scanner.header(position)? {
                Ok(header) if tail.is_continued_by(&header) => tail = tail.after(&header),
                found => {
                    let what = match found {
                        Ok(header) => format!("{} lies here, which does not continue the log", header.id()),
                        Err(error) => error.to_string(),
                    };
                    let (file, first) = (segment.path().to_owned(), tail.id.index.next());
                    return Err(Corruption { file, position, first, last: Some(kept), what }.into());
                }
            }
        }
        Ok(tail)
    }

    /// Starts a fresh segment after `at`, which is durable; seals the one that holds `at`; lets go of the rest.
    pub(super) fn start_segment(&mut self, at: Tail, generation: u64) -> Result<(), LogError> {
        let (file, recycled) = self.take_spare()?;
        let header = SegmentHeader {
            cluster_id: self.cluster_id,
            group: self.options.group(),
            seq: self.last_seq + 1,
            generation,
            base_index: at.id.index.next(),
            base_offset: at.next_offset,
            base_chain: at.chain,
            base_term: at.id.term,
            segment_bytes: self.options.segment_bytes(),
            recycled,
        };
        let slot = Slot::fresh(&header, self.commit_hint);
        let named = self.name_segment(&file, &header, &slot);
        named.map_err(|error| self.fail_sync(error))?;
        self.last_seq = header.seq;
        let kept = self.live.iter().filter(|live| live.segment.base_index() < header.base_index).count();
        self.seal(kept, at, header.seq)?;
        self.note_start(kept, at, header, slot, file);
        Ok(())
    }

    /// A file to start a segment in, and whether it held an older one. Only here may the disk be full.
    pub(super) fn take_spare(&mut self) -> Result<(D::File, bool), LogError> {
        if let Some(spare) = self.spare.take() {
            return Ok((spare.file, spare.recycled));
        }
        if let Some(file) = self.take_free().map_err(|error| self.fail(error))? {
            return Ok((file, true));
        }
        let path = self.group_dir.join(SPARE_NAME);
        let created = self.disk.create(&path, self.options.segment_bytes());
        created.map(|file| (file, false)).map_err(|error| self.fail(error))
    }

    pub(super) fn name_segment(
        &self,
        file: &D::File,
        header: &SegmentHeader,
        slot: &Slot,
    ) -> Result<(), DiskError> {
        file.write_at(&[IoSlice::new(&encode_head(header, slot))], 0)?;
        file.sync_data()?;
        self.pulse.beat();
        self.disk.rename(&self.group_dir.join(SPARE_NAME), &self.group_dir.join(segment_name(header.seq)))?;
        if !is_planted(Bug::DirectoryNotSynced) {
            self.disk.sync_dir(&self.group_dir)?;
        }
        self.pulse.beat();
        Ok(())
    }

    /// Seals the last of the `kept` segments at `at`.
    fn seal(&mut self, kept: usize, at: Tail, next_seq: u64) -> Result<(), LogError> {
        let commit_hint = self.commit_hint;
        // A first segment that is torn before its first entry has nothing to seal.
        let Some(old) = self.live[..kept].last_mut() else { return Ok(()) };
        // Where the cut lies at the start of an empty segment, which goes, `at` tells a position in that one.
        let published = old.segment.published();
        let whole = published.last_index == at.id.index;
        let slot = Slot {
            number: old.slot.number + 1,
            flushed_index: at.id.index,
            end_position: if whole { published.end_position } else { at.end_position },
            chain: at.chain,
            commit_hint,
            next_seq: Some(next_seq),
            clean: false,
        };
        let sealed = old.seal(slot);
        self.pulse.beat();
        sealed.map_err(|error| self.fail_sync(error))
    }

    fn note_start(&mut self, kept: usize, at: Tail, header: SegmentHeader, slot: Slot, file: D::File) {
        if at.id.index < self.written.id.index {
            self.changes.push(CatalogChange::SupersededFrom { first_removed: header.base_index });
        }
        for dead in self.live.drain(kept..) {
            self.changes.push(CatalogChange::Removed(dead.segment.seq()));
            // Entries that were never committed may lie there: a file like that is not used again.
            self.doomed.push(Doomed { segment: dead.segment, may_recycle: false });
        }
        self.note_mark(at, &header);
        self.begin_in(header, slot, file);
    }

    /// The log goes on in a fresh segment, which is durable under its name.
    pub(super) fn begin_in(&mut self, header: SegmentHeader, slot: Slot, file: D::File) {
        let path = self.group_dir.join(segment_name(header.seq));
        let segment = Arc::new(Segment::new(header, path, file));
        self.changes.push(CatalogChange::Opened(Arc::clone(&segment)));
        self.live.push(Live { segment, slot, is_sealed_twice: false });
        self.written = Tail::before(&header);
        self.appended = self.written;
        self.flushed = self.written;
    }

    /// Whether files wait to be let go.
    #[must_use]
    pub fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// Lets go of what nobody holds any more: a trimmed file is kept to be used again, others are unlinked. They are no
    /// part of the log already, so how far this gets does not matter.
    ///
    /// # Errors
    /// Final.
    pub fn unlink_free(&mut self) -> Result<usize, LogError> {
        let mut free = Vec::new();
        self.doomed.retain_mut(|doomed| {
            let alone = is_alone(&mut doomed.segment);
            if alone {
                let header = doomed.segment.header();
                let fits = doomed.may_recycle && header.segment_bytes == self.options.segment_bytes();
                free.push((doomed.segment.path().to_owned(), fits.then_some(header.seq)));
            }
            !alone
        });
        for (path, recycle) in &free {
            if let Err(error) = self.let_go(path, *recycle) {
                return Err(self.fail(error));
            }
        }
        // A trimmed file that came back after a crash would be void: that waits for no sync.
        if free.iter().any(|(_, recycle)| recycle.is_none()) {
            let synced = self.disk.sync_dir(&self.group_dir);
            synced.map_err(|error| self.fail_sync(error))?;
            self.pulse.beat();
        }
        Ok(free.len())
    }

    fn let_go(&mut self, path: &Path, recycle: Option<u64>) -> Result<(), DiskError> {
        if let Some(seq) = recycle.filter(|_| self.free.len() < FREE_FILES_MAX && self.options.recycles()) {
            let free = self.group_dir.join(free_name(seq));
            self.disk.rename(path, &free)?;
            self.free.push(free);
            return Ok(());
        }
        match self.disk.remove(path) {
            Err(error) if error.kind() != DiskErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
