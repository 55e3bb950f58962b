//! What nodes say to each other on the peer port.
//!
//! Each pair of nodes has two one-way streams, each written by its dialler; the reply to the hello is the only frame
//! that ever travels the other way, so no socket is shared between threads after the handshake.
//!
//! ```text
//! node 1 ── dials ──▶ node 2: PeerHello, then every Raft message from 1 to 2    (◀─ PeerHelloReply, once)
//! node 1 ◀── dials ── node 2: PeerHello, then every Raft message from 2 to 1    (─▶ PeerHelloReply, once)
//! ```

mod checkpoint;
mod hello;
mod mend;
mod raft;

pub use checkpoint::{CHECKPOINT_CHUNK_BYTES_MAX, CheckpointChunk, encode_checkpoint_header};
pub use hello::{KnownPeer, PEER_MAGIC, PeerExpectation, PeerHello, PeerHelloReply};
pub use mend::{CopyState, MendMessage, encode_mend_header};
pub use raft::{APPEND_ENTRIES_MAX, APPEND_ENTRY_BYTES_MAX, encode_append_header, encode_message};

use thiserror::Error;

use crate::base::ids::{EntryId, GroupId};
use crate::entry::{Entry, EntryError};
use crate::raft::Message;

use super::frame::{Fields, Frame, FrameError, ProtocolError, kind};

/// A frame of the peer port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerFrame<'a> {
    /// The dialler introduces itself.
    Hello(PeerHello),
    /// The answer to it.
    HelloReply(PeerHelloReply<'a>),
    /// A Raft message.
    Raft {
        /// The group that it is for.
        group: GroupId,
        /// The message; an append's terms are those of `entries`.
        message: Message,
        /// An append's entries, decoded and verified: contiguous from `prev.index + 1`, terms between `prev.term`
        /// and the message's and never falling, each chained to the one before. Empty for every other message.
        entries: Vec<Entry>,
    },
    /// A part of a leader's checkpoint.
    Checkpoint {
        /// The group that it is for.
        group: GroupId,
        /// What it is part of.
        chunk: CheckpointChunk,
        /// These bytes of the image.
        bytes: &'a [u8],
    },
    /// About damaged entries.
    Mend {
        /// The group that it is for.
        group: GroupId,
        /// The message.
        message: MendMessage,
        /// The entries of an answer, decoded and verified: contiguous, terms never falling, each chained to the one
        /// before.
        entries: Vec<Entry>,
    },
}

/// Why a frame of a peer was refused. The stream is closed; nothing of the frame is used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PeerError {
    /// Envelope or fixed part are bad.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// An entry is damaged, or of a kind or version that this build does not know
    /// ([`EntryError::is_unsupported`]: then the node must halt and say so).
    #[error("entry {place} of a frame: {source}")]
    Entry {
        /// Which entry of the frame, from 0.
        place: usize,
        /// What is wrong with it.
        #[source]
        source: EntryError,
    },
    /// An entry is sound but does not belong there.
    #[error("entry {place} of a frame is {found}, which cannot follow {previous}")]
    Order {
        /// Which entry of the frame, from 0.
        place: usize,
        /// What it is.
        found: EntryId,
        /// What stands before it.
        previous: EntryId,
    },
    /// The tail holds more bytes than its entries.
    #[error("a frame has {left} bytes behind its last entry")]
    Surplus {
        /// How many.
        left: usize,
    },
}

impl From<FrameError> for PeerError {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.into())
    }
}

/// Reads any frame of the peer port. Allocates for the entries of an append or an answer only, at most what the frame holds.
///
/// # Errors
/// [`PeerError`]: close the stream.
pub fn decode_peer_frame(frame: Frame<'_>) -> Result<PeerFrame<'_>, PeerError> {
    match frame.header.kind {
        kind::APPEND => return raft::decode_append(&frame),
        kind::FETCHED => return mend::decode_fetched(&frame),
        kind::CHECKPOINT => return checkpoint::decode_checkpoint(&frame),
        _ => {}
    }
    let group = frame.header.group;
    let mut f = Fields::of(&frame)?;
    let read = match f.kind() {
        kind::PEER_HELLO => PeerFrame::Hello(PeerHello::read(&mut f, group)?),
        kind::PEER_HELLO_REPLY => PeerFrame::HelloReply(PeerHelloReply::read(&mut f)?),
        kind::FETCH => PeerFrame::Mend { group, message: mend::read_fetch(&mut f)?, entries: Vec::new() },
        _ => PeerFrame::Raft { group, message: raft::read_message(&mut f)?, entries: Vec::new() },
    };
    f.finish()?;
    Ok(read)
}

#[cfg(test)]
mod tests;
