//! One direction of one connection.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

/// Bytes held between the two sockets; beyond them nothing is read.
const HELD_BYTES_MAX: usize = 4 << 20;
const CHUNK_BYTES: usize = 64 << 10;

/// One end of a connection, with what the poll has told of it. Edge-triggered: a flag stays set until the system says
/// that it would block.
pub struct End {
    /// The socket.
    pub stream: TcpStream,
    /// There may be something to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The other side has closed or is gone.
    pub closed: bool,
}

impl End {
    /// Nothing known yet.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, readable: false, writable: false, closed: false }
    }
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    written: usize,
}

/// What is under way from one end to the other.
#[derive(Default)]
pub struct Pipe {
    chunks: VecDeque<Chunk>,
    held_bytes: usize,
    /// The source has ended; everything before that still has to be written, and then, at this moment, the end.
    end_due: Option<Instant>,
    /// The end was handed on.
    pub ended: bool,
}

impl Pipe {
    /// Moves what may be moved. Gives the moment at which there is more to do, if only time is missing.
    ///
    /// # Errors
    /// Either socket's: the connection is over.
    pub fn pump(
        &mut self,
        from: &mut End,
        to: &mut End,
        delay: Duration,
        scratch: &mut [u8],
    ) -> io::Result<Option<Instant>> {
        loop {
            let read = self.read(from, delay, scratch)?;
            let wrote = self.write(to)?;
            if !read && !wrote {
                break;
            }
        }
        let next = self.chunks.front().map(|chunk| chunk.due).or(self.end_due.filter(|_| !self.ended));
        Ok(next.filter(|due| *due > Instant::now()))
    }

    fn last_due(&self) -> Option<Instant> {
        self.chunks.back().map(|chunk| chunk.due)
    }

    fn read(&mut self, from: &mut End, delay: Duration, scratch: &mut [u8]) -> io::Result<bool> {
        if !from.readable || self.end_due.is_some() || self.held_bytes >= HELD_BYTES_MAX {
            return Ok(false);
        }
        // Never before what was read earlier, also where the delay has become shorter.
        let due = Instant::now() + delay;
        let due = self.last_due().map_or(due, |last| last.max(due));
        let room = CHUNK_BYTES.min(scratch.len());
        match from.stream.read(&mut scratch[..room]) {
            Ok(0) => self.end_due = Some(due),
            Ok(count) => {
                self.held_bytes += count;
                self.chunks.push_back(Chunk { due, bytes: scratch[..count].to_vec(), written: 0 });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                from.readable = false;
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn write(&mut self, to: &mut End) -> io::Result<bool> {
        let now = Instant::now();
        let mut progress = false;
        while to.writable
            && let Some(chunk) = self.chunks.front_mut().filter(|chunk| chunk.due <= now)
        {
            match to.stream.write(&chunk.bytes[chunk.written..]) {
                Ok(count) => {
                    chunk.written += count;
                    self.held_bytes -= count;
                    progress = true;
                    if chunk.written == chunk.bytes.len() {
                        self.chunks.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => to.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let over = self.chunks.is_empty() && self.end_due.is_some_and(|due| due <= now);
        if over && !self.ended && to.writable {
            to.stream.shutdown(Shutdown::Write)?;
            self.ended = true;
        }
        Ok(progress)
    }
}
