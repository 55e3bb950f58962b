//! The log on disk and its newest part in memory.
//!
//! ```text
//! batcher ── HotTail (memory)
//!    │ ring
//! log writer ── LogStore: append, flush, truncate, roll ── segment files, hard_state
//!    │ CatalogChange                                            ▲ published tails
//! reader ── LogReader: warm through a map, cold by pread ───────┘
//! ```
//!
//! A data directory:
//!
//! ```text
//! identity     who it belongs to; written last by `format`
//! lock         held while a node (or a check) uses the directory
//! hard_state   two slots, one written and synced, then copied into the other: term, vote, claimed tail, pins
//! group-0/     seg-<number>.log ..., `spare`, the next one in preparation, and `mend`, a damaged one written anew
//! ```
//!
//! Who may call what: [`LogStore`] belongs to one thread and is the only one that writes; [`LogReader`]s belong to
//! their threads and learn of segments by [`CatalogChange`]s; [`HotTail`] belongs to the batcher. They share
//! [`Segment`]s and nothing else. Bytes at or below a segment's published tail never change (rule 9).
//!
//! The format is drawn in [`layout`], recovery's decisions stand in [`table`], the reasons in
//! `docs/decisions/0002-log-files.md`.

pub mod checkpoint;
mod damage;
pub mod disk;
mod error;
#[cfg(feature = "faults")]
pub mod faults;
pub mod hard_state;
mod heads;
mod hold;
mod hot_tail;
mod identity;
pub mod layout;
mod mend;
mod open;
mod prepare;
mod published;
mod pulse;
mod reader;
mod real_disk;
mod recovery;
mod retention;
mod roll;
mod scanner;
mod segment;
mod store;
pub mod table;
mod verify;

pub use checkpoint::{Checkpoint, CheckpointError, CheckpointOrder, StoredCheckpoint};
pub use damage::{LostRun, lost_runs};
pub use disk::{Disk, DiskError, DiskErrorKind, DiskFile, Lock, Mapping};
pub use error::{Corruption, LogError};
pub use hard_state::StoredHardState;
pub use hot_tail::HotTail;
pub use identity::{FORMAT_VERSION, FormatError, Identity, IdentityError, format};
pub use mend::{Held, Mender, Mismatch, check_copy};
pub use open::Recovered;
pub use prepare::{IDLE_WATERMARK_NS, IdleWork, PREPARE_SLICE_BYTES};
pub use published::{Point, Published};
pub use pulse::Pulse;
pub use reader::{LogReader, ReadError};
pub use real_disk::{RealDisk, RealFile};
pub use recovery::{CutReport, RecoveryReport, RecoveryVisitor};
pub use retention::{FREE_FILES_MAX, SegmentMark};
pub use segment::{CatalogChange, Segment};
pub use store::{Flushed, LogStore, Written};
pub use verify::{SegmentReport, VerifyReport, last_row, verify};

use crate::base::ids::GroupId;
use crate::base::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

/// How much of the end of a log is read at the start; a fraction of a second on a slow disk.
const START_READ_BYTES: u64 = 128 << 20;

/// How a log is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    group: GroupId,
    segment_bytes: u64,
    recycle: bool,
    start_read_bytes: u64,
}

/// A segment size outside 8 MiB to 2 GiB, or no multiple of 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("segment_bytes is {0}; it must be a multiple of 4096 from 8 MiB to 2 GiB")]
pub struct SegmentBytesError(pub u64);

impl LogOptions {
    /// Checks the size of segments, file heads included.
    ///
    /// # Errors
    /// It is outside [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`] or no multiple of 4096.
    pub fn new(group: GroupId, segment_bytes: u64) -> Result<Self, SegmentBytesError> {
        let fits = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes);
        if fits && segment_bytes.is_multiple_of(layout::BLOCK_BYTES) {
            Ok(Self { group, segment_bytes, recycle: true, start_read_bytes: START_READ_BYTES })
        } else {
            Err(SegmentBytesError(segment_bytes))
        }
    }

    /// Any size, so that tests can roll cheaply. Entries must fit it all the same.
    #[doc(hidden)]
    #[must_use]
    pub const fn for_tests(group: GroupId, segment_bytes: u64) -> Self {
        Self { group, segment_bytes, recycle: true, start_read_bytes: 0 }
    }

    /// Whether files of trimmed segments are used again (the default) or unlinked.
    #[must_use]
    pub const fn with_recycling(self, recycle: bool) -> Self {
        Self { recycle, ..self }
    }

    /// The same log, all of which is read and verified at the start: where damage is known to be, but not how much of it.
    #[must_use]
    pub const fn reading_all(self) -> Self {
        Self { start_read_bytes: u64::MAX, ..self }
    }

    /// How much of the end of a log is read and verified at the start, also where a checkpoint would do with less. The
    /// rest is read at leisure, by the reader.
    #[must_use]
    pub const fn start_read_bytes(&self) -> u64 {
        self.start_read_bytes
    }

    /// As said by [`LogOptions::with_recycling`].
    #[must_use]
    pub const fn recycles(&self) -> bool {
        self.recycle
    }

    /// The Raft group.
    #[must_use]
    pub const fn group(&self) -> GroupId {
        self.group
    }

    /// Length of a segment file.
    #[must_use]
    pub const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }
}
