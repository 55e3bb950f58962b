//! Checking a stopped node's directory without changing anything: `tercet log verify` and `tercet log dump`.

use std::path::{Path, PathBuf};

use super::LogOptions;
use super::checkpoint::StoredCheckpoint;
use super::disk::{Disk, DiskErrorKind};
use super::error::LogError;
use super::hard_state::{HardStateFile, StoredHardState};
use super::identity::Identity;
use super::layout::{HARD_STATE_NAME, LOCK_NAME, group_dir};
use super::recovery::{Depth, EntriesOnly, Place, RecoveryReport, RecoveryVisitor};
use super::table::{Found, Standing};
use crate::base::ids::{EntryId, LogIndex, Offset};
use crate::entry::EntryView;

/// One segment file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentReport {
    /// The file.
    pub file: PathBuf,
    /// Its number.
    pub seq: u64,
    /// Its first index.
    pub base_index: LogIndex,
    /// Its last index that is part of the log; `base_index - 1` when it is empty.
    pub last_index: LogIndex,
    /// Where that one ends.
    pub end_position: u64,
    /// Whether it names a successor.
    pub sealed: bool,
}

/// What a directory holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyReport {
    /// Whose it is.
    pub identity: Identity,
    /// The hard state as stored.
    pub hard_state: StoredHardState,
    /// The segments that make up the log, in order.
    pub segments: Vec<SegmentReport>,
    /// The last entry.
    pub last: EntryId,
    /// Its chain value.
    pub last_chain: u64,
    /// Offset of the next event.
    pub next_offset: Offset,
    /// A lower bound of the commit index.
    pub commit_hint: LogIndex,
    /// Counts, and the torn tail above the watermark if there is one (`cut`; nothing was cut).
    pub recovery: RecoveryReport,
}

/// Remembers by which row of the table the reading ended last.
struct LastRow(Option<(Standing, Found)>);

impl RecoveryVisitor for LastRow {
    fn checkpoint(&mut self, _stored: &StoredCheckpoint) {}

    fn entry(&mut self, _entry: &EntryView<'_>, _commit_hint: LogIndex) {}

    fn ended(&mut self, standing: Standing, found: Found) {
        self.0 = Some((standing, found));
    }
}

/// Which row of the table of entries ends the reading of this directory ([`table`](super::table)): where its log ends, or
/// what is the first damage. `None` where reading does not come that far. Takes no lock and changes nothing; for tests
/// that must meet every row.
#[must_use]
pub fn last_row<D: Disk>(disk: &D, data_dir: &Path, options: &LogOptions) -> Option<(Standing, Found)> {
    let place = Place {
        disk,
        group_dir: &group_dir(data_dir, options.group()),
        cluster_id: Identity::read(disk, data_dir).ok()?.cluster_id,
        group: options.group(),
        repair: false,
        forgets_commits: false,
    };
    let mut row = LastRow(None);
    // An error names what the row says; and one that no row knows comes before any.
    let _ = place.survey(Depth::Whole, &mut row);
    row.0
}

/// Reads a whole directory as recovery would, shows every entry to `visitor`, opens nothing for writing and changes
/// nothing. A torn tail above the watermark is part of the report; damage below it is an error.
///
/// # Errors
/// As [`LogStore::open`](super::LogStore::open); a directory in use is `Locked`.
pub fn verify<D: Disk>(
    disk: &D,
    data_dir: &Path,
    options: &LogOptions,
    visitor: &mut dyn FnMut(&EntryView<'_>, LogIndex),
) -> Result<VerifyReport, LogError> {
    let identity = Identity::read(disk, data_dir)?;
    // Held until the end. Without a lock file nobody has ever opened the directory; and none is made here.
    let _lock = match disk.lock(&data_dir.join(LOCK_NAME), false) {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == DiskErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let (_, hard_state) = HardStateFile::open(disk, &data_dir.join(HARD_STATE_NAME), false)?;
    let place = Place {
        disk,
        group_dir: &group_dir(data_dir, options.group()),
        cluster_id: identity.cluster_id,
        group: options.group(),
        repair: false,
        forgets_commits: false,
    };
    let survey = place.survey(Depth::Whole, &mut EntriesOnly(visitor))?;
    let segments = survey.live.iter().map(|live| {
        let published = live.segment.published();
        SegmentReport {
            file: live.segment.path().to_owned(),
            seq: live.segment.seq(),
            base_index: live.segment.base_index(),
            last_index: published.last_index,
            end_position: published.end_position,
            sealed: live.slot.next_seq.is_some(),
        }
    });
    Ok(VerifyReport {
        identity,
        hard_state,
        segments: segments.collect(),
        last: survey.tail.id,
        last_chain: survey.tail.chain,
        next_offset: survey.tail.next_offset,
        commit_hint: survey.commit_hint,
        recovery: survey.report,
    })
}
