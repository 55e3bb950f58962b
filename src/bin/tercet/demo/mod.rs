//! `tercet demo`: the main job in one command, with proofs.
//!
//! Three node processes in a temporary directory; the bundled earthquakes published and read back from each node;
//! published again; an open-loop load during which the leader is killed and started again; then everything is compared:
//! the nodes' logs with each other, and each node's events with what was acknowledged.

mod load;
mod proof;
mod report;
mod steps;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::report::Report;
use self::steps::Demo;
use crate::args::DemoOptions;
use crate::exit::{CORRUPT, Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output;

/// Time to stop nodes and clean up after a signal.
const GRACE: Duration = Duration::from_secs(8);

/// Runs every step.
pub fn run(options: &DemoOptions) -> Outcome {
    let begun = Instant::now();
    let interrupt = Interrupt::install(GRACE)?;
    let dir = tempfile::Builder::new().prefix("tercet-demo-").disable_cleanup(options.keep).tempdir()?;
    if options.keep {
        crate::output::note(format_args!("everything stays in {}", dir.path().display()));
    }
    let mut report = Report::default();
    Demo::start(dir.path(), options.load, &interrupt, &mut report).and_then(Demo::run)?;

    let elapsed = begun.elapsed();
    report.number("elapsed_s", elapsed.as_secs_f64());
    if options.keep {
        report.number("kept", dir.path().display().to_string());
    }
    if options.json {
        output::print_json(&report.to_json())?;
    } else {
        crate::output::say(report.to_text(elapsed))?;
    }
    let broken = report.broken();
    if broken.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::new(CORRUPT, format!("these proofs do not hold: {}", broken.join(", "))))
    }
}
