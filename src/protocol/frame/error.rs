//! Why bytes from the network were refused. All of it means: count it, close the connection, touch nothing else.

use thiserror::Error;

use super::kind;

/// The envelope is broken; the stream cannot be followed any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// The declared length does not even hold the header.
    #[error("frame declares {length_bytes} bytes, less than its header")]
    TooShort {
        /// As declared.
        length_bytes: u32,
    },
    /// The declared length is over the limit; nothing was reserved for it.
    #[error("frame declares {length_bytes} bytes, over the limit of {limit_bytes}")]
    TooLong {
        /// As declared.
        length_bytes: u32,
        /// The limit here.
        limit_bytes: usize,
    },
    /// Flags that no negotiated feature defines.
    #[error("{} frame has unknown flags {flags:#04x}", kind::name(*.kind))]
    UnknownFlags {
        /// The frame's kind.
        kind: u8,
        /// As found.
        flags: u8,
    },
    /// The fixed part is longer than the frame.
    #[error("{} frame of {length_bytes} bytes declares a fixed part of {fixed_bytes}", kind::name(*.kind))]
    FixedPastEnd {
        /// The frame's kind.
        kind: u8,
        /// As declared.
        fixed_bytes: u32,
        /// As declared.
        length_bytes: u32,
    },
    /// Header or fixed part were damaged on the way.
    #[error("{} frame fails its checksum: stored {stored:#010x}, computed {computed:#010x}", kind::name(*.kind))]
    Crc {
        /// The frame's kind, which may be part of the damage.
        kind: u8,
        /// In the header.
        stored: u32,
        /// Over the bytes.
        computed: u32,
    },
}

/// A whole frame that says nothing sensible.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ProtocolError {
    /// The envelope is broken.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A kind that this decoder does not take (unknown, reserved, or of another port or direction).
    #[error("{what} does not take frames of kind {kind:#04x} ({})", kind::name(*.kind))]
    UnexpectedKind {
        /// Which decoder.
        what: &'static str,
        /// As found.
        kind: u8,
    },
    /// The fixed part ends inside a field.
    #[error("{} ends inside its field '{field}'", kind::name(*.kind))]
    Short {
        /// The frame's kind.
        kind: u8,
        /// The field.
        field: &'static str,
    },
    /// Bytes are left over behind the last field, or a tail came where none belongs.
    #[error("{} has {left} bytes too many", kind::name(*.kind))]
    Surplus {
        /// The frame's kind.
        kind: u8,
        /// How many.
        left: usize,
    },
    /// A field's value is outside what it may be: an unknown code, a count or length over its limit, a counter over
    /// [`crate::base::ids::COUNTER_MAX`], text that is not UTF-8.
    #[error("{} has a bad value in its field '{field}': {value}", kind::name(*.kind))]
    BadField {
        /// The frame's kind.
        kind: u8,
        /// The field.
        field: &'static str,
        /// What was found (for text: its length).
        value: u64,
    },
    /// The first frame of a connection does not begin with this protocol's magic.
    #[error("{} has magic {found:#018x}: the other end does not speak this protocol", kind::name(*.kind))]
    BadMagic {
        /// The frame's kind.
        kind: u8,
        /// As found.
        found: u64,
    },
}
