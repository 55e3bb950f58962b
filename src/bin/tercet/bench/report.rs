//! What a bench run found.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tercet::base::units::show_ns;
use tercet::metrics::{LatencyRecorder, LatencySummary};

use super::generator::Measured;
use crate::args::{BenchOptions, Rate};
use crate::output;

/// A rate counts as held when at most this part of it is missing.
const MISSED_MAX: f64 = 0.01;
/// The generator was late when its own delay at the 99th percentile passes this and this part of the measured latency.
/// That delay is part of the latency, which is therefore never shown too small; but beyond this the machine was
/// measured and not the cluster.
const LATE_MAX: Duration = Duration::from_millis(1);
/// See [`LATE_MAX`].
const LATE_PART: u64 = 2;

/// What a node's process cost while measuring.
pub struct NodeCost {
    /// The node.
    pub node_id: u16,
    /// Processor time while measuring.
    pub cpu_s: f64,
    /// Most memory it ever had resident.
    pub rss_peak_bytes: u64,
}

/// What the measured time cost.
pub struct Costs {
    /// Nodes whose processes run here.
    pub nodes: Vec<NodeCost>,
    /// Processor time of the generator.
    pub own_cpu_s: f64,
    /// Part of this machine's processor time that its hypervisor gave to others: what is measured under it is the
    /// machine. None where the system does not tell.
    pub stolen_pct: Option<f64>,
}

/// All connections together.
pub struct Report {
    rate: Rate,
    size: u64,
    duration: Duration,
    connections: u16,
    latency: LatencySummary,
    late_p99_ns: u64,
    scheduled: u64,
    sent: u64,
    acknowledged: u64,
    unacknowledged: u64,
    failures: u64,
    durability: &'static str,
    costs: Costs,
}

impl Report {
    /// Adds the connections up.
    pub fn new(options: &BenchOptions, measured: &[Measured], costs: Costs) -> Self {
        let (mut latency, mut lateness) = (LatencyRecorder::new(), LatencyRecorder::new());
        for one in measured {
            latency.merge(&one.latency);
            lateness.merge(&one.lateness);
        }
        let sum = |of: fn(&Measured) -> u64| measured.iter().map(of).sum();
        Self {
            rate: options.rate,
            size: options.size,
            duration: options.duration,
            connections: options.connections,
            latency: latency.summary(),
            late_p99_ns: lateness.quantile_ns(0.99),
            scheduled: sum(|one| one.scheduled),
            sent: sum(|one| one.sent),
            acknowledged: sum(|one| one.acknowledged),
            unacknowledged: sum(|one| one.unacknowledged),
            failures: sum(|one| u64::from(one.failure.is_some())),
            durability: measured
                .iter()
                .find_map(|one| one.durability)
                .map_or("unknown", |durability| durability.as_str()),
            costs,
        }
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.duration.as_secs_f64()
    }

    /// Events that were due while measuring and not handed over in that time, and events never acknowledged.
    fn missed(&self) -> u64 {
        self.scheduled.saturating_sub(self.sent) + self.unacknowledged
    }

    /// Whether the numbers mean what they say; else why not.
    pub fn verdict(&self) -> Result<(), String> {
        if self.failures > 0 || self.latency.count == 0 {
            return Err(format!("{} of {} connections failed", self.failures, self.connections));
        }
        let missed = self.missed() as f64 / self.scheduled.max(1) as f64;
        if missed > MISSED_MAX {
            return Err(format!(
                "the rate was missed: {:.1} % of the events were not sent in time",
                missed * 100.0
            ));
        }
        let Rate::PerSecond(rate) = self.rate else { return Ok(()) };
        let achieved = self.per_second(self.acknowledged);
        if achieved < rate * (1.0 - MISSED_MAX) {
            return Err(format!(
                "the rate was missed: {achieved:.0} of {rate:.0} events a second were acknowledged"
            ));
        }
        let limit_ns = (LATE_MAX.as_nanos() as u64).max(self.latency.p99_ns / LATE_PART);
        if self.late_p99_ns > limit_ns {
            return Err(format!(
                "the generator itself was late (p99 {}): this machine was too busy to measure",
                show_ns(self.late_p99_ns)
            ));
        }
        Ok(())
    }

    /// As `bench --json` prints it.
    pub fn to_json(&self) -> Value {
        let us = |ns: u64| ns as f64 / 1e3;
        let nodes: Vec<Value> = self
            .costs
            .nodes
            .iter()
            .map(|node| {
                json!({ "node_id": node.node_id, "cpu_s": node.cpu_s, "rss_peak_bytes": node.rss_peak_bytes })
            })
            .collect();
        json!({
            "offered_per_s": self.per_second(self.scheduled),
            "achieved_per_s": self.per_second(self.acknowledged),
            "missed": self.missed(),
            "errors": self.failures,
            "p50_us": us(self.latency.p50_ns),
            "p90_us": us(self.latency.p90_ns),
            "p99_us": us(self.latency.p99_ns),
            "p999_us": us(self.latency.p999_ns),
            "p9999_us": us(self.latency.p9999_ns),
            "max_us": us(self.latency.max_ns),
            "generator_late_p99_us": us(self.late_p99_ns),
            "generator_cpu_s": self.costs.own_cpu_s,
            "stolen_pct": self.costs.stolen_pct,
            "durability": self.durability,
            "events": self.latency.count,
            "size": self.size,
            "connections": self.connections,
            "duration_s": self.duration.as_secs_f64(),
            "nodes": nodes,
        })
    }

