//! `tercet format`.

use std::process::ExitCode;

use crate::args::NodeOptions;
use crate::exit::Outcome;

/// Writes a node's identity.
pub fn run(options: &NodeOptions) -> Outcome {
    let settings = crate::node::settings(options)?;
    let formatted = tercet::node::format(&settings)?;
    crate::output::say(format_args!(
        "formatted {} for node {} of cluster {} (incarnation {})\n",
        formatted.data_dir.display(),
        formatted.node_id,
        formatted.cluster_id,
        formatted.incarnation
    ))?;
    Ok(ExitCode::SUCCESS)
}
