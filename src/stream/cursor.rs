//! Where subscribers stand in the committed events.

use crate::base::ids::Offset;
use crate::entry::{EntryError, EntryHeader, EntryKind, EntryView, EventView, Events};

use super::topics::TopicFilter;

/// One subscriber's place and taste. Used at both ends: the server skips entries that hold nothing wanted, the client
/// picks the wanted events out of the entries it gets (the bytes of an entry are never cut).
///
/// Feed it committed entries only, in log order: it cannot tell what is committed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cursor {
    /// First offset that is still wanted.
    next_offset: Offset,
    filter: TopicFilter,
}

impl Cursor {
    /// A cursor that wants events of `filter` from `next_offset` on; offset 0 counts as 1, the first.
    #[must_use]
    pub fn new(next_offset: Offset, filter: TopicFilter) -> Self {
        Self { next_offset: next_offset.max(Offset(1)), filter }
    }

    /// First offset that is still wanted.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The topics that are wanted.
    #[must_use]
    pub const fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Whether an entry can be skipped by its header alone: it holds no events, or all of them lie before the cursor.
    #[must_use]
    pub fn is_past(&self, header: &EntryHeader) -> bool {
        header.kind != EntryKind::Events || header.next_offset() <= self.next_offset
    }

    /// Whether the entry holds at least one event that is wanted; one that holds none may be skipped as a whole.
    ///
    /// # Errors
    /// The batch cannot be decoded.
    pub fn wants(&self, entry: &EntryView<'_>) -> Result<bool, EntryError> {
        if self.is_past(entry.header()) {
            return Ok(false);
        }
        if self.filter == TopicFilter::All {
            return Ok(true);
        }
        Ok(self.matches(entry)?.next().is_some())
    }

    /// The wanted events of the entry with their offsets, in order.
    ///
    /// # Errors
    /// The batch cannot be decoded.
    pub fn matches<'c, 'e>(&'c self, entry: &EntryView<'e>) -> Result<Matches<'c, 'e>, EntryError> {
        let events = if self.is_past(entry.header()) { None } else { Some(entry.events()?.iter()) };
        Ok(Matches { cursor: self, events })
    }

    /// Goes on behind an entry that was delivered or skipped. Never goes back.
    pub fn advance_past(&mut self, header: &EntryHeader) {
        self.next_offset = self.next_offset.max(header.next_offset());
    }
}

/// Iterator over the wanted events of one entry.
#[derive(Clone, Debug)]
pub struct Matches<'c, 'e> {
    cursor: &'c Cursor,
    events: Option<Events<'e>>,
}

impl<'e> Iterator for Matches<'_, 'e> {
    type Item = (Offset, EventView<'e>);

    fn next(&mut self) -> Option<Self::Item> {
        let Self { cursor, events } = self;
        let wanted = |(offset, event): &(Offset, EventView<'_>)| {
            *offset >= cursor.next_offset && cursor.filter.matches(event.topic)
        };
        events.as_mut()?.find(wanted)
    }
}
