//! The envelope of every message on both ports.
//!
//! ```text
//!  0        4    5     6      8            12    16                16 + fixed_bytes         length
//!  +--------+----+-----+------+------------+-----+-----------------+------------------------+
//!  | length |kind|flags| group| fixed_bytes| crc | fixed part      | tail: whole entries    |
//!  +--------+----+-----+------+------------+-----+-----------------+------------------------+
//!     u32     u8   u8    u16      u32        u32
//! ```
//!
//! Little-endian. `length` counts the whole frame. `crc` is the CRC32 of the header (its own field as zero) and the
//! fixed part; the tail carries log entries, which have checksums of their own and are not summed a second time.
//! `length` is compared with a limit as soon as its four bytes are there, before anything is reserved.

mod error;
mod field;
mod handshake;
pub mod kind;

pub use error::{FrameError, ProtocolError};
pub(crate) use field::{Fields, put_bool, put_offer, put_text, put_text_clipped, wire_enum};
pub use handshake::{
    Agreed, FEATURES_KNOWN, HANDSHAKE_TIMEOUT_NS, HELLO_FRAME_BYTES_MAX, PROTOCOL_MAX, PROTOCOL_MIN,
    ProtocolOffer, RefuseCode, TEXT_BYTES_MAX, negotiate,
};

use crate::base::bytes::ByteWriter;
use crate::base::checksum::crc32_of;
use crate::base::ids::GroupId;
use crate::base::limits::FRAME_BYTES_MAX;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 16;

const CRC_AT: usize = 12;

/// A decoded frame header whose lengths are within bounds. The checksum has not been looked at yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// Bytes of the whole frame, header included: 16 to the limit.
    pub length_bytes: u32,
    /// Which message ([`kind`]).
    pub kind: u8,
    /// Zero; others are refused until a feature defines them.
    pub flags: u8,
    /// The Raft group that the message belongs to.
    pub group: GroupId,
    /// Bytes of the fixed part, which follows the header.
    pub fixed_bytes: u32,
    /// CRC32 of the header (this field as zero) and the fixed part.
    pub crc: u32,
}

impl FrameHeader {
    /// Reads a header from the start of what has been received; `None` while bytes are missing.
    ///
    /// # Errors
    /// As [`FrameHeader::decode_within`] with the limit [`FRAME_BYTES_MAX`].
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        Self::decode_within(bytes, FRAME_BYTES_MAX)
    }

    /// The same with a smaller limit: before the handshake a stranger is believed 4 KiB
    /// ([`HELLO_FRAME_BYTES_MAX`]), not a megabyte.
    ///
    /// # Errors
    /// A length outside `16..=limit_bytes`, flags that nobody defined, or a fixed part longer than the frame. The
    /// stream cannot be followed after that: close it.
    pub fn decode_within(bytes: &[u8], limit_bytes: usize) -> Result<Option<Self>, FrameError> {
        let Some((length, _)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length_bytes = u32::from_le_bytes(*length);
        if (length_bytes as usize) < FRAME_HEADER_BYTES {
            return Err(FrameError::TooShort { length_bytes });
        }
        if length_bytes as usize > limit_bytes {
            return Err(FrameError::TooLong { length_bytes, limit_bytes });
        }
        let Some((header, _)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (kind, flags, fixed_bytes) = (header[4], header[5], word(8));
        if flags != 0 {
            return Err(FrameError::UnknownFlags { kind, flags });
        }
        if fixed_bytes as usize > length_bytes as usize - FRAME_HEADER_BYTES {
            return Err(FrameError::FixedPastEnd { kind, fixed_bytes, length_bytes });
        }
        let group = GroupId(u16::from_le_bytes([header[6], header[7]]));
        Ok(Some(Self { length_bytes, kind, flags, group, fixed_bytes, crc: word(CRC_AT) }))
    }
}

/// One whole frame, borrowed from the receive buffer, its checksum verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// Everything after the header: fixed part and tail.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The part under the frame's checksum.
    #[must_use]
    pub fn fixed(&self) -> &'a [u8] {
        &self.payload[..self.header.fixed_bytes as usize]
    }

    /// Whole log entries back to back, under their own checksums; empty for most messages.
    #[must_use]
    pub fn tail(&self) -> &'a [u8] {
        &self.payload[self.header.fixed_bytes as usize..]
    }
}

