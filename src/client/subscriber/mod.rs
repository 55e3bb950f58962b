//! Subscribing: committed events in order, from any node, across connections.

mod feed;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use self::feed::{Delivering, Feed};
use super::error::ClientError;
use super::links::{Links, Waker, ns};
use super::options::ClientOptions;
use crate::base::ids::{LogIndex, Offset, Sequence};
use crate::entry::{AttributesView, validate_topic};
use crate::protocol::client::{Purpose, SubscribeFrom};

/// Room for a few frames of entries.
const INBOX_BYTES: usize = 512 << 10;

/// Where a subscription begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// With the oldest event that is still there.
    Earliest,
    /// With the next event to be committed.
    Latest,
    /// With this offset, inclusive; one that is not committed yet is waited for.
    Offset(Offset),
}

/// What to subscribe to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscribeOptions {
    /// Where to begin.
    pub from: From,
    /// A topic, a prefix that ends in `*`, or empty for everything.
    pub filter: String,
    /// Entry bytes that the node may send ahead of what was taken; at least 64 KiB.
    pub credit_bytes: u32,
}

impl SubscribeOptions {
    /// Default of [`SubscribeOptions::credit_bytes`].
    pub const CREDIT_BYTES: u32 = 4 << 20;

    /// Everything from there on.
    #[must_use]
    pub const fn new(from: From) -> Self {
        Self { from, filter: String::new(), credit_bytes: Self::CREDIT_BYTES }
    }
}

/// One committed event, borrowed from the receive buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivered<'a> {
    /// Its place among all events, from 1.
    pub offset: Offset,
    /// The entry of the log that it stands in.
    pub index: LogIndex,
    /// Its topic.
    pub topic: &'a str,
    /// The name of its producer.
    pub producer: &'a str,
    /// The producer's number for it.
    pub sequence: Sequence,
    /// The producer's wall clock.
    pub timestamp_unix_ns: u64,
    /// The producer's word on urgency.
    pub priority: u8,
    /// Names and values.
    pub attributes: AttributesView<'a>,
    /// Its body.
    pub body: &'a [u8],
}

/// One committed event with bytes of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveredEvent {
    /// As [`Delivered::offset`].
    pub offset: Offset,
    /// As [`Delivered::index`].
    pub index: LogIndex,
    /// As [`Delivered::topic`].
    pub topic: String,
    /// As [`Delivered::producer`].
    pub producer: String,
    /// As [`Delivered::sequence`].
    pub sequence: Sequence,
    /// As [`Delivered::timestamp_unix_ns`].
    pub timestamp_unix_ns: u64,
    /// As [`Delivered::priority`].
    pub priority: u8,
    /// As [`Delivered::attributes`].
    pub attributes: Vec<(String, Vec<u8>)>,
    /// As [`Delivered::body`].
    pub body: Vec<u8>,
}

impl Delivered<'_> {
    /// A copy that outlives the receive buffer.
    #[must_use]
    pub fn to_owned(&self) -> DeliveredEvent {
        DeliveredEvent {
            offset: self.offset,
            index: self.index,
            topic: self.topic.to_owned(),
            producer: self.producer.to_owned(),
            sequence: self.sequence,
            timestamp_unix_ns: self.timestamp_unix_ns,
            priority: self.priority,
            attributes: self
                .attributes
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_vec()))
                .collect(),
            body: self.body.to_vec(),
        }
    }
}

/// A filter on topics.
#[derive(Clone, Debug)]
struct Filter {
    text: String,
}

impl Filter {
    fn parse(text: String) -> Result<Self, ClientError> {
        let topic = text.strip_suffix('*').unwrap_or(&text);
        if topic.is_empty() || validate_topic(topic).is_ok() {
            Ok(Self { text })
        } else {
            Err(ClientError::BadFilter(text))
        }
    }

    fn text(&self) -> &str {
        &self.text
    }

    fn matches_all(&self) -> bool {
        self.text.is_empty() || self.text == "*"
    }

    fn matches(&self, topic: &str) -> bool {
        match self.text.strip_suffix('*') {
            Some(prefix) => topic.starts_with(prefix),
            None => self.text.is_empty() || self.text == topic,
        }
    }
}

/// Receives committed events in order.
///
/// It reads from one node at a time: the first of the list that answers. When that one is lost, or has delivered all it
/// had and known of no leader for a second, it goes on at the next (or the same, where only one is given), from
/// [`position`](Self::position), so nothing is left out or repeated.
/// Every entry's checksums are verified, and that offsets, and chained entries, continue each other.
///
/// Nothing happens outside of its calls; there is no thread. `Send`; one thread at a time drives it.
pub struct Subscriber {
    links: Links,
    feed: Feed,
    servers: usize,
    server: usize,
    /// How often the present server's connection had ended when it was chosen.
    endings: u32,
    connected_ns: u64,
    no_progress_timeout: Duration,
}

