//! Opening the log: survey, then repairs in an order that a crash at any step survives.
//!
//! 1. names become durable (directory sync), and the last segment and the hard state (they may be in the cache only);
//! 2. what is claimed beyond a torn tail is written into the hard state;
//! 3. a torn tail: a fresh segment supersedes it; otherwise the watermark is moved up to the end of the log;
//! 4. seals that name a superseded successor are corrected;
//! 5. superseded and void files, a half-prepared `spare` and a half-written `mend` are removed.
//!
//! Before step 1 nothing is touched, so a directory of an unknown version stays as it is.

use std::path::Path;

use super::LogOptions;
use super::disk::{Disk, DiskFile};
use super::error::LogError;
use super::hard_state::{HardStateFile, StoredHardState};
use super::identity::Identity;
use super::layout::{
    ENTRIES_POSITION, HARD_STATE_NAME, LOCK_NAME, MEND_NAME, SPARE_NAME, Slot, group_dir, parse_free_name,
    segment_name,
};
use super::prepare::IdleState;
use super::pulse::Pulse;
use super::recovery::{Depth, EntriesOnly, Live, Place, RecoveryReport, RecoveryVisitor, Survey};
use super::retention::{Checkpoints, Doomed, SegmentMark};
use super::scanner::{Scanner, Tail};
use super::segment::CatalogChange;
use super::store::LogStore;
use crate::base::ids::{EntryId, LogIndex, Offset};
use crate::entry::{EntryView, LogFloor};
use crate::raft::TermRuns;

/// What the log was when it was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Whose directory it is.
    pub identity: Identity,
    /// The hard state, its claimed tail brought up to date.
    pub hard_state: StoredHardState,
    /// The terms of the log, for the consensus core.
    pub runs: TermRuns,
    /// Where the log begins.
    pub floor: LogFloor,
    /// The segments behind the first one: where each begins, and what stands before. For retention.
    pub marks: Vec<SegmentMark>,
    /// The last entry.
    pub last: EntryId,
    /// Its chain value.
    pub last_chain: u64,
    /// Offset of the next event.
    pub next_offset: Offset,
    /// `log_time_ns` of the last entry.
    pub last_log_time_ns: u64,
    /// A lower bound of the commit index; at most `last.index`.
    pub commit_hint: LogIndex,
    /// An entry that this log held beyond its end (rule 11); the same as in the hard state.
    pub claimed_tail: Option<EntryId>,
    /// What recovery saw and did.
    pub report: RecoveryReport,
}

