//! What the demo says at the end. Everything in it was measured or compared in this run.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tercet::base::units::show_ns;
use tercet::metrics::LatencySummary;

use crate::output;

/// A proof and its outcome.
pub struct Proof {
    /// For scripts.
    pub name: &'static str,
    /// For people: what was shown, with numbers.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
}

/// The report.
#[derive(Default)]
pub struct Report {
    proofs: Vec<Proof>,
    /// Latency rows: label, summary.
    latencies: Vec<(&'static str, LatencySummary)>,
    /// Numbers for `--json`.
    numbers: Map<String, Value>,
}

impl Report {
    /// Notes a proof.
    pub fn prove(&mut self, name: &'static str, holds: bool, text: String) {
        self.proofs.push(Proof { name, text, holds });
    }

    /// Notes a number for `--json`.
    pub fn number(&mut self, name: &str, value: impl Into<Value>) {
        self.numbers.insert(name.to_owned(), value.into());
    }

    /// Notes latencies.
    pub fn latency(&mut self, label: &'static str, summary: LatencySummary) {
        self.latencies.push((label, summary));
    }

    /// The proofs that do not hold.
    pub fn broken(&self) -> Vec<&'static str> {
        self.proofs.iter().filter(|proof| !proof.holds).map(|proof| proof.name).collect()
    }

    /// One JSON object.
    pub fn to_json(&self) -> Value {
        let us = |ns: u64| ns as f64 / 1e3;
        let proofs: Map<String, Value> =
            self.proofs.iter().map(|proof| (proof.name.to_owned(), json!(proof.holds))).collect();
        let latencies: Map<String, Value> = self
            .latencies
            .iter()
            .map(|(label, latency)| {
                let row = json!({
                    "events": latency.count,
                    "p50_us": us(latency.p50_ns),
                    "p90_us": us(latency.p90_ns),
                    "p99_us": us(latency.p99_ns),
                    "p999_us": us(latency.p999_ns),
                    "p9999_us": us(latency.p9999_ns),
                    "max_us": us(latency.max_ns),
                });
                (label.replace(' ', "_"), row)
            })
            .collect();
        let mut object = self.numbers.clone();
        object.insert("ok".to_owned(), json!(self.broken().is_empty()));
        object.insert("proofs".to_owned(), Value::Object(proofs));
        object.insert("latency".to_owned(), Value::Object(latencies));
        Value::Object(object)
    }

    /// Lines with a mark each, and the table.
    pub fn to_text(&self, elapsed: Duration) -> String {
        let mut out = String::new();
        for proof in &self.proofs {
            let mark = if proof.holds { '✓' } else { '✗' };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{mark} {}", proof.text);
        }
        let mut rows = vec![
            ["latency", "events", "p50", "p90", "p99", "p99.9", "p99.99", "max"].map(str::to_owned).to_vec(),
        ];
        for (label, latency) in &self.latencies {
            let shown = [
                latency.p50_ns,
                latency.p90_ns,
                latency.p99_ns,
                latency.p999_ns,
                latency.p9999_ns,
                latency.max_ns,
            ];
            let mut row = vec![(*label).to_owned(), latency.count.to_string()];
            row.extend(shown.map(show_ns));
            rows.push(row);
        }
        let _ = writeln!(out, "\n{}", output::table(&rows).trim_end());
        let _ = writeln!(out, "(from the intended send time to the acknowledgement)\n");
        let verdict = if self.broken().is_empty() { "all proofs hold" } else { "PROOFS ARE BROKEN" };
        let _ = writeln!(out, "{verdict}, {:.1} s", elapsed.as_secs_f64());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Report};

    #[test]
    fn one_broken_proof_breaks_the_whole() {
        let mut report = Report::default();
        report.prove("one", true, "first".to_owned());
        assert!(report.to_text(Duration::ZERO).contains("✓ first"));
        assert_eq!(report.to_json()["ok"], true);
        report.prove("two", false, "second".to_owned());
        report.number("outage_ms", 12.5);
        assert_eq!(report.broken(), ["two"]);
        let json = report.to_json();
        assert_eq!((&json["ok"], &json["proofs"]["one"]), (&false.into(), &true.into()));
        assert_eq!(json["outage_ms"], 12.5);
        assert!(report.to_text(Duration::ZERO).contains("✗ second"));
    }
}
