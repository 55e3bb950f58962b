//! Hard state: what Raft must never forget (figure 2 of the paper: current_term, voted_for), with the claimed tail
//! (rule 11), the peers' pinned incarnations (rule 13), the boot id, and whether the last stop was clean (rule 6).
//!
//! One file of two 4 KiB blocks; the slot with the higher number holds. A write goes to the block that is not known to
//! be durable, is synced before the call returns, and is then copied into the other block, without waiting: the copy is
//! synced at leisure. So a torn write loses only what nobody has been told of yet, one sync is all that a vote waits
//! for, and a block that rots later holds no only copy.
//!
//! ```text
//! slot (512 B at 0 and at 4096): 0 magic "TERCHST\0" | 8 version u32 | 12 pin count u32 | 16 number u64 | 24 term u64
//!   32 voted for u16 (0 none) | 34 flags u8 (1: closed) | 35 zero 5 B | 40 claimed term u64
//!   48 claimed index u64 (0 none) | 56 boot id hash u64
//!   64 pins, 7 x (node u16, zero 6 B, incarnation u128), ascending | zeros | 508 CRC32 of bytes 0..508
//! ```

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::Path;

use super::disk::{Disk, DiskError, DiskErrorKind, DiskFile};
use super::error::LogError;
use crate::base::bytes::{ByteReader, ByteWriter, ShortInput};
use crate::base::checksum::{crc32, hash64};
use crate::base::ids::{COUNTER_MAX, EntryId, Incarnation, LogIndex, NodeId, Term};
use crate::base::limits::NODES_MAX;
use crate::raft::HardState;

const MAGIC: [u8; 8] = *b"TERCHST\0";
/// Version of the hard state's format that is written. Version 1, which is read too, has no flags; where it was the last
/// to be written, the node counts as closed.
pub const HARD_STATE_VERSION: u32 = 2;
/// Before flags.
const VERSION_WITHOUT_FLAGS: u32 = 1;
const FLAG_CLOSED: u8 = 1;
const SLOT_BYTES: usize = 512;
const BLOCK_BYTES: u64 = 4096;
const CRC_AT: usize = SLOT_BYTES - 4;
const _: () = assert!(64 + NODES_MAX * 24 <= CRC_AT, "all pins fit the slot");

/// What is stored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoredHardState {
    /// Latest term seen.
    pub term: Term,
    /// Who got the vote in it.
    pub voted_for: Option<NodeId>,
    /// An entry that this log is known to have held beyond its end (rule 11).
    pub claimed_tail: Option<EntryId>,
    /// Incarnations of peers by first contact; at most [`NODES_MAX`].
    pub pins: BTreeMap<NodeId, Incarnation>,
    /// [`boot_id_hash`] of the operating system's boot under which this was written; zero: none.
    pub boot_id_hash: u64,
    /// Nothing was written to the log since it was closed, flushed to the end.
    pub closed: bool,
}

/// What a block of the file turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SlotFound {
    /// Undamaged, with its number.
    Good(u64, StoredHardState),
    /// The right magic, but a version that this build does not know.
    UnknownVersion(u32),
    /// Anything else.
    Damaged,
}

/// A boot of the operating system as a number; zero where the system does not tell.
#[must_use]
pub fn boot_id_hash(boot_id: Option<&str>) -> u64 {
    boot_id.map_or(0, |text| hash64(0, text.as_bytes()).max(1))
}

impl StoredHardState {
    /// Whether what was written to the page cache and not flushed may be gone: the last life ended without closing, and
    /// under another boot than this one (or nobody can tell).
    #[must_use]
    pub const fn may_have_lost_cache(&self, boot_id_hash: u64) -> bool {
        !self.closed && (boot_id_hash == 0 || self.boot_id_hash != boot_id_hash)
    }

    /// The consensus core's part.
    #[must_use]
    pub const fn raft(&self) -> HardState {
        HardState { term: self.term, voted_for: self.voted_for, claimed_tail: self.claimed_tail }
    }

