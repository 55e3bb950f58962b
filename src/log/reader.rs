//! Reading committed entries from the segments, on a thread of its own.
//!
//! Warm reads (the last two segments) go through the map; before a range is touched there it is populated, so that a
//! bad sector comes back as an error. Cold reads, and everything that cannot be populated, go by `pread`. Every entry
//! is verified: checksums, index, chain and offset from the nearest known point on. Bounds come from published tails
//! and from the caller's commit index, never from scanning.

use std::sync::Arc;

use super::disk::DiskFile;
use super::error::Corruption;
use super::published::Point;
use super::scanner::Tail;
use super::segment::{CatalogChange, Segment};
use crate::base::ids::{EntryId, LogIndex, Offset, Term};
use crate::entry::{Entry, EntryError, EntryHeader};

/// How much is asked for at least, to have the next entries at hand.
const WINDOW_BYTES: u64 = 64 << 10;
/// And at most, except for a single larger entry.
const WINDOW_BYTES_MAX: u64 = 1 << 20;
const HEADER_BYTES: u64 = EntryHeader::BYTES as u64;
/// Segments at the end of the log that are read through the map.
const WARM_SEGMENTS: usize = 2;
/// Places remembered, so that as many readers that go forward need no lookup.
const CURSORS: usize = 16;

/// Why a read failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// The index lies before the first one that the log still has.
    #[error("index {index} is gone; the log starts at {first}")]
    Gone {
        /// What was asked for.
        index: LogIndex,
        /// What there is.
        first: LogIndex,
    },
    /// Damage, or a range that the disk cannot read.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

struct View<F> {
    segment: Arc<Segment<F>>,
    /// Entries from here on are no part of the log any more.
    superseded_from: Option<LogIndex>,
}

impl<F: DiskFile> View<F> {
    /// Last index that may be read here.
    fn last(&self) -> LogIndex {
        let published = self.segment.published().last_index;
        self.superseded_from.map_or(published, |first| published.min(first.prev()))
    }
}

/// A reader of the log. Any number of them, each on its own thread.
pub struct LogReader<F> {
    views: Vec<View<F>>,
    cursors: [Option<(u64, Tail)>; CURSORS],
    next_cursor: usize,
    /// What `buf` holds. Published bytes never change, so it stays valid.
    loaded: Span,
    buf: Vec<u8>,
    /// What was populated in the map during this call.
    populated: Span,
    preads: u64,
    mapped_reads: u64,
}

