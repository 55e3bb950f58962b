//! Publishing: one producer, pipelined on credits, at the leader wherever it is.

mod answers;
mod core;
mod outbox;
#[cfg(test)]
mod tests_outbox;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::core::Core;
use super::error::ClientError;
use super::links::{Links, Waker, ns};
use super::options::{ClientOptions, Event};
use crate::base::ids::{Epoch, Offset, ProducerId, Sequence};
use crate::entry::{Durability, EventParts, validate_producer_name};
use crate::protocol::client::{AckKind, Purpose};

/// Default and largest sensible window: what a node's default credit allows.
const WINDOW_EVENTS: usize = 16_384;
/// Bytes of events that may wait for their acknowledgement, or one event more.
const WINDOW_BYTES: usize = 8 << 20;
/// Runs of acknowledgements that may wait to be taken.
const ACKS_HELD_MAX: usize = 1 << 18;
const INBOX_BYTES: usize = 64 << 10;

/// A run of acknowledged events: sequences count up by one, and so do offsets where they are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// Sequence of the first event.
    pub first_sequence: Sequence,
    /// How many events; at least one.
    pub count: u32,
    /// Offset of the first; [`Offset::ZERO`]: already written, offset no longer remembered.
    pub first_offset: Offset,
    /// Written by this publish, or known to the cluster before: in the cluster's words.
    pub kind: AckKind,
    /// What a quorum has reached for these events.
    pub durability: Durability,
    /// This publisher itself had sent each of them more than once (after a change of leader or a lost connection),
    /// so a duplicate may be one of its own.
    pub resent: bool,
}

impl Ack {
    /// Sequence of the last event.
    #[must_use]
    pub const fn last_sequence(&self) -> Sequence {
        self.first_sequence.plus(self.count as u64 - 1)
    }

    /// Each event's sequence and offset (zero where it is unknown).
    pub fn iter(&self) -> impl Iterator<Item = (Sequence, Offset)> + use<> {
        let (sequence, offset) = (self.first_sequence, self.first_offset);
        (0..u64::from(self.count)).map(move |n| {
            let offset = if offset == Offset::ZERO { offset } else { offset.plus(n) };
            (sequence.plus(n), offset)
        })
    }
}

/// Publishes the events of one producer.
///
/// It keeps a connection to every node that it knows of (from the list and from the nodes' own), publishes to the
/// leader, hears of a new one from all of them, and sends whatever is not acknowledged there again, in order and
/// under the same identities, so that nothing is lost, doubled or reordered. After an error of the caller (a topic, a
/// size) it goes on; an error that ends it (fenced, expired, a gap) is given again by every later call.
///
/// Order of calls: [`open`](Self::open); then [`try_publish`](Self::try_publish) and [`poll`](Self::poll) by turns
/// (pipelined), or [`publish_and_wait`](Self::publish_and_wait) (simple); at the end [`drain`](Self::drain). Nothing
/// happens outside of these calls: there is no thread. `Send`; one thread at a time drives it, and
/// [`waker`](Self::waker) lets others interrupt a poll. Memory: up to about twice the window's bytes (8 MiB).
pub struct Publisher {
    links: Links,
    core: Core,
    window: usize,
    no_progress_timeout: Duration,
}

impl Publisher {
    /// Finds the leader and opens the producer, which fences every earlier opening of its name. Waits for at most
    /// [`ClientOptions::no_progress_timeout`].
    ///
    /// # Errors
    /// A bad name or list; another cluster; [`ClientError::NoNodeReachable`], [`ClientError::NoLeader`] or
    /// [`ClientError::NoProgress`] in time; too many producers.
    pub fn open(options: ClientOptions, producer_name: &str) -> Result<Self, ClientError> {
        validate_producer_name(producer_name)
            .map_err(|error| ClientError::BadProducerName(format!("'{producer_name}': {error}")))?;
        let links = Links::new(&options, Purpose::Publisher, INBOX_BYTES, true)?;
        let core = Core::new(&options, producer_name);
        let mut publisher =
            Self { links, core, window: WINDOW_EVENTS, no_progress_timeout: options.no_progress_timeout };
        publisher.wait_until_open()?;
        Ok(publisher)
    }

