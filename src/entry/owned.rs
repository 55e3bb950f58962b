//! A whole entry that owns its bytes and is cheap to clone.

use std::fmt;
use std::sync::Arc;

use super::configuration::Configuration;
use super::error::EntryError;
use super::events::EventsView;
use super::header::EntryHeader;
use super::open_producer::OpenProducer;
use super::view::EntryView;
use crate::base::ids::{EntryId, LogIndex, Term};

/// An entry as it lies in the hot tail and crosses rings: the encoded bytes under a reference count, immutable.
///
/// Contents are valid: whoever holds an `Entry` can decode it. Equality is equality of bytes.
#[derive(Clone)]
pub struct Entry {
    inner: Arc<Inner>,
}

struct Inner {
    header: EntryHeader,
    bytes: Vec<u8>,
}

impl Entry {
    /// Reads exactly one entry and copies it. Contents are checked too, so that a malformed entry is refused where
    /// it arrives and not where it is applied.
    ///
    /// # Errors
    /// Those of [`EntryView::parse`] and [`EntryView::check_contents`]; [`EntryError::TrailingBytes`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let header = Self::check(bytes)?;
        Ok(Self::assume_checked(header, bytes.to_vec()))
    }

    /// Like [`Entry::decode`], but keeps the vector.
    ///
    /// # Errors
    /// Those of [`Entry::decode`].
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, EntryError> {
        let header = Self::check(&bytes)?;
        Ok(Self::assume_checked(header, bytes))
    }

    fn check(bytes: &[u8]) -> Result<EntryHeader, EntryError> {
        let (view, consumed) = EntryView::parse(bytes)?;
        if consumed != bytes.len() {
            return Err(EntryError::TrailingBytes(bytes.len() - consumed));
        }
        view.check_contents()?;
        Ok(*view.header())
    }

    /// An entry from bytes that were just checked or built.
    pub(super) fn assume_checked(header: EntryHeader, bytes: Vec<u8>) -> Self {
        assert!(bytes.len() == header.total_bytes as usize, "the header tells the size of the entry");
        Self { inner: Arc::new(Inner { header, bytes }) }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &EntryHeader {
        &self.inner.header
    }

    /// Term and index.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.inner.header.id()
    }

    /// The place in the log.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        self.inner.header.index
    }

    /// The term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.inner.header.term
    }

    /// The whole entry as it is stored and sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.inner.bytes
    }

    /// How many bytes that is.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.inner.bytes.len()
    }

    /// The chain value.
    #[must_use]
    pub fn chain(&self) -> u64 {
        self.inner.header.chain()
    }

    /// A borrowed view; costs no check.
    #[must_use]
    pub fn view(&self) -> EntryView<'_> {
        EntryView::assume_checked(self.inner.header, &self.inner.bytes)
    }

    /// Shorthand for [`EntryView::events`].
    ///
    /// # Errors
    /// [`EntryError::WrongKind`].
    pub fn events(&self) -> Result<EventsView<'_>, EntryError> {
        self.view().events()
    }

    /// Shorthand for [`EntryView::configuration`].
    ///
    /// # Errors
    /// [`EntryError::WrongKind`].
    pub fn configuration(&self) -> Result<Configuration, EntryError> {
        self.view().configuration()
    }

    /// Shorthand for [`EntryView::open_producer`].
    ///
    /// # Errors
    /// [`EntryError::WrongKind`].
    pub fn open_producer(&self) -> Result<OpenProducer<'_>, EntryError> {
        self.view().open_producer()
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner) || self.inner.bytes == other.inner.bytes
    }
}

impl Eq for Entry {}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.header();
        write!(
            f,
            "Entry({:?} {:?}, {} events, {} bytes)",
            header.id(),
            header.kind,
            header.event_count,
            self.len_bytes()
        )
    }
}
