//! What can go wrong in the log. Every variant names a file, and a position where there is one.

use std::path::PathBuf;

use super::disk::{DiskError, DiskErrorKind};
use super::identity::IdentityError;
use crate::base::ids::LogIndex;

/// Damage that is not a torn tail: never cut, never skipped (PITFALLS 61, 62).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} is damaged at byte {position} (entries from {first}{}): {what}", file.display(), show_last(*last))]
pub struct Corruption {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub position: u64,
    /// First index that is affected.
    pub first: LogIndex,
    /// Last index known to have been there; `None` when unknown.
    pub last: Option<LogIndex>,
    /// What was found.
    pub what: String,
}

fn show_last(last: Option<LogIndex>) -> String {
    last.map_or_else(|| " on".to_owned(), |last| format!(" to {last}"))
}

/// Why the log could not be opened, written or checked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed. `Locked`: another process uses the directory. `Full` while appending: nothing is lost, the call
    /// may be repeated when space has returned. Anything else while writing poisons the log.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Damage below the durable watermark or in a file that was complete.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// A segment that another one names, or the first one, is not there.
    #[error("segment {} is missing: {reason}", file.display())]
    MissingSegment {
        /// Where it should be.
        file: PathBuf,
        /// Who says so.
        reason: String,
    },
    /// Written by a build that knows more than this one; nothing was touched.
    #[error("{}: {what}; this build does not know it and has touched nothing", file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// What it holds.
        what: String,
    },
    /// A segment of another cluster or group lies in the directory.
    #[error("{} belongs to another {what}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// `cluster` or `group`.
        what: &'static str,
    },
    /// No usable hard state: the node could vote twice, so it does not start.
    #[error("{}: {what}", file.display())]
    HardState {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The identity is missing or unreadable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An earlier write or sync failed; that is final (PITFALLS 55).
    #[error("the log has failed earlier and takes nothing more: {0}")]
    Poisoned(String),
}

impl LogError {
    /// Whether the same call may be repeated later: only a full disk is like that.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Disk(error) if error.kind() == DiskErrorKind::Full)
    }
}
