//! Sums over seeds, and how they are shown.

use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};
use tercet::base::checksum::fold64;
use tercet::sim::Report;
use tercet::sim::coverage::rare;
use tercet::sim::faults::fault;

/// Sums over seeds.
#[derive(Default)]
pub struct Totals {
    /// Seeds in which something did not hold, and what.
    violated: Vec<(u64, String)>,
    /// Seeds that were not the same twice.
    unrepeated: Vec<u64>,
    seeds: u64,
    trace_hash: u64,
    simulated_ns: u64,
    events: u64,
    elections: u64,
    strikes: u64,
    faults: BTreeMap<&'static str, u64>,
    rare: BTreeMap<&'static str, u64>,
}

/// Processor time of this process so far, all threads together.
fn core_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

impl Totals {
    /// Adds one seed's. `repeated`: it was the same when it was run again, if it was.
    pub fn add(&mut self, report: &Report, repeated: bool) {
        self.seeds += 1;
        self.violated.extend(report.violation.iter().map(|what| (report.seed, what.to_string())));
        self.unrepeated.extend((!repeated).then_some(report.seed));
        self.trace_hash = fold64(self.trace_hash, report.trace_hash);
        self.simulated_ns += report.simulated_ns;
        self.events += report.events_committed;
        self.elections += report.elections;
        self.strikes += report.strike_count();
        for (name, count) in &report.faults {
            *self.faults.entry(name).or_insert(0) += count;
        }
        for (name, count) in &report.rare {
            *self.rare.entry(name).or_insert(0) += count;
        }
    }

    /// What should have occurred and did not.
    pub fn missing(&self) -> Vec<&'static str> {
        let faults = fault::STRIKES.iter().chain(fault::STRUCK).chain(fault::CONSEQUENCES);
        let faults = faults.filter(|name| self.faults.get(*name).is_none_or(|count| *count == 0));
        let states = rare::ALL.iter().filter(|name| self.rare.get(*name).is_none_or(|count| *count == 0));
        faults.chain(states).copied().collect()
    }

    /// Everything held, and each seed that was run twice was the same.
    pub const fn all_hold(&self) -> bool {
        self.violated.is_empty() && self.unrepeated.is_empty()
    }

    fn per_seed(&self, sum: u64) -> f64 {
        sum as f64 / self.seeds.max(1) as f64
    }

    /// A leader changes where one is elected that is not the first.
    fn leader_changes(&self) -> u64 {
        self.elections.saturating_sub(self.seeds)
    }

    /// One object on stdout.
    pub fn print_json(&self, first: u64, seeds: u64, missing: &[&str]) {
        let violated = self.violated.iter();
        let violated = violated.map(|(seed, what)| serde_json::json!({ "seed": seed, "violation": what }));
        let object = serde_json::json!({
            "seed_first": first,
            "seeds": seeds,
            "violations": self.violated.len(),
            "violated": violated.collect::<Vec<_>>(),
            "unrepeated": self.unrepeated.len(),
            "unrepeated_seeds": self.unrepeated,
            "trace_hash": format!("{:016x}", self.trace_hash),
            "simulated_s": self.simulated_ns as f64 / 1e9,
            "core_s": core_seconds(),
            "events": self.events,
            "elections": self.elections,
            "strikes": self.strikes,
            "faults": self.faults,
            "rare": self.rare,
            "missing": missing,
        });
        println!("{object}");
    }

    /// A table on stdout. `is_judged`: what never happened is an error.
    pub fn print(&self, first: u64, seeds: u64, is_judged: bool) {
        println!(
            "{seeds} seeds from {first}: {} violations, {:.0} s simulated in {:.1} core-minutes, trace {:016x}",
            self.violated.len(),
            self.simulated_ns as f64 / 1e9,
            core_seconds() / 60.0,
            self.trace_hash
        );
        println!(
            "a seed on average: {:.0} events committed, {:.1} leader changes, {:.1} faults",
            self.per_seed(self.events),
            self.per_seed(self.leader_changes()),
            self.per_seed(self.strikes)
        );
        let table = |title: &str, names: &BTreeMap<&'static str, u64>, all: &[&'static str]| {
            println!("{title}");
            let others = names.keys().filter(|name| !all.contains(name));
            for name in all.iter().chain(others) {
                println!("  {name:<30}{:>10}", names.get(name).copied().unwrap_or(0));
            }
        };
        let faults: Vec<&'static str> = fault::STRIKES.iter().chain(fault::CONSEQUENCES).copied().collect();
        table("faults", &self.faults, &faults);
        table("rare states", &self.rare, rare::ALL);
        if !is_judged && !self.missing().is_empty() {
            println!("zeros: no error in so few seeds, or with so many nodes as were asked for");
        }
    }
}
