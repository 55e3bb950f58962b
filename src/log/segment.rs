//! A segment as writer and readers share it: published tail and sparse index (see [`super::published`]), mapping.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::disk::{DiskError, DiskFile, Mapping};
use super::layout::{ENTRIES_POSITION, SegmentHeader};
use super::published::{Point, Published, PublishedTail, SparseIndex};
use crate::base::ids::{LogIndex, Offset};
use crate::entry::EntryHeader;

/// One segment file, shared by the writer and all readers. Written to by the log writer's thread only.
#[derive(Debug)]
pub struct Segment<F> {
    header: SegmentHeader,
    path: PathBuf,
    file: F,
    published: PublishedTail,
    points: SparseIndex,
    mapping: OnceLock<Option<Mapping>>,
}

impl<F: DiskFile> Segment<F> {
    /// A segment with nothing published yet.
    #[must_use]
    pub fn new(header: SegmentHeader, path: PathBuf, file: F) -> Self {
        let nothing = Published {
            last_index: header.base_index.prev(),
            next_offset: header.base_offset,
            end_position: ENTRIES_POSITION,
        };
        Self {
            path,
            file,
            published: PublishedTail::new(nothing),
            points: SparseIndex::new(header.segment_bytes),
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
        self.published.get()
    }

    /// The writer moves the published tail.
    ///
    /// # Panics
    /// When it would move back.
    pub(super) fn publish(&self, to: Published) {
        self.published.publish(to);
    }

    /// The writer notes an entry that is about to be published, for the sparse index.
    pub(super) fn note(&self, header: &EntryHeader, position: u64) {
        let EntryHeader { index, base_offset, prev_chain, .. } = *header;
        self.points.note(Point { index, base_offset, position, prev_chain });
    }

    /// Where to start walking towards `index`.
    #[must_use]
    pub fn point_for_index(&self, index: LogIndex) -> Option<Point> {
        self.points.last_point(|point| point.index <= index)
    }

    /// Where to start walking towards the entry that holds `offset`.
    #[must_use]
    pub fn point_for_offset(&self, offset: Offset) -> Option<Point> {
        self.points.last_point(|point| point.base_offset <= offset)
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
