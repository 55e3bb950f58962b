//! One non-blocking connection with its buffers, as every socket-owning agent holds it: edge-triggered readiness is
//! remembered until a read or write has really come to its end.

use std::io;

use super::commands::NewPeer;
use crate::base::ids::Incarnation;
use crate::base::net::{Net, NetStream, Readiness, Token};
use crate::entry::Entry;
use crate::net::{InBuffer, OutQueue, ReadUntil};
use crate::protocol::frame::{FrameError, FrameHeader};

/// What a bounded read found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadResult {
    /// Bytes that came.
    pub bytes: usize,
    /// The other end has closed its side (or the connection broke).
    pub closed: bool,
}

/// A connection.
pub struct Connection<S> {
    /// The socket.
    pub stream: S,
    /// Bytes that came and are not yet consumed.
    pub inbox: InBuffer,
    /// Bytes to send: small frames, and entries by reference.
    pub outbox: OutQueue<Entry>,
    /// Bytes may be waiting in the socket.
    pub readable: bool,
    /// The socket took everything so far.
    pub writable: bool,
    read_until: ReadUntil,
    /// The end of the stream has been read, or its error; it stays so.
    ended: bool,
}

impl<S: NetStream> Connection<S> {
    /// A connection whose first `leftover` bytes were read by somebody else. Both directions count as ready until
    /// the socket says otherwise. The inbox has `usual_bytes`, and grows for single frames up to `limit_bytes`.
    #[must_use]
    pub fn new(stream: S, (usual_bytes, limit_bytes): (usize, usize), leftover: &[u8]) -> Self {
        let mut inbox = InBuffer::new(usual_bytes, limit_bytes);
        let _ = inbox.reserve(leftover.len());
        let mut source = leftover;
        let _ = inbox.read_from(&mut source, leftover.len(), ReadUntil::WouldBlock);
        Self {
            stream,
            inbox,
            outbox: OutQueue::new(),
            readable: true,
            writable: true,
            read_until: ReadUntil::WouldBlock,
            ended: false,
        }
    }

    /// Saves the last system call of each read while no event has said that the other end has closed.
    #[must_use]
    pub const fn with_short_reads(mut self) -> Self {
        self.read_until = ReadUntil::ShortRead;
        self
    }

    /// Remembers a readiness event.
    pub fn note(&mut self, readiness: &Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        if readiness.closed {
            self.read_until = ReadUntil::WouldBlock;
        }
    }

    /// Reads at most about `budget` bytes, if any may be there. Once it has said `closed`, or failed, it says `closed`
    /// for ever.
    ///
    /// # Errors
    /// The connection broke.
    pub fn read(&mut self, budget: usize) -> io::Result<ReadResult> {
        if !self.readable || self.ended {
            return Ok(ReadResult { bytes: 0, closed: self.ended });
        }
        let outcome = self.inbox.read_from(&mut self.stream, budget, self.read_until);
        self.ended = outcome.as_ref().map_or(true, |outcome| outcome.closed);
        let outcome = outcome?;
        if outcome.drained {
            self.readable = false;
        }
        Ok(ReadResult { bytes: outcome.bytes, closed: outcome.closed })
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// The connection broke.
    pub fn write(&mut self) -> io::Result<usize> {
        if !self.writable || self.outbox.is_empty() {
            return Ok(0);
        }
        let outcome = self.outbox.flush(&mut self.stream)?;
        if outcome.blocked {
            self.writable = false;
        }
        Ok(outcome.bytes)
    }

    /// Length of the whole frame at the front of the inbox, if its header and all its bytes are there. Makes room
    /// for the frame otherwise; the length is checked against `limit_bytes` before that (rule 15).
    ///
    /// # Errors
    /// The header is no header, or declares more than the limit.
    pub fn whole_frame_bytes(&mut self, limit_bytes: usize) -> Result<Option<usize>, FrameError> {
        let unread = self.inbox.unread();
        let Some(header) = FrameHeader::decode_within(unread, limit_bytes)? else { return Ok(None) };
        let length = header.length_bytes as usize;
        if unread.len() >= length {
            return Ok(Some(length));
        }
        // Within the inbox' own limit whenever it is within the caller's; a frame that is not would be refused above.
        let _ = self.inbox.reserve(length);
        Ok(None)
    }
}

/// The one stream that a peer's agent holds, handed over by the conductor; a newer one replaces it.
pub(super) struct PeerStream<N: Net> {
    net: N,
    inbox_bytes: (usize, usize),
    /// The stream, while it stands.
    pub(super) connection: Option<Connection<N::Stream>>,
    /// The conductor must still be told that it is gone.
    pub(super) is_lost: bool,
    /// The formatting of the peer's disk, as the peer said when the last stream began; zero before the first.
    pub(super) incarnation: Incarnation,
}

impl<N: Net> PeerStream<N> {
    const TOKEN: Token = Token(0);

    /// No stream yet. `inbox_bytes`: usual and largest size of its inbox.
    pub(super) const fn new(net: N, inbox_bytes: (usize, usize)) -> Self {
        Self { net, inbox_bytes, connection: None, is_lost: false, incarnation: Incarnation(0) }
    }

    /// Puts a new stream in the place of the old one. False: it could not be registered and is gone.
    pub(super) fn replace(&mut self, new: NewPeer<N::Stream>) -> bool {
        self.close();
        self.incarnation = new.identity.incarnation;
        let mut stream = new.stream;
        self.is_lost = self.net.register(&mut stream, Self::TOKEN).is_err();
        if self.is_lost {
            stream.shutdown();
            return false;
        }
        self.connection = Some(Connection::new(stream, self.inbox_bytes, &new.leftover).with_short_reads());
        true
    }

    /// Remembers readiness events.
    pub(super) fn note(&mut self, readiness: &[Readiness]) {
        if let Some(connection) = &mut self.connection {
            for event in readiness {
                connection.note(event);
            }
        }
    }

    fn close(&mut self) {
        if let Some(mut old) = self.connection.take() {
            let _ = self.net.deregister(&mut old.stream);
            old.stream.shutdown();
        }
    }

    /// The stream is over: closes it, and the conductor must be told.
    pub(super) fn lose(&mut self) {
        self.close();
        self.is_lost = true;
    }
}
