//! What a run found, as text and as JSON.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use tercet::base::ids::NodeId;

use super::lab::check::Faults;
use super::{Args, Kind};

/// Upper bounds of the histogram's rows, in milliseconds; what is above the last has a row of its own.
const BOUNDS_MS: [u64; 20] =
    [5, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 220, 250, 300, 400, 600, 1_000, 2_000, 5_000, 10_000];
const BAR_CHARS: usize = 50;

/// One failure.
pub struct Round {
    /// Who was hit; but for `stall` the leader.
    pub node: NodeId,
    /// The largest time from when an event was due to its acknowledgement, around the failure.
    pub outage_ns: u64,
    /// The same from when the leader came back until it had caught up.
    pub return_ns: u64,
    /// From the leader's return until it had caught up.
    pub caught_up_ns: u64,
    /// By how much the term rose until the load kept up again; 1 is the least.
    pub elections: u64,
    /// By how much it rose when the old leader came back; 0 is right.
    pub elections_on_return: u64,
}

/// All of them.
pub struct Report {
    kind: Kind,
    parameters: Value,
    seed: u64,
    /// In order.
    pub rounds: Vec<Round>,
    /// Clusters that were used one after the other.
    pub clusters: u64,
    /// Elections outside of failures.
    pub elections_uncaused: u64,
    /// The same, where others had committed without the leader's disk for `disk_stall_limit`.
    pub elections_by_disk: u64,
    /// How long a bystander's writes with sync took.
    pub probe_ns: Vec<u64>,
    /// Events sent.
    pub events: u64,
    /// Events with none or several acknowledgements.
    pub acknowledgements_wrong: u64,
    /// Acknowledged as duplicates though sent once.
    pub duplicates_unexplained: u64,
    /// Events that were sent again.
    pub resent: u64,
    /// What is wrong in the nodes' logs, all nodes together.
    pub faults: Faults,
    /// Nodes whose checksums differ from the first node's.
    pub logs_differ: u64,
    /// Nodes that did not end with exit code 0 on SIGTERM.
    pub unclean_stops: u64,
    /// Of `tercet log verify`, node by node.
    pub verify_exit_codes: Vec<i32>,
    /// Directories of clusters in which something is wrong.
    pub kept: Vec<PathBuf>,
}

fn ms(ns: u64) -> f64 {
    // Microseconds are all that a reader wants.
    (ns / 1_000) as f64 / 1e3
}

/// The smallest value that the part `quantile` of all does not exceed (nearest rank); `values` is sorted.
fn quantile(values: &[u64], quantile: f64) -> u64 {
    let rank = (values.len() as f64 * quantile).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(0)
}

fn sorted(rounds: &[Round], of: impl Fn(&Round) -> u64) -> Vec<u64> {
    let mut values: Vec<u64> = rounds.iter().map(of).collect();
    values.sort_unstable();
    values
}

fn quantiles(values: &[u64]) -> Value {
    json!({
        "min": ms(quantile(values, 0.0)),
        "p50": ms(quantile(values, 0.50)),
        "p90": ms(quantile(values, 0.90)),
        "p95": ms(quantile(values, 0.95)),
        "p99": ms(quantile(values, 0.99)),
        "max": ms(quantile(values, 1.0)),
    })
}

fn quantiles_line(name: &str, values: &[u64]) -> String {
    let at = |part| ms(quantile(values, part));
    format!(
        "{name:<28}p50 {:>9.3}  p90 {:>9.3}  p95 {:>9.3}  p99 {:>9.3}  max {:>9.3} ms\n",
        at(0.5),
        at(0.9),
        at(0.95),
        at(0.99),
        at(1.0)
    )
}

/// Rows of a histogram: upper bound in milliseconds (none: above all), and how many values; empty rows at both ends are
/// left out.
fn histogram(values: &[u64]) -> Vec<(Option<u64>, usize)> {
    let row_of = |value: u64| BOUNDS_MS.iter().position(|bound| value <= bound * 1_000_000);
    let mut rows: Vec<(Option<u64>, usize)> = BOUNDS_MS.iter().map(|bound| (Some(*bound), 0)).collect();
    rows.push((None, 0));
    for value in values {
        rows[row_of(*value).unwrap_or(BOUNDS_MS.len())].1 += 1;
    }
    let first = rows.iter().position(|(_, count)| *count > 0).unwrap_or(0);
    let end = rows.iter().rposition(|(_, count)| *count > 0).map_or(first, |last| last + 1);
    rows[first..end].to_vec()
}