impl Subscriber {
    /// Connects to the first node that answers, and subscribes.
    ///
    /// # Errors
    /// A bad list or filter; another cluster; what was asked for is no longer kept; [`ClientError::NoNodeReachable`]
    /// after the no-progress timeout.
    pub fn open(options: ClientOptions, subscribe: SubscribeOptions) -> Result<Self, ClientError> {
        let filter = Filter::parse(subscribe.filter)?;
        let from = match subscribe.from {
            From::Earliest => SubscribeFrom::Earliest,
            From::Latest => SubscribeFrom::Latest,
            From::Offset(offset) => SubscribeFrom::Offset(offset),
        };
        let mut links = Links::new(&options, Purpose::Subscriber, INBOX_BYTES, false)?;
        links.dial_only(0);
        let feed = Feed::new(filter, from, subscribe.credit_bytes.max(64 << 10));
        let mut subscriber = Self {
            servers: options.servers.len(),
            server: 0,
            endings: links.endings(0),
            connected_ns: links.now_ns(),
            links,
            feed,
            no_progress_timeout: options.no_progress_timeout,
        };
        while subscriber.feed.position.is_none() {
            // The feed is paused: events that come with the answer stay for the first poll.
            subscriber.turn(options.no_progress_timeout, &mut |_| ControlFlow::Continue(()))?;
        }
        subscriber.feed.paused = false;
        subscriber.links.be_lenient();
        Ok(subscriber)
    }

    /// The next offset to be delivered: everything below was delivered, or does not match the filter.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.feed.position.unwrap_or(Offset(1))
    }

    /// How far the node has committed, as it told last: its commit index, and the offset of its last event.
    #[must_use]
    pub const fn progress(&self) -> (LogIndex, Offset) {
        self.feed.known
    }

    /// Interrupts [`poll`](Self::poll) from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.links.waker()
    }

    /// Hands events to `on_event`, in order, until it breaks off. Returns how many: as soon as there are some, or at
    /// the timeout, or early when woken, or when the position moved past events that do not match. After a break the
    /// next poll goes on with the next event.
    ///
    /// # Errors
    /// [`ClientError::Corrupt`] or [`ClientError::OffsetGap`]: the node's data is damaged; polling again goes on at
    /// the next node. [`ClientError::BelowFloor`]; [`ClientError::ReadFailed`] when no node of the list can read its
    /// log there; [`ClientError::NoNodeReachable`] without a connection for the no-progress timeout. Events that
    /// came before the error were handed out.
    pub fn poll(
        &mut self,
        timeout: Duration,
        mut on_event: impl FnMut(Delivered<'_>) -> ControlFlow<()>,
    ) -> Result<usize, ClientError> {
        let begun = Instant::now();
        let (mut count, mut stopped) = (0, false);
        let position = self.position();
        loop {
            let left = timeout.saturating_sub(begun.elapsed());
            self.turn(left, &mut |event| {
                count += 1;
                let flow = on_event(event);
                stopped |= flow.is_break();
                flow
            })?;
            let moved = self.position() != position;
            if self.links.take_woken() || moved || stopped || begun.elapsed() >= timeout {
                return Ok(count);
            }
        }
    }

    /// The next event as a copy, or `None` at the timeout or when woken. Simple; [`poll`](Self::poll) is cheaper.
    ///
    /// # Errors
    /// Those of [`poll`](Self::poll).
    pub fn next(&mut self, timeout: Duration) -> Result<Option<DeliveredEvent>, ClientError> {
        let begun = Instant::now();
        let mut found = None;
        loop {
            let position = self.position();
            self.poll(timeout.saturating_sub(begun.elapsed()), |event| {
                found = Some(event.to_owned());
                ControlFlow::Break(())
            })?;
            // A position that moved without an event passed others by that do not match.
            if found.is_some() || self.position() == position || begun.elapsed() >= timeout {
                return Ok(found);
            }
        }
    }

    /// Closes the connection.
    pub fn close(self) {
        drop(self);
    }

    fn turn(
        &mut self,
        timeout: Duration,
        on_event: &mut dyn FnMut(Delivered<'_>) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let patience_ns = self.connected_ns.saturating_add(ns(self.no_progress_timeout));
        let left = Duration::from_nanos(patience_ns.saturating_sub(self.links.now_ns()));
        let connected = self.feed.link.is_some_and(|link| self.links.is_live(link));
        let timeout = if connected { timeout } else { timeout.min(left) };
        let turned = self.links.turn(&mut Delivering { feed: &mut self.feed, on_event }, timeout);
        if self.servers > 1 {
            self.feed.leave_if_leaderless(&mut self.links);
        }
        self.next_server_if_lost();
        turned?;
        let now_ns = self.links.now_ns();
        if self.feed.link.is_some() && self.feed.position.is_some() {
            self.connected_ns = now_ns;
        } else if now_ns >= self.connected_ns.saturating_add(ns(self.no_progress_timeout)) {
            self.connected_ns = now_ns;
            let (servers, last) = (self.links.describe(), self.links.describe_failure());
            return Err(ClientError::NoNodeReachable { servers, waited: self.no_progress_timeout, last });
        }
        match self.feed.unable.1.take() {
            Some(error) if self.feed.unable.0 >= self.servers => Err(error),
            _ => Ok(()),
        }
    }

    fn next_server_if_lost(&mut self) {
        if self.links.endings(self.server) != self.endings {
            self.feed.link = None;
            self.server = (self.server + 1) % self.servers;
            self.endings = self.links.endings(self.server);
            self.links.dial_only(self.server);
        }
    }
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscriber('{}' at {})", self.feed.filter.text(), self.position())
    }
}