/// Takes one frame from the start of what has been received: the frame and how many bytes it took, or `None` while
/// bytes are missing ([`read_frame`] says how many).
///
/// # Errors
/// As [`FrameHeader::decode`], and [`FrameError::Crc`]. The stream cannot be followed after that: close it.
pub fn split_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    split_frame_within(bytes, FRAME_BYTES_MAX)
}

/// [`split_frame`] with a smaller limit, for the time before the handshake.
///
/// # Errors
/// As [`split_frame`].
pub fn split_frame_within(
    bytes: &[u8],
    limit_bytes: usize,
) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    match read_frame(bytes, limit_bytes)? {
        FrameRead::Whole { frame, consumed_bytes } => Ok(Some((frame, consumed_bytes))),
        FrameRead::Needs { .. } => Ok(None),
    }
}

/// What stands at the start of a receive buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameRead<'a> {
    /// A whole frame.
    Whole {
        /// It.
        frame: Frame<'a>,
        /// How many bytes to consume when it has been handled.
        consumed_bytes: usize,
    },
    /// A part of one.
    Needs {
        /// How many bytes, from the start of the buffer, must be there to go on: a header, or the whole frame, at
        /// most the limit. The receive buffer must have room for so many, or it would wait for ever.
        bytes: usize,
    },
}

/// Looks at the start of what has been received. A connection's loop: read; then while this gives a whole frame,
/// handle and consume it; then make room for what it needs.
///
/// # Errors
/// As [`split_frame`].
pub fn read_frame(bytes: &[u8], limit_bytes: usize) -> Result<FrameRead<'_>, FrameError> {
    let Some(header) = FrameHeader::decode_within(bytes, limit_bytes)? else {
        return Ok(FrameRead::Needs { bytes: FRAME_HEADER_BYTES });
    };
    let length = header.length_bytes as usize;
    let Some(whole) = bytes.get(..length) else { return Ok(FrameRead::Needs { bytes: length }) };
    let fixed_end = FRAME_HEADER_BYTES + header.fixed_bytes as usize;
    let computed = checksum(&whole[..fixed_end]);
    if computed != header.crc {
        return Err(FrameError::Crc { kind: header.kind, stored: header.crc, computed });
    }
    let frame = Frame { header, payload: &whole[FRAME_HEADER_BYTES..] };
    Ok(FrameRead::Whole { frame, consumed_bytes: length })
}

/// CRC32 of header and fixed part with the checksum field as zero.
fn checksum(head: &[u8]) -> u32 {
    crc32_of(&[&head[..CRC_AT], &[0; 4], &head[FRAME_HEADER_BYTES..]])
}

/// Writes one frame at the end of a buffer: begin, put the fields, finish. No allocation beyond the buffer's own.
///
/// Dropping a writer without finishing leaves a header of zeros behind, which every decoder refuses.
#[derive(Debug)]
#[must_use = "a frame that is not finished is refused by every decoder"]
pub struct FrameWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl<'o> FrameWriter<'o> {
    /// Starts a frame of `kind` for `group` at the end of `out`.
    pub fn begin(out: &'o mut Vec<u8>, kind: u8, group: GroupId) -> Self {
        let start = out.len();
        out.put(&[0; FRAME_HEADER_BYTES]);
        out[start + 4] = kind;
        out[start + 6..start + 8].copy_from_slice(&group.0.to_le_bytes());
        Self { out, start }
    }

    /// Ends a frame that has no tail.
    ///
    /// # Panics
    /// As [`FrameWriter::finish_before_tail`].
    pub fn finish(self) {
        self.finish_before_tail(0);
    }

    /// Ends the fixed part of a frame whose tail of `tail_bytes` the caller sends next, by any way.
    ///
    /// # Panics
    /// When the frame would be longer than [`FRAME_BYTES_MAX`]: every message's own limits keep it below.
    pub fn finish_before_tail(self, tail_bytes: usize) {
        let head = &mut self.out[self.start..];
        let fixed_bytes = head.len() - FRAME_HEADER_BYTES;
        assert!(
            tail_bytes <= FRAME_BYTES_MAX && head.len() + tail_bytes <= FRAME_BYTES_MAX,
            "a frame of {} + {tail_bytes} bytes is over the limit",
            head.len()
        );
        let length = (head.len() + tail_bytes) as u32;
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[8..12].copy_from_slice(&(fixed_bytes as u32).to_le_bytes());
        let crc = checksum(head);
        head[CRC_AT..FRAME_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
}

impl ByteWriter for FrameWriter<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out.put(bytes);
    }
}

#[cfg(test)]
mod tests;
