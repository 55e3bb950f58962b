//! What a stream still has to take.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

/// Slices handed to one `writev`.
const SLICES_MAX: usize = 64;
/// Shared chunks below this are copied beside the owned bytes: a slice of their own costs more.
const COPY_BELOW_BYTES: usize = 256;
/// The owned buffer goes back to this when it has been larger and is empty.
const OWNED_KEEP_BYTES: usize = 64 << 10;
/// The list of parts goes back to this when it has been longer and is empty.
const PARTS_KEEP: usize = 1024;

/// What a flush has achieved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlushOutcome {
    /// How many bytes the stream took.
    pub bytes: usize,
    /// The stream takes no more for now; the next writable edge will tell. False: the queue is empty.
    pub blocked: bool,
}

#[derive(Debug)]
enum Part<B> {
    /// So many of the next owned bytes.
    Owned(usize),
    /// A chunk, from this byte on.
    Shared(B, usize),
}

/// Bytes for one stream, in order: small owned ones (headers, short messages) gathered in one buffer, and large
/// shared ones (`B`: a reference-counted entry, a piece of a mapped segment) that are never copied.
///
/// The queue does not bound itself: its owner looks at [`OutQueue::len_bytes`] before it puts more in. Buffers are
/// reused; in the steady state nothing is allocated.
///
/// Invariants: the `Owned` parts add up to `owned[owned_start..]`; no part is empty; two `Owned` never follow each
/// other.
#[derive(Debug)]
pub struct OutQueue<B> {
    parts: VecDeque<Part<B>>,
    owned: Vec<u8>,
    owned_start: usize,
    len_bytes: usize,
}

impl<B> Default for OutQueue<B> {
    fn default() -> Self {
        Self { parts: VecDeque::new(), owned: Vec::new(), owned_start: 0, len_bytes: 0 }
    }
}

impl<B: AsRef<[u8]>> OutQueue<B> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that wait.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// True when nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// Queues a copy of `bytes`.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.push_with(|out| out.extend_from_slice(bytes));
    }

    /// Queues whatever `append` appends to the vector that it is given, which holds earlier bytes.
    ///
    /// # Panics
    /// When `append` takes bytes away.
    pub fn push_with<R>(&mut self, append: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let before = self.owned.len();
        let result = append(&mut self.owned);
        assert!(self.owned.len() >= before, "earlier bytes of the queue were taken away");
        self.grown_by(self.owned.len() - before);
        result
    }

    /// Queues a shared chunk without copying it (short ones excepted) and keeps it until the stream has taken it.
    pub fn push_shared(&mut self, chunk: B) {
        let count = chunk.as_ref().len();
        if count < COPY_BELOW_BYTES {
            return self.push_bytes(chunk.as_ref());
        }
        self.len_bytes += count;
        self.parts.push_back(Part::Shared(chunk, 0));
    }

    fn grown_by(&mut self, count: usize) {
        self.len_bytes += count;
        match self.parts.back_mut() {
            Some(Part::Owned(length)) => *length += count,
            _ if count > 0 => self.parts.push_back(Part::Owned(count)),
            _ => {}
        }
    }

    /// Forgets everything, for a stream that has died.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.owned.clear();
        self.owned_start = 0;
        self.len_bytes = 0;
        self.tidy();
    }

    /// Writes until the queue is empty or the stream blocks, up to 64 slices a call.
    ///
    /// # Errors
    /// As the stream says, `WouldBlock` and `Interrupted` excepted; `WriteZero` when it takes nothing without
    /// saying why.
    pub fn flush(&mut self, stream: &mut impl Write) -> io::Result<FlushOutcome> {
        let mut outcome = FlushOutcome::default();
        while !self.is_empty() {
            match self.write_once(stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    outcome.bytes += count;
                    self.taken(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outcome.blocked = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.tidy();
        Ok(outcome)
    }

    fn write_once(&self, stream: &mut impl Write) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut owned = &self.owned[self.owned_start..];
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            let bytes = match part {
                Part::Owned(length) => {
                    let (bytes, rest) = owned.split_at(*length);
                    owned = rest;
                    bytes
                }
                Part::Shared(chunk, at) => &chunk.as_ref()[*at..],
            };
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        stream.write_vectored(&slices[..count])
    }

    /// The stream took `count` bytes.
    fn taken(&mut self, mut count: usize) {
        assert!(count <= self.len_bytes, "{count} bytes written of {}", self.len_bytes);
        self.len_bytes -= count;
        while count > 0 {
            let Some(part) = self.parts.front_mut() else { break };
            let left = match part {
                Part::Owned(length) => {
                    let step = count.min(*length);
                    self.owned_start += step;
                    count -= step;
                    *length -= step;
                    *length
                }
                Part::Shared(chunk, at) => {
                    let step = count.min(chunk.as_ref().len() - *at);
                    *at += step;
                    count -= step;
                    chunk.as_ref().len() - *at
                }
            };
            if left == 0 {
                self.parts.pop_front();
            }
        }
    }

    /// Gives room at the front of the owned bytes back, and memory after an unusual peak.
    fn tidy(&mut self) {
        if self.owned_start == self.owned.len() {
            self.owned.clear();
            self.owned.shrink_to(OWNED_KEEP_BYTES);
            self.owned_start = 0;
        } else if self.owned_start > self.owned.len() / 2 {
            self.owned.drain(..self.owned_start);
            self.owned_start = 0;
        }
        if self.parts.is_empty() {
            self.parts.shrink_to(PARTS_KEEP);
        }
    }
}
