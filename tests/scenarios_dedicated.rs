//! The scenarios of `scenarios.rs` once more, with a thread for each agent.

#[path = "scenarios.rs"]
mod suite;
