//! The fixed 80 bytes in front of every entry, and the chain value that ties entries together.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::EntryError;
use crate::base::checksum::{crc32, fold64};
use crate::base::ids::{COUNTER_MAX, EntryId, GroupId, LogIndex, Offset, Term};
use crate::base::limits::{BATCH_EVENTS_MAX, ENTRY_BYTES_MAX};

/// The first four bytes of every entry, of every version: `TCE1`.
pub const ENTRY_MAGIC: u32 = u32::from_le_bytes(*b"TCE1");
/// The last four bytes of every entry: `TCE` and a zero.
pub const TRAILER_MAGIC: u32 = u32::from_le_bytes(*b"TCE\0");
/// The format version that this build writes, and the only one that it reads.
pub const ENTRY_VERSION: u8 = 1;
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 16;
/// Smallest entry: header and trailer around an empty body.
pub const ENTRY_BYTES_MIN: usize = EntryHeader::BYTES + TRAILER_BYTES;

/// Where the bytes end that the header's checksum covers.
const HEADER_CRC_AT: usize = 76;

const _: () = assert!(usize::BITS >= 64, "sums of 32-bit lengths do not wrap");
const _: () = assert!(size_of::<RawHeader>() == EntryHeader::BYTES);
const _: () = assert!(HEADER_CRC_AT + 4 == EntryHeader::BYTES, "the checksum is the header's last field");
const _: () = assert!(EntryHeader::BYTES.is_multiple_of(8) && TRAILER_BYTES.is_multiple_of(8));
const _: () = assert!(ENTRY_BYTES_MAX <= u32::MAX as usize, "the size of an entry fits its field");

/// The next multiple of eight. `bytes` is at most a bounded length, far from wrapping.
pub(super) const fn pad8(bytes: usize) -> usize {
    (bytes + 7) & !7
}

/// What an entry holds. The codes are stored and never change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum EntryKind {
    /// Nothing: a leader's first entry of its term (Raft paper, section 8).
    Noop = 1,
    /// A batch of 1 to 64 events.
    Events = 2,
    /// The cluster: voters, learners, durability and what else all nodes must agree on.
    Configuration = 3,
    /// Opens a producer's name: gives it an id, or its id a new epoch.
    OpenProducer = 4,
    /// Where the log begins from now on.
    Trim = 5,
}

impl EntryKind {
    /// The stored code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Reads a stored code.
    ///
    /// # Errors
    /// [`EntryError::ReservedKind`] for 6 (checkpoint), 7 (cursor), 8 (session);
    /// [`EntryError::UnknownKind`] for any other that is not of this enum.
    pub const fn from_code(code: u8) -> Result<Self, EntryError> {
        match code {
            1 => Ok(Self::Noop),
            2 => Ok(Self::Events),
            3 => Ok(Self::Configuration),
            4 => Ok(Self::OpenProducer),
            5 => Ok(Self::Trim),
            6..=8 => Err(EntryError::ReservedKind(code)),
            _ => Err(EntryError::UnknownKind(code)),
        }
    }
}

/// The header as it lies in memory, on disks and on wires.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: U32,
    version: u8,
    kind: u8,
    flags: U16,
    total_bytes: U32,
    body_bytes: U32,
    term: U64,
    index: U64,
    prev_chain: U64,
    base_offset: U64,
    log_time_ns: U64,
    timestamp_unix_ns: U64,
    event_count: U32,
    group: U16,
    reserved: U16,
    body_crc: U32,
    header_crc: U32,
}

