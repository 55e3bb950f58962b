//! What a stream has delivered and nobody has consumed yet.

use std::fmt;
use std::io::{self, Read};

/// When a read stops although the budget is not used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadUntil {
    /// At a read that did not fill the space offered: saves the system call that would say `WouldBlock`. The end of
    /// the stream may then go unnoticed: bytes and end that arrived together are one edge of an edge-triggered
    /// poll, and no second one follows. Only until an event says that the other end has closed.
    ShortRead,
    /// At `WouldBlock`. Notices the end of the stream.
    WouldBlock,
}

/// What a read has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadOutcome {
    /// How many bytes came.
    pub bytes: usize,
    /// Nothing more is there now; the next edge will tell. When false, keep the stream on the still-ready list.
    pub drained: bool,
    /// The other end has closed; what is unread may still be consumed.
    pub closed: bool,
}

/// More room was asked for than the buffer may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OverLimit {
    /// Asked for.
    pub bytes: usize,
    /// The limit.
    pub limit_bytes: usize,
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes asked of a receive buffer that may have {}", self.bytes, self.limit_bytes)
    }
}

impl std::error::Error for OverLimit {}

/// A receive buffer for one stream.
///
/// Has `usual_bytes` from its first read on, grows only by [`InBuffer::reserve`] (for a frame whose length is known
/// and was checked), never past `limit_bytes`, and goes back to `usual_bytes` when the large frame has been
/// consumed. In the steady state it neither allocates nor moves more than the tail of a partial frame.
///
/// Invariant: `start <= end <= buffer.len()`; unread bytes are `buffer[start..end]`; empty means both are zero.
#[derive(Debug)]
pub struct InBuffer {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    usual_bytes: usize,
    limit_bytes: usize,
}

impl InBuffer {
    /// An empty buffer; allocates at the first read.
    ///
    /// # Panics
    /// Unless `0 < usual_bytes <= limit_bytes`.
    #[must_use]
    pub fn new(usual_bytes: usize, limit_bytes: usize) -> Self {
        assert!(
            0 < usual_bytes && usual_bytes <= limit_bytes,
            "{usual_bytes} of at most {limit_bytes} bytes"
        );
        Self { buffer: Vec::new(), start: 0, end: 0, usual_bytes, limit_bytes }
    }

    /// The unread bytes.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// How many bytes are unread.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// True when nothing is unread.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// True when a read would bring nothing for want of room: consume, or [`InBuffer::reserve`] for the frame that
    /// does not fit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= self.buffer.len().max(self.usual_bytes)
    }

    /// Marks the first `count` unread bytes as read.
    ///
    /// # Panics
    /// When fewer are unread.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "{count} bytes consumed of {}", self.len());
        self.start += count;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > self.usual_bytes {
                // A large frame is over. The next read allocates the usual size again.
                self.buffer = Vec::new();
            }
        }
    }

    /// Makes sure that `frame_bytes`, counted from the first unread byte, fit.
    ///
    /// # Errors
    /// [`OverLimit`]; nothing is allocated then.
    pub fn reserve(&mut self, frame_bytes: usize) -> Result<(), OverLimit> {
        if frame_bytes > self.limit_bytes {
            return Err(OverLimit { bytes: frame_bytes, limit_bytes: self.limit_bytes });
        }
        if frame_bytes > self.buffer.len() {
            let mut larger = vec![0; frame_bytes.max(self.usual_bytes)];
            larger[..self.len()].copy_from_slice(self.unread());
            (self.start, self.end, self.buffer) = (0, self.len(), larger);
        } else if self.start + frame_bytes > self.buffer.len() {
            self.compact();
        }
        Ok(())
    }

    /// Reads what is there: until it is drained as `until` says, the end of the stream, `budget_bytes`, or a full
    /// buffer ([`InBuffer::is_full`]).
    ///
    /// # Errors
    /// As the stream says, `WouldBlock` and `Interrupted` excepted. Bytes that came before the error are kept.
    pub fn read_from(
        &mut self,
        stream: &mut impl Read,
        budget_bytes: usize,
        until: ReadUntil,
    ) -> io::Result<ReadOutcome> {
        let mut outcome = ReadOutcome::default();
        if self.buffer.is_empty() {
            self.buffer = vec![0; self.usual_bytes];
        }
        while outcome.bytes < budget_bytes {
            if self.end == self.buffer.len() {
                self.compact();
            }
            let room = (self.buffer.len() - self.end).min(budget_bytes - outcome.bytes);
            if room == 0 {
                break;
            }
            match stream.read(&mut self.buffer[self.end..self.end + room]) {
                Ok(0) => {
                    outcome.drained = true;
                    outcome.closed = true;
                    break;
                }
                Ok(count) => {
                    self.end += count;
                    outcome.bytes += count;
                    if count < room && until == ReadUntil::ShortRead {
                        outcome.drained = true;
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outcome.drained = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(outcome)
    }

    fn compact(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.len());
    }
}
