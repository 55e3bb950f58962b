//! The subscription's state: where it stands, what it verified, what it owes.
//!
//! Invariant: everything below `position` was handed to the caller or does not match the filter, and nothing at or
//! above it was; so a new subscription from `position`, at any node, leaves no gap and repeats nothing.

use std::ops::ControlFlow;

use super::{Delivered, Filter};
use crate::base::ids::{LogIndex, NodeId, Offset};
use crate::client::error::ClientError;
use crate::client::links::{Flow, Handler, LinkRef, Links};
use crate::entry::{EntryKind, EntryView};
use crate::protocol::client::{
    ClientHelloAccept, ClientMessage, Entries, ServerMessage, Subscribe, SubscribeFrom, SubscriptionError,
    SubscriptionErrorCode,
};

/// Silence of a node that is borne; it is asked with a ping after half of it.
const SILENCE_LIMIT_NS: u64 = 1_000_000_000;
/// For so long a node may know of no leader: many times what an election takes. It may be cut off from the others, and
/// then it has nothing new for anybody, however well it is reached.
const LEADERLESS_LIMIT_NS: u64 = 1_000_000_000;

/// The last whole entry that was taken.
#[derive(Clone, Copy, Debug)]
struct Taken {
    index: LogIndex,
    chain: u64,
}

/// A subscription, across connections.
pub(super) struct Feed {
    pub(super) filter: Filter,
    /// Where to begin while nothing is settled yet.
    from: SubscribeFrom,
    /// The next offset, once the first node has said where the subscription begins.
    pub(super) position: Option<Offset>,
    /// The node's commit index and last offset, as told last.
    pub(super) known: (LogIndex, Offset),
    /// The connection on which the subscription stands.
    pub(super) link: Option<LinkRef>,
    subscription: u32,
    credit_bytes: u32,
    /// Entry bytes taken and not yet given back as credit.
    owed_bytes: u32,
    last: Option<Taken>,
    /// The next entry may begin before `position`: it is the first one, or was handed over in part.
    may_begin_inside: bool,
    /// Of the frame that is being handed over: entries done, and their bytes.
    head: (u32, usize),
    /// Entries are left where they are for now.
    pub(super) paused: bool,
    /// Nodes in a row that could not read their log, and what the last one said.
    pub(super) unable: (usize, Option<ClientError>),
    /// Since when this node has known of no leader.
    leaderless_since_ns: Option<u64>,
}

impl Feed {
    pub(super) fn new(filter: Filter, from: SubscribeFrom, credit_bytes: u32) -> Self {
        Self {
            filter,
            from,
            position: None,
            known: (LogIndex::ZERO, Offset::ZERO),
            link: None,
            subscription: 0,
            credit_bytes,
            owed_bytes: 0,
            last: None,
            may_begin_inside: true,
            head: (0, 0),
            paused: true,
            unable: (0, None),
            leaderless_since_ns: None,
        }
    }

    /// The node says who leads, or that it knows of nobody.
    fn heard(&mut self, links: &Links, leader: Option<NodeId>) {
        let since_ns = self.leaderless_since_ns.unwrap_or(links.now_ns());
        self.leaderless_since_ns = leader.is_none().then_some(since_ns);
    }

    /// Leaves a node that has known of no leader for too long and has delivered all it had.
    pub(super) fn leave_if_leaderless(&mut self, links: &mut Links) {
        let Some(link) = self.link.filter(|_| self.position.is_some_and(|next| next > self.known.1)) else {
            return;
        };
        let since_ns = self.leaderless_since_ns.unwrap_or(u64::MAX);
        if links.now_ns() >= since_ns.saturating_add(LEADERLESS_LIMIT_NS) {
            self.leaderless_since_ns = None;
            links.leave(link, "it knows of no leader");
        }
    }

