//! The body of a `trim` entry: where the log begins from now on (retention).
//!
//! ```text
//! offset size field
//!      0    8 first_index, of the first entry that is kept; at most the index of this entry
//!      8    8 first_offset, of the first event at or after it
//! ```
//!
//! Nodes drop what lies before when they apply the entry, so all of them agree on where the log begins.

use super::error::EntryError;
use crate::base::bytes::{ByteReader, ByteWriter};
use crate::base::ids::{COUNTER_MAX, EntryId, LogIndex, Offset};

/// Bytes of the body.
pub(super) const BODY_BYTES: usize = 16;

/// The beginning of a log: what a `trim` entry says, and where every log begins before the first one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogFloor {
    /// The first entry that is kept.
    pub index: LogIndex,
    /// Offset of the first event at or after it.
    pub offset: Offset,
}

/// What the first entry of a log continues from: the entry before it, which the log itself need not have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogBase {
    /// The entry before.
    pub id: EntryId,
    /// Its chain value.
    pub chain: u64,
    /// Offset of the first event behind it.
    pub next_offset: Offset,
    /// Its log time, or one a little later.
    pub log_time_ns: u64,
}

impl LogBase {
    /// Where a log begins that continues from here.
    #[must_use]
    pub const fn floor(&self) -> LogFloor {
        LogFloor { index: self.id.index.next(), offset: self.next_offset }
    }
}

impl LogFloor {
    /// Nothing was ever trimmed.
    pub const START: Self = Self { index: LogIndex(1), offset: Offset(1) };

    /// Decodes the body of an entry.
    pub(super) fn decode_body(body: &[u8]) -> Result<Self, EntryError> {
        let mut reader = ByteReader::new(body);
        let (index, offset) = (reader.u64()?, reader.u64()?);
        if reader.left() != 0 {
            return Err(EntryError::Malformed("bytes follow the floor in trim"));
        }
        if !(1..=COUNTER_MAX).contains(&index) {
            return Err(EntryError::OutOfRange("first_index"));
        }
        if !(1..=COUNTER_MAX).contains(&offset) {
            return Err(EntryError::OutOfRange("first_offset"));
        }
        Ok(Self { index: LogIndex(index), offset: Offset(offset) })
    }

    /// Appends the body.
    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.put_u64(self.index.0);
        out.put_u64(self.offset.0);
    }

    /// Whether an entry at `index` with `base_offset` may say this: a log is never trimmed beyond its own end.
    pub(super) fn fits(&self, index: LogIndex, base_offset: Offset) -> bool {
        self.index <= index && self.offset <= base_offset
    }
}
