//! The log on disk: recovery's decision table row by row, crashes at every step, random torture, and the ordinary ways
//! of writer and reader.

#![allow(clippy::unwrap_used)]

#[path = "log/checkpoints.rs"]
mod checkpoints;
#[path = "log/fixture.rs"]
mod fixture;
#[path = "log/mend.rs"]
mod mend;
#[path = "log/pitfalls.rs"]
mod pitfalls;
#[path = "log/store.rs"]
mod store;
#[path = "log/table.rs"]
mod table;
#[path = "log/torture.rs"]
mod torture;
