//! `tercet-sim`: simulated clusters under faults, seed after seed. Exit 4 on a violation, on a seed that does not repeat
//! itself (`--twice`), and where something that matters never happened.

mod totals;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use clap::Parser;
use tercet::sim::{Options, Report, run};
use totals::Totals;

/// Fewer seeds than this need not meet everything.
const COVERAGE_SEEDS: u64 = 500;
/// So that counting seeds never comes to an end of the numbers.
const SEEDS_MAX: u64 = u64::MAX / 4;

/// Simulates whole clusters under faults, one for each seed, and checks every invariant.
#[derive(Parser)]
#[command(name = "tercet-sim", version)]
struct Args {
    /// How many seeds. From 500 on, every fault and every rare state must occur.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=SEEDS_MAX))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=SEEDS_MAX))]
    seed: u64,
    /// Nodes of each cluster; drawn from the seed by default.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=7))]
    nodes: Option<u16>,
    /// Threads, each with a seed of its own [default: one for each core].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Runs each seed twice and compares all that it reports.
    #[arg(long)]
    twice: bool,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// A line for each seed on stderr.
    #[arg(long, short)]
    verbose: bool,
    /// What happens to each node, on stderr.
    #[arg(long)]
    narrate: bool,
}

impl Args {
    fn options(&self) -> Options {
        Options { nodes: self.nodes, narrate: self.narrate, ..Options::default() }
    }

    fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or(cores, usize::from).min(256)
    }

    fn must_cover(&self) -> bool {
        self.seeds >= COVERAGE_SEEDS && self.nodes.is_none()
    }
}

thread_local! {
    /// The seed at work, for the case that a panic ends the process.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// One seed's report, and whether the same came out again.
struct Outcome {
    report: Report,
    repeated: bool,
}

fn run_seed(seed: u64, args: &Args) -> Outcome {
    SEED.set(seed);
    let report = run(seed, args.options());
    let repeated = !args.twice || run(seed, args.options()) == report;
    Outcome { report, repeated }
}

/// Runs all seeds on the threads and hands their outcomes on in the order of the seeds.
fn run_all(args: &Args, mut take: impl FnMut(&Outcome)) {
    let end = args.seed.saturating_add(args.seeds);
    let next = AtomicU64::new(args.seed);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..args.threads() {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || sender.send((seed, run_seed(seed, args))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut early, mut due) = (BTreeMap::new(), args.seed);
        for (seed, outcome) in receiver {
            early.insert(seed, outcome);
            while let Some(outcome) = early.remove(&due) {
                take(&outcome);
                due += 1;
            }
        }
    });
}

fn main() -> ExitCode {
    let args = Args::parse();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        eprintln!("seed {} panicked; replay: tercet-sim --seeds 1 --seed {0}", SEED.get());
        if cfg!(panic = "abort") {
            std::process::exit(4);
        }
    }));
    let mut totals = Totals::default();
    run_all(&args, |Outcome { report, repeated }| {
        totals.add(report, *repeated);
        let seed = report.seed;
        if let Some(violation) = &report.violation {
            eprintln!("seed {seed}: {violation}\nreplay: tercet-sim --seeds 1 --seed {seed}");
        }
        if !repeated {
            eprintln!("seed {seed}: not the same twice\nreplay: tercet-sim --seeds 1 --seed {seed} --twice");
        }
        if args.verbose {
            eprintln!("{report:?}");
        }
    });
    let missing = if args.must_cover() { totals.missing() } else { Vec::new() };
    if args.json {
        totals.print_json(args.seed, args.seeds, &missing)
    } else {
        totals.print(args.seed, args.seeds, args.must_cover())
    }
    if !missing.is_empty() {
        eprintln!("never happened, so nothing is known about it: {}", missing.join(", "));
    }
    if !totals.all_hold() || !missing.is_empty() { ExitCode::from(4) } else { ExitCode::SUCCESS }
}
