//! Holds what everybody has seen against each other.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tercet::base::ids::Offset;
use tercet::client::NodeStatus;

use super::lab::check::{self, Comparison};
use super::lab::cluster::Cluster;
use super::lab::error::LabResult;
use super::lab::interrupt::Interrupt;
use super::lab::load::History;
use super::readers::Given;
use super::watcher::Leaders;

/// Not one of the writers.
const NOBODY: u16 = u16::MAX;

/// One event, by its place and its identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its offset.
    pub offset: u64,
    /// Who wrote it.
    pub writer: u16,
    /// Its sequence.
    pub sequence: u64,
}

/// What everybody has seen, after the end.
#[derive(Default)]
pub struct Record {
    /// Of each writer: its acknowledgements, and how many events it sent.
    pub writers: Vec<(History, u64)>,
    /// Of each reader.
    pub readers: Vec<Given>,
    /// Of each node.
    pub statuses: Vec<NodeStatus>,
    /// By term.
    pub leaders: Leaders,
}

/// What came of it.
#[derive(Default)]
pub struct Checked {
    /// Events that were acknowledged.
    pub acknowledged: u64,
    /// Events that were sent more than once.
    pub resent: u64,
    /// Events in the log.
    pub events: u64,
    /// Events that readers were given, all together.
    pub events_read: u64,
    /// Of `tercet log verify`, node by node.
    pub verify_exit_codes: Vec<i32>,
    /// What must not be.
    pub violations: Vec<String>,
}

/// A writer's producer.
pub fn writer_name(writer: u16) -> String {
    format!("chaos-{writer}")
}

/// The writer of that name.
pub fn writer_number(name: &str) -> u16 {
    name.strip_prefix("chaos-").and_then(|number| number.parse().ok()).unwrap_or(NOBODY)
}

/// Reads every node's log, compares everything, stops the nodes and verifies their files.
///
/// # Errors
/// When something cannot be read at all.
pub fn check(
    cluster: &mut Cluster,
    record: &Record,
    size: usize,
    interrupt: &Interrupt,
) -> LabResult<Checked> {
    let mut checked = Checked { violations: two_leaders(&record.leaders), ..Checked::default() };
    let sums = |status: &NodeStatus| (status.log_checksum, status.producers_checksum, status.last_offset);
    for status in record.statuses.iter().filter(|status| sums(status) != sums(&record.statuses[0])) {
        checked.violations.push(format!("node {} and node 1 have different logs", status.node_id));
    }
    let mut acknowledged = Vec::new();
    for (writer, (history, sent)) in record.writers.iter().enumerate() {
        let (offsets, wrong) = history.offsets(*sent);
        checked.acknowledged += *sent;
        checked.resent += history.resent;
        if wrong > 0 {
            checked
                .violations
                .push(format!("writer {writer}: {wrong} events are not acknowledged exactly once"));
        }
        if history.duplicates_unexplained > 0 {
            let events = history.duplicates_unexplained;
            checked.violations.push(format!("writer {writer}: {events} duplicates that it never sent"));
        }
        acknowledged.push(offsets);
    }
    let end = record.statuses[0].last_offset;
    let mut log: Option<Vec<Seen>> = None;
    for node in &cluster.nodes {
        let seen = read_node(node.direct, end, &acknowledged, size, interrupt, &mut checked.violations)?;
        match &log {
            None => log = Some(seen),
            Some(first) => compare(&format!("node {}", node.id), &seen, first, &mut checked.violations),
        }
    }
    let log = log.unwrap_or_default();
    checked.events = log.len() as u64;
    for (reader, given) in record.readers.iter().enumerate() {
        let name = format!("reader {reader}");
        checked.events_read += given.events.len() as u64;
        checked.violations.extend(given.wrong.iter().map(|what| format!("{name}: {what}")));
        compare(&name, &given.events, &log, &mut checked.violations);
    }
    for id in cluster.ids() {
        let code = cluster.terminate(id)?;
        if code != Some(0) {
            checked.violations.push(format!("node {id} ended with exit code {code:?} on SIGTERM"));
        }
        let (code, said) = cluster.node(id).verify()?;
        checked.verify_exit_codes.push(code.unwrap_or(-1));
        if code != Some(0) {
            checked.violations.push(format!("node {id}: log verify: {said}"));
        }
    }
    Ok(checked)
}

fn two_leaders(leaders: &Leaders) -> Vec<String> {
    let broken = leaders.iter().filter(|(_, nodes)| nodes.len() > 1);
    broken.map(|(term, nodes)| format!("term {term} has the leaders {nodes:?}")).collect()
}