    /// Whether this node does not know what it has acknowledged (rule 6).
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.claimed_tail.is_some_and(crate::raft::claim::is_unknown_claim)
    }

    /// Takes over the consensus core's part; pins and boot id stay.
    pub const fn set_raft(&mut self, state: HardState) {
        self.term = state.term;
        self.voted_for = state.voted_for;
        self.claimed_tail = state.claimed_tail;
    }

    /// Encodes one slot.
    ///
    /// # Panics
    /// With more than [`NODES_MAX`] pins.
    #[must_use]
    pub fn encode(&self, number: u64) -> Vec<u8> {
        self.encode_as(number, HARD_STATE_VERSION)
    }

    fn encode_as(&self, number: u64, version: u32) -> Vec<u8> {
        assert!(self.pins.len() <= NODES_MAX, "at most {NODES_MAX} pins");
        let claimed = self.claimed_tail.unwrap_or(EntryId::ZERO);
        let mut out = Vec::with_capacity(SLOT_BYTES);
        out.put(&MAGIC);
        out.put_u32(version);
        out.put_u32(self.pins.len() as u32);
        out.put_u64(number);
        out.put_u64(self.term.0);
        out.put_u16(NodeId::to_wire(self.voted_for));
        let is_flagged = self.closed && version > VERSION_WITHOUT_FLAGS;
        out.put(&[if is_flagged { FLAG_CLOSED } else { 0 }, 0, 0, 0, 0, 0]);
        out.put_u64(claimed.term.0);
        out.put_u64(claimed.index.0);
        out.put_u64(self.boot_id_hash);
        for (node, incarnation) in &self.pins {
            out.put_u16(node.0);
            out.put(&[0; 6]);
            out.put_u128(incarnation.0);
        }
        out.resize(CRC_AT, 0);
        out.put_u32(crc32(&out));
        out
    }

    /// Reads one slot. Total.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> SlotFound {
        let Some(bytes) = bytes.get(..SLOT_BYTES).filter(|bytes| bytes[..8] == MAGIC) else {
            return SlotFound::Damaged;
        };
        // First: a version number that rotted is damage, and no newer build's. Later versions keep the CRC there.
        if bytes[CRC_AT..] != crc32(&bytes[..CRC_AT]).to_le_bytes() {
            return SlotFound::Damaged;
        }
        let mut reader = ByteReader::new(&bytes[8..]);
        let version = match reader.u32() {
            Ok(version @ (VERSION_WITHOUT_FLAGS | HARD_STATE_VERSION)) => version,
            Ok(version) => return SlotFound::UnknownVersion(version),
            Err(_) => return SlotFound::Damaged,
        };
        match Self::fields(&mut reader, version) {
            // One state has one encoding: pins in order, no node twice, zeros wherever nothing is said.
            Ok(Some((number, state))) if state.encode_as(number, version) == bytes => {
                SlotFound::Good(number, state)
            }
            Ok(_) | Err(_) => SlotFound::Damaged,
        }
    }

    fn fields(reader: &mut ByteReader<'_>, version: u32) -> Result<Option<(u64, Self)>, ShortInput> {
        let pin_count = reader.u32()? as usize;
        let number = reader.u64()?;
        let term = Term(reader.u64()?);
        let voted_for = NodeId::from_wire(reader.u16()?);
        let flags = reader.take(6)?[0];
        let closed = version == VERSION_WITHOUT_FLAGS || flags & FLAG_CLOSED != 0;
        let claimed = EntryId::new(Term(reader.u64()?), LogIndex(reader.u64()?));
        let boot_id_hash = reader.u64()?;
        let in_range =
            [number, term.0, claimed.term.0, claimed.index.0].iter().all(|&value| value <= COUNTER_MAX);
        if pin_count > NODES_MAX || !in_range {
            return Ok(None);
        }
        let mut pins = BTreeMap::new();
        for _ in 0..pin_count {
            let Some(node) = NodeId::from_wire(reader.u16()?) else { return Ok(None) };
            reader.take(6)?;
            pins.insert(node, Incarnation(reader.u128()?));
        }
        let claimed_tail = (claimed.index != LogIndex::ZERO).then_some(claimed);
        Ok(Some((number, Self { term, voted_for, claimed_tail, pins, boot_id_hash, closed })))
    }
}

