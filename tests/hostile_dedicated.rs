//! The suite of `hostile.rs` once more, with a thread for each agent.

#[path = "hostile.rs"]
mod suite;
