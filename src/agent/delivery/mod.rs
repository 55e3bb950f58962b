//! Delivery: subscribers. It keeps a window of the newest committed entries (shared buffers, no copy) and asks the
//! reader for everything older, so a subscriber that reads far behind delays no publisher and no other subscriber.
//!
//! Nothing uncommitted can reach a subscriber: entries come from the batcher after their commit, and reads of the log
//! are bounded by the published commit index (PITFALLS 29).

mod subscription;
mod window;

use std::collections::BTreeMap;

use super::Agent;
use super::commands::{ColdReadReply, ColdReadRequest, NewClient};
use super::connection::Connection;
use super::reception::{Credits, Reception, Welcome};
use super::rings::{DeliveryNotice, DeliveryRings};
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{GroupId, LogIndex, NodeId, Offset, Term};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::base::net::{Net, NetStream, Readiness, Token};
use crate::log::ReadError;
use crate::metrics::{Counter, Counters};
use crate::protocol::client::{
    ClientMessage, CommitAnswer, GoodbyeReason, RequestErrorCode, ServerMessage, Subscribe, SubscribeFrom,
    SubscriptionError, SubscriptionErrorCode,
};
use crate::protocol::frame::split_frame;
use crate::stream::TopicFilter;

use self::subscription::{Pumped, Subscription, pump};
use self::window::Window;

const BELOW_FLOOR: &str = "retention has removed what comes next for this subscription";

/// Bounds of delivery.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// Bytes of committed entries kept in memory for subscribers that are nearly at the end.
    pub window_bytes_limit: usize,
    /// Subscriptions on one connection.
    pub subscriptions_limit: usize,
    /// Bytes that may wait for one subscriber's socket before nothing more is queued for it.
    pub outbox_bytes_limit: usize,
    /// Entry bytes in one frame (or one entry that is larger).
    pub frame_bytes_limit: usize,
    /// Bytes asked of the reader at once.
    pub cold_read_bytes: usize,
    /// Reads of the log under way or waiting to be sent, over all subscribers; bounds their memory.
    pub cold_reads_limit: usize,
    /// Bytes read from one subscriber in one turn.
    pub read_budget: usize,
}

impl Default for DeliveryLimits {
    fn default() -> Self {
        Self {
            window_bytes_limit: 8 << 20,
            subscriptions_limit: 16,
            outbox_bytes_limit: 256 << 10,
            frame_bytes_limit: 256 << 10,
            cold_read_bytes: 256 << 10,
            cold_reads_limit: 16,
            read_budget: 64 << 10,
        }
    }
}

/// Counters that only delivery writes.
#[derive(Debug)]
struct DeliveryCounters {
    // Subscriptions begun.
    subscriptions: Counter,
    // Entries queued for subscribers.
    entries_delivered: Counter,
    // Reads of the log for subscribers that were behind the window.
    cold_reads: Counter,
    // Subscribers closed for what they sent.
    subscribers_refused: Counter,
}

impl DeliveryCounters {
    fn new(counters: &Counters) -> Self {
        Self {
            subscriptions: counters.register("delivery_subscriptions"),
            entries_delivered: counters.register("delivery_entries_delivered"),
            cold_reads: counters.register("delivery_cold_reads"),
            subscribers_refused: counters.register("delivery_subscribers_refused"),
        }
    }
}

struct Subscriber<S> {
    connection: Connection<S>,
    subscriptions: Vec<Subscription>,
    closing: bool,
}

/// The agent.
pub struct Delivery<N: Net> {
    net: N,
    reception: Reception,
    limits: DeliveryLimits,
    rings: DeliveryRings<N::Stream>,
    subscribers: Vec<Option<Subscriber<N::Stream>>>,
    free: Vec<u32>,
    window: Window,
    /// Outstanding cold reads: key to place and subscription.
    reads: BTreeMap<u64, (u32, u32)>,
    next_key: u64,
    seen_commit: u64,
    deadline_ns: Option<u64>,
    /// A bounded read or a full outbox left something behind for which no event will come: serve again at once.
    again: bool,
    counters: DeliveryCounters,
}

impl<N: Net> Agent for Delivery<N> {
    fn name(&self) -> &'static str {
        "delivery"
    }

    fn do_work(&mut self, now_ns: u64, readiness: &[Readiness]) -> usize {
        let mut work = self.take_subscribers();
        work += self.take_notices();
        let cold = self.take_cold_reads();
        for event in readiness {
            if let Some(subscriber) =
                self.subscribers.get_mut(event.token.0 as usize).and_then(Option::as_mut)
            {
                subscriber.connection.note(event);
            }
        }
        let commit = self.rings.commit_tail.commit_index();
        let timer = self.deadline_ns.is_some_and(|at| at <= now_ns);
        let again = std::mem::take(&mut self.again);
        if work + cold + readiness.len() == 0 && commit == self.seen_commit && !timer && !again {
            return 0;
        }
        self.seen_commit = commit;
        self.deadline_ns = None;
        for slot in 0..self.subscribers.len() {
            work += self.serve(slot as u32, now_ns);
        }
        work + cold
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.deadline_ns
    }
}