/// Which of the two slots holds. The decision table of the hard state:
///
/// | even | odd | verdict |
/// |---|---|---|
/// | good | good | the higher number |
/// | good | damaged | the good one |
/// | damaged | good | the good one |
/// | damaged | damaged | refuse: the node could vote twice |
/// | unknown version | any | refuse, touch nothing |
/// | any | unknown version | refuse, touch nothing |
///
/// # Errors
/// A text that says what is wrong.
pub fn choose_slot(even: SlotFound, odd: SlotFound) -> Result<(u64, StoredHardState), String> {
    match (even, odd) {
        (SlotFound::UnknownVersion(version), _) | (_, SlotFound::UnknownVersion(version)) => {
            Err(format!("hard state of version {version}, this build knows {HARD_STATE_VERSION}"))
        }
        (SlotFound::Good(even_number, even), SlotFound::Good(odd_number, odd)) => {
            Ok(if even_number > odd_number { (even_number, even) } else { (odd_number, odd) })
        }
        (SlotFound::Good(number, state), SlotFound::Damaged)
        | (SlotFound::Damaged, SlotFound::Good(number, state)) => Ok((number, state)),
        (SlotFound::Damaged, SlotFound::Damaged) => {
            Err("both copies of the hard state are damaged; without it the node could vote twice".to_owned())
        }
    }
}

/// The open file.
#[derive(Debug)]
pub struct HardStateFile<F> {
    file: F,
    number: u64,
    /// The block (0 or 1) whose content is known to be durable; never written before the other one is synced.
    durable: u64,
    /// The other block holds a copy that is not synced yet.
    copy_unsynced: bool,
}

impl<F: DiskFile> HardStateFile<F> {
    /// Creates and syncs the file; its directory is the caller's to sync.
    ///
    /// # Errors
    /// As the disk says.
    pub fn create<D: Disk<File = F>>(
        disk: &D,
        path: &Path,
        state: &StoredHardState,
    ) -> Result<Self, DiskError> {
        let file = disk.create(path, 2 * BLOCK_BYTES)?;
        let mut hard_state = Self { file, number: 0, durable: 0, copy_unsynced: false };
        // Both slots, so that one flipped bit never leaves a node without.
        hard_state.write(state)?;
        hard_state.sync_copy()?;
        Ok(hard_state)
    }

    /// Opens the file and reads what holds. With `write` it is first made certain that what is read is on the disk: the
    /// last process may have died between write and sync, or its sync may have failed.
    ///
    /// # Errors
    /// Missing, both slots damaged, of an unknown version, or the disk fails.
    pub fn open<D: Disk<File = F>>(
        disk: &D,
        path: &Path,
        write: bool,
    ) -> Result<(Self, StoredHardState), LogError> {
        let file = match disk.open(path, write) {
            Err(error) if error.kind() == DiskErrorKind::NotFound => {
                let what = "is missing: this node may have cast a vote that it does not remember; do not start it, \
                            replace it by a freshly formatted node";
                return Err(LogError::HardState { file: path.to_owned(), what: what.to_owned() });
            }
            opened => opened?,
        };
        if write {
            file.sync_data()?;
            file.drop_cache(0, 2 * BLOCK_BYTES);
        }
        let mut slots = [SlotFound::Damaged, SlotFound::Damaged];
        for (which, slot) in slots.iter_mut().enumerate() {
            let mut bytes = [0; SLOT_BYTES];
            let read = file.read_at(&mut bytes, which as u64 * BLOCK_BYTES)?;
            *slot = StoredHardState::decode(&bytes[..read]);
        }
        let [even, odd] = slots;
        let number_in_odd = if let SlotFound::Good(number, _) = &odd { Some(*number) } else { None };
        let chosen = choose_slot(even, odd);
        let (number, state) = chosen.map_err(|what| LogError::HardState { file: path.to_owned(), what })?;
        let durable = u64::from(number_in_odd == Some(number));
        Ok((Self { file, number, durable, copy_unsynced: false }, state))
    }

