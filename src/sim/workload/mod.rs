//! What clients do: publishers that retry until everything is acknowledged, on every node a subscriber that reads
//! everything, a visitor with subscriptions of all kinds that comes and goes, and an inquirer that asks how far the log is
//! committed; and an operator. They speak the client protocol over simulated streams and report facts; invariants judge them.

mod inquirer;
mod link;
mod operator;
mod publisher;
mod subscriber;
mod visitor;

pub use inquirer::Inquirer;
pub use operator::{Operator, OperatorCounts};
pub use publisher::{Publisher, PublisherPlan};
pub use subscriber::Subscriber;
pub use visitor::Visitor;

use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use crate::base::checksum::fold64;
use crate::base::ids::{LogIndex, NodeId, Offset, Sequence};
use crate::base::prng::Prng;
use crate::protocol::client::{AckKind, SubscribeFrom};

/// What a client has learnt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact {
    /// An event is acknowledged.
    Acknowledged(Ack),
    /// An event came to a subscriber.
    Delivered(Delivered),
    /// The log begins behind what a subscriber wants next.
    Overtaken {
        /// What it wanted.
        asked: Offset,
        /// The first offset there is, as the node says.
        first: Offset,
    },
    /// A visitor's subscription stands.
    Began(Beginning),
    /// An event that a visitor's subscription wants came to it.
    Got {
        /// The subscription.
        reading: u64,
        /// Of the event.
        offset: Offset,
    },
    /// A node said that a visitor's subscription has all that it wants up to here.
    LookedThrough {
        /// The subscription.
        reading: u64,
        /// Up to this event.
        offset: Offset,
    },
    /// An inquirer sends a question.
    Asked {
        /// Its number.
        question: u64,
    },
    /// A leader has answered it.
    Answered {
        /// Its number.
        question: u64,
        /// Committed up to this event.
        last_offset: Offset,
    },
}

/// How a visitor's subscription began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beginning {
    /// A number that no other subscription has.
    pub reading: u64,
    /// What it was asked to begin with.
    pub from: SubscribeFrom,
    /// What it wants.
    pub filter: &'static str,
    /// With what it begins, as the node says.
    pub start: Offset,
    /// Up to where the log was committed then, as the node says.
    pub last_offset: Offset,
    /// What had come over this connection when it was asked for.
    pub heard: Offset,
}

/// One acknowledged event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// The publisher.
    pub producer: u16,
    /// Its number for the event.
    pub sequence: Sequence,
    /// Where it stands; zero: written already, offset unknown.
    pub offset: Offset,
    /// As the node put it.
    pub kind: AckKind,
}

/// One event as a subscriber got it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// The node that sent it.
    pub node: NodeId,
    /// Entry that holds it.
    pub index: LogIndex,
    /// Its offset.
    pub offset: Offset,
    /// The offset that the subscriber expected next.
    pub expected: Offset,
    /// Hash over producer, sequence and body.
    pub hash: u64,
}

/// Name of a publisher's producer.
#[must_use]
pub fn producer_name(producer: u16) -> String {
    format!("p{producer}")
}

/// All topics that there are.
const TOPICS: [&str; 4] = ["quakes", "flights", "t/a", "t/b"];

/// Topic of an event. Some producers stay with one for so long that whole batches are of no interest to whoever wants
/// another.
#[must_use]
pub fn topic_of(producer: u16, sequence: Sequence) -> &'static str {
    let stretch = [1, 5, 20, 80][usize::from(producer % 4)];
    TOPICS[(fold64(u64::from(producer), sequence.0 / stretch) % TOPICS.len() as u64) as usize]
}

/// Body of an event: follows from its identity, so nothing has to be remembered.
#[must_use]
pub fn body_of(producer: u16, sequence: Sequence) -> Vec<u8> {
    let mut prng = Prng::new(fold64(u64::from(producer), sequence.0));
    let length = match prng.below(20) {
        0 => 0,
        1 => prng.below(6000),
        _ => prng.below(200),
    };
    let mut body = vec![0; length as usize];
    prng.fill(&mut body);
    body
}

/// One number for an event's identity and contents.
#[must_use]
pub fn event_hash(producer: &str, sequence: Sequence, body: &[u8]) -> u64 {
    FixedState::with_seed(sequence.0).hash_one((producer, body))
}
