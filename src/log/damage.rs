//! All the damage below the watermark at once: which entries a directory has lost, and what is still known of them.
//!
//! Recovery refuses at the first damaged place. Here the walk goes on behind it: along the length that an undamaged
//! header names, else by trying every multiple of 8 for the next whole entry. What lies between is a *lost run*. The
//! chain value of its last entry is always known, from whatever follows (the next entry, the next segment's header, the
//! watermark), so a copy of the run can be verified before it is believed, and is the very bytes that were lost: the
//! chain covers both checksums of an entry, and its header's checksum covers its length.
//!
//! Only damage to entries is looked behind. Segments that are missing, and damaged heads of files, stay errors.

use std::path::{Path, PathBuf};

use super::LogOptions;
use super::disk::{Disk, DiskFile};
use super::error::{Corruption, LogError};
use super::identity::Identity;
use super::layout::group_dir;
use super::recovery::{Live, Place};
use super::scanner::{Looked, Scanner, Tail};
use crate::base::ids::LogIndex;
use crate::entry::EntryHeader;

/// What is stepped over where the disk cannot read: a sector.
const SECTOR_BYTES: u64 = 512;

/// Entries that were durable here, one after the other, and cannot be read any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostRun {
    /// The segment file.
    pub file: PathBuf,
    /// Where the first of them starts.
    pub position: u64,
    /// Where the last of them ends; `None` where nothing that is left tells it.
    pub end_position: Option<u64>,
    /// The first one.
    pub first: LogIndex,
    /// The last one.
    pub last: LogIndex,
    /// Chain value of the entry before the first.
    pub chain_before: u64,
    /// Chain value of the last.
    pub chain_last: u64,
    /// What was found instead of the first.
    pub what: String,
    /// The end of the log before the first of them. Its term and offset are known only where no other run lies directly
    /// before.
    pub(super) before: Tail,
    /// Where the durable part of the segment ends.
    goal: Goal,
}

impl LostRun {
    /// Nobody has entries that fit: what seemed to be an entry behind this run may be none of the log (a part of
    /// somebody's event, where the run's own headers are damaged). Gives the run up to behind the next one of the same
    /// segment, or up to the segment's end.
    #[must_use]
    pub fn widened(&self, next: Option<&Self>) -> Self {
        let wide = match next.filter(|next| next.file == self.file) {
            Some(next) => (next.last, next.chain_last, next.end_position),
            None => (self.goal.last, self.goal.chain, self.goal.end_position),
        };
        Self { last: wide.0, chain_last: wide.1, end_position: wide.2, ..self.clone() }
    }
}

impl std::fmt::Display for LostRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (file, position) = (self.file.display(), self.position);
        write!(f, "{file} at byte {position}: entries {} to {}: {}", self.first, self.last, self.what)
    }
}

/// What must stand at the end of the durable part of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Goal {
    last: LogIndex,
    chain: u64,
    end_position: Option<u64>,
}

impl Goal {
    fn of<F: DiskFile>(live: &Live<F>, next: Option<&Live<F>>) -> Self {
        let slot = &live.slot;
        match next.map(|next| *next.segment.header()) {
            Some(next) => Self {
                last: next.base_index.prev(),
                chain: next.base_chain,
                end_position: (slot.next_seq == Some(next.seq)).then_some(slot.end_position),
            },
            None => {
                Self { last: slot.flushed_index, chain: slot.chain, end_position: Some(slot.end_position) }
            }
        }
    }
}

/// Every lost run of a directory, in order; none: nothing below the watermark is damaged. Opens nothing for writing and
/// takes no lock: for a directory that is locked already, or that nobody uses.
///
/// # Errors
/// As [`verify`](super::verify), but for damaged entries below the watermark.
pub fn lost_runs<D: Disk>(disk: &D, data_dir: &Path, options: &LogOptions) -> Result<Vec<LostRun>, LogError> {
    open_segments(disk, data_dir, options).and_then(|live| runs_in(&live))
}

/// The segments of a directory's log, for reading.
pub(super) fn open_segments<D: Disk>(
    disk: &D,
    data_dir: &Path,
    options: &LogOptions,
) -> Result<Vec<Live<D::File>>, LogError> {
    let identity = Identity::read(disk, data_dir)?;
    let place = Place {
        disk,
        group_dir: &group_dir(data_dir, options.group()),
        cluster_id: identity.cluster_id,
        group: options.group(),
        repair: false,
        forgets_commits: false,
    };
    place.live_segments()
}

/// The lost runs of these segments.
pub(super) fn runs_in<F: DiskFile>(live: &[Live<F>]) -> Result<Vec<LostRun>, LogError> {
    let mut runs = Vec::new();
    for (at, current) in live.iter().enumerate() {
        let goal = Goal::of(current, live.get(at + 1));
        runs.extend(runs_of(current, &goal)?);
    }
    Ok(runs)
}

