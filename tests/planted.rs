//! Bugs that other Raft logs shipped, planted one at a time: the simulator finds each of them within a bounded number of
//! seeds, and says which invariant it breaks. With none planted the same seeds hold.
//!
//! `cargo test --features faults --test planted -- --nocapture` prints the table of bug, seed and detector;
//! `PLANTED_ONLY=name` takes one bug alone. `TERCET_WRITE_DOCS=1` writes the table into the docs.

mod model;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::cluster::Bounds;
use stateright::{Checker, Expectation, HasDiscoveries, Model};
use tercet::base::planted::{Bug, plant, plant_everywhere};
use tercet::sim::{Options, run};

/// A bug that these seeds do not find is one that the simulator does not find.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=400;
const DOCS: &str = "docs/TESTING_STRATEGY.md";
const BEGINS: &str = "<!-- planted bugs: written by tests/planted.rs -->\n";
const ENDS: &str = "<!-- end of planted bugs -->\n";

/// Bugs that show in orders of a few messages that chance hardly ever comes upon: the model checker looks for them, in
/// bounds that hold without a bug (`tests/model_check.rs`, `tercet-model`).
const FOR_THE_MODEL: &[(Bug, Bounds)] = &[
    (Bug::VoteForgottenAtRestart, Bounds { elections: 2, crashes: 1, ..Bounds::LEAST }),
    (Bug::StaleVoteCounted, Bounds { elections: 3, ..Bounds::LEAST }),
    (Bug::AckOfOtherTermCounts, Bounds { elections: 3, ..Bounds::LEAST }),
];
/// After so many states the model checker gives up.
const STATES_MAX: usize = 40_000_000;

/// How a bug was found.
struct Found {
    with: String,
    detector: String,
    what: String,
}

fn hunt(bug: Bug) -> Option<Found> {
    if let Some((_, bounds)) = FOR_THE_MODEL.iter().find(|(known, _)| *known == bug) {
        return hunt_by_model(bug, *bounds);
    }
    plant(Some(bug));
    let found = SEEDS.into_iter().find_map(|seed| {
        let violation = run(seed, Options::default()).violation?;
        let with = format!("seed {seed}");
        Some(Found { with, detector: violation.invariant.to_owned(), what: violation.what })
    });
    plant(None);
    found
}

/// One at a time: the checker has threads of its own.
fn hunt_by_model(bug: Bug, bounds: Bounds) -> Option<Found> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    plant_everywhere(Some(bug));
    let checker = bounds
        .checker()
        .threads(2)
        .target_state_count(STATES_MAX)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    let found = checker.discoveries();
    plant_everywhere(None);
    let broken = bounds.properties().into_iter().find(|property| {
        matches!(property.expectation, Expectation::Always) && found.contains_key(property.name)
    })?;
    let path = &found[broken.name];
    let what = path.last_state().history.broken.clone().unwrap_or_default();
    let with = format!("{} elections, {} crashes", bounds.elections, bounds.crashes);
    Some(Found { with, detector: format!("model checker: {}", broken.name), what })
}

fn wanted() -> Vec<Bug> {
    match std::env::var("PLANTED_ONLY") {
        Ok(name) => vec![Bug::by_name(&name).unwrap_or_else(|| panic!("no bug is called {name}"))],
        Err(_) => Bug::ALL.to_vec(),
    }
}

fn hunt_all(bugs: &[Bug]) -> BTreeMap<usize, Found> {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(bug) = bugs.get(at) else { return };
                    if let Some(found) = hunt(*bug) {
                        let what: String = found.what.chars().take(150).collect();
                        println!(
                            "{} ({}): {}, {}: {what}",
                            bug.name(),
                            bug.pitfall(),
                            found.with,
                            found.detector
                        );
                        all.lock().map(|mut all| all.insert(at, found)).ok();
                    } else {
                        println!("{} ({}): NOT FOUND", bug.name(), bug.pitfall());
                    }
                }
            });
        }
    });
    all.into_inner().unwrap_or_default()
}

fn table(bugs: &[Bug], found: &BTreeMap<usize, Found>) -> String {
    let mut text =
        String::from("| planted bug | pitfall | first found with | found by |\n|---|---|---|---|\n");
    for (at, bug) in bugs.iter().enumerate() {
        if let Some(found) = found.get(&at) {
            let row =
                format!("| `{}` | {} | {} | {} |\n", bug.name(), bug.pitfall(), found.with, found.detector);
            text.push_str(&row);
        }
    }
    text
}

/// Replaces the table in the docs.
fn write_docs(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCS);
    let text = std::fs::read_to_string(&path).expect("the docs are there");
    let begin = text.find(BEGINS).expect("the table has a place") + BEGINS.len();
    let end = text.find(ENDS).expect("the table ends");
    std::fs::write(&path, format!("{}{table}{}", &text[..begin], &text[end..]))
        .expect("the docs are written");
}

#[test]
fn every_planted_bug_is_found_and_without_one_all_holds() {
    // Panics are one way of finding a bug, and there will be many.
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = wanted();
    let found = hunt_all(&bugs);
    let _ = std::panic::take_hook();
    if bugs.len() == Bug::ALL.len() && std::env::var_os("TERCET_WRITE_DOCS").is_some() {
        write_docs(&table(&bugs, &found));
    }
    let missed: Vec<&str> = bugs
        .iter()
        .enumerate()
        .filter(|(at, _)| !found.contains_key(at))
        .map(|(_, bug)| bug.name())
        .collect();
    assert!(missed.is_empty(), "not found in {} seeds: {missed:?}", SEEDS.count());
    // Where a bug was found there is nothing to find without it.
    let seed_of = |found: &Found| found.with.strip_prefix("seed ").and_then(|seed| seed.parse().ok());
    let mut seeds: Vec<u64> = found.values().filter_map(seed_of).collect();
    seeds.sort_unstable();
    seeds.dedup();
    for seed in seeds {
        let report = run(seed, Options::default());
        assert!(report.violation.is_none(), "seed {seed} without a planted bug: {:?}", report.violation);
    }
    assert!(Bug::ALL.len() >= 30);
}