/// A decoded header: every field in range, sizes consistent with each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EntryHeader {
    /// What the body holds.
    pub kind: EntryKind,
    /// Format version; [`ENTRY_VERSION`].
    pub version: u8,
    /// Zero in version 1.
    pub flags: u16,
    /// The whole entry: header, body, padding, trailer. A multiple of 8, at most `ENTRY_BYTES_MAX`.
    pub total_bytes: u32,
    /// The body without its padding.
    pub body_bytes: u32,
    /// Term of the leader that made the entry.
    pub term: Term,
    /// Its place in the log, from 1.
    pub index: LogIndex,
    /// Chain value of the entry before; zero for the first.
    pub prev_chain: u64,
    /// Offset of the first event; in an entry without events the offset that the next event will get. From 1.
    pub base_offset: Offset,
    /// The log's own monotonic time, in nanoseconds since the log began (rule 12). At most `COUNTER_MAX`.
    pub log_time_ns: u64,
    /// Wall clock of the leader, nanoseconds since 1970. Only shown, never used.
    pub timestamp_unix_ns: u64,
    /// 1 to 64 for events, else zero.
    pub event_count: u32,
    /// The Raft group; zero in version 1.
    pub group: GroupId,
    /// CRC32 of body and padding.
    pub body_crc: u32,
    /// CRC32 of the first 76 bytes of the header.
    pub header_crc: u32,
}

impl EntryHeader {
    /// Bytes of an encoded header.
    pub const BYTES: usize = 80;

    /// Reads the header at the start of `bytes`; what follows it is not looked at.
    ///
    /// Damage is told from novelty: magic and checksum are judged first, and they stand at the same place in every
    /// version, so [`EntryError::is_unsupported`] errors mean an undamaged header of a build that knows more.
    ///
    /// # Errors
    /// Too few bytes, a wrong magic or checksum, something unknown, a field out of range, or sizes that contradict
    /// each other.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let Ok((raw, _)) = RawHeader::ref_from_prefix(bytes) else {
            return Err(EntryError::Truncated { needed: Self::BYTES, left: bytes.len() });
        };
        if raw.magic.get() != ENTRY_MAGIC {
            return Err(EntryError::Magic(raw.magic.get()));
        }
        let computed = crc32(&bytes[..HEADER_CRC_AT]);
        if raw.header_crc.get() != computed {
            return Err(EntryError::HeaderCrc { stored: raw.header_crc.get(), computed });
        }
        if raw.version != ENTRY_VERSION {
            return Err(EntryError::UnknownVersion(raw.version));
        }
        let kind = EntryKind::from_code(raw.kind)?;
        if raw.flags.get() != 0 {
            return Err(EntryError::UnknownFlags(raw.flags.get()));
        }
        if raw.group.get() != 0 {
            return Err(EntryError::UnknownGroup(raw.group.get()));
        }
        if raw.reserved.get() != 0 {
            return Err(EntryError::Malformed("a reserved field of the header is not zero"));
        }
        let header = raw.fields(kind);
        header.check()?;
        Ok(header)
    }

    /// The encoded header, its checksum computed anew (the field [`EntryHeader::header_crc`] is not read).
    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut raw = RawHeader {
            magic: U32::new(ENTRY_MAGIC),
            version: self.version,
            kind: self.kind.code(),
            flags: U16::new(self.flags),
            total_bytes: U32::new(self.total_bytes),
            body_bytes: U32::new(self.body_bytes),
            term: U64::new(self.term.0),
            index: U64::new(self.index.0),
            prev_chain: U64::new(self.prev_chain),
            base_offset: U64::new(self.base_offset.0),
            log_time_ns: U64::new(self.log_time_ns),
            timestamp_unix_ns: U64::new(self.timestamp_unix_ns),
            event_count: U32::new(self.event_count),
            group: U16::new(self.group.0),
            reserved: U16::ZERO,
            body_crc: U32::new(self.body_crc),
            header_crc: U32::ZERO,
        };
        raw.header_crc = U32::new(crc32(&raw.as_bytes()[..HEADER_CRC_AT]));
        zerocopy::transmute!(raw)
    }

    /// Ranges of the fields, and the relations between them.
    pub(super) fn check(&self) -> Result<(), EntryError> {
        let total = self.total_bytes as usize;
        if total > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLarge { what: "an entry", bytes: total, limit: ENTRY_BYTES_MAX });
        }
        if self.body_bytes as usize > ENTRY_BYTES_MAX || total != self.end_of_body() + TRAILER_BYTES {
            return Err(EntryError::Malformed("the sizes of entry and body contradict each other"));
        }
        let ranges = [
            ("term", 0, self.term.0),
            ("index", 1, self.index.0),
            ("base_offset", 1, self.base_offset.0),
            ("log_time_ns", 0, self.log_time_ns),
        ];
        for (name, least, value) in ranges {
            if !(least..=COUNTER_MAX).contains(&value) {
                return Err(EntryError::OutOfRange(name));
            }
        }
        let count_ok = match self.kind {
            EntryKind::Events => (1..=BATCH_EVENTS_MAX).contains(&(self.event_count as usize)),
            EntryKind::Noop | EntryKind::Configuration | EntryKind::OpenProducer | EntryKind::Trim => {
                self.event_count == 0
            }
        };
        if !count_ok {
            return Err(EntryError::OutOfRange("event_count"));
        }
        if self.kind == EntryKind::Noop && self.body_bytes != 0 {
            return Err(EntryError::Malformed("a no-op has a body"));
        }
        Ok(())
    }

    /// Term and index.
    #[must_use]
    pub const fn id(&self) -> EntryId {
        EntryId::new(self.term, self.index)
    }

    /// This entry's chain value: one number for the whole log up to here (rule 10).
    #[must_use]
    pub const fn chain(&self) -> u64 {
        chain64(self.prev_chain, self.term, self.index, self.header_crc, self.body_crc)
    }

    /// Offset of the first event after this entry: the next entry's `base_offset`.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.base_offset.plus(self.event_count as u64)
    }

    /// Where the body's padding ends and the trailer starts, from the start of the entry.
    pub(super) const fn end_of_body(&self) -> usize {
        Self::BYTES + pad8(self.body_bytes as usize)
    }
}