/// The lost runs of one segment.
fn runs_of<F: DiskFile>(live: &Live<F>, goal: &Goal) -> Result<Vec<LostRun>, LogError> {
    let segment = &*live.segment;
    let mut scanner = Scanner::new(segment.file(), segment.header().segment_bytes);
    let mut tail = Tail::before(segment.header());
    let mut runs: Vec<LostRun> = Vec::new();
    while tail.id.index < goal.last {
        let position = tail.end_position;
        let (what, behind) = match scanner.look(position) {
            Ok(Looked::Whole(view))
                if tail.is_continued_by(view.header()) && view.header().index <= goal.last =>
            {
                tail = tail.after(view.header());
                continue;
            }
            Ok(Looked::Whole(view)) => {
                (format!("{} lies here, which does not continue the log", view.header().id()), None)
            }
            Ok(Looked::DamagedBody(header, error)) => {
                let length = u64::from(header.total_bytes);
                let trusted = tail.is_continued_by(&header).then_some(position + length);
                (format!("{}: {error}", header.id()), trusted)
            }
            Ok(Looked::DamagedHeader(error)) => (error.to_string(), None),
            Ok(Looked::Zero) => ("nothing but zeros".to_owned(), None),
            Ok(Looked::NoRoom) => ("the file ends".to_owned(), None),
            Ok(Looked::Unsupported(error)) => {
                return Err(LogError::Unknown { file: segment.path().to_owned(), what: error.to_string() });
            }
            Err(error) => (error.to_string(), None),
        };
        let next = Search { tail: &tail, goal }.next_whole(&mut scanner, position, behind);
        let run = LostRun {
            file: segment.path().to_owned(),
            position,
            end_position: next.as_ref().map_or(goal.end_position, |next| Some(next.0)),
            first: tail.id.index.next(),
            last: next.as_ref().map_or(goal.last, |next| next.1.index.prev()),
            chain_before: tail.chain,
            chain_last: next.as_ref().map_or(goal.chain, |next| next.1.prev_chain),
            what,
            before: tail,
            goal: *goal,
        };
        tail.id.index = run.last;
        tail.chain = run.chain_last;
        tail.end_position = run.end_position.unwrap_or(position);
        if let Some((_, header)) = next {
            tail.next_offset = header.base_offset;
        }
        runs.push(run);
    }
    if tail.chain != goal.chain {
        return whole_rest(runs, segment.path(), goal);
    }
    Ok(runs)
}

/// The walk ended elsewhere than it must. Something that looked like an entry behind a damaged place was none of this
/// log: then everything from the first damaged place on counts as lost.
fn whole_rest(mut runs: Vec<LostRun>, file: &Path, goal: &Goal) -> Result<Vec<LostRun>, LogError> {
    runs.truncate(1);
    let Some(run) = runs.first_mut() else {
        // No entry is damaged and yet the end is another: the head of this file or the next one lies.
        let what = format!("the log's chain at index {} is not the one that was noted", goal.last);
        let (file, last) = (file.to_owned(), Some(goal.last));
        return Err(Corruption { file, position: 0, first: goal.last, last, what }.into());
    };
    *run = run.widened(None);
    Ok(runs)
}

/// Looking for the first whole entry behind a damaged place.
struct Search<'a> {
    tail: &'a Tail,
    goal: &'a Goal,
}

impl Search<'_> {
    /// Where it starts, and its header. `behind`: where it should start if the damaged entry's own header is right.
    fn next_whole<F: DiskFile>(
        &self,
        scanner: &mut Scanner<'_, F>,
        from: u64,
        behind: Option<u64>,
    ) -> Option<(u64, EntryHeader)> {
        if let Some(position) = behind
            && let Some(header) = self.whole_at(scanner, position).0
        {
            return Some((position, header));
        }
        let end = self.goal.end_position.unwrap_or_else(|| scanner.end());
        // Inside an entry whose header is right there is none: what looks like one is somebody's event.
        let mut position = behind.unwrap_or(from + 8);
        while position < end {
            let (found, step) = self.whole_at(scanner, position);
            if let Some(header) = found {
                return Some((position, header));
            }
            position += step;
        }
        None
    }

    /// A whole entry that may be one of those behind, or how far to go on.
    fn whole_at<F: DiskFile>(
        &self,
        scanner: &mut Scanner<'_, F>,
        position: u64,
    ) -> (Option<EntryHeader>, u64) {
        match scanner.look(position) {
            Ok(Looked::Whole(view)) => {
                let header = *view.header();
                let index = header.index > self.tail.id.index.next() && header.index <= self.goal.last;
                let order = header.term >= self.tail.id.term && header.base_offset >= self.tail.next_offset;
                ((index && order).then_some(header), 8)
            }
            Ok(_) => (None, 8),
            Err(_) => (None, SECTOR_BYTES - position % SECTOR_BYTES),
        }
    }
}
