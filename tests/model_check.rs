//! The consensus core under a model checker, within bounds that take seconds: every order of deliveries, flushes and
//! crashes within them. `cargo run --release --example tercet-model` goes further.

#![allow(clippy::unwrap_used)]

mod model;

use model::cluster::{Bounds, Lie};
use stateright::{Checker, HasDiscoveries, Model};

/// Above what the bounds here allow, states that are come upon again included: a model that grows does not run for ever.
const STATES_MAX: usize = 30_000_000;

fn check(bounds: Bounds) {
    let checker = bounds.checker().threads(2).target_state_count(STATES_MAX).spawn_dfs().join();
    let states = checker.unique_state_count();
    println!("{states} states, at most {} steps: {bounds:?}", checker.max_depth());
    // The limit counts states that were seen before, too.
    assert!(checker.is_done() && checker.state_count() < STATES_MAX, "all of it");
    checker.assert_properties();
}

#[test]
fn an_election_an_entry_and_a_crash() {
    check(Bounds { proposals: 1, crashes: 1, ..Bounds::LEAST });
}

#[test]
fn an_election_an_entry_and_a_message_that_comes_twice() {
    check(Bounds { proposals: 1, ..Bounds::LEAST });
}

#[test]
fn three_voters_four_and_three() {
    check(Bounds { learners: 1, changes: 2, ..Bounds::LEAST });
}

#[test]
fn two_elections() {
    check(Bounds { elections: 2, ..Bounds::LEAST });
}

/// What the properties are worth: with a disk that keeps less than it says, the checker comes upon a state that breaks one.
#[test]
fn a_disk_that_lies_breaks_a_property() {
    // The core's own assertions are among what is looked for, and say nothing here.
    std::panic::set_hook(Box::new(|_| ()));
    for (lie, bounds) in [
        (Lie::HardState, Bounds { elections: 2, crashes: 1, ..Bounds::LEAST }),
        (Lie::Log, Bounds { crashes: 1, ..Bounds::LEAST }),
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
    }
}