impl<D: Disk> LogStore<D> {
    /// Locks the directory, recovers the log and makes it ready for appending. `visitor` sees every surviving entry
    /// once, in order, with the commit hint (a lower bound of the commit index); if an error is returned, what it saw
    /// means nothing. Everything recovered is durable on return.
    ///
    /// # Errors
    /// Not formatted, locked, of an unknown version, of another cluster, damaged below the watermark, or the disk
    /// fails.
    pub fn open(
        disk: D,
        data_dir: &Path,
        options: LogOptions,
        visitor: &mut dyn FnMut(&EntryView<'_>, LogIndex),
    ) -> Result<(Self, Recovered), LogError> {
        Self::open_at(disk, data_dir, options, (Depth::Whole, false), &mut EntriesOnly(visitor))
    }

    /// As [`LogStore::open`], but where there is a checkpoint, `visitor` is shown that and only the entries behind it,
    /// and of the segments before only the heads are read.
    ///
    /// # Errors
    /// As [`LogStore::open`].
    pub fn open_behind_checkpoint(
        disk: D,
        data_dir: &Path,
        options: LogOptions,
        visitor: &mut dyn RecoveryVisitor,
    ) -> Result<(Self, Recovered), LogError> {
        let depth = Depth::BehindCheckpoint(options.start_read_bytes());
        Self::open_at(disk, data_dir, options, (depth, false), visitor)
    }

    /// As [`LogStore::open_behind_checkpoint`], for a node that goes on without what others may have lost (decision
    /// 0008): it knows nothing to be committed but what is in a checkpoint. [`LogStore::lower_commit_hints`] makes that
    /// durable.
    ///
    /// # Errors
    /// As [`LogStore::open`].
    pub fn open_without_commits(
        disk: D,
        data_dir: &Path,
        options: LogOptions,
        visitor: &mut dyn RecoveryVisitor,
    ) -> Result<(Self, Recovered), LogError> {
        let depth = Depth::BehindCheckpoint(options.start_read_bytes());
        Self::open_at(disk, data_dir, options, (depth, true), visitor)
    }

    fn open_at(
        disk: D,
        data_dir: &Path,
        options: LogOptions,
        (depth, forgets_commits): (Depth, bool),
        visitor: &mut dyn RecoveryVisitor,
    ) -> Result<(Self, Recovered), LogError> {
        let identity = Identity::read(&disk, data_dir)?;
        let lock = disk.lock(&data_dir.join(LOCK_NAME), true)?;
        let group_dir = group_dir(data_dir, options.group());
        let place = Place {
            disk: &disk,
            group_dir: &group_dir,
            cluster_id: identity.cluster_id,
            group: options.group(),
            repair: true,
            forgets_commits,
        };
        let survey = place.survey(depth, visitor)?;
        disk.sync_dir(&group_dir)?;
        let (hard_state, mut stored) = HardStateFile::open(&disk, &data_dir.join(HARD_STATE_NAME), true)?;
        let before = stored.claimed_tail;
        let claimed = survey.report.cut.as_ref().and_then(|cut| cut.claimed);
        // A claim that the log has reached by now says no more than the log itself.
        stored.claimed_tail = before.max(claimed).filter(|claimed| *claimed > survey.tail.id);
        let recovered = recovered(identity, &survey, &stored);
        let cut = survey.report.cut.is_some();
        let numbers = survey.live.iter().map(|live| &live.segment).chain(&survey.dead).map(|s| s.seq());
        let last_seq = numbers.chain(survey.void.iter().copied()).max().unwrap_or(0);
        let doomed = survey.dead.into_iter().map(|segment| Doomed { segment, may_recycle: false }).collect();
        let mut store = Self {
            disk,
            group_dir,
            options,
            cluster_id: identity.cluster_id,
            hard_state,
            stored: stored.clone(),
            live: survey.live,
            last_seq: last_seq.max(survey.checkpoints.first_seq().saturating_sub(1)),
            staged: Vec::new(),
            appended: survey.tail,
            written: survey.tail,
            flushed: survey.tail,
            generation: 0,
            commit_hint: recovered.commit_hint,
            changes: Vec::new(),
            spare: None,
            doomed,
            checkpoints: Checkpoints::new(&survey.checkpoints),
            free: Vec::new(),
            marks: Vec::new(),
            last_log_time_ns: survey.last_log_time_ns,
            writeback_begun: 0,
            idle: IdleState::default(),
            poison: None,
            pulse: Pulse::default(),
            _lock: lock,
        };
        if stored.claimed_tail != before {
            store.write_hard_state(&stored)?;
        }
        store.remove_void(&survey.void)?;
        store.repair(cut)?;
        Ok((store, recovered))
    }

    /// Writes slots anew that tell of a higher commit index than this store knows, in both blocks: what is written at
    /// those indexes from now on may be something else.
    ///
    /// # Errors
    /// Final.
    pub fn lower_commit_hints(&mut self) -> Result<(), LogError> {
        let commit_hint = self.commit_hint;
        let mut written = Ok(());
        // The newer slot of the active segment has been written since; the older one may still tell.
        let active = self.live.len().saturating_sub(1);
        let tells =
            |(at, live): &(usize, &mut Live<D::File>)| *at == active || live.slot.commit_hint > commit_hint;
        for (_, live) in self.live.iter_mut().enumerate().filter(tells) {
            // The older slot may stand in where the newer one is damaged, so it is replaced as well.
            for _ in 0..2 {
                live.slot = Slot { number: live.slot.number + 1, commit_hint, ..live.slot };
                let slot = live.slot;
                written = written
                    .and_then(|()| live.write_slot(slot).and_then(|()| live.segment.file().sync_data()));
            }
        }
        written.map_err(|error| self.fail_sync(error))
    }

    /// Files that no checkpoint counts as part of the log. Both must agree, or the older one could not stand in.
    fn remove_void(&mut self, void: &[u64]) -> Result<(), LogError> {
        let below = self.checkpoints.void_below();
        for seq in void.iter().filter(|seq| **seq < below) {
            self.disk.remove(&self.group_dir.join(segment_name(*seq)))?;
        }
        Ok(())
    }

    /// Files that were let go and not used again.
    fn adopt_free_files(&mut self) -> Result<(), LogError> {
        for name in self.disk.list(&self.group_dir)? {
            if let Some(seq) = parse_free_name(&name) {
                self.keep_free(self.group_dir.join(name), seq)?;
            }
        }
        Ok(())
    }

    fn repair(&mut self, cut: bool) -> Result<(), LogError> {
        for unfinished in [SPARE_NAME, MEND_NAME] {
            let path = self.group_dir.join(unfinished);
            if self.disk.exists(&path)? {
                self.disk.remove(&path)?;
            }
        }
        self.adopt_free_files()?;
        if cut || self.live.is_empty() {
            self.start_segment(self.written, 0)?;
        } else {
            self.write_slot(|slot| slot)?;
            self.sync_active()?;
        }
        self.correct_seals()?;
        // Readers learn of the whole set at once, not of how it came about.
        self.changes.clear();
        self.changes.extend(self.live.iter().map(|live| CatalogChange::Opened(live.segment.clone())));
        self.unlink_free()?;
        Ok(())
    }

    /// Every segment but the last names its true successor, in both blocks. They differ after a crash in the middle of a
    /// roll or a truncation, and a block may have rotted since; a superseded file may only go when no seal names it any more.
    fn correct_seals(&mut self) -> Result<(), LogError> {
        for at in 1..self.live.len() {
            let next = *self.live[at].segment.header();
            let live = &mut self.live[at - 1];
            // Before a file goes, the seal that no longer names it is written again even if it reads right: after a
            // failed sync it may be right in the cache only.
            let between = live.segment.seq()..next.seq;
            let dead_between = self.doomed.iter().any(|dead| between.contains(&dead.segment.seq()));
            if live.slot.next_seq == Some(next.seq) && live.is_sealed_twice && !dead_between {
                continue;
            }
            let slot = Slot {
                number: live.slot.number + 1,
                flushed_index: next.base_index.prev(),
                end_position: live.segment.published().end_position,
                chain: next.base_chain,
                commit_hint: live.slot.commit_hint,
                next_seq: Some(next.seq),
                clean: false,
            };
            let sealed = live.seal(slot);
            sealed.map_err(|error| self.fail_sync(error))?;
        }
        Ok(())
    }
}

fn recovered<F: DiskFile>(identity: Identity, survey: &Survey<F>, stored: &StoredHardState) -> Recovered {
    Recovered {
        floor: survey.checkpoints.newest.as_ref().map_or(LogFloor::START, |newest| newest.floor),
        marks: marks_of(survey),
        identity,
        hard_state: stored.clone(),
        runs: survey.runs.clone(),
        last: survey.tail.id,
        last_chain: survey.tail.chain,
        next_offset: survey.tail.next_offset,
        last_log_time_ns: survey.last_log_time_ns,
        commit_hint: survey.commit_hint,
        claimed_tail: stored.claimed_tail,
        report: survey.report.clone(),
    }
}

/// Where the segments behind the first one begin. A segment that cannot tell the time counts as just written.
fn marks_of<F: DiskFile>(survey: &Survey<F>) -> Vec<SegmentMark> {
    let mut marks = Vec::new();
    for pair in survey.live.windows(2) {
        let (before, segment) = (pair[0].segment.published(), &pair[1].segment);
        let mut scanner = Scanner::new(segment.file(), segment.header().segment_bytes);
        // In a file that is used again, an entry of its earlier use may stand where nothing was written yet; by its time
        // the log before would be old enough to go.
        let first = scanner.header_alone(ENTRIES_POSITION);
        let first = first.filter(|first| Tail::before(segment.header()).is_continued_by(first));
        marks.push(SegmentMark {
            floor: LogFloor { index: segment.base_index(), offset: segment.header().base_offset },
            bytes_before: before.end_position.saturating_sub(ENTRIES_POSITION),
            log_time_ns: first.map_or(survey.last_log_time_ns, |header| header.log_time_ns),
        });
    }
    marks
}
