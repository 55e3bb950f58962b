//! Bytes of a segment file's head: the header block and the watermark slots. Little-endian throughout.
//!
//! ```text
//! position
//!      0  header block, 4096 B, written once, synced before the file gets its name
//!         0 magic "TERCSEG\0" | 8 version u32 | 12 group u16 | 14 flags u16 (1 recycled)
//!         16 cluster id u128 | 32 seq u64 | 40 generation u64 | 48 base index u64 | 56 base offset u64
//!         64 base chain u64 | 72 base term u64 | 80 segment bytes u64 | 88 zero u32 | 92 CRC32 of bytes 0..92 u32 | zeros
//!   4096  watermark slot of even numbers, 64 B in a block of its own
//!   8192  watermark slot of odd numbers
//!         0 magic "TCWM" | 4 flags u32 (1 sealed, 2 clean) | 8 number u64 | 16 flushed index u64
//!         24 end position u64 | 32 chain u64 | 40 commit hint u64 | 48 next seq u64 | 56 zero u32 | 60 CRC32 u32
//!  12288  entries, back to back, each a multiple of 8 bytes; after the last zeros, or in a recycled file what it held
//!         before
//! ```
//!
//! *Base* values tell what stands before the file's first entry: `base_index` is the index of that entry, `base_offset`
//! the offset that its first event has or would have, `base_chain` and `base_term` belong to the entry at
//! `base_index - 1`. A slot says: everything up to `flushed_index`, which ends at `end_position`, was durable before the
//! slot was written. The slots alternate, so a torn one never hides the other.
//!
//! Every later version keeps magic, version and CRC32 of the header where they are (or takes another magic), so that a
//! version number can be believed before anything else is understood.

use std::path::{Path, PathBuf};

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::checksum::crc32;
use crate::base::ids::{COUNTER_MAX, ClusterId, EntryId, GroupId, LogIndex, Offset, Term};
use crate::entry::ENTRY_BYTES_MIN;

/// A block of its own for the header and for each slot.
pub const BLOCK_BYTES: u64 = 4096;
/// Where entries start.
pub const ENTRIES_POSITION: u64 = 3 * BLOCK_BYTES;
/// The only version of the segment format so far.
pub const SEGMENT_VERSION: u32 = 1;

const SEGMENT_MAGIC: [u8; 8] = *b"TERCSEG\0";
const SLOT_MAGIC: [u8; 4] = *b"TCWM";
const FLAG_RECYCLED: u16 = 1;
const FLAG_SEALED: u32 = 1;
const FLAG_CLEAN: u32 = 2;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    group: U16,
    flags: U16,
    cluster: U128,
    seq: U64,
    generation: U64,
    base_index: U64,
    base_offset: U64,
    base_chain: U64,
    base_term: U64,
    segment_bytes: U64,
    zero2: U32,
    crc: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSlot {
    magic: [u8; 4],
    flags: U32,
    number: U64,
    flushed_index: U64,
    end_position: U64,
    chain: U64,
    commit_hint: U64,
    next_seq: U64,
    zero: U32,
    crc: U32,
}

/// Length of an encoded [`SegmentHeader`].
pub const HEADER_BYTES: usize = size_of::<RawHeader>();
/// Bytes of an encoded watermark slot.
pub const SLOT_BYTES: usize = size_of::<RawSlot>();
const _: () = assert!(HEADER_BYTES == 96 && SLOT_BYTES == 64);
const _: () = assert!(ENTRIES_POSITION.is_multiple_of(8));

/// A segment file's name card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The cluster that the log belongs to.
    pub cluster_id: ClusterId,
    /// The Raft group.
    pub group: GroupId,
    /// Number of the file; files supersede by it.
    pub seq: u64,
    /// Truncations before this file, as the consensus core counts them. For people.
    pub generation: u64,
    /// Index of the first entry here.
    pub base_index: LogIndex,
    /// Offset of the first event at or after `base_index`.
    pub base_offset: Offset,
    /// Chain value of the entry before `base_index`.
    pub base_chain: u64,
    /// Term of that entry.
    pub base_term: Term,
    /// Length of the file.
    pub segment_bytes: u64,
    /// The file held an older segment, which retention has let go: what follows its end are stale entries, all with
    /// lower indexes, and no zeros.
    pub recycled: bool,
}

