//! Every order of deliveries, losses, doubles, flushes, elections and crashes that bounds allow, on the consensus core
//! that ships. `cargo test --test model_check` does the first few rows of this.
//!
//! ```text
//! cargo run --release --example tercet-model                 every row
//! cargo run --release --example tercet-model -- --only 3-4-3 rows whose name holds this
//! ```

#[path = "../../tests/model/mod.rs"]
mod model;
#[path = "../../tests/model/rows.rs"]
mod rows;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use model::cluster::{Bounds, Step};
use rows::ROWS;
use stateright::{Checker, Model};

/// Checks the consensus core within bounds, exhaustively.
#[derive(Parser)]
#[command(version, about)]
struct Options {
    /// Only rows whose name holds this.
    #[arg(long)]
    only: Option<String>,
    /// Only the row of this name.
    #[arg(long)]
    name: Option<String>,
    /// Only the rows that `cargo test` looks at, too.
    #[arg(long)]
    short: bool,
    /// Threads that look.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// States, such as are come upon again included, after which a row is given up; then it proves nothing.
    #[arg(long, default_value_t = 400_000_000)]
    states_max: usize,
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
    let is_meant = |name: &str| match (&options.name, &options.only) {
        (Some(whole), _) => name == whole,
        (None, Some(only)) => name.contains(only.as_str()),
        (None, None) => true,
    };
    let rows: Vec<_> =
        ROWS.iter().filter(|row| is_meant(row.name) && (row.is_short || !options.short)).collect();
    if rows.is_empty() {
        eprintln!("no row has a name like that");
        return ExitCode::from(2);
    }
    let failed = rows.iter().filter(|row| !check(row.name, row.bounds, &options)).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
