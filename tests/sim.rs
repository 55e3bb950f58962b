//! Whole clusters under faults, from seeds (see `src/sim/`). A violation prints its seed and the command that replays it.

use std::collections::BTreeMap;

use tercet::sim::{Options, Report, run};

/// Seeds of the gate; `tercet-sim` runs as many as one likes.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=50;

fn line(report: &Report) -> String {
    format!(
        "seed {}: {} nodes, {} events, {} acknowledgements, {} elections, {} faults, {:.1} s simulated, trace {:016x}",
        report.seed,
        report.nodes,
        report.events_committed,
        report.acknowledgements,
        report.elections,
        report.strike_count(),
        report.simulated_ns as f64 / 1e9,
        report.trace_hash
    )
}

fn run_checked(seed: u64, options: Options) -> Report {
    let report = run(seed, options);
    if let Some(violation) = &report.violation {
        panic!(
            "{violation}\n{}\nreplay: TERCET_SIM_SEED={seed} cargo test --test sim replay -- --nocapture",
            line(&report)
        );
    }
    report
}

#[test]
fn a_cluster_without_faults_commits_everything() {
    let report = run_checked(1, Options { faults: false, nodes: Some(3), ..Options::default() });
    assert!(report.events_committed > 500, "{}", line(&report));
    assert_eq!(report.elections, 1, "nobody had a reason to elect another leader: {}", line(&report));
}

#[test]
fn invariants_hold_under_faults_and_every_kind_of_fault_happens() {
    let mut faults: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut events, mut elections) = (0, 0);
    for seed in SEEDS {
        let report = run_checked(seed, Options::default());
        println!("{}", line(&report));
        for (name, count) in &report.faults {
            *faults.entry(name).or_insert(0) += count;
        }
        events += report.events_committed;
        elections += report.elections;
    }
    println!("{faults:?}");
    for name in tercet::sim::faults::fault::STRIKES.iter().chain(tercet::sim::faults::fault::CONSEQUENCES) {
        assert!(faults.get(name).is_some_and(|count| *count > 0), "no '{name}' over the seeds: {faults:?}");
    }
    let seeds = SEEDS.count() as u64;
    assert!(events / seeds > 200 && elections / seeds >= 2, "{events} events, {elections} elections");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let options = Options::default();
    let (first, second) = (run(3, options), run(3, options));
    assert_eq!(first, second);
    assert_ne!(first.trace_hash, run(4, options).trace_hash);
}

#[test]
fn replay() {
    let Some(seed) = std::env::var("TERCET_SIM_SEED").ok().and_then(|text| text.parse().ok()) else { return };
    println!("{}", line(&run_checked(seed, Options { narrate: true, ..Options::default() })));
}
