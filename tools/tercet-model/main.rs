//! Every order of deliveries, losses, doubles, flushes, elections and crashes that bounds allow, on the consensus core
//! that ships. `cargo test --test model_check` does the first few rows of this.
//!
//! ```text
//! cargo run --release --example tercet-model                 every row
//! cargo run --release --example tercet-model -- --only 3-4-3 rows whose name holds this
//! ```

#[path = "../../tests/model/mod.rs"]
mod model;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use model::cluster::{Bounds, Step};
use stateright::{Checker, Model};

/// Checks the consensus core within bounds, exhaustively.
#[derive(Parser)]
#[command(version, about)]
struct Options {
    /// Only rows whose name holds this.
    #[arg(long)]
    only: Option<String>,
    /// Threads that look.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// States, such as are come upon again included, after which a row is given up; then it proves nothing.
    #[arg(long, default_value_t = 400_000_000)]
    states_max: usize,
}

fn rows() -> Vec<(&'static str, Bounds)> {
    let least = Bounds::LEAST;
    let changing = Bounds { learners: 1, changes: 2, ..least };
    vec![
        ("election, entry, crash", Bounds { proposals: 1, crashes: 1, ..least }),
        ("election, entry, double", Bounds { proposals: 1, doubles: 1, ..least }),
        ("election, two entries, two crashes", Bounds { proposals: 2, crashes: 2, ..least }),
        (
            "election with its pre-votes, entry, crash",
            Bounds { proposals: 1, crashes: 1, pre_votes: true, ..least },
        ),
        ("election, entry, links that reorder", Bounds { proposals: 1, link: 2, ..least }),
        ("election, heartbeat, crash", Bounds { heartbeats: 1, crashes: 1, ..least }),
        ("two elections", Bounds { elections: 2, ..least }),
        ("two elections, crash", Bounds { elections: 2, crashes: 1, ..least }),
        ("two elections, entry", Bounds { elections: 2, proposals: 1, ..least }),
        ("two elections, double", Bounds { elections: 2, doubles: 1, ..least }),
        ("3-4-3", changing),
        ("3-4-3, crash", Bounds { crashes: 1, ..changing }),
        ("3-4, two elections", Bounds { elections: 2, changes: 1, ..changing }),
    ]
}

/// Looks at everything; false where a property does not hold, or not all was looked at.
fn check(name: &str, bounds: Bounds, options: &Options) -> bool {
    let begun = Instant::now();
    let checker =
        bounds.checker().threads(options.threads).target_state_count(options.states_max).spawn_dfs().join();
    let (states, steps) = (checker.unique_state_count(), checker.max_depth());
    let seconds = begun.elapsed().as_secs_f64();
    let found = checker.discoveries();
    let mut holds = true;
    for property in bounds.properties() {
        let is_found = found.get(property.name);
        let is_always = matches!(property.expectation, stateright::Expectation::Always);
        if is_always == is_found.is_none() {
            continue;
        }
        holds = false;
        println!("{name}: {}: {}", property.name, if is_always { "BROKEN" } else { "never happens" });
        if let Some(path) = is_found {
            println!("{:?}", path.last_state().history);
            path.clone().into_actions().iter().for_each(|step: &Step| println!("    {step:?}"));
        }
    }
    let is_whole = checker.state_count() < options.states_max;
    let verdict = match (holds, is_whole) {
        (true, true) => "holds",
        (true, false) => "NOT ALL OF IT: the limit of states",
        (false, _) => "BROKEN",
    };
    println!("{name:44} {states:>10} states {steps:>4} steps {seconds:>8.1} s  {verdict}");
    holds && is_whole
}

fn main() -> ExitCode {
    let options = Options::parse();
    let is_meant = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let rows: Vec<_> = rows().into_iter().filter(|(name, _)| is_meant(name)).collect();
    if rows.is_empty() {
        eprintln!("no row has a name like that");
        return ExitCode::from(2);
    }
    let failed = rows.iter().filter(|(name, bounds)| !check(name, *bounds, &options)).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
