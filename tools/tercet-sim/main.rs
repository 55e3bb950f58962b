//! `tercet-sim`: simulated clusters under faults, seed after seed. Exit 4 on a violation.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use tercet::sim::{Options, Report, run};

/// Simulates whole clusters under faults, one for each seed, and checks every invariant.
#[derive(Parser)]
#[command(name = "tercet-sim", version)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes of each cluster; drawn from the seed by default.
    #[arg(long)]
    nodes: Option<u16>,
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

/// The seed at work, for the case that a panic ends the process.
static SEED: AtomicU64 = AtomicU64::new(0);

/// Sums over seeds.
#[derive(Default)]
struct Totals {
    violations: u64,
    trace_hash: u64,
    simulated_ns: u64,
    events: u64,
    elections: u64,
    faults: BTreeMap<&'static str, u64>,
    rare: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.violations += u64::from(report.violation.is_some());
        self.trace_hash = tercet::base::checksum::fold64(self.trace_hash, report.trace_hash);
        self.simulated_ns += report.simulated_ns;
        self.events += report.events_committed;
        self.elections += report.elections;
        for (name, count) in &report.faults {
            *self.faults.entry(name).or_insert(0) += count;
        }
        for (name, count) in &report.rare {
            *self.rare.entry(name).or_insert(0) += count;
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        eprintln!("seed {} panicked; replay: tercet-sim --seeds 1 --seed {0}", SEED.load(Ordering::Relaxed));
        if cfg!(panic = "abort") {
            std::process::exit(4);
        }
    }));
    let mut totals = Totals::default();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        SEED.store(seed, Ordering::Relaxed);
        let report = run(seed, Options { nodes: args.nodes, narrate: args.narrate, ..Options::default() });
        totals.add(&report);
        if let Some(violation) = &report.violation {
            eprintln!("seed {seed}: {violation}\nreplay: tercet-sim --seeds 1 --seed {seed}");
        }
        if args.verbose {
            eprintln!("{report:?}");
        }
    }
    show(&args, &totals);
    if totals.violations > 0 { ExitCode::from(4) } else { ExitCode::SUCCESS }
}

fn show(args: &Args, totals: &Totals) {
    let simulated_s = totals.simulated_ns as f64 / 1e9;
    let trace_hash = format!("{:016x}", totals.trace_hash);
    if args.json {
        let object = serde_json::json!({
            "seed_first": args.seed,
            "seeds": args.seeds,
            "violations": totals.violations,
            "trace_hash": trace_hash,
            "simulated_s": simulated_s,
            "events": totals.events,
            "elections": totals.elections,
            "faults": totals.faults,
            "rare": totals.rare,
        });
        println!("{object}");
        return;
    }
    println!(
        "{} seeds from {}: {} violations, {} events, {} elections, {simulated_s:.0} s simulated, trace {trace_hash}",
        args.seeds, args.seed, totals.violations, totals.events, totals.elections
    );
    for (name, count) in totals.faults.iter().chain(&totals.rare) {
        println!("  {name:<24}{count:>10}");
    }
}
