//! Bugs that other Raft logs shipped, planted one at a time: the simulator finds each of them within a bounded number of
//! seeds, and says which invariant it breaks. With none planted the same seeds hold.
//!
//! `cargo test --release --features faults --test planted the_table` replays the table in the docs, each bug on the seed
//! that found it first; without `the_table` every bug is hunted from the first seed on, too. `PLANTED_ONLY=name` takes one
//! bug alone, `-- --nocapture` tells what each of them broke, `TERCET_WRITE_DOCS=1` writes the table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};

use tercet::base::planted::{Bug, plant};
use tercet::sim::{Options, run};

/// A bug that these seeds do not find is one that the simulator does not find.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=1000;
/// Fewer bugs than this are no measure of a simulator.
const BUGS_MIN: usize = 40;
const DOCS: &str = "docs/TESTING_STRATEGY.md";
const BEGINS: &str = "<!-- planted bugs: written by tests/planted.rs -->\n";
const ENDS: &str = "<!-- end of planted bugs -->\n";
const HEAD: &str = "| planted bug | pitfall | first found with | found by |\n|---|---|---|---|\n";

/// How a bug was found.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Found {
    seed: u64,
    detector: String,
}

/// Panics are one way of finding a bug, and there are many.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // A test's own thread has a name, a hunter's has none.
            if std::thread::current().name().is_some() {
                usual(info);
            }
        }));
    });
}

/// The first of these seeds that breaks an invariant with this bug planted in this thread.
fn hunt(bug: Bug, mut seeds: impl Iterator<Item = u64>) -> Option<Found> {
    plant(Some(bug));
    let found = seeds.find_map(|seed| {
        let violation = run(seed, Options::default()).violation?;
        let what: String = violation.what.chars().take(150).collect();
        println!("{} ({}): seed {seed}, {}: {what}", bug.name(), bug.pitfall(), violation.invariant);
        Some(Found { seed, detector: violation.invariant.to_owned() })
    });
    plant(None);
    found
}

/// Does `work` for every item, on as many threads as there are cores.
fn on_all_cores<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    done.lock().expect("no hunter panics").insert(at, result);
                }
            });
        }
    });
    done.into_inner().expect("no hunter panics").into_values().collect()
}

fn wanted() -> Vec<Bug> {
    match std::env::var("PLANTED_ONLY") {
        Ok(name) => vec![Bug::by_name(&name).unwrap_or_else(|| panic!("no bug is called {name}"))],
        Err(_) => Bug::ALL.to_vec(),
    }
}

fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(DOCS)
}

fn row(bug: Bug, found: &Found) -> String {
    let Found { seed, detector } = found;
    format!("| `{}` | {} | seed {seed} | {detector} |\n", bug.name(), bug.pitfall())
}

/// The text of the docs, before the table, in it and behind it.
fn split_docs() -> (String, String, String) {
    let text = std::fs::read_to_string(docs()).expect("the docs are there");
    let begin = text.find(BEGINS).expect("the table has a place") + BEGINS.len();
    let end = text.find(ENDS).expect("the table ends");
    (text[..begin].to_owned(), text[begin..end].to_owned(), text[end..].to_owned())
}

/// What the docs say of this bug: the seed, and who finds it.
fn recorded(table: &str, bug: Bug) -> Found {
    let begins = format!("| `{}` | {} | seed ", bug.name(), bug.pitfall());
    let line = table.lines().find_map(|line| line.strip_prefix(&begins));
    let line = line.unwrap_or_else(|| panic!("the table in {DOCS} has no row that begins with '{begins}'"));
    let cells: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
    let [seed, detector] = cells[..] else { panic!("a row of the table is torn: {line}") };
    Found { seed: seed.parse().expect("a seed is a number"), detector: detector.to_owned() }
}

/// Where a bug was found there is nothing to find without it.
fn assert_whole(seeds: &BTreeSet<u64>) {
    let seeds: Vec<u64> = seeds.iter().copied().collect();
    for (seed, violation) in on_all_cores(&seeds, |seed| (*seed, run(*seed, Options::default()).violation)) {
        assert!(violation.is_none(), "seed {seed} without a planted bug: {violation:?}");
    }
}

#[test]
fn the_table_in_the_docs_holds() {
    if std::env::var_os("TERCET_WRITE_DOCS").is_some() {
        return;
    }
    hush();
    let table = split_docs().1;
    assert!(Bug::ALL.len() >= BUGS_MIN);
    assert_eq!(
        table.lines().count(),
        HEAD.lines().count() + Bug::ALL.len(),
        "a row for each bug, and no other"
    );
    let rows: Vec<(Bug, Found)> = wanted().into_iter().map(|bug| (bug, recorded(&table, bug))).collect();
    let again = on_all_cores(&rows, |(bug, found)| hunt(*bug, std::iter::once(found.seed)));
    for ((bug, found), again) in rows.iter().zip(again) {
        assert_eq!(again.as_ref(), Some(found), "{}: the table in {DOCS} says otherwise", bug.name());
    }
    assert_whole(&rows.iter().map(|(_, found)| found.seed).collect());
}

#[test]
fn every_planted_bug_is_found_and_without_one_all_holds() {
    hush();
    let bugs = wanted();
    let found = on_all_cores(&bugs, |bug| hunt(*bug, SEEDS));
    let missed: Vec<&str> =
        bugs.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(bug, _)| bug.name()).collect();
    assert!(missed.is_empty(), "not found in {} seeds: {missed:?}", SEEDS.count());
    assert_whole(&found.iter().flatten().map(|found| found.seed).collect());
    let rows: String = bugs.iter().zip(found.iter().flatten()).map(|(bug, found)| row(*bug, found)).collect();
    let (before, table, after) = split_docs();
    if bugs.len() < Bug::ALL.len() {
        assert!(table.contains(&rows), "the table in {DOCS} says otherwise than\n{rows}");
    } else if std::env::var_os("TERCET_WRITE_DOCS").is_some() {
        std::fs::write(docs(), format!("{before}{HEAD}{rows}{after}")).expect("the docs are written");
    } else {
        assert_eq!(table, format!("{HEAD}{rows}"), "TERCET_WRITE_DOCS=1 writes the table anew");
    }
}
