//! Where subscribers stand in the committed events.

use std::collections::BTreeMap;

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

/// Names a subscriber of one bus.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SubscriberId(pub u32);

/// Many cursors over one stream of committed entries: which subscribers want this entry?
///
/// Bounded: a bus of `subscribers_limit` takes no more. The caller feeds every committed entry once and in order to
/// those that keep up; a subscriber far behind is read for separately, by its own cursor.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EventBus {
    cursors: BTreeMap<SubscriberId, Cursor>,
    next_id: u32,
    subscribers_limit: usize,
}

impl EventBus {
    /// A bus without subscribers.
    #[must_use]
    pub const fn new(subscribers_limit: usize) -> Self {
        Self { cursors: BTreeMap::new(), next_id: 0, subscribers_limit }
    }

    /// Adds a subscriber; `None` when there are as many as allowed.
    pub fn subscribe(&mut self, cursor: Cursor) -> Option<SubscriberId> {
        if self.cursors.len() >= self.subscribers_limit {
            return None;
        }
        while self.cursors.contains_key(&SubscriberId(self.next_id)) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = SubscriberId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.cursors.insert(id, cursor);
        Some(id)
    }

    /// Removes a subscriber and gives its cursor back.
    pub fn unsubscribe(&mut self, id: SubscriberId) -> Option<Cursor> {
        self.cursors.remove(&id)
    }

    /// A subscriber's cursor.
    #[must_use]
    pub fn cursor(&self, id: SubscriberId) -> Option<&Cursor> {
        self.cursors.get(&id)
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cursors.len()
    }

    /// Whether nobody subscribes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cursors.is_empty()
    }

    /// Lowest offset that any subscriber still wants: nothing before it needs to be read. `None` without subscribers.
    #[must_use]
    pub fn first_wanted(&self) -> Option<Offset> {
        self.cursors.values().map(Cursor::next_offset).min()
    }

    /// Offers a committed entry to all subscribers, in the order of their ids: `deliver` is called for those that want
    /// it and says whether it was taken. Cursors go on behind the entry unless it was wanted and not taken (no
    /// credits: the same entry is offered again later).
    ///
    /// # Errors
    /// The batch cannot be decoded; nobody got it.
    pub fn offer(
        &mut self,
        entry: &EntryView<'_>,
        mut deliver: impl FnMut(SubscriberId, &Cursor) -> bool,
    ) -> Result<(), EntryError> {
        if entry.header().kind == EntryKind::Events {
            entry.check_contents()?;
        }
        for (id, cursor) in &mut self.cursors {
            if !cursor.wants(entry)? || deliver(*id, cursor) {
                cursor.advance_past(entry.header());
            }
        }
        Ok(())
    }
}
