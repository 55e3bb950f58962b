//! Settings as a file that reads back to the same settings.

use std::fmt::Write;

use crate::base::clock::{NS_PER_MS, NS_PER_S};
use crate::entry::Durability;

use super::settings::{IdleStrategy, Settings, ThreadingMode};

const DURATION_UNITS: [(u64, &str); 5] =
    [(3_600 * NS_PER_S, "h"), (60 * NS_PER_S, "m"), (NS_PER_S, "s"), (NS_PER_MS, "ms"), (1_000, "us")];
const SIZE_UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

/// A duration without loss: in the largest unit that divides it.
pub(super) fn duration_text(ns: u64) -> String {
    in_units(ns, &DURATION_UNITS, "ns")
}

/// A size without loss: in the largest unit that divides it.
pub(super) fn size_text(bytes: u64) -> String {
    in_units(bytes, &SIZE_UNITS, "B")
}

fn in_units(value: u64, units: &[(u64, &str)], smallest: &str) -> String {
    let whole = units.iter().find(|(scale, _)| value != 0 && value.is_multiple_of(*scale));
    match whole {
        Some((scale, unit)) => format!("{}{unit}", value / scale),
        None => format!("{value}{smallest}"),
    }
}

/// A TOML string, escaped.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl Settings {
    /// A configuration file that [`Settings::parse`] reads back to exactly these settings, with every key written
    /// out. A `data_dir` that is not UTF-8 is rendered with replacement characters.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "cluster = {}", quoted(&self.cluster))?;
        if !self.token.0.is_empty() {
            writeln!(out, "token = {}", quoted(&self.token.0))?;
        }
        writeln!(out, "node_id = {}", self.node_id)?;
        writeln!(out, "data_dir = {}", quoted(&self.data_dir.to_string_lossy()))?;
        for node in &self.nodes {
            writeln!(out, "\n[[nodes]]\nid = {}", node.id)?;
            writeln!(out, "client = \"{}\"\npeer = \"{}\"", node.client, node.peer)?;
        }
        let batch = &self.batch;
        writeln!(out, "\n[batch]\nevents_max = {}", batch.events_max)?;
        writeln!(out, "bytes_max = \"{}\"", size_text(batch.bytes_max as u64))?;
        writeln!(out, "delay_max = \"{}\"", duration_text(batch.delay_max_ns))?;
        let durability = match self.log.durability {
            Durability::Disk => "disk",
            Durability::Memory => "memory",
        };
        writeln!(out, "\n[log]\ndurability = \"{durability}\"")?;
        writeln!(out, "segment_bytes = \"{}\"", size_text(self.log.segment_bytes))?;
        if let Some(bytes) = self.log.retention_bytes {
            writeln!(out, "retention_bytes = \"{}\"", size_text(bytes))?;
        }
        if let Some(age_ns) = self.log.retention_age_ns {
            writeln!(out, "retention_age = \"{}\"", duration_text(age_ns))?;
        }
        if let Some(bytes) = self.log.retention_slack_bytes {
            writeln!(out, "retention_slack_bytes = \"{}\"", size_text(bytes))?;
        }
        if !self.log.recycles_segments {
            writeln!(out, "trimmed_segments = \"unlink\"")?;
        }
        self.write_rest(out)
    }

    fn write_rest(&self, out: &mut String) -> std::fmt::Result {
        let election = &self.election;
        writeln!(out, "\n[election]")?;
        writeln!(out, "heartbeat_interval = \"{}\"", duration_text(election.heartbeat_interval_ns))?;
        writeln!(out, "missed_heartbeats = {}", election.missed_heartbeats)?;
        writeln!(out, "disk_stall_limit = \"{}\"", duration_text(election.disk_stall_limit_ns))?;
        writeln!(out, "\n[producers]\nwindow = \"{}\"", duration_text(self.producers.window_ns))?;
        writeln!(out, "max = {}", self.producers.max)?;
        let mode = match self.threads.mode {
            ThreadingMode::Auto => "auto",
            ThreadingMode::Shared => "shared",
            ThreadingMode::Dedicated => "dedicated",
        };
        let idle = match self.threads.idle {
            IdleStrategy::Park => "park",
            IdleStrategy::Backoff => "backoff",
            IdleStrategy::Spin => "spin",
        };
        writeln!(out, "\n[threads]\nmode = \"{mode}\"\ncores = {:?}\nidle = \"{idle}\"", self.threads.cores)?;
        writeln!(out, "\n[limits]\nconnections_max = {}", self.limits.connections_max)
    }
}
