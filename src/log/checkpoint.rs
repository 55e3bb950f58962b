//! Checkpoints: the state behind an entry, so that a restart reads the newest one and the log after it, and a follower
//! that retention has left behind can go on from its leader's. Little-endian throughout.
//!
//! The *image* is the same wherever it lies or travels:
//!
//! ```text
//! offset size field
//!      0    8 magic "TERCCKPT" | 8 version u32 | 12 group u16 | 14 zero u16 | 16 cluster id u128
//!     32    8 index, of the last entry that the state contains | 40 term u64 | 48 chain u64 | 56 next_offset u64
//!     64    8 log_time_ns | 72 configuration_bytes u32 | 76 zero u32 | 80 producers_bytes u64
//!     88    4 body_crc: what follows | 92 header_crc: bytes 0 to 91
//!     96      the entry with the configuration in force, then the producers' table (src/stream/state.rs)
//! ```
//!
//! A *file* tells besides where this node's own log begins:
//!
//! ```text
//! offset size field
//!      0    8 magic "TERCCKF\0" | 8 version u32 | 12 run_count u32 | 16 number u64
//!     24    8 first_index, of the first entry that the log here must have | 32 first_offset u64
//!     40    8 base_term, of the entry before | 48 image_bytes u64
//!     56   96 header of the segment that holds first_index (layout.rs); files with lower numbers are void
//!    152    4 flags: 1 = ahead | 156 4 runs_crc: the runs | 160 4 zero | 164 4 crc: bytes 0 to 163
//!    168      the terms of the log from first_index up to the image's index, as runs: term u64, first index u64
//!             the image
//! ```
//!
//! A checkpoint that is *ahead* was installed: the log begins at first_index, at the start of its segment, has no runs in
//! the file, and may end anywhere behind: the entries up to the image's index are still to be fetched. A regular one lies
//! within the log, which is damaged where it ends before.
//!
//! Two files take turns, `checkpoint-0` and `checkpoint-1` by the parity of their numbers, each replaced by a rename. The
//! whole one with the higher number holds. Segments are let go only when both files do without them, so a damaged
//! checkpoint costs a longer replay and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskErrorKind};
use super::error::{Corruption, LogError};
use super::layout::{ENTRIES_POSITION, HeaderFound, SegmentHeader};
use super::scanner::Tail;
use crate::base::bytes::{ByteReader, ByteWriter, ShortInput};
use crate::base::checksum::crc32;
use crate::base::ids::{COUNTER_MAX, ClusterId, EntryId, GroupId, LogIndex, Offset, Term};
use crate::entry::{Configuration, Entry, EntryKind, LogFloor};
use crate::raft::TermRuns;

/// Most bytes of an image. One with 100,000 producers, each with the longest name and 32 runs, takes a twentieth.
pub const CHECKPOINT_BYTES_MAX: u64 = 2 << 30;
/// Name of a checkpoint while it is being written.
pub(super) const CHECKPOINT_TEMPORARY: &str = "checkpoint.tmp";

const IMAGE_MAGIC: [u8; 8] = *b"TERCCKPT";
const FILE_MAGIC: [u8; 8] = *b"TERCCKF\0";
const VERSION: u32 = 1;
const IMAGE_HEADER_BYTES: usize = 96;
const FILE_HEADER_BYTES: usize = 168;
const RUN_BYTES: usize = 16;
const FLAG_AHEAD: u32 = 1;

/// Bytes that are no checkpoint, or none that this build can use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Damaged, and what shows it.
    #[error("damaged checkpoint: {0}")]
    Damaged(&'static str),
    /// Undamaged, of a newer build.
    #[error("checkpoint version {0} is unknown to this build")]
    UnknownVersion(u32),
    /// Undamaged, of another cluster or group.
    #[error("a checkpoint of another {0}")]
    Foreign(&'static str),
}

impl From<ShortInput> for CheckpointError {
    fn from(_: ShortInput) -> Self {
        Self::Damaged("it ends early")
    }
}

/// What an image says of the log, and the state itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Whose log.
    pub cluster_id: ClusterId,
    /// Which group.
    pub group: GroupId,
    /// The last entry that the state contains.
    pub id: EntryId,
    /// Its chain value.
    pub chain: u64,
    /// Offset of the next event.
    pub next_offset: Offset,
    /// The log's time there.
    pub log_time_ns: u64,
    /// The entry with the configuration in force there.
    pub configuration: Entry,
    /// The producers' table, as `stream` encodes it.
    pub producers: Vec<u8>,
}

