//! `tercet node`.

use std::process::ExitCode;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tercet::config::{Settings, Sources};
use tercet::node::{Claim, RunningNode, StartReport};

use crate::args::{NodeOptions, RunOptions};
use crate::exit::{Failure, INTERRUPTED, Outcome};

/// How often signals and the threads' health are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The same while it starts.
const LOOK_STARTING: Duration = Duration::from_millis(1);

/// Settings from file, environment and flags.
pub fn settings(options: &NodeOptions) -> Result<Settings, Failure> {
    let data_dir = options.data_dir.as_ref().map(|dir| dir.display().to_string());
    let sources = Sources::of_process(Some(options.config.clone()))?
        .with_flag("--node-id", "node_id", options.node_id)
        .with_flag("--data-dir", "data_dir", data_dir);
    Ok(Settings::load(&sources)?)
}

/// The start-up lines.
fn tell(settings: &Settings, report: &StartReport) {
    if let Some(cut) = &report.cut {
        tracing::warn!("torn tail: {cut}");
    }
    let id = settings.node_id;
    match report.given_up {
        None => {}
        Some(Claim::Unknown) => tracing::warn!("node {id}: goes on without what it lost, as told"),
        Some(Claim::Torn(entry)) => {
            tracing::warn!(
                "node {id}: goes on without entry {entry}, which it may have acknowledged, as told"
            );
        }
    }
    match report.claim {
        None => {}
        Some(Claim::Unknown) => tracing::warn!(
            "node {id}: its machine went down without a clean stop, and in a cluster of durability 'memory' events that \
             this node acknowledged may be lost with it; it neither votes nor leads until it has caught up with a \
             leader; if so many nodes say this that no leader can be elected, start them with --accept-loss"
        ),
        Some(Claim::Torn(entry)) => tracing::warn!(
            "node {id}: its disk has the torn end of entry {entry}, which it may have acknowledged; it neither \
             campaigns nor votes for shorter logs until a leader, or what the others have, settles that; if no leader \
             can be elected since another node's disk is lost for good, or has lost just that entry (it is mending), \
             start this node with --accept-loss"
        ),
    }
    if report.is_mending {
        tracing::warn!("node {id}: mending before it takes part; it neither votes nor leads meanwhile");
    } else {
        let (last, committed) = (report.last_index, report.commit_hint);
        let mode = report.mode;
        tracing::info!("node {id}: last index {last}, committed at least {committed}, threads {mode:?}");
    }
}

/// Runs a node until a signal or a failure ends it.
pub fn run(options: &RunOptions) -> Outcome {
    if options.die_with_parent {
        let signal = Some(rustix::process::Signal::KILL);
        rustix::process::set_parent_process_death_signal(signal).map_err(std::io::Error::from)?;
    }
    let settings = settings(&options.node)?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (mut node, report) = RunningNode::start_as_told(&settings, options.accept_loss)?;
    tell(&settings, &report);
    let mut is_told = false;
    while signals.pending().next().is_none() && !node.is_ending() {
        if let Some(report) = node.go_on()? {
            tell(&settings, &report);
            is_told = false;
        }
        if !is_told && node.is_ready() {
            crate::output::note("node is ready");
            is_told = true;
        }
        std::thread::sleep(if is_told { LOOK } else { LOOK_STARTING });
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
