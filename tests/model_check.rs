//! The consensus core under a model checker, within bounds that take seconds: every order of deliveries, flushes and
//! crashes within them. `cargo run --release --example tercet-model` goes further.

#![allow(clippy::unwrap_used)]

mod model;
#[path = "model/rows.rs"]
mod rows;

use std::time::Instant;

use model::bounds::Lie;
use model::cluster::Bounds;
use rows::ROWS;
use stateright::{Checker, HasDiscoveries, Model};

/// Above what the bounds here allow, states that are come upon again included: a model that grows does not run for ever.
const STATES_MAX: usize = 30_000_000;

/// One test, so that no other checker takes the cores from it.
#[test]
fn the_core_holds_within_the_bounds_of_the_short_form() {
    for row in ROWS.iter().filter(|row| row.is_short) {
        let begun = Instant::now();
        let checker = row.bounds.checker().threads(2).target_state_count(STATES_MAX).spawn_dfs().join();
        let (states, steps) = (checker.unique_state_count(), checker.max_depth());
        let seconds = begun.elapsed().as_secs_f64();
        println!("{:44} {states:>10} states {steps:>4} steps {seconds:>8.1} s", row.name);
        // The limit counts states that were seen before, too.
        assert!(checker.is_done() && checker.state_count() < STATES_MAX, "all of {}", row.name);
        checker.assert_properties();
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
