//! Real clusters to be tormented: shared by the tools and by integration tests (`#[path = "../lab/mod.rs"] mod lab;`).
//!
//! - [`cluster`]: `tercet node` processes in a temporary directory; start, kill -9, freeze, stop, look, verify.
//! - [`proxy`]: a TCP proxy that fails on demand, on one thread, without privileges.
//! - [`network`]: such proxies between the nodes of a cluster and in front of them: cuts, one-way cuts, delays.
//! - [`namespaces`]: nodes on network hosts of their own, whose links go down; where the system allows it.
//! - [`load`]: an open-loop publisher on a thread of its own, with a history of its acknowledgements.
//! - [`hogs`]: busy threads beside it all.
//! - [`probe`]: how long the disk takes for a bystander.
//! - [`power`]: disks that lose power; where the system allows it.
//! - [`check`]: reads everything back and compares it with what was acknowledged.
//!
//! Nodes die with the *thread* that started them, so that nothing is left behind whatever ends the tool: start them
//! from the main thread, or from one that outlives the cluster.

#![allow(dead_code)] // Each user takes its own part.

pub mod check;
pub mod cluster;
pub mod error;
pub mod hogs;
pub mod interrupt;
pub mod load;
pub mod namespaces;
pub mod network;
#[path = "../../src/bin/tercet/pace.rs"]
pub mod pace;
pub mod ports;
pub mod power;
pub mod probe;
pub mod proxy;
