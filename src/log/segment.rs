//! A segment as writer and readers share it: published tail, sparse index, mapping.
//!
//! Order of publication (the only protocol between writer and readers): the writer stores the end position, then the
//! next offset, then the last index, each with release; a reader loads the last index first, with acquire. So whoever
//! sees an index sees an end position that covers it. Bytes below the published end never change (rule 9).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::disk::{DiskError, DiskFile, Mapping};
use super::layout::{ENTRIES_POSITION, SegmentHeader};
use crate::base::ids::{LogIndex, Offset};
use crate::entry::EntryHeader;

/// Distance between two points of the sparse index: a lookup walks at most this far, plus one entry.
pub const POINT_STRIDE_BYTES: u64 = 64 << 10;

/// Where an entry starts, and what stands before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// The entry's index.
    pub index: LogIndex,
    /// Offset of its first event (or of the next event).
    pub base_offset: Offset,
    /// Where it starts.
    pub position: u64,
    /// Chain value of the entry before it.
    pub prev_chain: u64,
}

#[derive(Debug, Default)]
struct PointCell {
    index: AtomicU64,
    base_offset: AtomicU64,
    position: AtomicU64,
    prev_chain: AtomicU64,
}

impl PointCell {
    fn load(&self) -> Point {
        Point {
            index: LogIndex(self.index.load(Ordering::Relaxed)),
            base_offset: Offset(self.base_offset.load(Ordering::Relaxed)),
            position: self.position.load(Ordering::Relaxed),
            prev_chain: self.prev_chain.load(Ordering::Relaxed),
        }
    }
}

/// How far a segment may be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// Last whole entry; `base_index - 1` when there is none.
    pub last_index: LogIndex,
    /// Offset of the next event after it.
    pub next_offset: Offset,
    /// Where it ends.
    pub end_position: u64,
}

/// One segment file, shared by the writer and all readers. Written to by the log writer's thread only.
#[derive(Debug)]
pub struct Segment<F> {
    header: SegmentHeader,
    path: PathBuf,
    file: F,
    end_position: AtomicU64,
    next_offset: AtomicU64,
    last_index: AtomicU64,
    points: Box<[PointCell]>,
    point_count: AtomicUsize,
    mapping: OnceLock<Option<Mapping>>,
}

impl<F: DiskFile> Segment<F> {
    /// A segment with nothing published yet.
    #[must_use]
    pub fn new(header: SegmentHeader, path: PathBuf, file: F) -> Self {
        // One point a stride at most, and the first entry's.
        let points_max = (header.segment_bytes / POINT_STRIDE_BYTES + 2) as usize;
        Self {
            path,
            file,
            end_position: AtomicU64::new(ENTRIES_POSITION),
            next_offset: AtomicU64::new(header.base_offset.0),
            last_index: AtomicU64::new(header.base_index.prev().0),
            points: (0..points_max).map(|_| PointCell::default()).collect(),
            point_count: AtomicUsize::new(0),
            mapping: OnceLock::new(),
            header,
        }
    }

    /// The name card.
    #[must_use]
    pub const fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Number of the file.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.header.seq
    }

    /// Index of the first entry.
    #[must_use]
    pub const fn base_index(&self) -> LogIndex {
        self.header.base_index
    }

    /// Name of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, for positional reads below the published end.
    #[must_use]
    pub const fn file(&self) -> &F {
        &self.file
    }

    /// How far it may be read now. Any thread.
    #[must_use]
    pub fn published(&self) -> Published {
        let last_index = LogIndex(self.last_index.load(Ordering::Acquire));
        let next_offset = Offset(self.next_offset.load(Ordering::Acquire));
        let end_position = self.end_position.load(Ordering::Acquire);
        Published { last_index, next_offset, end_position }
    }

    /// The writer moves the published tail.
    ///
    /// # Panics
    /// When it would move back.
    pub(super) fn publish(&self, to: Published) {
        assert!(
            to.end_position >= self.end_position.load(Ordering::Relaxed),
            "a published tail never moves back"
        );
        self.end_position.store(to.end_position, Ordering::Release);
        self.next_offset.store(to.next_offset.0, Ordering::Release);
        self.last_index.store(to.last_index.0, Ordering::Release);
    }

    /// The writer notes an entry that is about to be published, for the sparse index.
    pub(super) fn note(&self, header: &EntryHeader, position: u64) {
        let count = self.point_count.load(Ordering::Relaxed);
        let due = match count.checked_sub(1) {
            None => true,
            Some(last) => position >= self.points[last].position.load(Ordering::Relaxed) + POINT_STRIDE_BYTES,
        };
        if !due {
            return;
        }
        let Some(cell) = self.points.get(count) else { return };
        cell.index.store(header.index.0, Ordering::Relaxed);
        cell.base_offset.store(header.base_offset.0, Ordering::Relaxed);
        cell.position.store(position, Ordering::Relaxed);
        cell.prev_chain.store(header.prev_chain, Ordering::Relaxed);
        self.point_count.store(count + 1, Ordering::Release);
    }

    /// The last noted point that is not after what is sought.
    fn last_point(&self, not_after: impl Fn(&Point) -> bool) -> Option<Point> {
        let count = self.point_count.load(Ordering::Acquire);
        let before = self.points[..count].partition_point(|cell| not_after(&cell.load()));
        before.checked_sub(1).map(|last| self.points[last].load())
    }

    /// Where to start walking towards `index`.
    #[must_use]
    pub fn point_for_index(&self, index: LogIndex) -> Option<Point> {
        self.last_point(|point| point.index <= index)
    }

    /// Where to start walking towards the entry that holds `offset`.
    #[must_use]
    pub fn point_for_offset(&self, offset: Offset) -> Option<Point> {
        self.last_point(|point| point.base_offset <= offset)
    }

    /// The mapping, made on first use; `None` where the disk has none. Any thread.
    ///
    /// # Errors
    /// The file cannot be mapped.
    pub fn mapping(&self) -> Result<Option<&Mapping>, DiskError> {
        if let Some(mapping) = self.mapping.get() {
            return Ok(mapping.as_ref());
        }
        let mapping = self.file.map()?;
        Ok(self.mapping.get_or_init(|| mapping).as_ref())
    }
}

/// News for readers about which segments make up the log. Applied in order.
#[derive(Debug)]
pub enum CatalogChange<F> {
    /// A segment that goes on where the log ends now.
    Opened(std::sync::Arc<Segment<F>>),
    /// Entries from `first_removed` on, in all segments so far, are no part of the log any more (truncate_suffix).
    SupersededFrom {
        /// First index that is gone.
        first_removed: LogIndex,
    },
    /// The segment of this number holds nothing any more; let go of it.
    Removed(u64),
}
