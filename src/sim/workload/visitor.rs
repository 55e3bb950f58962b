//! A visitor of one node: subscriptions of all kinds on one connection, which it closes soon, often while the node still
//! reads its log for one of them, to come back with others.

use super::link::Link;
use super::{Beginning, Delivered, Fact, event_hash};
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{NodeId, Offset};
use crate::base::prng::Prng;
use crate::entry::EntryView;
use crate::protocol::client::{
    ClientHelloReply, ClientMessage, Entries, Purpose, ServerMessage, Subscribe, SubscribeFrom,
    SubscriptionError, SubscriptionErrorCode,
};
use crate::sim::net::SimNet;
use crate::sim::node::client_address;
use crate::sim::report::Violation;
use crate::stream::TopicFilter;

const CREDIT_BYTES_MAX: u64 = 48 << 10;
/// The same numbers on every connection: what comes too late for one must not be taken for the next.
const FIRST_NUMBER: u32 = 7;
const SUBSCRIPTIONS_MAX: u64 = 4;
const FILTERS: [&str; 6] = ["", "quakes", "flights", "t/*", "t/a", "q*"];

enum Step {
    On,
    Subscribe,
    Leave,
    Wrong(String),
}

/// One subscription.
struct Visit {
    number: u32,
    reading: u64,
    from: SubscribeFrom,
    filter: &'static str,
    credit_bytes: u32,
    /// Credit that is used up and not yet given back.
    used_bytes: u32,
    /// What had come over this connection when it was asked for.
    heard: Offset,
    /// Zero: it has not begun.
    start: Offset,
    /// It has what it wants before this.
    next_offset: Offset,
}

/// The client.
pub struct Visitor {
    node: NodeId,
    net: SimNet,
    prng: Prng,
    link: Option<Link>,
    visits: Vec<Visit>,
    subscribed: u64,
    /// Newest event that has come over this connection, and over any.
    heard: Offset,
    furthest: Offset,
    deadline_ns: u64,
}

impl Visitor {
    /// One that has not come yet.
    #[must_use]
    pub fn new(node: NodeId, net: SimNet, prng: Prng) -> Self {
        Self {
            node,
            net,
            prng,
            link: None,
            visits: Vec::new(),
            subscribed: 0,
            heard: Offset::ZERO,
            furthest: Offset::ZERO,
            deadline_ns: 200 * NS_PER_MS,
        }
    }

    /// When it wants a turn by itself.
    #[must_use]
    pub const fn next_due_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// One turn.
    ///
    /// # Errors
    /// The node sent what is no entry, no message, or nothing that was asked for.
    pub fn turn(&mut self, now_ns: u64, facts: &mut Vec<Fact>) -> Result<(), Violation> {
        let is_due = now_ns >= self.deadline_ns;
        if self.link.is_none() {
            if is_due {
                self.come(now_ns);
            }
            return Ok(());
        }
        let mut leave = !self.link.as_mut().is_some_and(Link::pump);
        while let Some(mut link) = self.link.take() {
            let step = link.next(|message| self.take(&message, facts));
            self.link = Some(link);
            match step {
                Ok(Some(Step::On)) => {}
                Ok(Some(Step::Subscribe)) => {
                    for _ in 0..self.prng.between(1, 3) {
                        self.subscribe();
                    }
                }
                Ok(Some(Step::Leave)) => leave = true,
                Ok(Some(Step::Wrong(what))) | Err(what) => {
                    return Err(Violation::new("nodes speak the protocol", what));
                }
                Ok(None) => break,
            }
        }
        if leave || is_due {
            self.link = None;
            self.deadline_ns = now_ns + self.prng.below(3) * self.prng.below(20 * NS_PER_MS);
            return Ok(());
        }
        // Behind what came over this connection: 'latest' must not come before it.
        if self.heard > Offset::ZERO && self.prng.chance(20_000) {
            self.subscribe();
        }
        self.give_credit();
        if let Some(link) = &mut self.link {
            link.pump();
        }
        Ok(())
    }

    fn come(&mut self, now_ns: u64) {
        self.visits.clear();
        self.heard = Offset::ZERO;
        self.link = Link::dial(&mut self.net, client_address(self.node), Purpose::Subscriber);
        let most_ns = [20, 100, 600][self.prng.below(3) as usize] * NS_PER_MS;
        self.deadline_ns = now_ns + self.prng.between(NS_PER_MS, most_ns);
    }

    fn subscribe(&mut self) {
        if self.visits.len() as u64 >= SUBSCRIPTIONS_MAX {
            return;
        }
        let from = match self.prng.below(4) {
            0 => SubscribeFrom::Latest,
            1 => SubscribeFrom::Earliest,
            _ => SubscribeFrom::Offset(Offset(1 + self.prng.below(self.furthest.0 + 20))),
        };
        // A number that an ended subscription has had may come again.
        let free = |number: &u32| self.visits.iter().all(|visit| visit.number != *number);
        let number = (FIRST_NUMBER..).find(free).unwrap_or(FIRST_NUMBER);
        self.subscribed += 1;
        let visit = Visit {
            number,
            reading: (u64::from(self.node.0) << 40) | self.subscribed,
            from,
            filter: FILTERS[self.prng.below(FILTERS.len() as u64) as usize],
            credit_bytes: self.prng.between(1 << 10, CREDIT_BYTES_MAX) as u32,
            used_bytes: 0,
            heard: self.heard,
            start: Offset::ZERO,
            next_offset: Offset::ZERO,
        };
        let wish =
            Subscribe { subscription: number, from, credit_bytes: visit.credit_bytes, filter: visit.filter };
        if let Some(link) = &mut self.link {
            link.send(&ClientMessage::Subscribe(wish));
        }
        self.visits.push(visit);
    }

