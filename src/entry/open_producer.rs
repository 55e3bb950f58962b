//! The body of an `open_producer` entry.
//!
//! ```text
//! offset size field
//!      0    1 name_bytes, 1 to 255
//!      1    7 reserved, zero
//!      8    n name, UTF-8
//! ```
//!
//! Id and epoch are not stored: both follow from the log (rule 14). The id is the index of the first entry that opened
//! the name, the epoch counts the openings.

use super::error::EntryError;
use super::names::decode_name;
use crate::base::bytes::{ByteReader, ByteWriter};

/// Bytes before the name.
pub(super) const FIXED_BYTES: usize = 8;

/// What an `open_producer` entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenProducer<'a> {
    /// The name that is opened.
    pub name: &'a str,
}

impl<'a> OpenProducer<'a> {
    /// Decodes the body of an entry.
    pub(super) fn decode_body(body: &'a [u8]) -> Result<Self, EntryError> {
        let mut reader = ByteReader::new(body);
        let name_bytes = usize::from(reader.u8()?);
        if reader.array::<7>()? != [0; 7] {
            return Err(EntryError::Malformed("a reserved field of open_producer is not zero"));
        }
        let name = decode_name(reader.take(name_bytes)?)?;
        if reader.left() != 0 {
            return Err(EntryError::Malformed("bytes follow the name in open_producer"));
        }
        Ok(Self { name })
    }
}

/// Appends the body that opens `name`, which was validated.
pub(super) fn encode_body(out: &mut Vec<u8>, name: &str) {
    assert!(name.len() <= 255, "a validated name has at most 255 bytes");
    out.put_u8(name.len() as u8);
    out.put(&[0; 7]);
    out.put(name.as_bytes());
}
