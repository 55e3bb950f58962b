//! Reading a segment from its start by `pread`, and looking for what may stand behind a torn place.

use super::disk::{DiskError, DiskFile};
use super::layout::SegmentHeader;
use crate::base::ids::{EntryId, Offset};
use crate::base::planted::{Bug, is_planted};
use crate::entry::{EntryError, EntryHeader, EntryView, Probe, probe};

/// How much is read at once.
const READ_BYTES: u64 = 1 << 20;
/// How far behind a torn place valid headers are looked for. A segment with more behind it counts as dirty.
pub(super) const SURVEY_BYTES_MAX: u64 = 256 << 20;
/// Smallest entry: header and trailer.
const ENTRY_BYTES_MIN: u64 = EntryHeader::BYTES as u64 + 16;

/// The end of a log, or of a part of it: its last entry and where the next one goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tail {
    /// The last entry.
    pub id: EntryId,
    /// Its chain value.
    pub chain: u64,
    /// Offset of the next event.
    pub next_offset: Offset,
    /// Where the next entry goes in its segment.
    pub end_position: u64,
}

impl Tail {
    /// Before the first entry of all logs.
    pub const START: Self = Self { id: EntryId::ZERO, chain: 0, next_offset: Offset(1), end_position: 0 };

    /// The end of what stands before a segment, as its header tells it; `end_position` is where its entries start.
    pub const fn before(header: &SegmentHeader) -> Self {
        Self {
            id: header.base_id(),
            chain: header.base_chain,
            next_offset: header.base_offset,
            end_position: super::layout::ENTRIES_POSITION,
        }
    }

    /// Whether an entry goes on exactly here.
    pub fn is_continued_by(&self, header: &EntryHeader) -> bool {
        header.index == self.id.index.next()
            && header.prev_chain == self.chain
            && header.base_offset == self.next_offset
            && header.term >= self.id.term
            || is_planted(Bug::LeftoverTaken)
    }

    /// The end after one more entry.
    pub fn after(&self, header: &EntryHeader) -> Self {
        Self {
            id: header.id(),
            chain: header.chain(),
            next_offset: header.next_offset(),
            end_position: self.end_position + u64::from(header.total_bytes),
        }
    }
}

/// What lies at a position.
#[derive(Debug)]
pub(super) enum Looked<'a> {
    Whole(EntryView<'a>),
    Zero,
    DamagedBody(EntryHeader, EntryError),
    DamagedHeader(EntryError),
    Unsupported(EntryError),
    NoRoom,
}

/// What lies between a position and the end of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rest {
    /// Where the first byte that is not zero lies (or the scan gave up).
    pub dirty_at: Option<u64>,
    /// The highest entry of which a valid header was found.
    pub claimed: Option<EntryId>,
    /// A valid header of a newer build.
    pub unsupported: Option<(u64, EntryError)>,
    /// Not everything was looked at.
    pub gave_up: bool,
}

/// A buffered positional reader over one segment file.
pub(super) struct Scanner<'f, F> {
    file: &'f F,
    end: u64,
    start: u64,
    buf: Vec<u8>,
}

impl<'f, F: DiskFile> Scanner<'f, F> {
    pub fn new(file: &'f F, end: u64) -> Self {
        Self { file, end, start: 0, buf: Vec::new() }
    }

    /// Where the file ends.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Gives the bytes from `position` on: at least `want`, fewer only where the file ends.
    fn load(&mut self, position: u64, want: u64) -> Result<&[u8], DiskError> {
        let wanted_end = position.saturating_add(want).min(self.end);
        let loaded = self.start..self.start + self.buf.len() as u64;
        if position < loaded.start || wanted_end > loaded.end {
            let left = self.end.saturating_sub(position);
            // A bad sector in what is read ahead is not the business of what is asked for.
            if self.fill(position, want.max(READ_BYTES).min(left)).is_err() {
                self.fill(position, want.min(left))?;
            }
        }
        let from = usize::try_from(position - self.start).unwrap_or(usize::MAX).min(self.buf.len());
        Ok(&self.buf[from..])
    }