    fn give_credit(&mut self) {
        let Some(link) = &mut self.link else { return };
        for visit in &mut self.visits {
            if visit.used_bytes > visit.credit_bytes / 2 {
                let bytes = std::mem::take(&mut visit.used_bytes);
                link.send(&ClientMessage::SubscribeCredit { subscription: visit.number, bytes });
            }
        }
    }

    fn take(&mut self, message: &ServerMessage<'_>, facts: &mut Vec<Fact>) -> Step {
        let taken = match message {
            ServerMessage::HelloReply(ClientHelloReply::Accept(_)) => return Step::Subscribe,
            ServerMessage::HelloReply(ClientHelloReply::Refuse { .. }) | ServerMessage::Goodbye { .. } => {
                return Step::Leave;
            }
            ServerMessage::SubscriptionError(error) => self.ended(error),
            ServerMessage::Subscribed { subscription, start_offset, last_offset, .. } => {
                self.began(*subscription, *start_offset, *last_offset, facts)
            }
            ServerMessage::Entries(entries) => self.take_entries(entries, facts),
            ServerMessage::Progress { subscription, last_offset, .. } => {
                self.visit(*subscription).map(|visit| {
                    visit.next_offset = visit.next_offset.max(last_offset.next());
                    facts.push(Fact::LookedThrough { reading: visit.reading, offset: *last_offset });
                })
            }
            _ => Ok(()),
        };
        taken.map_or_else(Step::Wrong, |()| Step::On)
    }

    fn visit(&mut self, number: u32) -> Result<&mut Visit, String> {
        let found = self.visits.iter_mut().find(|visit| visit.number == number);
        found.ok_or_else(|| format!("node {} speaks of subscription {number}, which is not there", self.node))
    }

    fn ended(&mut self, error: &SubscriptionError<'_>) -> Result<(), String> {
        let visit = self.visit(error.subscription)?;
        let next_offset = match visit.from {
            SubscribeFrom::Offset(offset) => visit.next_offset.max(offset),
            _ => visit.next_offset,
        };
        let may_be = match error.code {
            SubscriptionErrorCode::BelowFloor { first_offset } => {
                next_offset > Offset::ZERO && first_offset > next_offset
            }
            SubscriptionErrorCode::ReadFailed | SubscriptionErrorCode::Draining => true,
            _ => false,
        };
        let number = error.subscription;
        self.visits.retain(|visit| visit.number != number);
        if may_be { Ok(()) } else { Err(format!("{error:?} at {next_offset}")) }
    }

    fn began(
        &mut self,
        number: u32,
        start: Offset,
        last_offset: Offset,
        facts: &mut Vec<Fact>,
    ) -> Result<(), String> {
        let visit = self.visit(number)?;
        (visit.start, visit.next_offset) = (start, start);
        let Visit { reading, from, filter, heard, .. } = *visit;
        facts.push(Fact::Began(Beginning { reading, from, filter, start, last_offset, heard }));
        Ok(())
    }

    fn take_entries(&mut self, entries: &Entries<'_>, facts: &mut Vec<Fact>) -> Result<(), String> {
        self.visit(entries.subscription)?.used_bytes += entries.bytes.len() as u32;
        for entry in entries.iter() {
            let entry = entry.map_err(|error| error.to_string())?;
            if entry.header().index > entries.commit_index {
                return Err(format!(
                    "entry {} in a frame as of {}",
                    entry.header().index,
                    entries.commit_index
                ));
            }
            self.take_entry(entries.subscription, &entry, facts)?;
        }
        Ok(())
    }

    fn take_entry(
        &mut self,
        number: u32,
        entry: &EntryView<'_>,
        facts: &mut Vec<Fact>,
    ) -> Result<(), String> {
        let node = self.node;
        let header = entry.header();
        let visit = self.visit(number)?;
        // The first batch may begin before what was asked for: entries are never cut. No other may.
        if header.base_offset < visit.next_offset && visit.next_offset != visit.start {
            return Err(format!(
                "node {node} sends {} where {} is due",
                header.base_offset, visit.next_offset
            ));
        }
        let filter = if visit.filter.is_empty() { "*" } else { visit.filter };
        let filter = TopicFilter::parse(filter).map_err(|error| error.to_string())?;
        let events = entry.events().map_err(|error| error.to_string())?;
        for (offset, event) in &events {
            let producer = events.producers().get(event.producer_slot).ok_or("an event without producer")?;
            let hash = event_hash(producer.name, event.sequence, event.body);
            facts.push(Fact::Delivered(Delivered {
                node,
                index: header.index,
                offset,
                expected: offset,
                hash,
            }));
            if offset >= visit.start && filter.matches(event.topic) {
                facts.push(Fact::Got { reading: visit.reading, offset });
            }
        }
        let last_offset = header.next_offset().prev();
        visit.next_offset = visit.next_offset.max(last_offset.next());
        facts.push(Fact::LookedThrough { reading: visit.reading, offset: last_offset });
        self.heard = self.heard.max(last_offset);
        self.furthest = self.furthest.max(last_offset);
        Ok(())
    }
}
