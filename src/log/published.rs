//! What the writer of a segment publishes to its readers: how far it may be read, and the sparse index. Checked as it
//! stands here in every order of steps by `tests/threads.rs`.
//!
//! Order of publication (the only protocol between writer and readers): the writer stores the end position, then the
//! next offset, then the last index, each with release; a reader loads the last index first, with acquire. So whoever
//! sees an index sees an end position that covers it, and may read every byte below the end position that it sees.
//! Bytes below the published end never change (rule 9).

use crate::base::ids::{LogIndex, Offset};
use crate::base::sync::{AtomicU64, AtomicUsize, Ordering};

/// Distance between two points of the sparse index: a lookup walks at most this far, plus one entry.
pub const POINT_STRIDE_BYTES: u64 = 64 << 10;

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

/// How far a segment may be read, shared between its writer and all readers. One writer.
#[derive(Debug)]
pub struct PublishedTail {
    end_position: AtomicU64,
    next_offset: AtomicU64,
    last_index: AtomicU64,
}

impl PublishedTail {
    /// A tail that stands at `at`.
    #[must_use]
    pub fn new(at: Published) -> Self {
        Self {
            end_position: AtomicU64::new(at.end_position),
            next_offset: AtomicU64::new(at.next_offset.0),
            last_index: AtomicU64::new(at.last_index.0),
        }
    }

    /// How far may be read now. Any thread. Of what is published meanwhile, the offset may show before the index does,
    /// and the end before both.
    #[must_use]
    pub fn get(&self) -> Published {
        let last_index = LogIndex(self.last_index.load(Ordering::Acquire));
        let next_offset = Offset(self.next_offset.load(Ordering::Acquire));
        let end_position = self.end_position.load(Ordering::Acquire);
        Published { last_index, next_offset, end_position }
    }

    /// The writer moves the tail.
    ///
    /// # Panics
    /// When it would move back.
    pub fn publish(&self, to: Published) {
        assert!(
            to.end_position >= self.end_position.load(Ordering::Relaxed),
            "a published tail never moves back"
        );
        self.end_position.store(to.end_position, Ordering::Release);
        self.next_offset.store(to.next_offset.0, Ordering::Release);
        self.last_index.store(to.last_index.0, Ordering::Release);
    }
}

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

/// Starts of entries, one every [`POINT_STRIDE_BYTES`], so that a lookup need not walk from the beginning. One writer.
/// A cell is written once, before the count says that it is there, and never again.
#[derive(Debug)]
pub struct SparseIndex {
    points: Box<[PointCell]>,
    point_count: AtomicUsize,
}

impl SparseIndex {
    /// An empty index for a segment of so many bytes.
    #[must_use]
    pub fn new(segment_bytes: u64) -> Self {
        // One point a stride at most, and the first entry's.
        let points_max = (segment_bytes / POINT_STRIDE_BYTES + 2) as usize;
        Self {
            points: (0..points_max).map(|_| PointCell::default()).collect(),
            point_count: AtomicUsize::new(0),
        }
    }

    /// The writer notes an entry that is about to be published, if it is far enough from the last one noted.
    pub fn note(&self, point: Point) {
        let count = self.point_count.load(Ordering::Relaxed);
        let due = match count.checked_sub(1) {
            None => true,
            Some(last) => {
                point.position >= self.points[last].position.load(Ordering::Relaxed) + POINT_STRIDE_BYTES
            }
        };
        if !due {
            return;
        }
        let Some(cell) = self.points.get(count) else { return };
        cell.index.store(point.index.0, Ordering::Relaxed);
        cell.base_offset.store(point.base_offset.0, Ordering::Relaxed);
        cell.position.store(point.position, Ordering::Relaxed);
        cell.prev_chain.store(point.prev_chain, Ordering::Relaxed);
        self.point_count.store(count + 1, Ordering::Release);
    }

    /// The last noted point that is not after what is sought. Any thread. It may lie past the published tail.
    pub fn last_point(&self, not_after: impl Fn(&Point) -> bool) -> Option<Point> {
        let count = self.point_count.load(Ordering::Acquire);
        let before = self.points[..count].partition_point(|cell| not_after(&cell.load()));
        before.checked_sub(1).map(|last| self.points[last].load())
    }
}
