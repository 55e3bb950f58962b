//! Reading and writing the fields of a fixed part: in order, without padding, each checked and named in its error.

use crate::base::bytes::{ByteReader, ByteWriter, ShortInput};
use crate::base::ids::{COUNTER_MAX, EntryId, LogIndex, NodeId, Offset, ProducerId, Sequence, Term};

use super::{Frame, ProtocolError, ProtocolOffer};

/// A cursor over a frame's fixed part that knows the frame's kind, so that errors can name it.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    reader: ByteReader<'a>,
    kind: u8,
}

macro_rules! counters {
    ($($name:ident, $type:ident);*) => {
        $(pub(crate) fn $name(&mut self, field: &'static str) -> Result<$type, ProtocolError> {
            self.counter(field).map($type)
        })*
    };
}

impl<'a> Fields<'a> {
    /// Starts on the fixed part of a frame that has no tail.
    pub(crate) fn of(frame: &Frame<'a>) -> Result<Self, ProtocolError> {
        let left = frame.tail().len();
        if left > 0 {
            return Err(ProtocolError::Surplus { kind: frame.header.kind, left });
        }
        Ok(Self::before_tail(frame))
    }

    /// Starts on the fixed part of a frame that may have a tail.
    pub(crate) fn before_tail(frame: &Frame<'a>) -> Self {
        Self { reader: ByteReader::new(frame.fixed()), kind: frame.header.kind }
    }

    /// Every byte must have been read: a message has one encoding.
    pub(crate) fn finish(self) -> Result<(), ProtocolError> {
        match self.reader.left() {
            0 => Ok(()),
            left => Err(ProtocolError::Surplus { kind: self.kind, left }),
        }
    }

    pub(crate) const fn kind(&self) -> u8 {
        self.kind
    }

    pub(crate) fn bad(&self, field: &'static str, value: u64) -> ProtocolError {
        ProtocolError::BadField { kind: self.kind, field, value }
    }

    fn short<T>(&self, field: &'static str, read: Result<T, ShortInput>) -> Result<T, ProtocolError> {
        read.map_err(|_| ProtocolError::Short { kind: self.kind, field })
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, ProtocolError> {
        let read = self.reader.u8();
        self.short(field, read)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, ProtocolError> {
        let read = self.reader.u16();
        self.short(field, read)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, ProtocolError> {
        let read = self.reader.u32();
        self.short(field, read)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, ProtocolError> {
        let read = self.reader.u64();
        self.short(field, read)
    }

    pub(crate) fn u128(&mut self, field: &'static str) -> Result<u128, ProtocolError> {
        let read = self.reader.u128();
        self.short(field, read)
    }

    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, ProtocolError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.bad(field, u64::from(other))),
        }
    }

    /// A code of a closed set.
    pub(crate) fn code<T>(
        &mut self,
        field: &'static str,
        from_code: impl Fn(u8) -> Option<T>,
    ) -> Result<T, ProtocolError> {
        let code = self.u8(field)?;
        from_code(code).ok_or_else(|| self.bad(field, u64::from(code)))
    }

    /// A counter, at most [`COUNTER_MAX`], so that `+ 1` cannot wrap later (PITFALLS 52).
    pub(crate) fn counter(&mut self, field: &'static str) -> Result<u64, ProtocolError> {
        let value = self.u64(field)?;
        if value > COUNTER_MAX { Err(self.bad(field, value)) } else { Ok(value) }
    }

    counters! { term, Term; index, LogIndex; offset, Offset; sequence, Sequence; producer, ProducerId }

    /// Term, then index.
    pub(crate) fn entry_id(&mut self, field: &'static str) -> Result<EntryId, ProtocolError> {
        Ok(EntryId::new(self.term(field)?, self.index(field)?))
    }

    pub(crate) fn node(&mut self, field: &'static str) -> Result<NodeId, ProtocolError> {
        self.node_or_none(field)?.ok_or_else(|| self.bad(field, 0))
    }

    pub(crate) fn node_or_none(&mut self, field: &'static str) -> Result<Option<NodeId>, ProtocolError> {
        Ok(NodeId::from_wire(self.u16(field)?))
    }

    /// The eight bytes that begin a hello.
    pub(crate) fn magic(&mut self, magic: u64) -> Result<(), ProtocolError> {
        let found = self.u64("magic")?;
        if found == magic { Ok(()) } else { Err(ProtocolError::BadMagic { kind: self.kind, found }) }
    }

    /// A protocol range and features, as both hellos begin after their magic.
    pub(crate) fn offer(&mut self) -> Result<ProtocolOffer, ProtocolError> {
        let (protocol_min, protocol_max) = (self.u16("protocol_min")?, self.u16("protocol_max")?);
        if protocol_min > protocol_max {
            return Err(self.bad("protocol_max", u64::from(protocol_max)));
        }
        Ok(ProtocolOffer { protocol_min, protocol_max, features: self.u64("features")? })
    }

    /// A count of things that follow, at most `max`; checked before anybody reserves room for them.
    pub(crate) fn count(&mut self, field: &'static str, max: usize) -> Result<usize, ProtocolError> {
        let count = self.u16(field)? as usize;
        if count > max { Err(self.bad(field, count as u64)) } else { Ok(count) }
    }

    /// Text: a `u16` length of at most `max` bytes, then UTF-8.
    pub(crate) fn text(&mut self, field: &'static str, max: usize) -> Result<&'a str, ProtocolError> {
        let length = self.count(field, max)?;
        let taken = self.reader.take(length);
        let bytes = self.short(field, taken)?;
        std::str::from_utf8(bytes).map_err(|_| self.bad(field, length as u64))
    }

    /// Exactly `bytes` bytes.
    pub(crate) fn take(&mut self, field: &'static str, bytes: usize) -> Result<&'a [u8], ProtocolError> {
        let taken = self.reader.take(bytes);
        self.short(field, taken)
    }

    /// Everything that is left of the fixed part.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.reader.rest()
    }
}

/// Writes a flag as one byte.
pub(crate) fn put_bool(out: &mut impl ByteWriter, value: bool) {
    out.put_u8(u8::from(value));
}

/// Inverse of [`Fields::offer`].
pub(crate) fn put_offer(out: &mut impl ByteWriter, offer: &ProtocolOffer) {
    out.put_u16(offer.protocol_min);
    out.put_u16(offer.protocol_max);
    out.put_u64(offer.features);
}

/// Writes text that names something: never shortened.
///
/// # Panics
/// When it is longer than `max` bytes: the caller validates names before they come here.
pub(crate) fn put_text(out: &mut impl ByteWriter, text: &str, max: usize) {
    assert!(text.len() <= max, "text of {} bytes where {max} are allowed", text.len());
    out.put_u16(text.len() as u16);
    out.put(text.as_bytes());
}

/// Writes text for people: shortened at a character's boundary to at most `max` bytes.
pub(crate) fn put_text_clipped(out: &mut impl ByteWriter, text: &str, max: usize) {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    put_text(out, &text[..end], max);
}

/// A closed set of one-byte codes.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $code,)*
        }

        impl $name {
            /// The code on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// Inverse of `code`.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use wire_enum;
