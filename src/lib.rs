//! Tercet: a replicated, durable event log for people who count microseconds.
//!
//! Three nodes (or one, or five), one log, one binary, no async runtime. Events arrive from clients, gather into
//! batches, are replicated by Raft, made durable on a quorum, acknowledged exactly once, and read from any node.
//!
//! The rooms stand on floors; a lower floor never imports a higher one, and rooms of one floor do not import each
//! other unless `tests/walls.rs` says so. See `docs/CODE_STRUCTURE.md`.

pub mod base;

pub mod entry;
pub mod metrics;
pub mod net;
pub mod raft;
pub mod stream;

pub mod log;
pub mod protocol;

pub mod agent;

pub mod runtime;

pub mod client;
pub mod config;
pub mod node;

#[doc(hidden)]
pub mod sim;
