//! `tercet-chaos`: a real cluster, writers and readers, a seeded schedule of faults, and a checker over the history.
//!
//! The seed gives the faults, their targets' choice and their lengths; the moments in the nodes' own work at which they
//! strike differ from run to run.

#[path = "../lab/mod.rs"]
mod lab;

mod checker;
mod faults;
mod readers;
mod watcher;

use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use tercet::base::prng::Prng;
use tercet::base::units::parse_duration_ns;
use tercet::client::ClientError;
use tercet::config::ThreadingMode;
use tercet::entry::Durability;

use self::checker::{Checked, Record};
use self::faults::Injector;
use self::lab::cluster::{Cluster, PATIENCE, Plan, find_tercet};
use self::lab::error::{LabError, LabResult};
use self::lab::interrupt::Interrupt;
use self::lab::load::{Load, LoadPlan};
use self::readers::Reader;
use self::watcher::Watcher;

const NODES: u16 = 3;

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

/// Bugs built in on purpose, to see that they are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Bug {
    AckBeforeFlush,
    VoteNotPersisted,
}

impl Bug {
    /// The file that switches it on; see `src/log/faults.rs`.
    const fn file(self) -> &'static str {
        match self {
            Self::AckBeforeFlush => "ack_before_flush",
            Self::VoteNotPersisted => "vote_not_persisted",
        }
    }
}