    /// Makes the state durable in one block and begins a copy in the other.
    ///
    /// # Errors
    /// Final: the caller must stop.
    pub fn write(&mut self, state: &StoredHardState) -> Result<(), DiskError> {
        let fresh = 1 - self.durable;
        self.put(fresh, state)?;
        self.file.sync_data()?;
        self.durable = fresh;
        // A crash that tears the copy leaves the block that was just synced.
        self.put(1 - fresh, state)?;
        self.copy_unsynced = true;
        Ok(())
    }

    fn put(&mut self, block: u64, state: &StoredHardState) -> Result<(), DiskError> {
        self.number += 1;
        self.file.write_at(&[IoSlice::new(&state.encode(self.number))], block * BLOCK_BYTES)
    }

    /// Makes the copy durable too, if it is not. For quiet moments.
    ///
    /// # Errors
    /// Final: the caller must stop.
    pub fn sync_copy(&mut self) -> Result<(), DiskError> {
        if std::mem::take(&mut self.copy_unsynced) {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Name for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::IoSlice;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::{BLOCK_BYTES, CRC_AT, HardStateFile, SlotFound, StoredHardState, boot_id_hash, choose_slot};
    use crate::base::checksum::crc32;
    use crate::base::ids::{EntryId, Incarnation, LogIndex, NodeId, Term};
    use crate::log::disk::{DiskError, DiskFile, Mapping};

    fn sample() -> StoredHardState {
        StoredHardState {
            term: Term(9),
            voted_for: Some(NodeId(2)),
            claimed_tail: Some(EntryId::new(Term(8), LogIndex(77))),
            pins: (1..=7).map(|n| (NodeId(n), Incarnation(u128::from(n) << 100))).collect::<BTreeMap<_, _>>(),
            boot_id_hash: 5,
            closed: true,
        }
    }

    #[test]
    fn slot_comes_back_and_no_single_bit_flip_goes_unseen() {
        let bytes = sample().encode(4);
        assert_eq!(StoredHardState::decode(&bytes), SlotFound::Good(4, sample()));
        let mut copy = StoredHardState { term: Term(1), voted_for: None, claimed_tail: None, ..sample() };
        copy.set_raft(sample().raft());
        assert_eq!(copy, sample());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(StoredHardState::decode(&flipped), SlotFound::Damaged, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(StoredHardState::decode(&bytes[..len]), SlotFound::Damaged);
        }
    }

    #[test]
    fn one_state_has_one_encoding() {
        let summed = |change: &dyn Fn(&mut [u8])| {
            let mut bytes = sample().encode(4);
            change(&mut bytes);
            let crc = crc32(&bytes[..CRC_AT]).to_le_bytes();
            bytes[CRC_AT..].copy_from_slice(&crc);
            StoredHardState::decode(&bytes)
        };
        assert_eq!(summed(&|_| ()), SlotFound::Good(4, sample()));
        for at in [35, 39, 66, 71, 232, 507] {
            assert_eq!(summed(&|bytes| bytes[at] = 1), SlotFound::Damaged, "reserved byte {at}");
        }
        assert_eq!(summed(&|bytes| bytes[64] = 2), SlotFound::Damaged, "node 2 is pinned twice");
        assert_eq!(summed(&|bytes| bytes[64] = 0), SlotFound::Damaged, "there is no node 0");
        assert_eq!(summed(&|bytes| bytes[64] = 9), SlotFound::Damaged, "pins ascend");
        assert_eq!(
            summed(&|bytes| bytes[48..56].fill(0)),
            SlotFound::Damaged,
            "a claimed term without an index"
        );
    }

    #[test]
    fn a_record_from_before_flags_counts_as_closed() {
        let mut bytes = StoredHardState { closed: false, ..sample() }.encode(4);
        bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
        let crc = crc32(&bytes[..508]);
        bytes[508..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(StoredHardState::decode(&bytes), SlotFound::Good(4, sample()));
    }

    #[test]
    fn a_cache_may_be_lost_by_an_unclean_stop_and_another_boot_and_by_nothing_else() {
        let (this, other) = (boot_id_hash(Some("this")), boot_id_hash(Some("other")));
        assert!(this != other && this != 0);
        let stored = |boot_id_hash, closed| StoredHardState { boot_id_hash, closed, ..sample() };
        assert!(stored(other, false).may_have_lost_cache(this));
        assert!(!stored(this, false).may_have_lost_cache(this), "the process died, the machine did not");
        assert!(!stored(other, true).may_have_lost_cache(this), "closed cleanly before");
        assert!(stored(this, false).may_have_lost_cache(boot_id_hash(None)), "nobody can tell");
        assert!(!stored(this, true).may_have_lost_cache(boot_id_hash(None)));
    }

    #[test]
    fn decision_table_row_by_row() {
        let good = |number| SlotFound::Good(number, StoredHardState { term: Term(number), ..sample() });
        let chosen = |even, odd| choose_slot(even, odd).map(|(number, state)| (number, state.term.0));
        assert_eq!(chosen(good(4), good(3)), Ok((4, 4)));
        assert_eq!(chosen(good(4), good(5)), Ok((5, 5)));
        assert_eq!(chosen(good(4), SlotFound::Damaged), Ok((4, 4)));
        assert_eq!(chosen(SlotFound::Damaged, good(5)), Ok((5, 5)));
        assert!(chosen(SlotFound::Damaged, SlotFound::Damaged).is_err());
        assert!(chosen(SlotFound::UnknownVersion(3), good(5)).is_err());
        assert!(chosen(good(4), SlotFound::UnknownVersion(3)).is_err());
    }

    /// Watches the order of writes and syncs: a crash may tear the block that is being written, so the other one must
    /// be durable at that moment.
    #[derive(Default)]
    struct Watched {
        dirty: [AtomicBool; 2],
        writes: AtomicU32,
    }

    impl DiskFile for Watched {
        fn write_at(&self, _parts: &[IoSlice<'_>], position: u64) -> Result<(), DiskError> {
            let block = (position / BLOCK_BYTES) as usize;
            assert!(
                !self.dirty[1 - block].load(Ordering::Relaxed),
                "block {block} is written while the other one is not durable"
            );
            self.dirty[block].store(true, Ordering::Relaxed);
            self.writes.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        fn read_at(&self, _buf: &mut [u8], _position: u64) -> Result<usize, DiskError> {
            Ok(0)
        }

        fn sync_data(&self) -> Result<(), DiskError> {
            self.dirty.iter().for_each(|dirty| dirty.store(false, Ordering::Relaxed));
            Ok(())
        }

        fn start_writeback(&self, _position: u64, _len: u64) {}

        fn drop_cache(&self, _position: u64, _len: u64) {}

        fn len_bytes(&self) -> Result<u64, DiskError> {
            Ok(2 * BLOCK_BYTES)
        }

        fn map(&self) -> Result<Option<Mapping>, DiskError> {
            Ok(None)
        }

        fn path(&self) -> &Path {
            Path::new("hard_state")
        }
    }

    #[test]
    fn no_block_is_written_while_the_other_one_is_not_durable() {
        let file = Watched::default();
        let mut hard_state = HardStateFile { file, number: 7, durable: 1, copy_unsynced: false };
        for round in 0..9 {
            hard_state.write(&sample()).unwrap();
            assert!(
                !hard_state.file.dirty[hard_state.durable as usize].load(Ordering::Relaxed),
                "durable on return"
            );
            if round % 3 == 2 {
                hard_state.sync_copy().unwrap();
                assert!(
                    hard_state.file.dirty.iter().all(|dirty| !dirty.load(Ordering::Relaxed)),
                    "and the copy at leisure"
                );
            }
        }
        assert_eq!((hard_state.number, hard_state.file.writes.load(Ordering::Relaxed)), (7 + 18, 18));
    }
}
