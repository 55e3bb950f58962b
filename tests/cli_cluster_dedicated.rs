//! The suite of `cli_cluster.rs` once more, with a thread for each agent.

#[path = "cli_cluster.rs"]
mod suite;
