//! Input lines, read on a thread of its own: a slow or silent source must not hold acknowledgements up.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use tercet::base::limits::EVENT_BODY_BYTES_MAX;

/// What one read asks for.
const READ_BYTES: usize = 64 << 10;
/// Chunks that may wait for the publisher: the reader then waits, so memory stays bounded (about 1 MiB, more only
/// where single lines are larger than a chunk).
const CHUNKS_MAX: usize = 16;

/// Whole lines, back to back, with their newlines.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Where each line begins and ends, without its newline.
    lines: Vec<(usize, usize)>,
}

enum News {
    Lines(Chunk),
    Over(Ending),
}

/// How the input ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every line was read.
    Complete,
    /// It cannot be read any further.
    Unreadable(String),
    /// A line is larger than an event may be.
    TooLong {
        /// Its number, from 1.
        line: u64,
    },
}

/// What the publisher finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// The next line, without its newline; [`Input::advance`] steps over it.
    Line(&'a [u8]),
    /// Not yet; the waker is called when there is something.
    Later,
    /// No more lines.
    Over(&'a Ending),
}

/// The publisher's end.
pub struct Input {
    news: Receiver<News>,
    hungry: Arc<AtomicBool>,
    chunk: Chunk,
    next: usize,
    ending: Option<Ending>,
}

impl Input {
    /// Reads `source` on a new thread, which ends with the input or with this value. `wake` is called when lines
    /// arrive after [`Next::Later`] was told.
    pub fn spawn(source: impl Read + Send + 'static, wake: impl Fn() + Send + 'static) -> Self {
        let (sender, news) = sync_channel(CHUNKS_MAX);
        let hungry = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&hungry);
        std::thread::spawn(move || {
            let deliver = |message: News| {
                let taken = sender.send(message).is_ok();
                // Only a publisher that waits is woken.
                if asked.swap(false, Ordering::SeqCst) {
                    wake();
                }
                taken
            };
            read_lines(source, deliver);
        });
        Self { news, hungry, chunk: Chunk::default(), next: 0, ending: None }
    }

    /// The next line, if it is there.
    pub fn peek(&mut self) -> Next<'_> {
        if self.next == self.chunk.lines.len() && self.ending.is_none() {
            self.refill();
        }
        match (self.chunk.lines.get(self.next), &self.ending) {
            (Some((from, to)), _) => Next::Line(&self.chunk.bytes[*from..*to]),
            (None, Some(ending)) => Next::Over(ending),
            (None, None) => Next::Later,
        }
    }

    /// Steps over the line that [`Input::peek`] gave.
    pub fn advance(&mut self) {
        self.next += 1;
    }

    fn refill(&mut self) {
        let received = self.news.try_recv().or_else(|error| match error {
            TryRecvError::Empty => {
                // Said first, looked at again second: a delivery in between is seen here or wakes.
                self.hungry.store(true, Ordering::SeqCst);
                self.news.try_recv()
            }
            TryRecvError::Disconnected => Err(error),
        });
        match received {
            Ok(News::Lines(chunk)) => (self.chunk, self.next) = (chunk, 0),
            Ok(News::Over(ending)) => self.ending = Some(ending),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                self.ending = Some(Ending::Unreadable("its reader ended".to_owned()));
            }
        }
    }
}

/// Cuts the source into chunks of whole lines. `deliver` is false when nobody listens any more.
fn read_lines(mut source: impl Read, deliver: impl Fn(News) -> bool) {
    let mut lines_before = 0;
    // The beginning of a line whose end has not been read.
    let mut carried = Vec::new();
    loop {
        let mut bytes = std::mem::take(&mut carried);
        let old = bytes.len();
        bytes.resize(old + READ_BYTES, 0);
        let read = match read_some(&mut source, &mut bytes[old..]) {
            Ok(read) => read,
            Err(error) => {
                deliver(News::Over(Ending::Unreadable(error.to_string())));
                return;
            }
        };
        bytes.truncate(old + read);
        let over = read == 0;
        let (lines, rest) = split(&bytes, old, over);
        let fitting = lines.iter().take_while(|(from, to)| to - from <= EVENT_BODY_BYTES_MAX).count();
        let too_long = fitting < lines.len() || bytes.len() - rest > EVENT_BODY_BYTES_MAX;
        let line = lines_before + fitting as u64 + 1;
        lines_before += lines.len() as u64;
        carried.extend_from_slice(&bytes[rest..]);
        let lines: Vec<_> = lines.into_iter().take(fitting).collect();
        if !lines.is_empty() && !deliver(News::Lines(Chunk { bytes, lines })) {
            return;
        }
        if too_long {
            deliver(News::Over(Ending::TooLong { line }));
            return;
        }
        if over {
            deliver(News::Over(Ending::Complete));
            return;
        }
    }
}

/// Some bytes; none at the end of the source.
fn read_some(source: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The whole lines in `bytes` (the first `scanned` bytes hold no newline), and where the unfinished one begins. At the
/// end of the input the unfinished one counts as a line, unless it is empty.
fn split(bytes: &[u8], scanned: usize, over: bool) -> (Vec<(usize, usize)>, usize) {
    let mut lines = Vec::new();
    let mut from = 0;
    let newlines = bytes.iter().enumerate().skip(scanned).filter(|(_, byte)| **byte == b'\n');
    for (at, _) in newlines {
        lines.push((from, at));
        from = at + 1;
    }
    if over && from < bytes.len() {
        lines.push((from, bytes.len()));
        from = bytes.len();
    }
    (lines, from)
}

#[cfg(test)]
mod tests;