/// What the first bytes of a segment file turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderFound {
    /// Undamaged.
    Good(SegmentHeader),
    /// The magic of a segment, but a version that this build does not know.
    UnknownVersion(u32),
    /// Anything else.
    Damaged,
}

impl SegmentHeader {
    /// The entry before the first one here.
    #[must_use]
    pub const fn base_id(&self) -> EntryId {
        EntryId::new(self.base_term, self.base_index.prev())
    }

    /// The encoded header, without the zeros that fill its block.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut raw = RawHeader {
            magic: SEGMENT_MAGIC,
            version: U32::new(SEGMENT_VERSION),
            group: U16::new(self.group.0),
            flags: U16::new(if self.recycled { FLAG_RECYCLED } else { 0 }),
            cluster: U128::new(self.cluster_id.0),
            seq: U64::new(self.seq),
            generation: U64::new(self.generation),
            base_index: U64::new(self.base_index.0),
            base_offset: U64::new(self.base_offset.0),
            base_chain: U64::new(self.base_chain),
            base_term: U64::new(self.base_term.0),
            segment_bytes: U64::new(self.segment_bytes),
            zero2: U32::ZERO,
            crc: U32::ZERO,
        };
        raw.crc = U32::new(crc32(&raw.as_bytes()[..HEADER_BYTES - 4]));
        zerocopy::transmute!(raw)
    }

    /// Reads a header. Total.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> HeaderFound {
        let Ok((raw, _)) = RawHeader::ref_from_prefix(bytes) else { return HeaderFound::Damaged };
        if raw.magic != SEGMENT_MAGIC {
            return HeaderFound::Damaged;
        }
        // First: a version number that rotted is damage, and no newer build's.
        if raw.crc.get() != crc32(&bytes[..HEADER_BYTES - 4]) {
            return HeaderFound::Damaged;
        }
        if raw.version.get() != SEGMENT_VERSION {
            return HeaderFound::UnknownVersion(raw.version.get());
        }
        let counters = [raw.seq, raw.base_index, raw.base_offset, raw.base_term];
        let ranges = counters.iter().all(|value| value.get() <= COUNTER_MAX);
        let sane = ranges
            && raw.base_index.get() >= 1
            && raw.segment_bytes.get() >= ENTRIES_POSITION
            && raw.flags.get() <= FLAG_RECYCLED
            && raw.zero2.get() == 0;
        if !sane {
            return HeaderFound::Damaged;
        }
        HeaderFound::Good(Self {
            cluster_id: ClusterId(raw.cluster.get()),
            group: GroupId(raw.group.get()),
            seq: raw.seq.get(),
            generation: raw.generation.get(),
            base_index: LogIndex(raw.base_index.get()),
            base_offset: Offset(raw.base_offset.get()),
            base_chain: raw.base_chain.get(),
            base_term: Term(raw.base_term.get()),
            segment_bytes: raw.segment_bytes.get(),
            recycled: raw.flags.get() == FLAG_RECYCLED,
        })
    }
}

/// The durable watermark of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Counts the slots written to this file; the higher one holds, its parity chooses the block.
    pub number: u64,
    /// Last index that was durable here when the slot was written; `base_index - 1` in a fresh segment.
    pub flushed_index: LogIndex,
    /// Where that entry ends.
    pub end_position: u64,
    /// Its chain value.
    pub chain: u64,
    /// A lower bound of the commit index (clamp to what the log holds).
    pub commit_hint: LogIndex,
    /// Set when the segment takes no more entries: number of the file that goes on.
    pub next_seq: Option<u64>,
    /// Set when the log was closed here and nothing was written after `end_position`.
    pub clean: bool,
}

impl Slot {
    /// Where a slot of this number lies.
    #[must_use]
    pub const fn position_of(number: u64) -> u64 {
        BLOCK_BYTES * (1 + number % 2)
    }

    /// The encoded slot.
    #[must_use]
    pub fn encode(&self) -> [u8; SLOT_BYTES] {
        let sealed = if self.next_seq.is_some() { FLAG_SEALED } else { 0 };
        let clean = if self.clean { FLAG_CLEAN } else { 0 };
        let mut raw = RawSlot {
            magic: SLOT_MAGIC,
            flags: U32::new(sealed | clean),
            number: U64::new(self.number),
            flushed_index: U64::new(self.flushed_index.0),
            end_position: U64::new(self.end_position),
            chain: U64::new(self.chain),
            commit_hint: U64::new(self.commit_hint.0),
            next_seq: U64::new(self.next_seq.unwrap_or(0)),
            zero: U32::ZERO,
            crc: U32::ZERO,
        };
        raw.crc = U32::new(crc32(&raw.as_bytes()[..SLOT_BYTES - 4]));
        zerocopy::transmute!(raw)
    }

