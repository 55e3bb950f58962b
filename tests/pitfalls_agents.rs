//! Pitfalls that lie between the core and the disk, the clients or the peers: one batcher or one log writer, its rings
//! held by the test, so that every report can be late, stale or missing.

#![allow(clippy::unwrap_used)]

#[path = "pitfalls/ack_receiver.rs"]
mod ack_receiver;
#[path = "pitfalls/batcher.rs"]
mod batcher;
#[path = "pitfalls/bench.rs"]
mod bench;
#[path = "pitfalls/delivery.rs"]
mod delivery;
#[path = "pitfalls/log_writer.rs"]
mod log_writer;
#[path = "pitfalls/members.rs"]
mod members;
#[path = "pitfalls/mending.rs"]
mod mending;
#[path = "pitfalls/peer_sender.rs"]
mod peer_sender;
#[path = "pitfalls/pipe.rs"]
mod pipe;
#[path = "pitfalls/reads.rs"]
mod reads;