/// One node's whole log, compared with what every writer was told.
fn read_node(
    server: std::net::SocketAddr,
    end: Offset,
    acknowledged: &[Vec<Option<Offset>>],
    size: usize,
    interrupt: &Interrupt,
    violations: &mut Vec<String>,
) -> LabResult<Vec<Seen>> {
    let mut comparisons: Vec<Comparison<'_>> =
        acknowledged.iter().map(|offsets| Comparison::new(offsets, size)).collect();
    let (mut seen, mut strange) = (Vec::new(), 0);
    check::read(server, "", end, interrupt, |event| {
        let writer = writer_number(event.producer);
        seen.push(Seen { offset: event.offset.0, writer, sequence: event.sequence.0 });
        match comparisons.get_mut(usize::from(writer)) {
            Some(comparison) => comparison.see(event.offset, event.sequence.0, event.body),
            None => strange += 1,
        }
    })?;
    if strange > 0 {
        violations.push(format!("{server}: {strange} events of nobody"));
    }
    for (writer, comparison) in comparisons.into_iter().enumerate() {
        let faults = comparison.finish();
        if faults.sum() > 0 {
            violations.push(format!("{server}: events of writer {writer}: {faults:?}"));
        }
    }
    Ok(seen)
}

/// Both must be the same, event by event; the first difference is told.
fn compare(name: &str, seen: &[Seen], log: &[Seen], violations: &mut Vec<String>) {
    let both = seen.iter().zip(log);
    if let Some((own, logged)) = both.into_iter().find(|(own, logged)| own != logged) {
        violations.push(format!("{name}: {own:?} where the log has {logged:?}"));
    } else if seen.len() != log.len() {
        violations.push(format!("{name}: {} events where the log has {}", seen.len(), log.len()));
    }
}

/// Writes what was recorded, for whoever looks into a violation.
///
/// # Errors
/// As the system says.
pub fn write_history(dir: &Path, record: &Record, checked: &Checked) -> LabResult<()> {
    fs::write(dir.join("violations.txt"), checked.violations.join("\n"))?;
    for (writer, (history, _)) in record.writers.iter().enumerate() {
        let mut text = "first_sequence,count,first_offset,at_ns\n".to_owned();
        for run in &history.runs {
            let _ = writeln!(text, "{},{},{},{}", run.first_sequence, run.count, run.first_offset, run.at_ns);
        }
        fs::write(dir.join(format!("writer-{writer}.csv")), text)?;
    }
    for (reader, given) in record.readers.iter().enumerate() {
        let mut text = "offset,writer,sequence\n".to_owned();
        for seen in &given.events {
            let _ = writeln!(text, "{},{},{}", seen.offset, seen.writer, seen.sequence);
        }
        fs::write(dir.join(format!("reader-{reader}.csv")), text)?;
    }
    let mut text = String::new();
    for (term, nodes) in &record.leaders {
        let _ = writeln!(text, "term {term}: {nodes:?}");
    }
    fs::write(dir.join("leaders.txt"), text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Leaders, Seen, compare, two_leaders, writer_name, writer_number};

    fn seen(offset: u64, writer: u16, sequence: u64) -> Seen {
        Seen { offset, writer, sequence }
    }

    #[test]
    fn a_reader_that_saw_something_else_more_or_less_than_the_log_is_found() {
        let log = [seen(1, 0, 1), seen(2, 1, 1), seen(3, 0, 2)];
        let told = |given: &[Seen]| {
            let mut violations = Vec::new();
            compare("reader", given, &log, &mut violations);
            violations.len()
        };
        assert_eq!(told(&log), 0);
        assert_eq!(told(&[log[0], seen(2, 0, 2), log[2]]), 1, "an event that was never committed there");
        assert_eq!(told(&log[..2]), 1, "one is missing at the end");
        assert_eq!(told(&[log[0], log[1], log[2], seen(4, 0, 3)]), 1, "one too many");
        assert_eq!(told(&[log[0], log[2]]), 1, "a gap");
    }

    #[test]
    fn two_leaders_of_one_term_are_a_violation_and_one_of_two_terms_is_none() {
        let leaders = |rows: &[(u64, u16)]| {
            let mut leaders = Leaders::new();
            for (term, node) in rows {
                leaders.entry(*term).or_default().insert(*node);
            }
            leaders
        };
        assert!(two_leaders(&leaders(&[(1, 2), (2, 2), (3, 1), (3, 1)])).is_empty());
        assert_eq!(two_leaders(&leaders(&[(1, 2), (2, 1), (2, 3)])).len(), 1);
    }

    #[test]
    fn writers_are_known_by_their_names() {
        assert_eq!(writer_number(&writer_name(7)), 7);
        assert_eq!(writer_number("somebody"), super::NOBODY);
    }
}