    /// Reads a slot; `None` for anything that is no undamaged slot.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (raw, _) = RawSlot::ref_from_prefix(bytes).ok()?;
        let flags = raw.flags.get();
        let whole = raw.magic == SLOT_MAGIC && raw.crc.get() == crc32(&bytes[..SLOT_BYTES - 4]);
        let counters = [raw.flushed_index, raw.commit_hint, raw.next_seq, raw.number];
        if !whole || flags > 3 || counters.iter().any(|value| value.get() > COUNTER_MAX) {
            return None;
        }
        let sealed = flags & FLAG_SEALED != 0;
        if raw.zero.get() != 0 || (!sealed && raw.next_seq.get() != 0) {
            return None;
        }
        Some(Self {
            number: raw.number.get(),
            flushed_index: LogIndex(raw.flushed_index.get()),
            end_position: raw.end_position.get(),
            chain: raw.chain.get(),
            commit_hint: LogIndex(raw.commit_hint.get()),
            next_seq: sealed.then_some(raw.next_seq.get()),
            clean: flags & FLAG_CLEAN != 0,
        })
    }

    /// Whether a segment with this header can have such a slot: its last durable entry ends inside the file, and not
    /// before the first one starts, and as many entries as it tells of fit there. A slot that says anything else was
    /// not written for this file, whatever its checksum says: nobody may walk by its numbers.
    #[must_use]
    pub const fn fits(&self, header: &SegmentHeader) -> bool {
        let before = header.base_index.prev();
        self.end_position >= ENTRIES_POSITION
            && self.end_position <= header.segment_bytes
            && self.flushed_index.0 >= before.0
            && self.flushed_index.since(before)
                <= (self.end_position - ENTRIES_POSITION) / ENTRY_BYTES_MIN as u64
    }

    /// The first slot of a fresh segment.
    #[must_use]
    pub const fn fresh(header: &SegmentHeader, commit_hint: LogIndex) -> Self {
        Self {
            number: 1,
            flushed_index: header.base_index.prev(),
            end_position: ENTRIES_POSITION,
            chain: header.base_chain,
            commit_hint,
            next_seq: None,
            clean: false,
        }
    }
}

/// The first 12 KiB of a fresh segment: its header and both slots.
#[must_use]
pub fn encode_head(header: &SegmentHeader, slot: &Slot) -> Vec<u8> {
    let mut head = vec![0; ENTRIES_POSITION as usize];
    head[..HEADER_BYTES].copy_from_slice(&header.encode());
    for number in [slot.number - 1, slot.number] {
        let at = Slot::position_of(number) as usize;
        head[at..at + SLOT_BYTES].copy_from_slice(&Slot { number, ..*slot }.encode());
    }
    head
}

/// `group-0` and so on, in the data directory.
#[must_use]
pub fn group_dir(data_dir: &Path, group: GroupId) -> PathBuf {
    data_dir.join(format!("group-{}", group.0))
}

/// `seg-<16 hexadecimal digits>.log`.
#[must_use]
pub fn segment_name(seq: u64) -> String {
    format!("seg-{seq:016x}.log")
}

/// Inverse of [`segment_name`].
#[must_use]
pub fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("seg-")?.strip_suffix(".log")?;
    let seq = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(seq) == name).then_some(seq)
}

/// `free-<16 hexadecimal digits>`: a file that held segment `seq`, waiting to be used again.
#[must_use]
pub fn free_name(seq: u64) -> String {
    format!("free-{seq:016x}")
}

/// Inverse of [`free_name`].
#[must_use]
pub fn parse_free_name(name: &str) -> Option<u64> {
    let seq = u64::from_str_radix(name.strip_prefix("free-")?, 16).ok()?;
    (free_name(seq) == name).then_some(seq)
}

/// The next segment while it is being prepared.
pub const SPARE_NAME: &str = "spare";
/// A segment that is being written anew.
pub const MEND_NAME: &str = "mend";
/// The lock file in the data directory.
pub const LOCK_NAME: &str = "lock";
/// The identity file in the data directory.
pub const IDENTITY_NAME: &str = "identity";
/// The hard state file in the data directory.
pub const HARD_STATE_NAME: &str = "hard_state";

