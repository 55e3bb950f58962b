//! Recovery's decisions as tables: what was observed, and what is done. No I/O here; `tests/recovery_table.rs` plays
//! every row over the simulated disk.
//!
//! **Entries.** *Durable*: the index is at or below the segment's watermark, or the segment is not the last one (its
//! successor's header was made durable only after it was complete). *Unproven*: above the watermark of the last segment.
//!
//! | found at the next entry's place | durable | unproven |
//! |---|---|---|
//! | whole, right index and chain | take | take |
//! | whole, other index or chain (stale) | corrupt | cut |
//! | valid header, damaged body | corrupt | cut, claim the header's entry |
//! | no valid header | corrupt | cut, claim the highest valid header behind |
//! | zeros, something behind them | corrupt | cut, claim the highest valid header behind |
//! | zeros to the end of the file | corrupt | end, go on in place |
//! | in a recycled file: none of this log, and no valid header of anything behind | corrupt | end, go on in place |
//! | no room for another entry | corrupt | end |
//! | unreadable (EIO) | corrupt | corrupt: a torn write does not make a sector unreadable |
//! | whole, but of an unknown version or kind | refuse | refuse |
//!
//! *Cut*: the log ends before this place, what is claimed is written into the hard state first, and the log goes on in
//! a fresh segment whose header supersedes everything behind the cut, so torn bytes can never come back (PITFALLS 59).
//!
//! **Watermark slots.** Both valid: the higher number. One valid: that one. None: corrupt.
//!
//! **Headers.** Good, of this cluster and group, its number as in its name, the file long enough: use. Unknown version:
//! refuse, touch nothing. Of another cluster or group: refuse. Anything else: corrupt, since a file gets its name only
//! after its header is durable.
//!
//! **The set.** In order of their numbers, a file whose base index is at or below what earlier ones hold supersedes
//! that suffix. Files below the first number that the newest whole checkpoint names are void. The first one left must
//! start at index 1, or at or before the index that the checkpoint names; a sealed one's successor must be there; each one's base
//! values must equal what stands at the end of the one before. Else: missing, or corrupt.

use super::layout::{HeaderFound, SegmentHeader, Slot};
use crate::base::ids::{ClusterId, GroupId};

/// Whether an entry that should be at a place is known to have been durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// At or below the watermark, or in a segment that has a successor.
    Durable,
    /// Above the watermark of the last segment.
    Unproven,
}

/// What lies where the next entry should start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// An undamaged entry with the expected index, previous chain and offset.
    Whole,
    /// An undamaged entry that does not belong here.
    Stale,
    /// A valid header, and a body or trailer that does not match it.
    DamagedBody,
    /// Neither zeros nor a valid header.
    DamagedHeader,
    /// Zeros, and something else further on.
    Hole,
    /// Zeros to the end of the file.
    Blank,
    /// Fewer bytes than a header are left.
    NoRoom,
    /// The disk cannot read it.
    Unreadable,
    /// In a recycled file: what an older segment left there.
    Leftover,
    /// Undamaged, but of a version, kind or group that this build does not know.
    Unsupported,
}

impl Found {
    /// Whether it may be what a recycled file held before.
    #[must_use]
    pub const fn may_be_left_over(self) -> bool {
        matches!(
            self,
            Self::Stale | Self::DamagedBody | Self::DamagedHeader | Self::Hole | Self::Blank | Self::Leftover
        )
    }
}

/// What recovery does about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The entry is part of the log.
    Take,
    /// The log ends here; appending goes on in place.
    End,
    /// The log ends here, with damage behind; claims are kept and appending goes on in a fresh segment.
    Cut,
    /// Refuse to start and name file and position.
    Corrupt,
    /// Refuse to start: written by a newer build.
    Refuse,
}

/// The table of entries.
#[must_use]
pub const fn decide_entry(standing: Standing, found: Found) -> Verdict {
    match (standing, found) {
        (Standing::Durable | Standing::Unproven, Found::Whole) => Verdict::Take,
        (Standing::Durable | Standing::Unproven, Found::Unsupported) => Verdict::Refuse,
        (Standing::Durable | Standing::Unproven, Found::Unreadable)
        | (
            Standing::Durable,
            Found::Stale
            | Found::DamagedBody
            | Found::DamagedHeader
            | Found::Hole
            | Found::Blank
            | Found::Leftover
            | Found::NoRoom,
        ) => Verdict::Corrupt,
        (Standing::Unproven, Found::Stale | Found::DamagedBody | Found::DamagedHeader | Found::Hole) => {
            Verdict::Cut
        }
        (Standing::Unproven, Found::Blank | Found::Leftover | Found::NoRoom) => Verdict::End,
    }
}

/// The table of watermark slots: the one that holds, or `None` when the segment is corrupt.
#[must_use]
pub fn decide_slots(even: Option<Slot>, odd: Option<Slot>) -> Option<Slot> {
    match (even, odd) {
        (Some(even), Some(odd)) => Some(if even.number > odd.number { even } else { odd }),
        (Some(slot), None) | (None, Some(slot)) => Some(slot),
        (None, None) => None,
    }
}

/// What recovery does about a segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderVerdict {
    /// Use the segment.
    Use(SegmentHeader),
    /// Refuse: unknown version.
    RefuseVersion(u32),
    /// Refuse: it is another cluster's.
    OtherCluster,
    /// Refuse: it is another group's.
    OtherGroup,
    /// Corrupt, and why.
    Corrupt(&'static str),
}

/// The table of headers. `seq` is the number in the file's name.
#[must_use]
pub fn decide_header(
    found: HeaderFound,
    seq: u64,
    file_bytes: u64,
    cluster_id: ClusterId,
    group: GroupId,
) -> HeaderVerdict {
    match found {
        HeaderFound::UnknownVersion(version) => HeaderVerdict::RefuseVersion(version),
        HeaderFound::Damaged => HeaderVerdict::Corrupt("the header is damaged"),
        HeaderFound::Good(header) if header.cluster_id != cluster_id => HeaderVerdict::OtherCluster,
        HeaderFound::Good(header) if header.group != group => HeaderVerdict::OtherGroup,
        HeaderFound::Good(header) if header.seq != seq => {
            HeaderVerdict::Corrupt("the header has another number than the name")
        }
        HeaderFound::Good(header) if file_bytes < header.segment_bytes => {
            HeaderVerdict::Corrupt("the file is shorter than its header says")
        }
        HeaderFound::Good(header) => HeaderVerdict::Use(header),
    }
}
