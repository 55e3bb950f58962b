//! The attributes of an event: small named values.
//!
//! ```text
//! offset size field          (of one attribute; the next follows without padding)
//!      0    1 name_bytes, 1 to 255
//!      1    2 value_bytes
//!      3    n name, UTF-8
//!    3+n    m value
//! ```

use super::error::EntryError;
use super::names::{checked_text, decode_name, validate_producer_name};
use crate::base::bytes::{ByteReader, ByteWriter};
use crate::base::limits::{ATTRIBUTES_BYTES_MAX, ATTRIBUTES_COUNT_MAX};

/// Bytes of an attribute before its name.
const FIXED_BYTES: usize = 3;

/// The attributes of a decoded event, in the producer's order. Names may repeat.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct AttributesView<'a> {
    bytes: &'a [u8],
}

impl<'a> AttributesView<'a> {
    /// Checks all attributes in `bytes`.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, EntryError> {
        if bytes.len() > ATTRIBUTES_BYTES_MAX {
            return Err(too_large(bytes.len()));
        }
        let mut reader = ByteReader::new(bytes);
        let mut count = 0;
        while reader.left() > 0 {
            let name_bytes = usize::from(reader.u8()?);
            let value_bytes = usize::from(reader.u16()?);
            decode_name(reader.take(name_bytes)?)?;
            reader.take(value_bytes)?;
            count += 1;
        }
        check_count(count)?;
        Ok(Self { bytes })
    }

    /// Attributes in bytes that [`AttributesView::parse`] accepted before.
    pub(super) const fn assume_checked(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The attributes as they are stored.
    #[must_use]
    pub const fn encoded(&self) -> &'a [u8] {
        self.bytes
    }

    /// Names and values, in order.
    #[must_use]
    pub const fn iter(&self) -> Attributes<'a> {
        Attributes { bytes: self.bytes }
    }

    /// The first value under `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|&(found, _)| found == name).map(|(_, value)| value)
    }
}

impl<'a> IntoIterator for AttributesView<'a> {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = Attributes<'a>;

    fn into_iter(self) -> Attributes<'a> {
        self.iter()
    }
}

impl std::fmt::Debug for AttributesView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Iterator over names and values.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[name_bytes, low, high], rest) = self.bytes.split_first_chunk::<FIXED_BYTES>()?;
        let (name, rest) = rest.split_at_checked(usize::from(name_bytes))?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        self.bytes = rest;
        Some((checked_text(name), value))
    }
}

/// Size of the attributes once encoded, all limits checked.
pub(super) fn attributes_bytes(attributes: &[(&str, &[u8])]) -> Result<usize, EntryError> {
    check_count(attributes.len())?;
    let mut bytes = 0usize;
    for (name, value) in attributes {
        validate_producer_name(name)?;
        bytes = bytes.saturating_add(FIXED_BYTES + name.len()).saturating_add(value.len());
    }
    if bytes > ATTRIBUTES_BYTES_MAX { Err(too_large(bytes)) } else { Ok(bytes) }
}

/// Appends attributes that [`attributes_bytes`] accepted.
pub(super) fn encode_attributes(out: &mut Vec<u8>, attributes: &[(&str, &[u8])]) {
    for (name, value) in attributes {
        out.put_u8(name.len() as u8);
        out.put_u16(value.len() as u16);
        out.put(name.as_bytes());
        out.put(value);
    }
}

fn check_count(count: usize) -> Result<(), EntryError> {
    if count > ATTRIBUTES_COUNT_MAX {
        return Err(EntryError::Malformed("an event has more than 64 attributes"));
    }
    Ok(())
}

const fn too_large(bytes: usize) -> EntryError {
    EntryError::TooLarge { what: "the attributes of an event", bytes, limit: ATTRIBUTES_BYTES_MAX }
}
