//! The client library: publish, subscribe, ask. No async runtime, no hidden threads: the caller drives.
//!
//! ```text
//!                Publisher ──▶ publisher/core (whom, what, again) ── publisher/outbox (unacknowledged events)
//!                Subscriber ─▶ subscriber/feed (position, checks)
//!  query_status, query_commit ─▶ query;  transfer_leadership ─▶ transfer
//!  MemberClient ─▶ members
//!                                  │ all of them
//!                                  ▼
//!                     links: one poll, a connection to each node, handshakes, redials, time limits
//! ```
//!
//! - [`Publisher`]: one producer, pipelined on credits; follows the leader, resends without doubling or reordering.
//! - [`Subscriber`]: committed events from an offset on, from any node, verified, resumed across connections.
//! - [`query_status`], [`query_status_all`], [`query_commit`]: questions.
//! - [`transfer_leadership`]: moves leadership to another node.
//! - [`MemberClient`]: who belongs to the cluster, and a new disk in a lost one's place.
//! - [`ClientError`]: one clear line each, and the exit code that goes with it.
//!
//! Everything is `Send`, nothing is shared; a [`Waker`] interrupts a poll from another thread. Names in lists of
//! servers are looked up by [`parse_servers`] before anything begins; names that nodes give for each other are looked
//! up when they are first heard, which may hold that call up (addresses, the usual case, are not looked up).

mod error;
mod leader;
mod links;
mod members;
mod options;
mod publisher;
mod query;
mod subscriber;
mod transfer;

pub use self::error::ClientError;
pub use self::links::Waker;
pub use self::members::{ClusterMembers, MemberClient, MemberState, MemberStep};
pub use self::options::{ClientOptions, Event, parse_servers};
pub use self::publisher::{Ack, Publisher};
pub use self::query::{
    CommitPosition, NodeStatus, StatusAnswer, query_commit, query_status, query_status_all,
};
pub use self::subscriber::{Delivered, DeliveredEvent, From, SubscribeOptions, Subscriber};
pub use self::transfer::{Transferred, transfer_leadership};
pub use crate::protocol::client::{AckKind, NodeRole, PeerState, PeerStatus};

#[cfg(test)]
mod tests;