impl RawHeader {
    fn fields(&self, kind: EntryKind) -> EntryHeader {
        EntryHeader {
            kind,
            version: self.version,
            flags: self.flags.get(),
            total_bytes: self.total_bytes.get(),
            body_bytes: self.body_bytes.get(),
            term: Term(self.term.get()),
            index: LogIndex(self.index.get()),
            prev_chain: self.prev_chain.get(),
            base_offset: Offset(self.base_offset.get()),
            log_time_ns: self.log_time_ns.get(),
            timestamp_unix_ns: self.timestamp_unix_ns.get(),
            event_count: self.event_count.get(),
            group: GroupId(self.group.get()),
            body_crc: self.body_crc.get(),
            header_crc: self.header_crc.get(),
        }
    }
}

/// The chain function, fixed for ever: [`fold64`] with the previous chain value as the first state, over term, index,
/// and the two checksums as one word (header's in the upper half).
///
/// With all other inputs equal, two values of one input always give two chain values, since `fold64` is a bijection
/// in each of its arguments.
#[must_use]
pub const fn chain64(prev_chain: u64, term: Term, index: LogIndex, header_crc: u32, body_crc: u32) -> u64 {
    let state = fold64(prev_chain, term.0);
    let state = fold64(state, index.0);
    fold64(state, ((header_crc as u64) << 32) | body_crc as u64)
}

/// The sixteen bytes behind body and padding.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawTrailer {
    chain: U64,
    total_bytes: U32,
    magic: U32,
}

const _: () = assert!(size_of::<RawTrailer>() == TRAILER_BYTES);

/// The trailer that belongs to a header whose checksums are final.
pub(super) fn encode_trailer(header: &EntryHeader) -> [u8; TRAILER_BYTES] {
    zerocopy::transmute!(RawTrailer {
        chain: U64::new(header.chain()),
        total_bytes: U32::new(header.total_bytes),
        magic: U32::new(TRAILER_MAGIC),
    })
}

/// Checks that `bytes` start with the trailer of `header`.
pub(super) fn check_trailer(header: &EntryHeader, bytes: &[u8]) -> Result<(), EntryError> {
    let Ok((raw, _)) = RawTrailer::ref_from_prefix(bytes) else {
        return Err(EntryError::Truncated { needed: TRAILER_BYTES, left: bytes.len() });
    };
    if raw.magic.get() != TRAILER_MAGIC {
        return Err(EntryError::Trailer("magic"));
    }
    if raw.total_bytes.get() != header.total_bytes {
        return Err(EntryError::Trailer("total_bytes"));
    }
    if raw.chain.get() != header.chain() {
        return Err(EntryError::Trailer("chain"));
    }
    Ok(())
}