    fn fill(&mut self, position: u64, len: u64) -> Result<(), DiskError> {
        self.buf.resize(len as usize, 0);
        let read = self.file.read_at(&mut self.buf, position);
        self.start = position;
        self.buf.truncate(*read.as_ref().unwrap_or(&0));
        read.map(|_| ())
    }

    /// What lies at `position`.
    ///
    /// # Errors
    /// The disk cannot read it.
    pub fn look(&mut self, position: u64) -> Result<Looked<'_>, DiskError> {
        const HEADER: u64 = EntryHeader::BYTES as u64;
        if position.saturating_add(HEADER) > self.end {
            return Ok(Looked::NoRoom);
        }
        let total = match probe(self.load(position, HEADER)?) {
            Probe::Partial(header) => u64::from(header.total_bytes),
            _ => HEADER,
        };
        Ok(match probe(self.load(position, total)?) {
            Probe::Whole(view) => Looked::Whole(view),
            Probe::Zero => Looked::Zero,
            Probe::Partial(header) => {
                Looked::DamagedBody(header, EntryError::Truncated { needed: total as usize, left: 0 })
            }
            Probe::DamagedBody(header, error) => Looked::DamagedBody(header, error),
            Probe::DamagedHeader(error) => Looked::DamagedHeader(error),
            Probe::Unsupported(error) => Looked::Unsupported(error),
        })
    }

    /// The header at `position`, body unread.
    ///
    /// # Errors
    /// The disk cannot read it. `Ok(Err)`: it is damaged.
    pub fn header(&mut self, position: u64) -> Result<Result<EntryHeader, EntryError>, DiskError> {
        Ok(EntryHeader::decode(self.load(position, EntryHeader::BYTES as u64)?))
    }

    /// The undamaged header at `position`, if there is one, read by itself.
    pub fn header_alone(&mut self, position: u64) -> Option<EntryHeader> {
        self.fill(position, EntryHeader::BYTES as u64).ok()?;
        EntryHeader::decode(&self.buf).ok()
    }

    /// Looks through everything from `from` on for valid headers: hops along them, and where there is none tries every
    /// multiple of 8. A header counts when its index could have been reached in the bytes that are left.
    ///
    /// # Errors
    /// The disk cannot read a part of it.
    pub fn survey(&mut self, from: u64, after: EntryId) -> Result<Rest, DiskError> {
        let bound = self.end.min(from.saturating_add(SURVEY_BYTES_MAX));
        let index_max = after.index.plus((self.end - from) / ENTRY_BYTES_MIN + 1);
        let plausible =
            |id: EntryId| id.index > after.index && id.index <= index_max && id.term >= after.term;
        let mut rest = Rest { dirty_at: None, claimed: None, unsupported: None, gave_up: false };
        let mut position = from;
        while position < bound {
            let bytes = self.load(position, EntryHeader::BYTES as u64)?;
            let zeros = leading_zero_words(bytes);
            if zeros > 0 || bytes.is_empty() {
                position += (zeros as u64).max(8);
                continue;
            }
            rest.dirty_at.get_or_insert(position);
            match EntryHeader::decode(bytes) {
                Ok(header) => {
                    if plausible(header.id()) {
                        rest.claimed = rest.claimed.max(Some(header.id()));
                    }
                    position += u64::from(header.total_bytes);
                }
                Err(error) => {
                    if error.is_unsupported() {
                        rest.unsupported.get_or_insert((position, error));
                    }
                    position += 8;
                }
            }
        }
        if bound < self.end {
            rest.dirty_at.get_or_insert(bound);
            rest.gave_up = true;
        }
        Ok(rest)
    }
}

/// Bytes of zeros at the start, in whole words of eight; all of it when nothing else is there.
fn leading_zero_words(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    match words.iter().position(|word| *word != [0; 8]) {
        Some(words) => words * 8,
        None if tail.iter().all(|&byte| byte == 0) => bytes.len(),
        None => words.len() * 8,
    }
}