impl Round {
    /// For the progress on stderr.
    pub fn to_line(&self, kind: Kind) -> String {
        format!(
            "{} of node {}: outage {:.3} ms, {} election(s); back and caught up in {:.0} ms, slowest event {:.3} ms",
            kind.as_str(),
            self.node,
            ms(self.outage_ns),
            self.elections,
            ms(self.caught_up_ns),
            ms(self.return_ns)
        )
    }
}

impl Report {
    /// Nothing found yet.
    pub fn new(args: &Args, seed: u64) -> Self {
        let parameters = json!({
            "kind": args.kind.as_str(),
            "rounds": args.duration.is_none().then_some(args.rounds),
            "duration_s": args.duration.map(|duration| duration.as_secs_f64()),
            "hogs": args.hogs,
            "rate_per_s": args.rate,
            "nodes": args.nodes,
            "size": args.size,
            "durability": args.durability().as_str(),
            "threads": format!("{:?}", args.threads).to_lowercase(),
            "seed": seed,
        });
        Self {
            kind: args.kind,
            parameters,
            seed,
            rounds: Vec::new(),
            clusters: 0,
            elections_uncaused: 0,
            elections_by_disk: 0,
            probe_ns: Vec::new(),
            events: 0,
            acknowledgements_wrong: 0,
            duplicates_unexplained: 0,
            resent: 0,
            faults: Faults::default(),
            logs_differ: 0,
            unclean_stops: 0,
            verify_exit_codes: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn sum(&self, of: impl Fn(&Round) -> u64) -> u64 {
        self.rounds.iter().map(of).sum()
    }

    /// What must not be, by name and count; empty: all is well.
    pub fn violations(&self) -> Vec<String> {
        let damaged = self.verify_exit_codes.iter().filter(|code| **code != 0).count() as u64;
        let named = [
            ("lost", self.faults.lost),
            ("doubled", self.faults.doubled),
            ("misplaced", self.faults.misplaced),
            ("damaged", self.faults.damaged),
            ("not acknowledged exactly once", self.acknowledgements_wrong),
            ("duplicates that nobody sent", self.duplicates_unexplained),
            ("logs that differ", self.logs_differ),
            ("directories that do not verify", damaged),
        ];
        let broken = named.iter().filter(|(_, count)| *count > 0);
        broken.map(|(name, count)| format!("{count} {name}")).collect()
    }

    /// One object.
    pub fn to_json(&self) -> Value {
        let outages = sorted(&self.rounds, |round| round.outage_ns);
        let rows = histogram(&outages);
        let mut object = json!({
            "rounds_done": self.rounds.len(),
            "clusters": self.clusters,
            "outage_ms": quantiles(&outages),
            "return_ms": quantiles(&sorted(&self.rounds, |round| round.return_ns)),
            "caught_up_ms": quantiles(&sorted(&self.rounds, |round| round.caught_up_ns)),
            "outages_ms": self.rounds.iter().map(|round| ms(round.outage_ns)).collect::<Vec<_>>(),
            "histogram": rows
                .iter()
                .map(|(bound, count)| json!({"up_to_ms": bound, "count": count}))
                .collect::<Vec<_>>(),
            "elections": if self.kind.is_fatal() { self.sum(|round| round.elections) } else { 0 },
            "elections_on_return": self.sum(|round| round.elections_on_return),
            "elections_uncaused": self.elections_uncaused,
            "elections_by_disk": self.elections_by_disk,
            "probe_ms": (!self.probe_ns.is_empty()).then(|| quantiles(&self.probe())),
            "events": self.events,
            "resent": self.resent,
            "lost": self.faults.lost,
            "doubled": self.faults.doubled,
            "misplaced": self.faults.misplaced,
            "damaged": self.faults.damaged,
            "acknowledgements_wrong": self.acknowledgements_wrong,
            "duplicates_unexplained": self.duplicates_unexplained,
            "logs_differ": self.logs_differ,
            "unclean_stops": self.unclean_stops,
            "verify_exit_codes": self.verify_exit_codes,
            "violations": self.violations(),
        });
        if let (Some(object), Some(parameters)) = (object.as_object_mut(), self.parameters.as_object()) {
            object.extend(parameters.clone());
        }
        object
    }

    fn probe(&self) -> Vec<u64> {
        let mut values = self.probe_ns.clone();
        values.sort_unstable();
        values
    }

    fn caused(&self) -> String {
        let (elections, rounds) = (self.sum(|round| round.elections), self.rounds.len());
        let on_return = self.sum(|round| round.elections_on_return);
        format!("{elections} for {rounds} failures, {on_return} when the old leader came back, ")
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let outages = sorted(&self.rounds, |round| round.outage_ns);
        let of = |name: &str| self.parameters[name].to_string().replace('"', "");
        let mut text = format!(
            "{} x {} of {}, {} nodes, {} events/s of {} bytes, durability {}, {} busy threads beside it, seed {}\n\n",
            self.rounds.len(),
            self.kind.as_str(),
            if self.kind.is_fatal() { "the leader" } else { "any node" },
            of("nodes"),
            of("rate_per_s"),
            of("size"),
            of("durability"),
            of("hogs"),
            self.seed
        );
        text += &quantiles_line("outage", &outages);
        text += &quantiles_line("slowest event on return", &sorted(&self.rounds, |round| round.return_ns));
        text += &quantiles_line("back and caught up", &sorted(&self.rounds, |round| round.caught_up_ns));
        if !self.probe_ns.is_empty() {
            text += &quantiles_line("bystander's write and sync", &self.probe());
        }
        text.push('\n');
        let rows = histogram(&outages);
        let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
        for (bound, count) in &rows {
            let label = bound.map_or_else(|| "above".to_owned(), |bound| format!("<= {bound} ms"));
            // A value that is there shows.
            let bar = "#".repeat((count * BAR_CHARS).div_ceil(most));
            let _ = writeln!(text, "{label:>12} {count:>5} {bar}");
        }
        let _ = writeln!(
            text,
            "\nelections: {}{} because the leader's own disk hung, {} that nothing caused",
            if self.kind.is_fatal() { self.caused() } else { String::new() },
            self.elections_by_disk,
            self.elections_uncaused
        );
        if self.verify_exit_codes.is_empty() {
            text += "the run ended before anything was read back: nothing was checked\n";
            return text;
        }
        let _ = writeln!(
            text,
            "{} events on {} cluster(s), {} sent again; {} lost, {} doubled, {} misplaced, {} damaged; {} not \
             acknowledged exactly once; log verify: {:?}",
            self.events,
            self.clusters,
            self.resent,
            self.faults.lost,
            self.faults.doubled,
            self.faults.misplaced,
            self.faults.damaged,
            self.acknowledgements_wrong + self.duplicates_unexplained,
            self.verify_exit_codes
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{histogram, quantile};

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&values, 0.0), 1);
        assert_eq!(quantile(&values, 0.5), 50);
        assert_eq!(quantile(&values, 0.99), 99);
        assert_eq!(quantile(&values, 1.0), 100);
        assert_eq!((quantile(&[7], 0.99), quantile(&[], 0.5)), (7, 0));
    }

    #[test]
    fn the_histogram_holds_every_value_once_and_no_empty_ends() {
        let ms = 1_000_000;
        assert_eq!(histogram(&[]), []);
        assert_eq!(histogram(&[12 * ms, 15 * ms, 15 * ms + 1]), [(Some(15), 2), (Some(20), 1)]);
        let rows = histogram(&[ms, 11_000 * ms]);
        assert_eq!((rows[0], rows[rows.len() - 1]), ((Some(5), 1), (None, 1)));
        assert_eq!(rows.iter().map(|(_, count)| count).sum::<usize>(), 2);
    }
}
