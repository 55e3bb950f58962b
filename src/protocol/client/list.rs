//! Lists of fixed-size items that are neither collected when they are decoded nor copied before they are encoded.

use std::fmt;
use std::marker::PhantomData;

use crate::base::bytes::ByteWriter;

use super::super::frame::{Fields, ProtocolError};

/// An item of fixed encoded size.
pub trait WireItem: Copy + PartialEq + fmt::Debug {
    /// Its encoded size.
    const BYTES: usize;

    /// Writes exactly [`WireItem::BYTES`].
    fn put(&self, out: &mut dyn ByteWriter);

    /// Reads exactly [`WireItem::BYTES`]; `None` for a value that may not be.
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// A list of items: the caller's slice on the way out, the receive buffer's bytes on the way in. Both compare and
/// iterate alike; neither allocates.
#[derive(Clone, Copy)]
pub struct List<'a, T>(Repr<'a, T>);

#[derive(Clone, Copy)]
enum Repr<'a, T> {
    Slice(&'a [T]),
    /// Every item was read once without failing.
    Wire(&'a [u8], PhantomData<T>),
}

impl<'a, T: WireItem> List<'a, T> {
    /// A list to encode.
    #[must_use]
    pub const fn from_slice(items: &'a [T]) -> Self {
        Self(Repr::Slice(items))
    }

    /// How many items.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            Repr::Slice(items) => items.len(),
            Repr::Wire(bytes, _) => bytes.len() / T::BYTES,
        }
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + 'a {
        let (slice, bytes): (&[T], &[u8]) = match self.0 {
            Repr::Slice(items) => (items, &[]),
            Repr::Wire(bytes, _) => (&[], bytes),
        };
        slice.iter().copied().chain(bytes.chunks_exact(T::BYTES).filter_map(T::read))
    }

    /// Writes a `u16` count and the items.
    pub(super) fn put(&self, out: &mut impl ByteWriter, max: usize) {
        assert!(self.len() <= max, "{} items where {max} are allowed", self.len());
        out.put_u16(self.len() as u16);
        for item in self.iter() {
            item.put(out);
        }
    }

    /// Reads a `u16` count of at most `max` and checks every item.
    pub(super) fn read(f: &mut Fields<'a>, field: &'static str, max: usize) -> Result<Self, ProtocolError> {
        let count = f.count(field, max)?;
        let bytes = f.take(field, count * T::BYTES)?;
        if let Some(at) = bytes.chunks_exact(T::BYTES).position(|item| T::read(item).is_none()) {
            return Err(f.bad(field, at as u64));
        }
        Ok(Self(Repr::Wire(bytes, PhantomData)))
    }
}

impl<T: WireItem> PartialEq for List<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: WireItem> Eq for List<'_, T> {}

impl<T: WireItem> fmt::Debug for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
