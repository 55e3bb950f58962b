//! `tercet-failover`: how long a client waits when the leader dies, freezes or is cut off, over many rounds.
//!
//! Each round: all nodes caught up under an open-loop load; at a random moment the leader is hit; the outage is the
//! largest time from when an event was due to its acknowledgement; the leader comes back and catches up. At the end
//! every event is read back from every node, and every file is verified.
//!
//! The kind `stall` is the counter-check: the flushes of a random node take longer for a while, and nobody may be
//! elected.

#[path = "../lab/mod.rs"]
mod lab;

mod campaign;
#[cfg(test)]
#[path = "../lab/tests.rs"]
mod lab_tests;
mod report;

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tercet::base::units::{parse_duration_ns, parse_size_bytes};
use tercet::config::ThreadingMode;
use tercet::entry::Durability;

use self::campaign::Campaign;
use self::lab::cluster::find_tercet;
use self::lab::error::{LabError, LabResult};
use self::lab::hogs::Hogs;
use self::lab::interrupt::Interrupt;

/// What happens to the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// kill -9, then a new start.
    Kill,
    /// SIGSTOP, then SIGCONT.
    Freeze,
    /// A black hole on the network, towards peers and clients; then it heals.
    Cut,
    /// SIGTERM: it hands over and ends; then a new start.
    Term,
    /// Flushes of any one node take 100 ms longer for a while; no election may come of it (feature `faults`).
    Stall,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Cut => "cut",
            Self::Term => "term",
            Self::Stall => "stall",
        }
    }

    /// Is whom it hits replaced? Otherwise every election is one that nothing caused.
    const fn is_fatal(self) -> bool {
        !matches!(self, Self::Stall)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum DurabilityArgument {
    Disk,
    Memory,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum ThreadsArgument {
    Auto,
    Shared,
    Dedicated,
}

/// Measures failover as a client sees it: K failures of the leader under an open-loop load.
#[derive(Parser, Debug)]
#[command(name = "tercet-failover", version)]
struct Args {
    /// What happens to the leader
    #[arg(long)]
    kind: Kind,
    /// How many failures
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// As many as fit into this time (1s to 7d), instead of --rounds
    #[arg(long, value_parser = run_length, conflicts_with = "rounds")]
    duration: Option<Duration>,
    /// Busy threads beside it all, pinned to one core after the other
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    hogs: u16,
    /// Events a second
    #[arg(long, default_value_t = 1_000.0, value_parser = rate)]
    rate: f64,
    /// Nodes; a majority must survive one failure
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=7))]
    nodes: u16,
    /// Bytes of each event
    #[arg(long, default_value = "512", value_parser = size)]
    size: usize,
    /// What an acknowledgement means
    #[arg(long, default_value = "disk")]
    durability: DurabilityArgument,
    /// How the nodes lay agents onto threads
    #[arg(long, default_value = "auto")]
    threads: ThreadsArgument,
    /// Between two heartbeats of a leader; the nodes' default if not given
    #[arg(long, value_parser = heartbeat)]
    heartbeat_interval: Option<Duration>,
    /// Writes and syncs a file of its own beside the cluster's, to show what the device does to everybody
    #[arg(long)]
    probe: bool,
    /// Seed of the random moments; the run prints it
    #[arg(long)]
    seed: Option<u64>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "give a number".to_owned())?;
    if (1.0..=1_000_000.0).contains(&rate) { Ok(rate) } else { Err("give 1 to 1000000".to_owned()) }
}

fn size(text: &str) -> Result<usize, String> {
    let bytes = parse_size_bytes(text).map_err(|error| error.to_string())?;
    if bytes <= 1 << 20 { Ok(bytes as usize) } else { Err("an event has at most 1MiB".to_owned()) }
}

fn duration(text: &str, bounds: RangeInclusive<Duration>, said: &str) -> Result<Duration, String> {
    let duration = parse_duration_ns(text).map(Duration::from_nanos).map_err(|error| error.to_string())?;
    if bounds.contains(&duration) { Ok(duration) } else { Err(format!("give {said}")) }
}

fn run_length(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(1)..=Duration::from_secs(7 * 86_400), "1s to 7d")
}

/// As the nodes' settings bound it.
fn heartbeat(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(1)..=Duration::from_secs(60), "1ms to 1m")
}

impl Args {
    const fn durability(&self) -> Durability {
        match self.durability {
            DurabilityArgument::Disk => Durability::Disk,
            DurabilityArgument::Memory => Durability::Memory,
        }
    }

    const fn threads(&self) -> ThreadingMode {
        match self.threads {
            ThreadsArgument::Auto => ThreadingMode::Auto,
            ThreadsArgument::Shared => ThreadingMode::Shared,
            ThreadsArgument::Dedicated => ThreadingMode::Dedicated,
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tercet-failover: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(args: &Args) -> LabResult<ExitCode> {
    if args.kind == Kind::Stall && !cfg!(feature = "faults") {
        let line = "stalls need another build: cargo build --release --features faults";
        return Err(LabError::Environment(line.to_owned()));
    }
    let tercet = find_tercet()?;
    let interrupt = Interrupt::install()?;
    let _hogs = Hogs::start(args.hogs)?;
    let (report, ended) = Campaign::new(args, tercet, &interrupt).run();
    // What was measured until then is shown whatever ended it.
    if report.rounds.is_empty() && ended.is_err() {
        return ended.map(|()| ExitCode::SUCCESS);
    }
    if args.json {
        println!("{}", report.to_json());
    } else {
        print!("{}", report.to_text());
    }
    for kept in &report.kept {
        eprintln!("tercet-failover: files are kept in {}", kept.display());
    }
    let broken = report.violations();
    if !broken.is_empty() {
        eprintln!("tercet-failover: violated: {}", broken.join(", "));
        return Ok(ExitCode::from(4));
    }
    ended?;
    // Where leaders are hit on purpose, a busy machine may cost an election more; here none is right.
    if !args.kind.is_fatal() && report.elections_uncaused > 0 {
        eprintln!("tercet-failover: {} election(s) that nothing caused", report.elections_uncaused);
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