impl<F: DiskFile> Default for LogReader<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: DiskFile> LogReader<F> {
    /// A reader that knows no segment yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            views: Vec::new(),
            cursors: [None; CURSORS],
            next_cursor: 0,
            loaded: Span::default(),
            buf: Vec::new(),
            populated: Span::default(),
            preads: 0,
            mapped_reads: 0,
        }
    }

    /// Takes news from the writer; in order, all of them.
    pub fn apply(&mut self, change: CatalogChange<F>) {
        match change {
            CatalogChange::Opened(segment) => self.views.push(View { segment, superseded_from: None }),
            CatalogChange::SupersededFrom { first_removed } => {
                self.views.retain(|view| view.segment.base_index() < first_removed);
                if let Some(last) = self.views.last_mut() {
                    last.superseded_from = Some(first_removed);
                }
            }
            CatalogChange::Removed(seq) => self.views.retain(|view| view.segment.seq() != seq),
        }
    }

    /// First index that the log has; `None` before the first segment is known.
    #[must_use]
    pub fn first_index(&self) -> Option<LogIndex> {
        self.views.first().map(|view| view.segment.base_index())
    }

    /// First and last index of what the start has not read, only the heads of its files: nobody knows yet whether it is
    /// whole. `None`: everything was read, or written since.
    #[must_use]
    pub fn unread(&self) -> Option<(LogIndex, LogIndex)> {
        let mut unread = self.views.iter().filter(|view| {
            let first = view.segment.base_index();
            view.last() >= first && view.segment.point_for_index(view.last()).is_none()
        });
        let first = unread.next()?;
        let last = unread.next_back().unwrap_or(first);
        Some((first.segment.base_index(), last.last()))
    }

    /// Last published index.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.views.last().map_or(LogIndex::ZERO, View::last)
    }

    /// System calls for cold reads, and windows read through the map, so far.
    #[must_use]
    pub const fn read_counts(&self) -> (u64, u64) {
        (self.preads, self.mapped_reads)
    }

    /// Entries from `first` up to `upto` (inclusive; the commit index), about `bytes_max` bytes of them, but at least
    /// one. Empty when `first` is not there yet.
    ///
    /// # Errors
    /// `first` is gone, or something on the way is damaged or unreadable.
    pub fn read_from_index(
        &mut self,
        first: LogIndex,
        upto: LogIndex,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, ReadError> {
        self.populated = Span::default();
        let mut entries = Vec::new();
        let mut next = first;
        let mut left = bytes_max;
        while next <= upto && (left > 0 || entries.is_empty()) {
            let Some(at) = self.view_of(|segment| segment.base_index() <= next) else {
                match self.first_index() {
                    Some(first) => return Err(ReadError::Gone { index: next, first }),
                    None => break,
                }
            };
            let last = self.views[at].last().min(upto);
            if next > last {
                break;
            }
            let mut tail = self.seek(at, next)?;
            while tail.id.index < last && (left > 0 || entries.is_empty()) {
                let (after, entry) = self.step(at, tail, left)?;
                left = left.saturating_sub(entry.len_bytes() as u64);
                tail = after;
                entries.push(entry);
            }
            next = tail.id.index.next();
            self.remember(at, tail);
        }
        Ok(entries)
    }

    /// As [`LogReader::read_from_index`], from the entry that holds `offset` on.
    ///
    /// # Errors
    /// As [`LogReader::read_from_index`].
    pub fn read_from_offset(
        &mut self,
        offset: Offset,
        upto: LogIndex,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, ReadError> {
        match self.find_index_of_offset(offset)? {
            Some(first) => self.read_from_index(first, upto, bytes_max),
            None => Ok(Vec::new()),
        }
    }

    /// Index of the entry that holds the event of this offset; `None` when no published entry does.
    ///
    /// # Errors
    /// Something on the way is damaged or unreadable, or the offset is gone.
    pub fn find_index_of_offset(&mut self, offset: Offset) -> Result<Option<LogIndex>, ReadError> {
        self.populated = Span::default();
        let offset = offset.max(Offset(1));
        let Some(at) = self.view_of(|segment| segment.header().base_offset <= offset) else {
            return match self.first_index() {
                Some(first) => Err(ReadError::Gone { index: LogIndex::ZERO, first }),
                None => Ok(None),
            };
        };
        let view = &self.views[at];
        let (last, point) = (view.last(), view.segment.point_for_offset(offset));
        // A segment that was not read at the start has no points.
        let mut tail = point.map_or_else(|| Tail::before(view.segment.header()), before);
        while tail.id.index < last {
            let header = self.header_at(at, tail)?;
            if (header.base_offset..header.next_offset()).contains(&offset) {
                self.remember(at, tail);
                return Ok(Some(header.index));
            }
            tail = tail.after(&header);
        }
        Ok(None)
    }

    /// The last view for which `starts_before` holds; it holds for a prefix of them.
    fn view_of(&self, starts_before: impl Fn(&Segment<F>) -> bool) -> Option<usize> {
        self.views.partition_point(|view| starts_before(&view.segment)).checked_sub(1)
    }

    fn remember(&mut self, at: usize, tail: Tail) {
        let seq = self.views[at].segment.seq();
        self.cursors[self.next_cursor] = Some((seq, tail));
        self.next_cursor = (self.next_cursor + 1) % CURSORS;
    }

    /// The place just before `index`: remembered, or walked to from the sparse index.
    fn seek(&mut self, at: usize, index: LogIndex) -> Result<Tail, ReadError> {
        let segment = &self.views[at].segment;
        let known = self.cursors.iter().flatten();
        let mut known = known.filter(|(seq, tail)| *seq == segment.seq() && tail.id.index.next() == index);
        if let Some((_, tail)) = known.next() {
            return Ok(*tail);
        }
        let point = segment.point_for_index(index);
        let mut tail = point.map_or_else(|| Tail::before(segment.header()), before);
        while tail.id.index.next() < index {
            let header = self.header_at(at, tail)?;
            tail = tail.after(&header);
        }
        Ok(tail)
    }

    /// Decodes and checks the header that goes on after `tail`.
    fn header_at(&mut self, at: usize, tail: Tail) -> Result<EntryHeader, ReadError> {
        let header = EntryHeader::decode(self.window(at, tail, HEADER_BYTES, WINDOW_BYTES)?);
        self.checked(at, tail, header)
    }

    fn checked(
        &self,
        at: usize,
        tail: Tail,
        header: Result<EntryHeader, EntryError>,
    ) -> Result<EntryHeader, ReadError> {
        match header {
            Ok(header) if tail.is_continued_by(&header) => Ok(header),
            Ok(header) => Err(self.damage(at, tail, &format!("{} does not continue the log", header.id()))),
            Err(error) => Err(self.damage(at, tail, &error.to_string())),
        }
    }

    /// Reads and checks the entry that goes on after `tail`.
    fn step(&mut self, at: usize, tail: Tail, want: u64) -> Result<(Tail, Entry), ReadError> {
        let want = want.clamp(WINDOW_BYTES, WINDOW_BYTES_MAX);
        let header = EntryHeader::decode(self.window(at, tail, HEADER_BYTES, want)?);
        let header = self.checked(at, tail, header)?;
        let total = header.total_bytes as usize;
        let bytes = self.window(at, tail, header.total_bytes.into(), want)?;
        match bytes.get(..total).map(Entry::decode) {
            Some(Ok(entry)) => Ok((tail.after(&header), entry)),
            Some(Err(error)) => Err(self.damage(at, tail, &error.to_string())),
            None => Err(self.damage(at, tail, "the entry goes on past the published end")),
        }
    }

    fn damage(&self, at: usize, tail: Tail, what: &str) -> ReadError {
        let file = self.views[at].segment.path().to_owned();
        let first = tail.id.index.next();
        let (position, what) = (tail.end_position, what.to_owned());
        Corruption { file, position, first, last: Some(first), what }.into()
    }

    /// The published bytes after `tail`: at least `need` of them (fewer only where the published part ends), and up to
    /// `want` in one go.
    fn window(&mut self, at: usize, tail: Tail, need: u64, want: u64) -> Result<&[u8], ReadError> {
        let segment = &self.views[at].segment;
        let (seq, position) = (segment.seq(), tail.end_position);
        let left = segment.published().end_position.saturating_sub(position);
        let need = need.min(left);
        let want = want.max(need).min(left);
        let warm = at + WARM_SEGMENTS >= self.views.len();
        if warm && !self.populated.covers(seq, position, need) {
            let mapping = segment.mapping().ok().flatten();
            let populated = mapping.map(|mapping| mapping.populate(position as usize, want as usize));
            self.populated = match populated {
                Some(Ok(())) => Span { seq, start: position, end: position + want },
                // No map, an old kernel, or a page that cannot be read: `pread` will tell.
                Some(Err(_)) | None => Span::default(),
            };
            self.mapped_reads += u64::from(self.populated.end > 0);
        }
        let in_map = warm && self.populated.covers(seq, position, need);
        if !in_map && !self.loaded.covers(seq, position, need) {
            self.fill(at, tail, need, want)?;
        }
        if in_map && let Ok(Some(mapping)) = self.views[at].segment.mapping() {
            let len = (self.populated.end - position) as usize;
            // SAFETY: the range lies below the segment's published end, where bytes never change (rule 9), and log
            // files are never cut short; the slice borrows from the view, which keeps the segment and its map.
            return Ok(unsafe { mapping.bytes(position as usize, len) });
        }
        let from = (position - self.loaded.start) as usize;
        Ok(&self.buf[from..])
    }

    /// Reads `want` bytes after `tail` into the buffer, or just `need` if the disk cannot read that far.
    fn fill(&mut self, at: usize, tail: Tail, need: u64, want: u64) -> Result<(), ReadError> {
        let segment = &self.views[at].segment;
        let position = tail.end_position;
        let mut outcome = Ok(0);
        for len in [want, need] {
            self.buf.resize(len as usize, 0);
            self.preads += 1;
            outcome = segment.file().read_at(&mut self.buf, position);
            if outcome.is_ok() {
                break;
            }
        }
        match outcome {
            Ok(read) => {
                self.buf.truncate(read);
                self.loaded = Span { seq: segment.seq(), start: position, end: position + read as u64 };
                Ok(())
            }
            Err(error) => {
                self.loaded = Span::default();
                Err(self.damage(at, tail, &error.to_string()))
            }
        }
    }
}

/// A range of bytes of one segment.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    seq: u64,
    start: u64,
    end: u64,
}

impl Span {
    const fn covers(&self, seq: u64, position: u64, len: u64) -> bool {
        self.seq == seq && self.start <= position && position + len <= self.end
    }
}

/// The end of the log just before a point. Its term is not known, which only loosens one check.
const fn before(point: Point) -> Tail {
    Tail {
        id: EntryId::new(Term::ZERO, point.index.prev()),
        chain: point.prev_chain,
        next_offset: point.base_offset,
        end_position: point.position,
    }
}