#[cfg(test)]
mod tests {
    use super::{
        ENTRIES_POSITION, HEADER_BYTES, HeaderFound, SEGMENT_VERSION, SLOT_BYTES, SegmentHeader, Slot,
        parse_segment_name, segment_name,
    };
    use crate::base::checksum::crc32;
    use crate::base::ids::{ClusterId, GroupId, LogIndex, Offset, Term};

    const HEADER: SegmentHeader = SegmentHeader {
        cluster_id: ClusterId(7),
        group: GroupId(0),
        seq: 3,
        generation: 2,
        base_index: LogIndex(10),
        base_offset: Offset(100),
        base_chain: 0xdead_beef,
        base_term: Term(4),
        segment_bytes: 8 << 20,
        recycled: true,
    };

    #[test]
    fn header_comes_back_and_no_single_bit_flip_goes_unseen() {
        let bytes = HEADER.encode();
        assert_eq!(SegmentHeader::decode(&bytes), HeaderFound::Good(HEADER));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), HeaderFound::Damaged, "bit {bit}");
        }
        let mut newer = bytes;
        newer[8] = SEGMENT_VERSION as u8 + 1;
        let crc = crc32(&newer[..HEADER_BYTES - 4]).to_le_bytes();
        newer[HEADER_BYTES - 4..].copy_from_slice(&crc);
        assert_eq!(SegmentHeader::decode(&newer), HeaderFound::UnknownVersion(SEGMENT_VERSION + 1));
        assert_eq!(SegmentHeader::decode(&bytes[..95]), HeaderFound::Damaged);
    }

    #[test]
    fn slot_comes_back_and_no_single_bit_flip_goes_unseen() {
        let slot = Slot {
            number: 9,
            next_seq: Some(4),
            clean: true,
            flushed_index: LogIndex(12),
            ..Slot::fresh(&HEADER, LogIndex(11))
        };
        let bytes = slot.encode();
        assert_eq!(Slot::decode(&bytes), Some(slot));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Slot::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_slot_that_points_out_of_its_segment_does_not_fit_it() {
        let fresh = Slot::fresh(&HEADER, LogIndex(0));
        assert!(fresh.fits(&HEADER));
        let three = Slot { flushed_index: LogIndex(12), end_position: ENTRIES_POSITION + 3 * 96, ..fresh };
        assert!(three.fits(&HEADER));
        assert!(!Slot { end_position: three.end_position - 8, ..three }.fits(&HEADER), "no room for three");
        assert!(!Slot { flushed_index: LogIndex(8), ..fresh }.fits(&HEADER), "before the segment");
        assert!(!Slot { end_position: ENTRIES_POSITION - 8, ..fresh }.fits(&HEADER));
        let last = Slot { end_position: HEADER.segment_bytes, ..three };
        assert!(last.fits(&HEADER));
        // A walk to this end would never have come to one: found by fuzzing.
        assert!(!Slot { end_position: HEADER.segment_bytes + 8, ..three }.fits(&HEADER));
        assert!(!Slot { end_position: u64::MAX, ..three }.fits(&HEADER));
    }

    #[test]
    fn what_is_reserved_is_zero() {
        let summed = |bytes: &[u8], at: usize, crc_at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1;
            let crc = crc32(&bytes[..crc_at]).to_le_bytes();
            bytes[crc_at..].copy_from_slice(&crc);
            bytes
        };
        for at in [15, 88, 91] {
            let header = summed(&HEADER.encode(), at, HEADER_BYTES - 4);
            assert_eq!(SegmentHeader::decode(&header), HeaderFound::Damaged, "byte {at}");
        }
        let slot = Slot::fresh(&HEADER, LogIndex(0)).encode();
        for at in [48, 56, 59] {
            assert_eq!(Slot::decode(&summed(&slot, at, SLOT_BYTES - 4)), None, "byte {at}");
        }
    }

    #[test]
    fn only_exact_names_are_segments() {
        assert_eq!(parse_segment_name(&segment_name(0xab)), Some(0xab));
        for name in
            ["seg-1.log", "seg-00000000000000AB.log", "seg-00000000000000ab.log.tmp", "spare", "seg-.log"]
        {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }
}
