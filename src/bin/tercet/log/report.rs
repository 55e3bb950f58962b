//! What a check of a directory says.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};
use tercet::base::ids::EntryId;
use tercet::log::{LogError, LostRun, VerifyReport};

use super::CheckError;
use crate::status::checksum_text;

fn id_json(id: EntryId) -> Value {
    json!({ "term": id.term.0, "index": id.index.0 })
}

/// The report as `log verify --json` prints it.
pub fn to_json(report: &VerifyReport) -> Value {
    let segments: Vec<Value> = report
        .segments
        .iter()
        .map(|segment| {
            json!({
                "file": segment.file.display().to_string(),
                "number": segment.seq,
                "first_index": segment.base_index.0,
                "last_index": segment.last_index.0,
                "end_position": segment.end_position,
                "sealed": segment.sealed,
            })
        })
        .collect();
    let torn_tail = report.recovery.cut.as_ref().map(|cut| {
        json!({
            "file": cut.file.display().to_string(),
            "position": cut.position,
            "last_index": cut.last.index.0,
            "claimed": cut.claimed.map(id_json),
            "found": format!("{:?}", cut.found),
        })
    });
    json!({
        "ok": true,
        "node_id": report.identity.node_id.0,
        "cluster_id": report.identity.cluster_id.to_string(),
        "incarnation": report.identity.incarnation.to_string(),
        "term": report.hard_state.term.0,
        "voted_for": report.hard_state.voted_for.map(|node| node.0),
        "claimed_tail": report.hard_state.claimed_tail.map(id_json),
        "entries": report.recovery.entries,
        "events": report.next_offset.0.saturating_sub(1),
        "bytes": report.recovery.bytes,
        "last_index": report.last.index.0,
        "last_term": report.last.term.0,
        "log_checksum": checksum_text(report.last_chain),
        "watermark": report.recovery.watermark.0,
        "commit_hint": report.commit_hint.0,
        "damaged_slots": report.recovery.damaged_slots,
        "torn_tail": torn_tail,
        "segments": segments,
    })
}

/// What is wrong, as `log verify --json` prints it; `lost`: every run of entries that cannot be read.
pub fn error_to_json(error: &CheckError, lost: &[LostRun]) -> Value {
    let mut object = first_to_json(error);
    if !lost.is_empty() {
        object["lost"] = lost.iter().map(lost_to_json).collect();
    }
    object
}

fn lost_to_json(run: &LostRun) -> Value {
    json!({
        "file": run.file.display().to_string(),
        "position": run.position,
        "first_index": run.first.0,
        "last_index": run.last.0,
        "error": run.what,
    })
}

/// Every run of entries that cannot be read, a line each.
pub fn lost_to_text(lost: &[LostRun]) -> String {
    lost.iter().map(|run| format!("lost: {run}\n")).collect()
}

fn first_to_json(error: &CheckError) -> Value {
    match error {
        CheckError::Contents { index, what } => {
            json!({ "ok": false, "error": what, "first_index": index.0, "last_index": index.0 })
        }
        CheckError::Log(LogError::Corrupt(damage)) => json!({
            "ok": false,
            "error": damage.what,
            "file": damage.file.display().to_string(),
            "position": damage.position,
            "first_index": damage.first.0,
            "last_index": damage.last.map(|last| last.0),
        }),
        CheckError::Log(error) => json!({ "ok": false, "error": error.to_string() }),
    }
}

/// The report for people.
pub fn to_text(data_dir: &Path, report: &VerifyReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_text(&mut out, data_dir, report);
    out
}

fn write_text(out: &mut String, data_dir: &Path, report: &VerifyReport) -> std::fmt::Result {
    let (recovery, last) = (&report.recovery, report.last);
    writeln!(
        out,
        "{}: node {} of cluster {}: no damage",
        data_dir.display(),
        report.identity.node_id,
        report.identity.cluster_id
    )?;
    writeln!(
        out,
        "  {} entries in {} segments ({:.1} MiB), {} events, last: {last}",
        recovery.entries,
        recovery.segments,
        recovery.bytes as f64 / f64::from(1 << 20),
        report.next_offset.0.saturating_sub(1),
    )?;
    writeln!(
        out,
        "  log checksum {} at index {}; known to be durable up to {}, committed up to {}",
        checksum_text(report.last_chain),
        last.index,
        recovery.watermark,
        report.commit_hint
    )?;
    match report.hard_state.claimed_tail {
        Some(_) if report.hard_state.is_in_doubt() => {
            writeln!(
                out,
                "  may have lost its newest entries when its machine went down (durability 'memory')"
            )?;
        }
        Some(claimed) => writeln!(out, "  claims {claimed}, which it once held")?,
        None => {}
    }
    if recovery.damaged_slots > 0 {
        writeln!(out, "  {} damaged watermark slots, whose twins were used", recovery.damaged_slots)?;
    }
    if let Some(cut) = &recovery.cut {
        writeln!(out, "  torn tail above the watermark: {cut}; the next start cuts it")?;
    }
    Ok(())
}
