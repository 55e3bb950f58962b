//! The consensus core under a model checker, within bounds that take seconds: every order of deliveries, flushes and
//! crashes within them. `cargo run --release --example tercet-model` goes further.

#![allow(clippy::unwrap_used)]

mod model;
#[path = "model/rows.rs"]
mod rows;

use std::collections::BTreeMap;
use std::time::Instant;

use model::bounds::Lie;
use model::cluster::Bounds;
use rows::ROWS;
use stateright::{Checker, HasDiscoveries, Model};

/// Above what the bounds here allow, states that are come upon again included: a model that grows does not run for ever.
const STATES_MAX: usize = 30_000_000;

/// What the strategy says of the states of each row. They are counted with fixed hashes along all paths, so they are the
/// same in every run: other ones mean that the model or the core takes other steps, which wants a look and new numbers.
fn states_told() -> BTreeMap<String, usize> {
    let page = include_str!("../docs/TESTING_STRATEGY.md");
    let table = page.lines().skip_while(|line| !line.starts_with("| row | states |"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        (cells[0].to_owned(), cells[1].replace(',', "").parse().unwrap())
    });
    rows.collect()
}

/// One test, so that no other checker takes the cores from it.
#[test]
fn the_core_holds_within_the_bounds_of_the_short_form() {
    let told = states_told();
    let named = ROWS.iter().map(|row| row.name);
    assert!(named.clone().all(|name| told.contains_key(name)) && named.count() == told.len(), "{told:?}");
    for row in ROWS.iter().filter(|row| row.is_short) {
        let begun = Instant::now();
        let checker = row.bounds.checker().threads(2).target_state_count(STATES_MAX).spawn_dfs().join();
        let (states, steps) = (checker.unique_state_count(), checker.max_depth());
        let seconds = begun.elapsed().as_secs_f64();
        println!("{:44} {states:>10} states {steps:>4} steps {seconds:>8.1} s", row.name);
        // The limit counts states that were seen before, too.
        assert!(checker.is_done() && checker.state_count() < STATES_MAX, "all of {}", row.name);
        checker.assert_properties();
        assert_eq!(states, told[row.name], "states of {} in docs/TESTING_STRATEGY.md", row.name);
    }
}

/// What the properties are worth: with a disk that keeps less than it says, the checker comes upon a state that breaks one.
#[test]
fn a_disk_that_lies_breaks_a_property() {
    // The core's own assertions are among what is looked for, and say nothing here.
    std::panic::set_hook(Box::new(|_| ()));
    for (lie, bounds) in [
        (Lie::HardState, Bounds { elections: 2, crashes: 1, ..Bounds::LEAST }),
        (Lie::Log, Bounds { crashes: 1, ..Bounds::LEAST }),
        (Lie::Claim, Bounds { elections: 2, tears: 1, ..Bounds::LEAST }),
    ] {
        let bounds = Bounds { lie, ..bounds };
        let checker = bounds
            .checker()
            .threads(2)
            .target_state_count(STATES_MAX)
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_dfs()
            .join();
        let broken: Vec<_> = checker.discoveries().into_keys().collect();
        drop(std::panic::take_hook());
        let always = ["nothing is broken", "log matching", "what is committed is durable on a quorum"];
        assert!(broken.iter().any(|name| always.contains(name)), "{lie:?}: only {broken:?}");
        std::panic::set_hook(Box::new(|_| ()));
    }
    drop(std::panic::take_hook());
}