    fn wait_until_open(&mut self) -> Result<(), ClientError> {
        let begun = Instant::now();
        while self.core.identity.is_none() {
            let left = self.no_progress_timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(self.core.stuck(&self.links, self.no_progress_timeout));
            }
            self.turn(left)?;
        }
        self.links.be_lenient();
        Ok(())
    }

    /// At most `events` (at least one) wait for their acknowledgement; 16,384 unless said otherwise. The nodes'
    /// credits and 8 MiB bound it besides.
    #[must_use]
    pub fn with_window(mut self, events: usize) -> Self {
        self.window = events.max(1);
        self
    }

    /// The producer's id, the same for a name for as long as the cluster remembers it; and the epoch of this opening.
    #[must_use]
    pub fn identity(&self) -> (ProducerId, Epoch) {
        self.core
            .identity
            .map_or((ProducerId::ZERO, Epoch(0)), |identity| (identity.producer_id, identity.epoch))
    }

    /// The sequence that the next event gets.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        self.core.outbox.next_sequence()
    }

    /// The sequence that the cluster expected when the producer was opened: 1 for a new one. Publishing begins there
    /// unless [`start_at`](Self::start_at) says otherwise.
    #[must_use]
    pub const fn expected_sequence(&self) -> Sequence {
        self.core.expected
    }

    /// Gives the next event this sequence (at least 1). A smaller one than expected: the events before it are known
    /// and acknowledged as duplicates. A larger one: a gap, which the cluster refuses.
    ///
    /// # Panics
    /// While events are outstanding.
    pub fn start_at(&mut self, sequence: Sequence) {
        let sequence = sequence.max(Sequence(1));
        self.core.outbox.start_at(sequence);
        self.core.began_at = sequence;
    }

    /// Events that were taken and are not acknowledged.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.core.outbox.len()
    }

    /// Whether [`try_publish`](Self::try_publish) would take an event now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.core.outbox.len() < self.window && self.core.outbox.len_bytes() < WINDOW_BYTES
    }

    /// Takes an event and gives its sequence; `None` when there is no room: poll first. Never waits. With nothing in
    /// flight it is sent at once, otherwise with the next poll or with others that make a full frame.
    ///
    /// # Errors
    /// Too large, or a bad topic, name or attribute: nothing was taken, go on. Or what ended this publisher.
    pub fn try_publish(&mut self, event: &Event<'_>) -> Result<Option<Sequence>, ClientError> {
        self.check_alive()?;
        if !self.has_room() {
            return Ok(None);
        }
        if self.core.acks.len() >= ACKS_HELD_MAX {
            return Err(ClientError::AcksNotTaken { held: self.core.acks.len() });
        }
        if self.core.outbox.is_empty() {
            self.core.progress_ns = self.links.now_ns();
        }
        let parts = EventParts {
            sequence: Sequence(1),
            timestamp_unix_ns: event.timestamp_unix_ns.unwrap_or_else(unix_ns),
            priority: event.priority,
            topic: event.topic,
            attributes: event.attributes,
            body: event.body,
        };
        let sequence = self.core.outbox.push(&parts, self.core.event_bytes_max)?;
        self.core.send_if_worthwhile(&mut self.links);
        Ok(Some(sequence))
    }

    /// As [`try_publish`](Self::try_publish), but waits for room. Acknowledgements that arrive meanwhile are handed
    /// out by the next poll.
    ///
    /// # Errors
    /// Those of [`try_publish`](Self::try_publish) and of [`poll`](Self::poll).
    pub fn publish(&mut self, event: &Event<'_>) -> Result<Sequence, ClientError> {
        loop {
            if let Some(sequence) = self.try_publish(event)? {
                return Ok(sequence);
            }
            self.turn_towards_progress(self.no_progress_timeout)?;
        }
    }

    /// Moves bytes both ways and hands out acknowledgements, in sequence order, each event once. Returns how many
    /// events they cover: as soon as there are some, or at the timeout, or early when woken. A zero timeout never
    /// waits; others end within some tens of microseconds, where the machine is not busy.
    ///
    /// # Errors
    /// [`ClientError::NoNodeReachable`], [`ClientError::NoLeader`] or [`ClientError::NoProgress`] when nothing was
    /// acknowledged for the no-progress timeout while events are outstanding (the next call waits as long again);
    /// or what ended this publisher. Acknowledgements that came before are handed out first.
    pub fn poll(&mut self, timeout: Duration, mut on_ack: impl FnMut(Ack)) -> Result<usize, ClientError> {
        let begun = Instant::now();
        loop {
            let left = timeout.saturating_sub(begun.elapsed());
            let wait = if self.core.acks.is_empty() { left } else { Duration::ZERO };
            let turned = self.check_alive().and_then(|()| self.turn_towards_progress(wait));
            let mut acknowledged = 0;
            for ack in self.core.acks.drain(..) {
                acknowledged += ack.count as usize;
                on_ack(ack);
            }
            turned?;
            if self.links.take_woken() || acknowledged > 0 || begun.elapsed() >= timeout {
                return Ok(acknowledged);
            }
        }
    }

    /// Polls until nothing is outstanding. Wakes do not end it.
    ///
    /// # Errors
    /// Those of [`poll`](Self::poll); [`ClientError::NoProgress`] when events are left at the timeout.
    pub fn drain(&mut self, timeout: Duration, mut on_ack: impl FnMut(Ack)) -> Result<(), ClientError> {
        let begun = Instant::now();
        loop {
            let left = timeout.saturating_sub(begun.elapsed());
            self.poll(if self.outstanding() == 0 { Duration::ZERO } else { left }, &mut on_ack)?;
            if self.outstanding() == 0 {
                return Ok(());
            }
            if begun.elapsed() >= timeout {
                return Err(ClientError::NoProgress { waiting: self.outstanding(), waited: timeout });
            }
        }
    }

    /// Publishes one event and waits for its acknowledgement. Those of earlier events are handed out by the next
    /// poll.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish). After one that says that nothing moves, the event is still on its way:
    /// its fate is told by a later poll.
    pub fn publish_and_wait(&mut self, event: &Event<'_>) -> Result<Ack, ClientError> {
        let sequence = self.publish(event)?;
        while self.core.outbox.first() <= sequence {
            self.check_alive()?;
            self.turn_towards_progress(self.no_progress_timeout)?;
        }
        // The newest event is the last one of the last run.
        let last = self.core.acks.back_mut().filter(|ack| ack.last_sequence() == sequence);
        let Some(last) = last else {
            return Err(ClientError::NoProgress { waiting: 0, waited: Duration::ZERO });
        };
        let whole = *last;
        let first_offset = match whole.first_offset {
            Offset::ZERO => Offset::ZERO,
            first => first.plus(u64::from(whole.count) - 1),
        };
        if whole.count == 1 {
            self.core.acks.pop_back();
        } else {
            last.count -= 1;
        }
        Ok(Ack { first_sequence: sequence, count: 1, first_offset, ..whole })
    }

    /// Interrupts [`poll`](Self::poll) from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.links.waker()
    }

    /// Closes all connections. What is outstanding is unknown, as after any loss of a connection; drain before.
    pub fn close(self) {
        drop(self);
    }

    fn check_alive(&self) -> Result<(), ClientError> {
        self.core.fatal.clone().map_or(Ok(()), Err)
    }

    fn turn(&mut self, timeout: Duration) -> Result<(), ClientError> {
        self.core.step(&mut self.links);
        self.links.turn(&mut self.core, timeout)?;
        self.core.step(&mut self.links);
        Ok(())
    }

    /// One turn that does not outlast the patience with a cluster that acknowledges nothing.
    fn turn_towards_progress(&mut self, timeout: Duration) -> Result<(), ClientError> {
        if self.core.outbox.is_empty() {
            return self.turn(timeout);
        }
        let deadline_ns = self.core.progress_ns.saturating_add(ns(self.no_progress_timeout));
        let left = Duration::from_nanos(deadline_ns.saturating_sub(self.links.now_ns()));
        self.turn(timeout.min(left))?;
        let now_ns = self.links.now_ns();
        let deadline_ns = self.core.progress_ns.saturating_add(ns(self.no_progress_timeout));
        if now_ns >= deadline_ns && !self.core.outbox.is_empty() {
            self.core.progress_ns = now_ns;
            return Err(self.core.stuck(&self.links, self.no_progress_timeout));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (producer_id, epoch) = self.identity();
        write!(
            f,
            "Publisher('{}' {producer_id:?}.{}, {} outstanding)",
            self.core.name,
            epoch.0,
            self.outstanding()
        )
    }
}

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, ns)
}
