//! A subscriber of one node: reads everything from the first offset on, resumes where it was, and now and then starts
//! over, which makes the node read its log.

use super::link::Link;
use super::{Delivered, Fact, event_hash};
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{NodeId, Offset};
use crate::base::prng::Prng;
use crate::entry::EntryView;
use crate::protocol::client::{
    ClientHelloReply, ClientMessage, Purpose, ServerMessage, Subscribe, SubscribeFrom, SubscriptionError,
    SubscriptionErrorCode,
};
use crate::sim::net::SimNet;
use crate::sim::node::client_address;
use crate::sim::report::Violation;

const CREDIT_BYTES: u32 = 48 << 10;
const SUBSCRIPTION: u32 = 7;

enum Step {
    On,
    Subscribe,
    Leave,
    Wrong(String),
}

/// The client.
pub struct Subscriber {
    node: NodeId,
    net: SimNet,
    prng: Prng,
    link: Option<Link>,
    next_offset: Offset,
    /// Credit that is used up and not yet given back.
    used_bytes: u32,
    deadline_ns: u64,
    restless: bool,
}

impl Subscriber {
    /// A subscriber of `node` that has read nothing.
    #[must_use]
    pub fn new(node: NodeId, net: SimNet, prng: Prng) -> Self {
        Self {
            node,
            net,
            prng,
            link: None,
            next_offset: Offset(1),
            used_bytes: 0,
            deadline_ns: 0,
            restless: true,
        }
    }

    /// When it wants a turn by itself.
    #[must_use]
    pub const fn next_due_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// The first offset it has not read.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// From now on it only leaves when it must.
    pub fn settle_down(&mut self) {
        self.restless = false;
    }

    /// One turn.
    ///
    /// # Errors
    /// The node sent what is no entry, or no message.
    pub fn turn(&mut self, now_ns: u64, facts: &mut Vec<Fact>) -> Result<(), Violation> {
        if self.link.is_none() {
            if now_ns >= self.deadline_ns {
                self.link = Link::dial(&mut self.net, client_address(self.node), Purpose::Subscriber);
                self.deadline_ns = now_ns + self.prng.between(200 * NS_PER_MS, 3000 * NS_PER_MS);
            }
            return Ok(());
        }
        let open = self.link.as_mut().is_some_and(Link::pump);
        let mut leave = !open;
        while let Some(mut link) = self.link.take() {
            let step = link.next(|message| self.take(&message, facts));
            self.link = Some(link);
            match step {
                Ok(Some(Step::On)) => {}
                Ok(Some(Step::Subscribe)) => self.subscribe(),
                Ok(Some(Step::Leave)) => leave = true,
                Ok(Some(Step::Wrong(what))) | Err(what) => {
                    return Err(Violation::new("nodes speak the protocol", what));
                }
                Ok(None) => break,
            }
        }
        self.give_credit();
        if now_ns >= self.deadline_ns {
            // Silence may also be a stream that will never speak again: begin anew now and then.
            self.deadline_ns = now_ns + self.prng.between(200 * NS_PER_MS, 3000 * NS_PER_MS);
            leave |= self.restless || self.prng.chance(500_000);
        }
        if leave {
            self.link = None;
            self.deadline_ns = now_ns + self.prng.between(NS_PER_MS, 50 * NS_PER_MS);
            if self.restless && self.prng.chance(150_000) {
                self.next_offset = Offset(1);
            }
        } else if let Some(link) = &mut self.link {
            link.pump();
        }
        Ok(())
    }

    fn subscribe(&mut self) {
        self.used_bytes = 0;
        let from = SubscribeFrom::Offset(self.next_offset);
        let wish = Subscribe { subscription: SUBSCRIPTION, from, credit_bytes: CREDIT_BYTES, filter: "" };
        if let Some(link) = &mut self.link {
            link.send(&ClientMessage::Subscribe(wish));
        }
    }

    fn give_credit(&mut self) {
        if self.used_bytes > CREDIT_BYTES / 2
            && let Some(link) = &mut self.link
        {
            let bytes = std::mem::take(&mut self.used_bytes);
            link.send(&ClientMessage::SubscribeCredit { subscription: SUBSCRIPTION, bytes });
        }
    }

    fn take(&mut self, message: &ServerMessage<'_>, facts: &mut Vec<Fact>) -> Step {
        match message {
            ServerMessage::HelloReply(ClientHelloReply::Accept(_)) => Step::Subscribe,
            ServerMessage::HelloReply(ClientHelloReply::Refuse { .. })
            | ServerMessage::Goodbye { .. }
            | ServerMessage::SubscriptionError(SubscriptionError {
                code:
                    SubscriptionErrorCode::BadFilter
                    | SubscriptionErrorCode::DuplicateSubscription
                    | SubscriptionErrorCode::UnknownSubscription
                    | SubscriptionErrorCode::TooManySubscriptions
                    | SubscriptionErrorCode::ReadFailed
                    | SubscriptionErrorCode::Draining,
                ..
            }) => Step::Leave,
            ServerMessage::SubscriptionError(SubscriptionError {
                code: SubscriptionErrorCode::BelowFloor { first_offset },
                ..
            }) => {
                facts.push(Fact::Overtaken { asked: self.next_offset, first: *first_offset });
                self.next_offset = *first_offset;
                Step::Leave
            }
            ServerMessage::Subscribed { start_offset, .. } if *start_offset != self.next_offset => {
                Step::Wrong(format!("asked for {}, subscribed from {start_offset}", self.next_offset))
            }
            ServerMessage::Entries(entries) => {
                self.used_bytes += entries.bytes.len() as u32;
                for entry in entries.iter() {
                    let taken = match entry {
                        Ok(entry) => self.take_entry(&entry, facts),
                        Err(error) => Err(error.to_string()),
                    };
                    if let Err(what) = taken {
                        return Step::Wrong(what);
                    }
                }
                Step::On
            }
            _ => Step::On,
        }
    }

    fn take_entry(&mut self, entry: &EntryView<'_>, facts: &mut Vec<Fact>) -> Result<(), String> {
        let events = entry.events().map_err(|error| error.to_string())?;
        for (offset, event) in &events {
            // The first batch may begin before what was asked for: entries are never cut.
            if offset < self.next_offset {
                continue;
            }
            let producer = events.producers().get(event.producer_slot).ok_or("an event without producer")?;
            facts.push(Fact::Delivered(Delivered {
                node: self.node,
                index: entry.header().index,
                offset,
                expected: self.next_offset,
                hash: event_hash(producer.name, event.sequence, event.body),
            }));
            self.next_offset = offset.next();
        }
        Ok(())
    }
}