    /// As `bench` prints it.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let latency = &self.latency;
        let kind = match self.rate {
            Rate::Max => "closed window",
            Rate::PerSecond(_) => "open loop",
        };
        writeln!(
            out,
            "{} events of {} B in {:.1} s on {} connections, {kind}, acknowledged = {}",
            latency.count,
            self.size,
            self.duration.as_secs_f64(),
            self.connections,
            self.durability
        )?;
        writeln!(
            out,
            "offered {:.0}/s, achieved {:.0}/s, missed {}, errors {}",
            self.per_second(self.scheduled),
            self.per_second(self.acknowledged),
            self.missed(),
            self.failures
        )?;
        out.push_str(&latency_table(latency));
        writeln!(
            out,
            "generator: p99 {} late, {:.2} s of CPU",
            show_ns(self.late_p99_ns),
            self.costs.own_cpu_s
        )?;
        if let Some(stolen_pct) = self.costs.stolen_pct {
            writeln!(out, "machine: {stolen_pct:.1} % of its processor time went to others (steal)")?;
        }
        for node in &self.costs.nodes {
            let mib = node.rss_peak_bytes as f64 / f64::from(1 << 20);
            writeln!(
                out,
                "node {}: {:.2} s of CPU, {mib:.0} MiB resident at most",
                node.node_id, node.cpu_s
            )?;
        }
        Ok(())
    }
}

/// The usual quantiles as a table of one row.
pub fn latency_table(latency: &LatencySummary) -> String {
    let head = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let values =
        [latency.p50_ns, latency.p90_ns, latency.p99_ns, latency.p999_ns, latency.p9999_ns, latency.max_ns];
    let rows = [head.map(str::to_owned).to_vec(), values.map(show_ns).to_vec()];
    output::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::{Costs, Duration, LatencyRecorder, LatencySummary, Rate, Report};

    fn report() -> Report {
        let mut latency = LatencyRecorder::new();
        latency.record_ns(5_000_000);
        Report {
            rate: Rate::PerSecond(1_000.0),
            size: 512,
            duration: Duration::from_secs(10),
            connections: 1,
            latency: latency.summary(),
            late_p99_ns: 100_000,
            scheduled: 10_000,
            sent: 10_000,
            acknowledged: 10_000,
            unacknowledged: 0,
            failures: 0,
            durability: "disk",
            costs: Costs { nodes: Vec::new(), own_cpu_s: 0.1, stolen_pct: Some(2.5) },
        }
    }

    #[test]
    fn a_run_that_held_its_rate_passes_and_each_fault_fails_it() {
        assert_eq!(report().verdict(), Ok(()));
        assert_eq!(Report { acknowledged: 9_901, ..report() }.verdict(), Ok(()));
        assert_eq!(Report { late_p99_ns: 2_400_000, ..report() }.verdict(), Ok(()), "under half of the p99");
        let broken = [
            (Report { acknowledged: 9_899, ..report() }, "rate was missed"),
            (Report { sent: 9_800, ..report() }, "rate was missed"),
            (Report { unacknowledged: 101, ..report() }, "rate was missed"),
            (Report { late_p99_ns: 2_600_000, ..report() }, "generator itself was late"),
            (Report { failures: 1, ..report() }, "connections failed"),
            (Report { latency: LatencySummary::default(), ..report() }, "connections failed"),
        ];
        for (report, expected) in broken {
            let why = report.verdict().unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn a_closed_window_has_no_rate_to_miss() {
        let free = Report { rate: Rate::Max, acknowledged: 1, late_p99_ns: u64::MAX, ..report() };
        assert_eq!(free.verdict(), Ok(()));
    }

    #[test]
    fn json_has_the_documented_fields() {
        let json = report().to_json();
        for field in [
            "offered_per_s",
            "achieved_per_s",
            "missed",
            "errors",
            "p50_us",
            "p90_us",
            "p99_us",
            "p999_us",
            "p9999_us",
            "max_us",
            "generator_late_p99_us",
        ] {
            assert!(json[field].is_number(), "{field}");
        }
        assert_eq!(json["p50_us"], 5_000.0);
        assert_eq!(json["durability"], "disk");
        assert!(json["nodes"].is_array());
        assert_eq!(json["stolen_pct"], 2.5);
    }
}
