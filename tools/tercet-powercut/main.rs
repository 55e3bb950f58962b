//! `tercet-powercut`: real nodes on real file systems whose power fails under full load, round after round; then
//! everything that was acknowledged must be there, at its offset, exactly once, on every node.
//!
//! kill -9 proves nothing about syncs, since the page cache survives it. Here each node's directory is an ext4 file
//! system of its own that is shut down without a flush of its journal: what was written and not synced is gone. Needs
//! root, loop devices and `mkfs.ext4`; leaves nothing behind.
//!
//! Exit codes: 0 nothing is violated; 4 something is; 2 this machine (or build) cannot do it, with the reason. With
//! `--durability memory --target all` lost events are counted and are no violation, for nothing else is promised there;
//! another order, an event that is there twice, and nodes that differ are.

#[path = "../lab/mod.rs"]
mod lab;

mod campaign;

use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use tercet::config::ThreadingMode;
use tercet::entry::Durability;

use self::campaign::{Campaign, Report, Target, Wish};
use self::lab::cluster::find_tercet;
use self::lab::error::{LabError, LabResult};
use self::lab::interrupt::Interrupt;
use self::lab::power::enter_private_mounts;

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum DurabilityArgument {
    Disk,
    Memory,
}

/// A bug that a build with the feature `faults` can be told to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum PlantArgument {
    /// Entries are acknowledged before they are flushed.
    AckBeforeFlush,
    /// Votes are not written.
    VoteNotPersisted,
}

/// Cuts the power of real nodes under load, and looks for everything that was acknowledged.
#[derive(Parser, Debug)]
#[command(name = "tercet-powercut", version)]
struct Args {
    /// Whose power fails
    #[arg(long)]
    target: Target,
    /// How often
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// What an acknowledgement means
    #[arg(long, default_value = "disk")]
    durability: DurabilityArgument,
    /// Events a second; the default is more than any machine takes, so that the cluster is always full
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Bytes of each event
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    size: u32,
    /// Seed of the random moments; the run prints it
    #[arg(long)]
    seed: Option<u64>,
    /// A bug to be found (a build with the feature `faults`)
    #[arg(long)]
    plant: Option<PlantArgument>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl Args {
    fn wish(&self) -> LabResult<Wish> {
        if self.plant.is_some() && !cfg!(feature = "faults") {
            let line = "planted bugs need another build: cargo build --release --features faults";
            return Err(LabError::Environment(line.to_owned()));
        }
        Ok(Wish {
            tercet: find_tercet()?,
            target: self.target,
            rounds: self.rounds,
            durability: match self.durability {
                DurabilityArgument::Disk => Durability::Disk,
                DurabilityArgument::Memory => Durability::Memory,
            },
            rate: f64::from(self.rate),
            size: self.size as usize,
            seed: self.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32),
            threads: ThreadingMode::Auto,
            disk_bytes: 1 << 30,
            plant: self.plant.map(|bug| match bug {
                PlantArgument::AckBeforeFlush => "ack_before_flush",
                PlantArgument::VoteNotPersisted => "vote_not_persisted",
            }),
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tercet-powercut: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// One JSON object.
fn to_json(report: &Report, wish: &Wish) -> Value {
    json!({
        "target": match wish.target { Target::All => "all", Target::Leader => "leader" },
        "durability": wish.durability.as_str(),
        "seed": wish.seed,
        "rounds": report.rounds,
        "clusters": report.clusters,
        "acknowledged": report.acknowledged,
        "resent": report.resent,
        "lost": report.lost,
        "rounds_with_loss": report.rounds_with_loss,
        "torn_tails": report.torn_tails,
        "rounds_without_third": report.rounds_without_third,
        "verify_exit_codes": report.verify_exit_codes,
        "violations": report.violations,
    })
}

fn run(args: &Args) -> LabResult<ExitCode> {
    let wish = args.wish()?;
    enter_private_mounts()?;
    let interrupt = Interrupt::install()?;
    let (report, ended) = Campaign::new(&wish, &interrupt).run();
    // What was seen until then is shown whatever ended it.
    if report.rounds == 0 && report.violations.is_empty() && ended.is_err() {
        return ended.map(|()| ExitCode::SUCCESS);
    }
    if args.json {
        println!("{}", to_json(&report, &wish));
    } else {
        print!("{}", report.to_text(&wish));
    }
    for kept in &report.kept {
        eprintln!("tercet-powercut: files are kept in {}", kept.display());
    }
    if !report.violations.is_empty() {
        return Ok(ExitCode::from(4));
    }
    ended.map(|()| ExitCode::SUCCESS)
}
