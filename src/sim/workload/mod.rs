//! What clients do: publishers that retry until everything is acknowledged, a subscriber on every node that reads
//! everything, and an operator. They speak the client protocol over simulated streams and report facts; invariants judge them.

mod link;
mod operator;
mod publisher;
mod subscriber;

pub use operator::{Operator, OperatorCounts};
pub use publisher::{Publisher, PublisherPlan};
pub use subscriber::Subscriber;

use crate::base::checksum::{fold64, hash64};
use crate::base::ids::{LogIndex, NodeId, Offset, Sequence};
use crate::base::prng::Prng;
use crate::protocol::client::AckKind;

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
    hash64(hash64(sequence.0, producer.as_bytes()), body)
}