/// Torments a real cluster and checks what it promised.
#[derive(Parser, Debug)]
#[command(name = "tercet-chaos", version)]
struct Args {
    /// For how long faults are injected
    #[arg(long, default_value = "60s", value_parser = duration)]
    duration: Duration,
    /// Seed of the schedule; the run prints it
    #[arg(long)]
    seed: Option<u64>,
    /// Writers, each a producer of its own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    writers: u16,
    /// Readers of everything
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    readers: u16,
    /// Events a second of each writer
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Bytes of each event
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    size: u32,
    /// What an acknowledgement means
    #[arg(long, default_value = "disk")]
    durability: DurabilityArgument,
    /// How the nodes lay agents onto threads
    #[arg(long, default_value = "auto")]
    threads: ThreadsArgument,
    /// Switches a planted bug on in every node, to see it found; needs a build with `--features faults`
    #[arg(long)]
    plant: Option<Bug>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration_ns(text).map(Duration::from_nanos).map_err(|error| error.to_string())?;
    if duration >= Duration::from_secs(1) { Ok(duration) } else { Err("give 1s or more".to_owned()) }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tercet-chaos: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// A cluster, and whoever works with it.
struct Stage {
    cluster: Cluster,
    loads: Vec<Load>,
    readers: Vec<Reader>,
    watcher: Watcher,
}

fn run(args: &Args) -> LabResult<ExitCode> {
    if args.plant.is_some() && !cfg!(feature = "faults") {
        let line = "--plant needs planted bugs; build with: cargo build --release --features faults";
        return Err(LabError::Environment(line.to_owned()));
    }
    let tercet = find_tercet()?;
    let interrupt = Interrupt::install()?;
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    eprintln!("seed {seed}");
    let mut stage = set_up(args, tercet, &interrupt)?;
    let mut injector = Injector::new(Prng::new(seed));
    let begun = Instant::now();
    let tormented = injector.torment(&mut stage.cluster, &stage.loads, args.duration, &interrupt);
    let tormented = tormented.and_then(|()| injector.heal(&mut stage.cluster));
    if let Err(error) = tormented {
        // A node that is gone explains why the others wait; its log says more.
        let error = stage.cluster.check_alive().err().unwrap_or_else(|| judged(error));
        let kept = stage.cluster.keep();
        fs::write(kept.join("faults.txt"), injector.diary.join("\n"))?;
        eprintln!("tercet-chaos: files are kept in {}", kept.display());
        return Err(error);
    }
    let elapsed = begun.elapsed();
    let (mut cluster, record) = match gather(stage, &interrupt) {
        Ok(gathered) => gathered,
        Err((error, kept)) => {
            eprintln!("tercet-chaos: files are kept in {}", kept.display());
            return Err(error);
        }
    };
    let checked = checker::check(&mut cluster, &record, args.size as usize, &interrupt)?;
    show(args, seed, elapsed, &injector, &record, &checked);
    if checked.violations.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let kept = cluster.keep();
    checker::write_history(&kept, &record, &checked)?;
    fs::write(kept.join("faults.txt"), injector.diary.join("\n"))?;
    eprintln!(
        "tercet-chaos: {} violations; the history is kept in {}",
        checked.violations.len(),
        kept.display()
    );
    Ok(ExitCode::from(4))
}

fn set_up(args: &Args, tercet: PathBuf, interrupt: &Interrupt) -> LabResult<Stage> {
    let plan = Plan {
        nodes: NODES,
        durability: match args.durability {
            DurabilityArgument::Disk => Durability::Disk,
            DurabilityArgument::Memory => Durability::Memory,
        },
        threads: match args.threads {
            ThreadsArgument::Auto => ThreadingMode::Auto,
            ThreadsArgument::Shared => ThreadingMode::Shared,
            ThreadsArgument::Dedicated => ThreadingMode::Dedicated,
        },
        proxied: true,
        ..Plan::new(tercet)
    };
    let cluster = Cluster::start(&plan, interrupt)?;
    if let Some(bug) = args.plant {
        cluster.nodes.iter().try_for_each(|node| node.order_fault(bug.file(), Some("")))?;
    }
    let servers = cluster.servers();
    let direct = cluster.nodes.iter().map(|node| node.direct).collect();
    let watcher = Watcher::start(direct)?;
    let loads = (0..args.writers).map(|writer| {
        Load::start(LoadPlan {
            servers: servers.clone(),
            producer: checker::writer_name(writer),
            topic: "chaos".to_owned(),
            rate: f64::from(args.rate),
            size: args.size as usize,
        })
    });
    let loads = loads.collect::<LabResult<Vec<Load>>>()?;
    let readers = (0..args.readers).map(|reader| {
        // Each begins at another node.
        let mut servers = servers.clone();
        let first = usize::from(reader) % servers.len();
        servers.rotate_left(first);
        Reader::start(servers, args.size as usize)
    });
    let readers = readers.collect::<LabResult<Vec<Reader>>>()?;
    Ok(Stage { cluster, loads, readers, watcher })
}

/// What no fault may bring about, whatever a client makes of it: a producer that was opened a moment ago cannot have
/// expired; writers send again from the first event that is not acknowledged, so a cluster that expects an earlier one
/// has lost an acknowledged event; and a node that gives readers damaged data or a gap has lost something too.
fn judged(error: LabError) -> LabError {
    let LabError::Client(error) = error else { return error };
    match error {
        ClientError::IdentityExpired { .. } => {
            LabError::Violation(format!("an acknowledged opening of a producer is lost: {error}"))
        }
        ClientError::SequenceGap { .. } => {
            LabError::Violation(format!("acknowledged events of a producer are lost: {error}"))
        }
        ClientError::Corrupt { .. } | ClientError::OffsetGap { .. } => {
            LabError::Violation(format!("a reader is given what cannot be the log: {error}"))
        }
        error => LabError::Client(error),
    }
}

/// Ends all work and collects what everybody has seen. On an error the cluster's files are kept.
fn gather(stage: Stage, interrupt: &Interrupt) -> Result<(Cluster, Record), (LabError, PathBuf)> {
    let Stage { mut cluster, loads, readers, watcher } = stage;
    let collect = || {
        cluster.caught_up(PATIENCE)?;
        let mut record = Record::default();
        for load in loads {
            record.writers.push(load.finish(PATIENCE)?);
        }
        record.statuses = cluster.settled(PATIENCE)?;
        let end = record.statuses[0].last_offset;
        for reader in readers {
            record.readers.push(reader.finish(end, PATIENCE, interrupt)?);
        }
        record.leaders = watcher.finish();
        Ok(record)
    };
    match collect() {
        Ok(record) => Ok((cluster, record)),
        Err(error) => Err((cluster.check_alive().err().unwrap_or_else(|| judged(error)), cluster.keep())),
    }
}

fn show(args: &Args, seed: u64, elapsed: Duration, injector: &Injector, record: &Record, checked: &Checked) {
    let faults: u64 = injector.counts.values().sum();
    let terms = record.leaders.keys().next_back().copied().unwrap_or(0);
    if args.json {
        let counts: Value =
            injector.counts.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
        let object = json!({
            "seed": seed,
            "elapsed_s": elapsed.as_secs_f64(),
            "faults": counts,
            "faults_injected": faults,
            "events_acknowledged": checked.acknowledged,
            "events_in_log": checked.events,
            "events_read": checked.events_read,
            "resent": checked.resent,
            "terms": terms,
            "terms_with_a_leader_seen": record.leaders.len(),
            "verify_exit_codes": checked.verify_exit_codes,
            "violations": checked.violations,
        });
        println!("{object}");
        return;
    }
    let mut text = format!("seed {seed}, {:.0} s, {faults} faults:\n", elapsed.as_secs_f64());
    for (name, count) in &injector.counts {
        let _ = writeln!(text, "  {name:<18}{count:>6}");
    }
    let _ = writeln!(
        text,
        "checked: {} acknowledged events ({} sent again) on each of {NODES} nodes, {} events by {} readers, {} terms",
        checked.acknowledged,
        checked.resent,
        checked.events_read,
        record.readers.len(),
        terms
    );
    let _ = writeln!(
        text,
        "log verify: {:?}; violations: {}",
        checked.verify_exit_codes,
        checked.violations.len()
    );
    for violation in &checked.violations {
        let _ = writeln!(text, "  {violation}");
    }
    print!("{text}");
}