impl<N: Net> Delivery<N> {
    /// An agent without subscribers.
    pub fn new(
        net: N,
        welcome: Welcome,
        limits: DeliveryLimits,
        rings: DeliveryRings<N::Stream>,
        counters: &Counters,
    ) -> Self {
        Self {
            net,
            reception: Reception::new(welcome, Credits::default()),
            window: Window::new(limits.window_bytes_limit),
            limits,
            rings,
            subscribers: Vec::new(),
            free: Vec::new(),
            reads: BTreeMap::new(),
            next_key: 1,
            seen_commit: 0,
            deadline_ns: None,
            again: false,
            counters: DeliveryCounters::new(counters),
        }
    }

    fn take_subscribers(&mut self) -> usize {
        let mut work = 0;
        while let Some(new) = self.rings.from_conductor.pop() {
            work += 1;
            self.accept(new);
        }
        work
    }

    fn accept(&mut self, new: NewClient<N::Stream>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.subscribers.push(None);
            (self.subscribers.len() - 1) as u32
        });
        let Some(connection) = self.reception.admit(&mut self.net, Token(slot), new) else {
            self.free.push(slot);
            self.rings.gauge.leave();
            return;
        };
        self.subscribers[slot as usize] =
            Some(Subscriber { connection, subscriptions: Vec::new(), closing: false });
    }

    fn take_notices(&mut self) -> usize {
        let mut work = 0;
        // Bounded by the ring's capacity; each costs a pointer.
        while let Some(notice) = self.rings.from_batcher.pop() {
            work += 1;
            match notice {
                DeliveryNotice::Committed(entry) => self.window.push(entry),
                DeliveryNotice::Leadership { term, leader } => self.spread_news(term, leader),
            }
        }
        work
    }

    fn spread_news(&mut self, term: Term, leader: Option<NodeId>) {
        let Some(news) = self.reception.learn(term, leader) else { return };
        for subscriber in self.subscribers.iter_mut().flatten() {
            subscriber.connection.outbox.push_bytes(&news);
        }
    }

    fn take_cold_reads(&mut self) -> usize {
        let mut work = 0;
        while let Some(reply) = self.rings.from_reader.pop() {
            work += 1;
            self.take_cold_read(reply);
        }
        work
    }

    fn take_cold_read(&mut self, reply: ColdReadReply) {
        let Some((slot, id)) = self.reads.remove(&reply.key) else { return };
        let Some(subscriber) = self.subscribers[slot as usize].as_mut() else { return };
        let Some(place) =
            subscriber.subscriptions.iter().position(|s| s.id == id && s.cold == Some(reply.key))
        else {
            return;
        };
        let group = self.reception.group();
        match reply.entries {
            Ok(entries) => {
                let subscription = &mut subscriber.subscriptions[place];
                subscription.cold = None;
                subscription.fetched = entries.into();
            }
            Err(ReadError::Gone { .. }) => {
                // The log's beginning has moved past it meanwhile; the next turn says so.
                subscriber.subscriptions[place].cold = None;
                self.again = true;
            }
            Err(error) => {
                tracing::error!("a subscriber's read of this node's log failed: {error}");
                let code = SubscriptionErrorCode::ReadFailed;
                let text = "its storage reports damage or an error there";
                let error = SubscriptionError { subscription: id, code, text };
                subscriber
                    .connection
                    .outbox
                    .push_with(|out| ServerMessage::SubscriptionError(error).encode(group, out));
                subscriber.subscriptions.swap_remove(place);
            }
        }
    }

    /// One subscriber's turn: read, handle frames, queue entries, write.
    fn serve(&mut self, slot: u32, now_ns: u64) -> usize {
        let Some(mut subscriber) = self.subscribers[slot as usize].take() else { return 0 };
        let mut work = 0;
        let mut over = false;
        let room = self.limits.outbox_bytes_limit;
        match subscriber.connection.read(self.limits.read_budget) {
            Ok(result) => {
                work += result.bytes;
                over |= result.closed;
            }
            Err(_) => over = true,
        }
        if !subscriber.closing
            && let Err(reason) = self.handle_frames(&mut subscriber)
        {
            self.refuse(&mut subscriber, &reason);
        }
        if !subscriber.closing {
            work += self.feed(slot, &mut subscriber, now_ns);
        }
        let was_full = subscriber.connection.outbox.len_bytes() >= room;
        match subscriber.connection.write() {
            Ok(bytes) => work += bytes,
            Err(_) => over = true,
        }
        // A refused subscriber gets its goodbye if its socket takes it now, and no more of this node's time.
        if over || subscriber.closing || self.is_too_slow(&subscriber) {
            self.close(slot, subscriber);
            return 1;
        }
        // The socket took everything at once: it will not say that it is writable, since it never ceased to be.
        let has_room = subscriber.connection.outbox.len_bytes() < room;
        self.again |= has_room && (subscriber.connection.readable || was_full);
        self.subscribers[slot as usize] = Some(subscriber);
        usize::from(work > 0)
    }

    /// Answers and news that it does not take have no bound but this one; entries stop at the outbox' limit by
    /// themselves.
    fn is_too_slow(&self, subscriber: &Subscriber<N::Stream>) -> bool {
        subscriber.connection.outbox.len_bytes()
            > self.limits.outbox_bytes_limit + FRAME_BYTES_MAX + (1 << 20)
    }

    fn refuse(&mut self, subscriber: &mut Subscriber<N::Stream>, reason: &str) {
        self.counters.subscribers_refused.increment();
        tracing::warn!("closing subscriber {}: {reason}", subscriber.connection.stream.peer_label());
        let goodbye = ServerMessage::Goodbye { reason: GoodbyeReason::ProtocolViolation, text: reason };
        let group = self.reception.group();
        subscriber.connection.outbox.push_with(|out| goodbye.encode(group, out));
        subscriber.closing = true;
    }

    fn close(&mut self, slot: u32, mut subscriber: Subscriber<N::Stream>) {
        let _ = self.net.deregister(&mut subscriber.connection.stream);
        subscriber.connection.stream.shutdown();
        self.free.push(slot);
        self.rings.gauge.leave();
    }

    fn handle_frames(&mut self, subscriber: &mut Subscriber<N::Stream>) -> Result<(), String> {
        // Bounded by what one turn reads; and nobody is answered who does not take answers.
        while subscriber.connection.outbox.len_bytes() < self.limits.outbox_bytes_limit
            && subscriber
                .connection
                .whole_frame_bytes(FRAME_BYTES_MAX)
                .map_err(|error| error.to_string())?
                .is_some()
        {
            let unread = subscriber.connection.inbox.unread();
            let Some((frame, consumed)) = split_frame(unread).map_err(|error| error.to_string())? else {
                break;
            };
            let message = ClientMessage::decode(frame).map_err(|error| error.to_string())?;
            let answer = match message {
                ClientMessage::Ping { request_id } => Some(ServerMessage::Pong { request_id }),
                ClientMessage::CommitQuery { request_id, leader_required: false } => {
                    let answer = CommitAnswer::Committed {
                        commit_index: LogIndex(self.rings.commit_tail.commit_index()),
                        last_offset: Offset(self.rings.commit_tail.last_offset()),
                        from_leader: false,
                    };
                    Some(ServerMessage::CommitReply { request_id, answer })
                }
                ClientMessage::CommitQuery { request_id, .. } | ClientMessage::StatusQuery { request_id } => {
                    let code = RequestErrorCode::WrongPurpose;
                    let text = "ask on a connection opened for control";
                    Some(ServerMessage::RequestError { request_id, code, text })
                }
                ClientMessage::SubscribeCredit { subscription, bytes } => {
                    if let Some(found) = subscriber.subscriptions.iter_mut().find(|s| s.id == subscription) {
                        found.credit_bytes = found.credit_bytes.saturating_add(i64::from(bytes));
                    }
                    None
                }
                ClientMessage::Subscribe(wish) => Some(self.subscribe(&mut subscriber.subscriptions, &wish)),
                _ => return Err("a message that does not go with the purpose of this connection".to_owned()),
            };
            if let Some(answer) = answer {
                let mut bytes = Vec::new();
                answer.encode(self.reception.group(), &mut bytes);
                subscriber.connection.outbox.push_with(|out| out.extend_from_slice(&bytes));
            }
            subscriber.connection.inbox.consume(consumed);
        }
        Ok(())
    }

    fn subscribe<'a>(
        &self,
        subscriptions: &mut Vec<Subscription>,
        wish: &Subscribe<'a>,
    ) -> ServerMessage<'a> {
        let id = wish.subscription;
        let refuse =
            |code, text| ServerMessage::SubscriptionError(SubscriptionError { subscription: id, code, text });
        if subscriptions.iter().any(|s| s.id == id) {
            return refuse(
                SubscriptionErrorCode::DuplicateSubscription,
                "this number is in use on this connection",
            );
        }
        if subscriptions.len() >= self.limits.subscriptions_limit {
            return refuse(SubscriptionErrorCode::TooManySubscriptions, "open another connection");
        }
        let filter = if wish.filter.is_empty() { "*" } else { wish.filter };
        let Ok(filter) = TopicFilter::parse(filter) else {
            return refuse(
                SubscriptionErrorCode::BadFilter,
                "a filter is a topic, or a prefix ending in '*'",
            );
        };
        let commit_index = self.rings.commit_tail.commit_index();
        let last_offset = Offset(self.rings.commit_tail.last_offset());
        let start_offset = match wish.from {
            SubscribeFrom::Earliest => self.floor(),
            SubscribeFrom::Latest => last_offset.next(),
            SubscribeFrom::Offset(offset) => offset.max(Offset(1)),
        };
        if start_offset < self.floor() {
            let first_offset = self.floor();
            return refuse(SubscriptionErrorCode::BelowFloor { first_offset }, BELOW_FLOOR);
        }
        self.counters.subscriptions.increment();
        subscriptions.push(Subscription::new(id, start_offset, filter, i64::from(wish.credit_bytes)));
        ServerMessage::Subscribed {
            subscription: id,
            start_offset,
            commit_index: LogIndex(commit_index),
            last_offset,
        }
    }

    /// Where the log begins.
    fn floor(&self) -> Offset {
        Offset(self.rings.commit_tail.floor_offset()).max(Offset(1))
    }

    /// Ends subscriptions that the log's beginning has overtaken: what they would be sent next is gone.
    fn end_overtaken(&mut self, subscriber: &mut Subscriber<N::Stream>) {
        let (first_offset, group) = (self.floor(), self.reception.group());
        subscriber.subscriptions.retain(|subscription| {
            if subscription.next_offset() >= first_offset {
                return true;
            }
            let code = SubscriptionErrorCode::BelowFloor { first_offset };
            let error = SubscriptionError { subscription: subscription.id, code, text: BELOW_FLOOR };
            subscriber
                .connection
                .outbox
                .push_with(|out| ServerMessage::SubscriptionError(error).encode(group, out));
            false
        });
    }

    fn wake_by(&mut self, at_ns: u64) {
        self.deadline_ns = Some(self.deadline_ns.map_or(at_ns, |earlier| earlier.min(at_ns)));
    }

    /// Queues what each subscription may have, and asks the reader for what is not in memory.
    fn feed(&mut self, slot: u32, subscriber: &mut Subscriber<N::Stream>, now_ns: u64) -> usize {
        let mut work = 0;
        self.end_overtaken(subscriber);
        let group: GroupId = self.reception.group();
        // The index first: an offset read later is at least as new, and only bounds what is claimed as looked through.
        let commit = LogIndex(self.rings.commit_tail.commit_index());
        let last_offset = Offset(self.rings.commit_tail.last_offset());
        let readable = LogIndex(self.rings.commit_tail.readable_index());
        let readable_offset = Offset(self.rings.commit_tail.readable_offset());
        for subscription in &mut subscriber.subscriptions {
            let room = self.limits.outbox_bytes_limit;
            let outbox = &mut subscriber.connection.outbox;
            let target = subscription::Target { commit, last_offset, group, now_ns };
            match pump(subscription, &self.window, outbox, room, self.limits.frame_bytes_limit, &target) {
                Pumped::Idle { delivered, wake_ns } => {
                    self.counters.entries_delivered.add(delivered);
                    work += usize::from(delivered > 0);
                    if let Some(wake_ns) = wake_ns {
                        self.wake_by(wake_ns);
                    }
                }
                Pumped::Cold { delivered } if subscription.next_offset() > readable_offset => {
                    self.counters.entries_delivered.add(delivered);
                    work += usize::from(delivered > 0);
                    // Committed elsewhere, not in this node's files yet; nobody tells when.
                    self.wake_by(now_ns + NS_PER_MS);
                }
                Pumped::Cold { delivered } if self.reads.len() >= self.limits.cold_reads_limit => {
                    self.counters.entries_delivered.add(delivered);
                    work += usize::from(delivered > 0);
                    self.wake_by(now_ns + NS_PER_MS);
                }
                Pumped::Cold { delivered } => {
                    self.counters.entries_delivered.add(delivered);
                    let key = self.next_key;
                    let request = ColdReadRequest {
                        key,
                        offset: subscription.next_offset(),
                        upto: readable,
                        bytes_max: self.limits.cold_read_bytes,
                    };
                    if self.rings.to_reader.push(request).is_ok() {
                        self.next_key += 1;
                        subscription.cold = Some(key);
                        self.reads.insert(key, (slot, subscription.id));
                        self.counters.cold_reads.increment();
                    } else {
                        self.wake_by(now_ns + NS_PER_MS);
                    }
                    work += 1;
                }
            }
            if outbox.len_bytes() >= room {
                // Whoever does not read holds no memory of this node's; what is dropped is read again.
                subscription.fetched.clear();
            }
        }
        work
    }
}
