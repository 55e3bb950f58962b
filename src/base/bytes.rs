//! Bounded little-endian reading and writing, the base of every codec in the house.
//!
//! [`ByteReader`] never panics and never allocates: every read is checked, so a decoder built from it is total.

use std::fmt;

/// The input ended before the field did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShortInput {
    /// Position at which the field starts.
    pub at: usize,
    /// Bytes that the field needs.
    pub needed: usize,
    /// Bytes that were left.
    pub left: usize,
}

impl fmt::Display for ShortInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input ends early: {} bytes needed at byte {}, {} left", self.needed, self.at, self.left)
    }
}

impl std::error::Error for ShortInput {}

/// A cursor over untrusted bytes.
#[derive(Clone, Debug)]
pub struct ByteReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

macro_rules! read_int {
    ($name:ident, $int:ty) => {
        /// Reads one little-endian integer.
        ///
        /// # Errors
        /// [`ShortInput`] when fewer bytes are left.
        pub fn $name(&mut self) -> Result<$int, ShortInput> {
            Ok(<$int>::from_le_bytes(self.array()?))
        }
    };
}

impl<'a> ByteReader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Borrows the next `count` bytes.
    ///
    /// # Errors
    /// [`ShortInput`] when fewer bytes are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], ShortInput> {
        let left = self.left();
        if count > left {
            return Err(ShortInput { at: self.at, needed: count, left });
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// Copies the next `N` bytes.
    ///
    /// # Errors
    /// [`ShortInput`] when fewer bytes are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ShortInput> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    read_int!(u8, u8);
    read_int!(u16, u16);
    read_int!(u32, u32);
    read_int!(u64, u64);
    read_int!(u128, u128);
}

/// Appends little-endian fields to a vector.
pub trait ByteWriter {
    /// Appends raw bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    /// Appends two bytes, little-endian.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    /// Appends four bytes, little-endian.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    /// Appends eight bytes, little-endian.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    /// Appends sixteen bytes, little-endian.
    fn put_u128(&mut self, value: u128) {
        self.put(&value.to_le_bytes());
    }
}

impl ByteWriter for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteReader, ByteWriter, ShortInput};

    #[test]
    fn reads_back_what_was_written_and_stops_at_the_end() {
        let mut out = Vec::new();
        out.put_u8(1);
        out.put_u16(2);
        out.put_u32(3);
        out.put_u64(4);
        out.put_u128(5);
        let mut reader = ByteReader::new(&out);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(2));
        assert_eq!(reader.u32(), Ok(3));
        assert_eq!(reader.u64(), Ok(4));
        assert_eq!(reader.u128(), Ok(5));
        assert_eq!(reader.u8(), Err(ShortInput { at: 31, needed: 1, left: 0 }));
        assert_eq!(reader.take(usize::MAX), Err(ShortInput { at: 31, needed: usize::MAX, left: 0 }));
    }
}
