//! A leader's checkpoint on its way to a peer that retention has left behind, in chunks.

use crate::base::bytes::ByteWriter;
use crate::base::ids::{EntryId, GroupId, LogIndex, Offset, Term};
use crate::entry::LogBase;

use super::super::frame::{Fields, Frame, FrameWriter, kind};
use super::{PeerError, PeerFrame};

/// Most bytes of an image in one frame.
pub const CHECKPOINT_CHUNK_BYTES_MAX: usize = 256 << 10;

/// What a chunk is part of, and where it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct CheckpointChunk {
    /// The leader's term.
    pub term: Term,
    /// The last entry that the checkpoint contains.
    pub id: EntryId,
    /// What the log of whoever installs it continues from: the entry before the first one that is to be kept, or `id`.
    pub base: LogBase,
    /// Bytes of the whole image.
    pub total_bytes: u64,
    /// Where these bytes go in it.
    pub position: u64,
}

/// Appends header and fixed part; the caller sends exactly `chunk_bytes` bytes of the image next.
///
/// # Panics
/// When there are none, more than [`CHECKPOINT_CHUNK_BYTES_MAX`], or more than the image has there.
pub fn encode_checkpoint_header(
    group: GroupId,
    chunk: &CheckpointChunk,
    chunk_bytes: usize,
    out: &mut Vec<u8>,
) {
    assert!((1..=CHECKPOINT_CHUNK_BYTES_MAX).contains(&chunk_bytes), "{chunk_bytes} bytes in a chunk");
    assert!(chunk.position + chunk_bytes as u64 <= chunk.total_bytes, "a chunk lies within its image");
    let mut frame = FrameWriter::begin(out, kind::CHECKPOINT, group);
    frame.put_u64(chunk.term.0);
    frame.put_u64(chunk.id.term.0);
    frame.put_u64(chunk.id.index.0);
    frame.put_u64(chunk.base.id.term.0);
    frame.put_u64(chunk.base.id.index.0);
    frame.put_u64(chunk.base.chain);
    frame.put_u64(chunk.base.next_offset.0);
    frame.put_u64(chunk.base.log_time_ns);
    frame.put_u64(chunk.total_bytes);
    frame.put_u64(chunk.position);
    frame.finish_before_tail(chunk_bytes);
}

/// Reads a chunk; borrows its bytes.
pub(super) fn decode_checkpoint<'a>(frame: &Frame<'a>) -> Result<PeerFrame<'a>, PeerError> {
    let mut f = Fields::before_tail(frame);
    let term = Term(f.counter("term")?);
    let id = EntryId::new(Term(f.counter("entry_term")?), LogIndex(f.counter("entry_index")?));
    let base = LogBase {
        id: EntryId::new(Term(f.counter("base_term")?), LogIndex(f.counter("base_index")?)),
        chain: f.u64("base_chain")?,
        next_offset: Offset(f.counter("base_next_offset")?),
        log_time_ns: f.counter("base_log_time_ns")?,
    };
    let (total_bytes, position) = (f.counter("total_bytes")?, f.counter("position")?);
    if id.index == LogIndex::ZERO {
        return Err(f.bad("entry_index", 0).into());
    }
    let precedes = base.id.index < id.index && base.id.term <= id.term;
    if base.id.index == LogIndex::ZERO || !(precedes || base.id == id) {
        return Err(f.bad("base_index", base.id.index.0).into());
    }
    if base.next_offset == Offset::ZERO {
        return Err(f.bad("base_next_offset", 0).into());
    }
    if id.term > term || term == Term::ZERO {
        return Err(f.bad("term", term.0).into());
    }
    let len = frame.tail().len();
    if !(1..=CHECKPOINT_CHUNK_BYTES_MAX).contains(&len) || position + len as u64 > total_bytes {
        return Err(f.bad("position", position).into());
    }
    f.finish()?;
    let chunk = CheckpointChunk { term, id, base, total_bytes, position };
    Ok(PeerFrame::Checkpoint { group: frame.header.group, chunk, bytes: frame.tail() })
}