impl Checkpoint {
    /// The image.
    ///
    /// # Panics
    /// When the entry is no configuration, or the image would be longer than [`CHECKPOINT_BYTES_MAX`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let configuration = self.configuration.bytes();
        assert!(self.configuration.header().kind == EntryKind::Configuration, "a configuration is in force");
        let body = configuration.len() + self.producers.len();
        assert!((IMAGE_HEADER_BYTES + body) as u64 <= CHECKPOINT_BYTES_MAX, "a checkpoint passes its limit");
        let mut out = Vec::with_capacity(IMAGE_HEADER_BYTES + body);
        out.put(&IMAGE_MAGIC);
        out.put_u32(VERSION);
        out.put_u16(self.group.0);
        out.put_u16(0);
        out.put_u128(self.cluster_id.0);
        for value in [self.id.index.0, self.id.term.0, self.chain, self.next_offset.0, self.log_time_ns] {
            out.put_u64(value);
        }
        out.put_u32(configuration.len() as u32);
        out.put_u32(0);
        out.put_u64(self.producers.len() as u64);
        out.put_u64(0);
        out.put(configuration);
        out.put(&self.producers);
        let body_crc = crc32(&out[IMAGE_HEADER_BYTES..]);
        out[88..92].copy_from_slice(&body_crc.to_le_bytes());
        let header_crc = crc32(&out[..92]);
        out[92..96].copy_from_slice(&header_crc.to_le_bytes());
        out
    }

    /// Reads an image. Total; allocates no more than the image has bytes.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn decode(image: &[u8]) -> Result<Self, CheckpointError> {
        use CheckpointError::{Damaged, UnknownVersion};
        let mut reader = ByteReader::new(image);
        if reader.array::<8>()? != IMAGE_MAGIC {
            return Err(Damaged("no magic"));
        }
        let version = reader.u32()?;
        let (group, zero) = (GroupId(reader.u16()?), reader.u16()?);
        let cluster_id = ClusterId(reader.u128()?);
        let (index, term, chain) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (next_offset, log_time_ns) = (reader.u64()?, reader.u64()?);
        let (configuration_bytes, zero2) = (reader.u32()? as usize, reader.u32()?);
        let producers_bytes = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
        let (body_crc, header_crc) = (reader.u32()?, reader.u32()?);
        if crc32(&image[..92]) != header_crc {
            return Err(Damaged("the header's checksum"));
        }
        if version != VERSION {
            return Err(UnknownVersion(version));
        }
        let body = &image[IMAGE_HEADER_BYTES..];
        if configuration_bytes.checked_add(producers_bytes) != Some(body.len()) || crc32(body) != body_crc {
            return Err(Damaged("the body's checksum or length"));
        }
        let counters = [index, term, next_offset, log_time_ns];
        let sane = counters.iter().all(|value| *value <= COUNTER_MAX) && index > 0 && next_offset > 0;
        if !sane || zero != 0 || zero2 != 0 {
            return Err(Damaged("a field is out of range"));
        }
        let configuration = Entry::decode(reader.take(configuration_bytes)?).ok();
        let configuration = configuration.filter(|entry| {
            let header = entry.header();
            header.kind == EntryKind::Configuration
                && header.index.0 <= index
                && header.term.0 <= term
                && entry.len_bytes() == configuration_bytes
                && entry.view().configuration().is_ok()
        });
        let configuration = configuration.ok_or(Damaged("its configuration"))?;
        Ok(Self {
            cluster_id,
            group,
            id: EntryId::new(Term(term), LogIndex(index)),
            chain,
            next_offset: Offset(next_offset),
            log_time_ns,
            configuration,
            producers: reader.take(producers_bytes)?.to_vec(),
        })
    }

    /// The cluster as of this checkpoint.
    ///
    /// # Errors
    /// Never for a decoded checkpoint.
    pub fn configuration(&self) -> Result<Configuration, crate::entry::EntryError> {
        self.configuration.view().configuration()
    }
}

/// What the batcher hands to the log writer: an image, and what this node's log must have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointOrder {
    /// The encoded checkpoint.
    pub image: Arc<[u8]>,
    /// The entry at which the image ends.
    pub id: EntryId,
    /// Where the log begins.
    pub floor: LogFloor,
    /// Terms of the log; what lies behind the image's index is not stored. Where they end before it, the checkpoint is
    /// ahead of the log.
    pub runs: TermRuns,
}

impl CheckpointOrder {
    /// Whether the log does not reach the image's index yet.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.runs.last_index() < self.id.index
    }
}

/// A checkpoint file's contents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredCheckpoint {
    /// Counts the checkpoints of this directory.
    pub number: u64,
    /// Where the log here begins.
    pub floor: LogFloor,
    /// Header of the segment in which it begins.
    pub first_segment: SegmentHeader,
    /// Terms from there up to the checkpoint; none where that is ahead.
    pub runs: TermRuns,
    /// The log need not reach the checkpoint.
    pub is_ahead: bool,
    /// The state.
    pub checkpoint: Checkpoint,
}

