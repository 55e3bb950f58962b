//! `tercet transfer`.

use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;
use tercet::base::ids::NodeId;
use tercet::client::transfer_leadership;

use crate::args::TransferOptions;
use crate::connect;
use crate::exit::Outcome;
use crate::output;

/// Moves leadership, and says so once the cluster does.
pub fn run(options: &TransferOptions) -> Outcome {
    let servers = connect::servers(&options.servers)?;
    let begun = Instant::now();
    let moved = transfer_leadership(&servers, NodeId(options.to), options.timeout)?;
    if options.json {
        let elapsed_ms = (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        output::print_json(&json!({
            "leader_id": moved.leader.0,
            "term": moved.term.0,
            "elapsed_ms": elapsed_ms,
        }))?;
    } else {
        output::say(format_args!("node {} leads now (term {})\n", moved.leader, moved.term))?;
    }
    Ok(ExitCode::SUCCESS)
}
