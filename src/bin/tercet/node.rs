//! `tercet node`.

use std::process::ExitCode;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tercet::config::{Settings, Sources};
use tercet::node::RunningNode;

use crate::args::NodeOptions;
use crate::exit::{Failure, INTERRUPTED, Outcome};

/// How often signals and the threads' health are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Settings from file, environment and flags.
pub fn settings(options: &NodeOptions) -> Result<Settings, Failure> {
    let data_dir = options.data_dir.as_ref().map(|dir| dir.display().to_string());
    let sources = Sources::of_process(Some(options.config.clone()))?
        .with_flag("--node-id", "node_id", options.node_id)
        .with_flag("--data-dir", "data_dir", data_dir);
    Ok(Settings::load(&sources)?)
}

/// Runs a node until a signal or a failure ends it.
pub fn run(options: &NodeOptions) -> Outcome {
    if options.die_with_parent {
        let signal = Some(rustix::process::Signal::KILL);
        rustix::process::set_parent_process_death_signal(signal).map_err(std::io::Error::from)?;
    }
    let settings = settings(options)?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (node, report) = RunningNode::start(&settings)?;
    if let Some(cut) = &report.cut {
        tracing::warn!("torn tail: {cut}");
    }
    tracing::info!(
        "node {}: last index {}, committed at least {}, threads {:?}",
        settings.node_id,
        report.last_index,
        report.commit_hint,
        report.mode
    );
    while !node.is_ready() && !node.is_ending() {
        std::thread::sleep(Duration::from_millis(1));
    }
    if !node.is_ending() {
        crate::output::note("node is ready");
    }
    loop {
        if signals.pending().next().is_some() || node.is_ending() {
            break;
        }
        std::thread::sleep(LOOK);
    }
    // A second signal does not wait for the drain.
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            crate::output::note("tercet: interrupted again; leaving without waiting for what is in flight");
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
    match node.shut_down() {
        None => Ok(ExitCode::SUCCESS),
        Some(fatal) => Err(Failure::new(fatal.exit_code() as u8, fatal.line())),
    }
}