impl StoredCheckpoint {
    /// The last entry that is in the log for certain: the checkpoint's, or the one before the log where that is ahead.
    pub(super) fn vouched(&self) -> Tail {
        if self.is_ahead {
            return Tail::before(&self.first_segment);
        }
        let Checkpoint { id, chain, next_offset, .. } = self.checkpoint;
        Tail { id, chain, next_offset, end_position: ENTRIES_POSITION }
    }
}

/// Everything of a file before its image.
pub(super) fn encode_prefix(order: &CheckpointOrder, number: u64, first_segment: &SegmentHeader) -> Vec<u8> {
    let base = order.runs.base();
    let is_ahead = order.is_ahead();
    assert!(
        !is_ahead || order.runs == TermRuns::after(base),
        "a checkpoint is ahead of a log that begins anew"
    );
    assert!(base.index.next() <= order.floor.index, "the terms of everything that is kept are known");
    let floor_before = order.floor.index.prev();
    let base_term = if floor_before == base.index {
        base.term
    } else {
        crate::raft::LogView::term_at(&order.runs, floor_before).expect("the floor lies within the log")
    };
    let mut runs = Vec::new();
    for (term, first) in order.runs.runs() {
        let first = first.max(order.floor.index);
        if first > order.id.index {
            break;
        }
        // A run that ends before the floor is followed by one that begins at or before it.
        let replaced = runs.len() >= RUN_BYTES && runs[runs.len() - 8..] == first.0.to_le_bytes();
        if replaced {
            runs.truncate(runs.len() - RUN_BYTES);
        }
        runs.put_u64(term.0);
        runs.put_u64(first.0);
    }
    let mut out = Vec::with_capacity(FILE_HEADER_BYTES + runs.len());
    out.put(&FILE_MAGIC);
    out.put_u32(VERSION);
    out.put_u32((runs.len() / RUN_BYTES) as u32);
    for value in [number, order.floor.index.0, order.floor.offset.0, base_term.0, order.image.len() as u64] {
        out.put_u64(value);
    }
    out.put(&first_segment.encode());
    out.put_u32(if is_ahead { FLAG_AHEAD } else { 0 });
    out.put_u32(crc32(&runs));
    out.put_u32(0);
    let crc = crc32(&out);
    out.put_u32(crc);
    out.put(&runs);
    out
}

impl StoredCheckpoint {
    /// The file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let image = self.checkpoint.encode();
        let order = CheckpointOrder {
            image: image.as_slice().into(),
            id: self.checkpoint.id,
            floor: self.floor,
            runs: self.runs.clone(),
        };
        let mut out = encode_prefix(&order, self.number, &self.first_segment);
        out.put(&image);
        out
    }

    /// Reads a file. Total.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        use CheckpointError::{Damaged, UnknownVersion};
        let mut reader = ByteReader::new(bytes);
        if reader.array::<8>()? != FILE_MAGIC {
            return Err(Damaged("no magic"));
        }
        let (version, run_count) = (reader.u32()?, reader.u32()? as usize);
        let (number, first_index, first_offset) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (base_term, image_bytes) = (reader.u64()?, reader.u64()?);
        let header = reader.array::<96>()?;
        let (flags, runs_crc, zero, crc) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        if crc32(&bytes[..FILE_HEADER_BYTES - 4]) != crc {
            return Err(Damaged("the file's header"));
        }
        if version != VERSION {
            return Err(UnknownVersion(version));
        }
        let HeaderFound::Good(first_segment) = SegmentHeader::decode(&header) else {
            return Err(Damaged("the first segment's header"));
        };
        let counters = [number, first_index, first_offset, base_term];
        if counters.iter().any(|value| *value > COUNTER_MAX)
            || first_index == 0
            || flags > FLAG_AHEAD
            || zero != 0
        {
            return Err(Damaged("a field is out of range"));
        }
        let runs = reader.take(run_count.saturating_mul(RUN_BYTES))?;
        let image = reader.take(reader.left())?;
        if crc32(runs) != runs_crc || image.len() as u64 != image_bytes {
            return Err(Damaged("the terms of the log, or the image's length"));
        }
        let checkpoint = Checkpoint::decode(image)?;
        let floor = LogFloor { index: LogIndex(first_index), offset: Offset(first_offset) };
        let is_ahead = flags == FLAG_AHEAD;
        let base = EntryId::new(Term(base_term), floor.index.prev());
        let restored = match is_ahead {
            true => runs.is_empty().then(|| TermRuns::after(base)),
            false => restore_runs(runs, base, checkpoint.id),
        };
        let runs = restored.ok_or(Damaged("the terms of the log"))?;
        let begins = Tail::before(&first_segment);
        let fits = floor.index <= checkpoint.id.index.next()
            && floor.offset <= checkpoint.next_offset
            && begins.id.index < floor.index;
        // One that is ahead begins a log, with a segment of its own.
        let fits_ahead = (begins.id, begins.next_offset) == (base, floor.offset)
            && base.index < checkpoint.id.index
            && base.term <= checkpoint.id.term;
        if !fits || (is_ahead && !fits_ahead) {
            return Err(Damaged("the log's beginning"));
        }
        Ok(Self { number, floor, first_segment, runs, is_ahead, checkpoint })
    }
}

