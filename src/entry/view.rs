//! A whole entry, borrowed: all checks of header, body, padding and trailer, no copy.

use super::configuration::Configuration;
use super::error::EntryError;
use super::events::EventsView;
use super::header::{EntryHeader, EntryKind, check_trailer};
use super::open_producer::OpenProducer;
use super::trim::LogFloor;
use crate::base::checksum::crc32;

/// An undamaged entry in borrowed bytes.
///
/// Checksums, sizes, padding and trailer have been checked. The contents are decoded by [`EntryView::events`],
/// [`EntryView::configuration`], [`EntryView::open_producer`] and [`EntryView::trim`], which check them once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EntryView<'a> {
    header: EntryHeader,
    bytes: &'a [u8],
}

impl<'a> EntryView<'a> {
    /// Reads the entry at the start of `bytes`; gives it and the bytes that it takes.
    ///
    /// # Errors
    /// Those of [`EntryHeader::decode`]; [`EntryError::Truncated`] where the entry does not end within `bytes`; a
    /// body, padding or trailer that does not match the header.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, usize), EntryError> {
        let header = EntryHeader::decode(bytes)?;
        Self::parse_behind(header, bytes)
    }

    /// The second half of [`EntryView::parse`], for a header that was decoded from the same bytes.
    pub(super) fn parse_behind(header: EntryHeader, bytes: &'a [u8]) -> Result<(Self, usize), EntryError> {
        let total = header.total_bytes as usize;
        let Some(bytes) = bytes.get(..total) else {
            return Err(EntryError::Truncated { needed: total, left: bytes.len() });
        };
        let body_end = header.end_of_body();
        let covered = &bytes[EntryHeader::BYTES..body_end];
        let computed = crc32(covered);
        if computed != header.body_crc {
            return Err(EntryError::BodyCrc { stored: header.body_crc, computed });
        }
        if covered[header.body_bytes as usize..].iter().any(|&byte| byte != 0) {
            return Err(EntryError::Malformed("padding is not zero"));
        }
        check_trailer(&header, &bytes[body_end..])?;
        Ok((Self { header, bytes }, total))
    }

    /// A view of bytes that were checked or built before.
    pub(super) const fn assume_checked(header: EntryHeader, bytes: &'a [u8]) -> Self {
        Self { header, bytes }
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &EntryHeader {
        &self.header
    }

    /// The body without its padding.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[EntryHeader::BYTES..EntryHeader::BYTES + self.header.body_bytes as usize]
    }

    /// The whole entry as it is stored and sent.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The entry's chain value.
    #[must_use]
    pub const fn chain(&self) -> u64 {
        self.header.chain()
    }

    /// The batch in an entry of kind [`EntryKind::Events`]; checks all of it, once.
    ///
    /// # Errors
    /// [`EntryError::WrongKind`], or what is wrong with the contents.
    pub fn events(&self) -> Result<EventsView<'a>, EntryError> {
        self.expect(EntryKind::Events)?;
        EventsView::parse(self.header.base_offset, self.header.event_count, self.body())
    }

    /// The configuration in an entry of kind [`EntryKind::Configuration`].
    ///
    /// # Errors
    /// [`EntryError::WrongKind`], or what is wrong with the contents.
    pub fn configuration(&self) -> Result<Configuration, EntryError> {
        self.expect(EntryKind::Configuration)?;
        Configuration::decode_body(self.body()).map_err(|error| error.inside("a configuration ends early"))
    }

    /// What is opened by an entry of kind [`EntryKind::OpenProducer`].
    ///
    /// # Errors
    /// [`EntryError::WrongKind`], or what is wrong with the contents.
    pub fn open_producer(&self) -> Result<OpenProducer<'a>, EntryError> {
        self.expect(EntryKind::OpenProducer)?;
        OpenProducer::decode_body(self.body()).map_err(|error| error.inside("open_producer ends early"))
    }

    /// Where the log begins by an entry of kind [`EntryKind::Trim`].
    ///
    /// # Errors
    /// [`EntryError::WrongKind`], or what is wrong with the contents.
    pub fn trim(&self) -> Result<LogFloor, EntryError> {
        self.expect(EntryKind::Trim)?;
        let floor = LogFloor::decode_body(self.body()).map_err(|error| error.inside("trim ends early"))?;
        if floor.fits(self.header.index, self.header.base_offset) {
            Ok(floor)
        } else {
            Err(EntryError::Malformed("trim reaches beyond itself"))
        }
    }

    /// Decodes the contents, whatever the kind, and throws the result away.
    ///
    /// # Errors
    /// What is wrong with the contents.
    pub fn check_contents(&self) -> Result<(), EntryError> {
        match self.header.kind {
            EntryKind::Noop => Ok(()),
            EntryKind::Events => self.events().map(|_| ()),
            EntryKind::Configuration => self.configuration().map(|_| ()),
            EntryKind::OpenProducer => self.open_producer().map(|_| ()),
            EntryKind::Trim => self.trim().map(|_| ()),
        }
    }

    fn expect(&self, kind: EntryKind) -> Result<(), EntryError> {
        if self.header.kind == kind { Ok(()) } else { Err(EntryError::WrongKind) }
    }
}

impl std::fmt::Debug for EntryView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryView").field("header", &self.header).finish_non_exhaustive()
    }
}