    fn subscribe(&mut self, links: &mut Links, link: LinkRef) {
        self.subscription = self.subscription.wrapping_add(1);
        (self.owed_bytes, self.head, self.may_begin_inside) = (0, (0, 0), true);
        let from = self.position.map_or(self.from, SubscribeFrom::Offset);
        let (subscription, credit_bytes) = (self.subscription, self.credit_bytes);
        let wish = Subscribe { subscription, from, credit_bytes, filter: self.filter.text() };
        links.send(link, &ClientMessage::Subscribe(wish));
        links.watch(link, Some(SILENCE_LIMIT_NS));
    }

    fn next_offset(&self) -> Offset {
        self.position.unwrap_or(Offset(1))
    }

    fn corrupt(&self, links: &Links, link: LinkRef, text: String) -> ClientError {
        ClientError::Corrupt { server: links.address_of(link), offset: self.next_offset(), text }
    }

    /// Entries of one frame, from the first that is not done.
    fn take_entries(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        entries: &Entries<'_>,
        on_event: &mut impl FnMut(Delivered<'_>) -> ControlFlow<()>,
    ) -> Result<Flow, ClientError> {
        self.known = (entries.commit_index, entries.last_offset);
        while self.head.0 < entries.entry_count {
            let (entry, bytes) = EntryView::parse(&entries.bytes[self.head.1..])
                .map_err(|error| self.corrupt(links, link, error.to_string()))?;
            let stopped = self.take_entry(links, link, &entry, on_event)?;
            let whole = self.next_offset() >= entry.header().next_offset();
            if whole {
                self.head = (self.head.0 + 1, self.head.1 + bytes);
                self.may_begin_inside = false;
                self.last = Some(Taken { index: entry.header().index, chain: entry.chain() });
            }
            if stopped {
                self.may_begin_inside |= !whole;
                return Ok(Flow::Keep);
            }
        }
        if self.head.1 != entries.bytes.len() {
            return Err(self.corrupt(links, link, "bytes follow the last entry of a frame".to_owned()));
        }
        self.head = (0, 0);
        self.unable = (0, None);
        links.useful(link);
        self.give_credit(links, link, entries.bytes.len());
        Ok(Flow::Next)
    }

    /// Hands over what is new and matches. True: the caller wants no more for now.
    fn take_entry(
        &mut self,
        links: &Links,
        link: LinkRef,
        entry: &EntryView<'_>,
        on_event: &mut impl FnMut(Delivered<'_>) -> ControlFlow<()>,
    ) -> Result<bool, ClientError> {
        self.check_order(links, link, entry)?;
        let header = *entry.header();
        if header.kind != EntryKind::Events {
            return Ok(false);
        }
        let events = entry.events().map_err(|error| self.corrupt(links, link, error.to_string()))?;
        let from = self.next_offset();
        for (offset, event) in events.iter().skip_while(|(offset, _)| *offset < from) {
            self.position = Some(offset.next());
            if !self.filter.matches(event.topic) {
                continue;
            }
            let producer = events.producers().get(event.producer_slot).map_or("", |producer| producer.name);
            let delivered = Delivered {
                offset,
                index: header.index,
                topic: event.topic,
                producer,
                sequence: event.sequence,
                timestamp_unix_ns: event.timestamp_unix_ns,
                priority: event.priority,
                attributes: event.attributes,
                body: event.body,
            };
            if on_event(delivered).is_break() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The entry continues the log: later than the last one, chained to it where it is the very next, and without a
    /// hole in the offsets (with a filter, batches in which nothing matches are left out).
    fn check_order(&self, links: &Links, link: LinkRef, entry: &EntryView<'_>) -> Result<(), ClientError> {
        let header = entry.header();
        if let Some(last) = self.last {
            if header.index <= last.index {
                let text = format!("entry {} follows entry {}", header.index, last.index);
                return Err(self.corrupt(links, link, text));
            }
            if header.index == last.index.next() && header.prev_chain != last.chain {
                let text = format!("entry {} does not continue the log that was read so far", header.index);
                return Err(self.corrupt(links, link, text));
            }
        }
        let expected = self.next_offset();
        let begins_late = header.base_offset > expected && self.filter.matches_all();
        let begins_early = header.base_offset < expected && !self.may_begin_inside;
        let is_over = header.event_count > 0 && header.next_offset() <= expected;
        if begins_late || begins_early || is_over {
            let server = links.address_of(link);
            return Err(ClientError::OffsetGap { server, expected, found: header.base_offset });
        }
        Ok(())
    }

    fn give_credit(&mut self, links: &mut Links, link: LinkRef, bytes: usize) {
        self.owed_bytes = self.owed_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.owed_bytes >= self.credit_bytes / 4 {
            let (subscription, bytes) = (self.subscription, std::mem::take(&mut self.owed_bytes));
            links.send(link, &ClientMessage::SubscribeCredit { subscription, bytes });
        }
    }

    fn began(&mut self, start_offset: Offset) {
        // A later subscription was asked for exactly there; the node has no other choice.
        self.position.get_or_insert(start_offset.max(Offset(1)));
    }

    /// The node has looked through everything up to `last_offset`, and sent what matched.
    fn progressed(&mut self, commit_index: LogIndex, last_offset: Offset) {
        self.known = (commit_index, last_offset);
        let next = last_offset.next();
        if self.position.is_some_and(|position| position < next) && !self.filter.matches_all() {
            self.position = Some(next);
        }
    }

    fn ended(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        error: &SubscriptionError<'_>,
    ) -> Result<(), ClientError> {
        let server = links.address_of(link);
        match error.code {
            SubscriptionErrorCode::BelowFloor { first_offset } => {
                return Err(ClientError::BelowFloor { asked: self.next_offset(), first_offset });
            }
            SubscriptionErrorCode::BadFilter => {
                return Err(ClientError::BadFilter(self.filter.text().to_owned()));
            }
            SubscriptionErrorCode::ReadFailed => {
                let (offset, text) = (self.next_offset(), error.text.to_owned());
                self.unable = (self.unable.0 + 1, Some(ClientError::ReadFailed { server, offset, text }));
            }
            SubscriptionErrorCode::Draining
            | SubscriptionErrorCode::TooManySubscriptions
            | SubscriptionErrorCode::DuplicateSubscription
            | SubscriptionErrorCode::UnknownSubscription => {}
        }
        links.leave(link, error.text);
        Ok(())
    }
}

/// A feed and where its events go, for one turn.
pub(super) struct Delivering<'a, F> {
    pub(super) feed: &'a mut Feed,
    pub(super) on_event: F,
}

impl<F: FnMut(Delivered<'_>) -> ControlFlow<()>> Handler for Delivering<'_, F> {
    fn greeted(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        welcome: &ClientHelloAccept<'_>,
    ) -> Result<(), ClientError> {
        self.feed.link = Some(link);
        self.feed.leaderless_since_ns = None;
        self.feed.heard(links, welcome.leader_id);
        self.feed.subscribe(links, link);
        Ok(())
    }

    fn message(
        &mut self,
        links: &mut Links,
        link: LinkRef,
        message: &ServerMessage<'_>,
    ) -> Result<Flow, ClientError> {
        let feed = &mut *self.feed;
        let ours = |subscription: u32| subscription == feed.subscription && feed.link == Some(link);
        match message {
            ServerMessage::Subscribed { subscription, start_offset, commit_index, last_offset }
                if ours(*subscription) =>
            {
                feed.began(*start_offset);
                feed.known = (*commit_index, *last_offset);
            }
            ServerMessage::Entries(_) if feed.paused => return Ok(Flow::Keep),
            ServerMessage::Entries(entries) if ours(entries.subscription) && feed.position.is_some() => {
                let taken = feed.take_entries(links, link, entries, &mut self.on_event);
                if let Err(error) = &taken {
                    links.leave(link, &error.to_string());
                }
                return taken;
            }
            ServerMessage::Progress { subscription, commit_index, last_offset } if ours(*subscription) => {
                feed.progressed(*commit_index, *last_offset);
            }
            ServerMessage::SubscriptionError(error) if ours(error.subscription) => {
                feed.ended(links, link, error)?;
            }
            ServerMessage::LeaderNews { leader_id, .. } => feed.heard(links, *leader_id),
            _ => links.leave(link, "it says what no subscriber was to hear"),
        }
        Ok(Flow::Next)
    }
}