/// The terms from behind `base` up to `last`.
fn restore_runs(bytes: &[u8], base: EntryId, last: EntryId) -> Option<TermRuns> {
    let pair = |run: &[u8]| {
        let mut reader = ByteReader::new(run);
        Some((Term(reader.u64().ok()?), LogIndex(reader.u64().ok()?)))
    };
    let pairs: Option<Vec<_>> = bytes.chunks(RUN_BYTES).map(pair).collect();
    let runs = TermRuns::from_runs(base, &pairs?, last.index)?;
    (crate::raft::LogView::last_id(&runs) == last).then_some(runs)
}

/// `checkpoint-0` or `checkpoint-1`.
pub(super) fn checkpoint_name(number: u64) -> &'static str {
    if number.is_multiple_of(2) { "checkpoint-0" } else { "checkpoint-1" }
}

/// What the two files say.
#[derive(Debug, Default)]
pub(super) struct CheckpointFiles {
    /// The one that holds.
    pub newest: Option<StoredCheckpoint>,
    /// Number and first segment of each whole one, by parity.
    pub whole: [Option<(u64, u64)>; 2],
    /// Damaged ones, and what is wrong with them.
    pub damaged: Vec<(PathBuf, String)>,
}

impl CheckpointFiles {
    /// Reads both. A damaged one is noted and not used.
    ///
    /// # Errors
    /// One is of an unknown version or of another cluster; the disk fails otherwise than in reading a file.
    pub fn read<D: Disk>(
        disk: &D,
        group_dir: &Path,
        cluster_id: ClusterId,
        group: GroupId,
    ) -> Result<Self, LogError> {
        let mut files = Self::default();
        for parity in 0..2 {
            let path = group_dir.join(checkpoint_name(parity));
            let read = disk.read_file(&path, CHECKPOINT_BYTES_MAX + (64 << 20));
            let bytes = match read {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == DiskErrorKind::NotFound => continue,
                Err(error) => {
                    files.damaged.push((path, error.to_string()));
                    continue;
                }
            };
            let stored = match StoredCheckpoint::decode(&bytes) {
                Ok(stored) if stored.number % 2 == parity => stored,
                Ok(_) => {
                    files.damaged.push((path, "it has another number than its name".to_owned()));
                    continue;
                }
                Err(CheckpointError::Damaged(what)) => {
                    files.damaged.push((path, what.to_owned()));
                    continue;
                }
                Err(CheckpointError::UnknownVersion(version)) => {
                    let what = format!("checkpoint version {version}");
                    return Err(LogError::Unknown { file: path, what });
                }
                Err(CheckpointError::Foreign(what)) => return Err(LogError::Foreign { file: path, what }),
            };
            if stored.checkpoint.cluster_id != cluster_id {
                return Err(LogError::Foreign { file: path, what: "cluster" });
            }
            if stored.checkpoint.group != group {
                return Err(LogError::Foreign { file: path, what: "group" });
            }
            files.whole[parity as usize] = Some((stored.number, stored.first_segment.seq));
            if files.newest.as_ref().is_none_or(|newest| newest.number < stored.number) {
                files.newest = Some(stored);
            }
        }
        Ok(files)
    }

    /// Segments with lower numbers are no part of the log.
    pub fn first_seq(&self) -> u64 {
        self.newest.as_ref().map_or(0, |newest| newest.first_segment.seq)
    }

    /// The corruption that a log has which begins behind index 1 and has no whole checkpoint.
    pub fn missing(&self, group_dir: &Path, first: LogIndex) -> LogError {
        let (file, what) = match self.damaged.first() {
            Some((file, what)) => (file.clone(), what.clone()),
            None => (group_dir.join(checkpoint_name(0)), "missing".to_owned()),
        };
        let what = format!("the log begins at index {first}, and its checkpoint is unusable: {what}");
        Corruption { file, position: 0, first: LogIndex(1), last: Some(first.prev()), what }.into()
    }
}
