//! `tercet status`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tercet::base::ids::{LogIndex, NodeId, Offset};
use tercet::client::{ClientError, NodeStatus, query_status_all};

use crate::args::StatusOptions;
use crate::connect;
use crate::exit::{Failure, Outcome, UNAVAILABLE};
use crate::output;

/// How long nodes have to answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(1);

type Row = (SocketAddr, Result<NodeStatus, ClientError>);

/// Asks all nodes in parallel.
pub fn run(options: &StatusOptions) -> Outcome {
    let servers = connect::servers(&options.servers)?;
    let rows = query_status_all(&servers, ANSWER_LIMIT)?;
    let answered = rows.iter().filter(|(_, row)| row.is_ok()).count();
    if options.json {
        let nodes: Vec<Value> = rows.iter().map(to_json).collect();
        output::print_json(&json!({ "nodes": nodes }))?;
    } else {
        crate::output::say(to_table(&rows))?;
    }
    let ends = rows.iter().filter_map(|(_, row)| {
        let status = row.as_ref().ok()?;
        Some((status.node_id, status.log_checksum_index, status.log_checksum))
    });
    for (one, other, index) in unequal(&ends.collect::<Vec<_>>()) {
        output::note(format!(
            "warning: nodes {one} and {other} have different logs up to index {index}. Where they are of one cluster, stop \
             publishing, keep all data directories, check each with `tercet log verify`, and report it"
        ));
    }
    let answers = rows.iter().filter_map(|(_, row)| row.as_ref().ok());
    for refused in answers.filter(|status| is_refused(status)) {
        output::note(refusal(refused.node_id, refused.peers.len()));
    }
    if answered == 0 {
        return Err(Failure::new(UNAVAILABLE, format!("none of {} nodes answered", rows.len())));
    }
    Ok(ExitCode::SUCCESS)
}

/// What helps a node that the others refuse, of which it knows so many.
fn refusal(node: NodeId, others: usize) -> String {
    let way_back = if others < 2 {
        "a cluster of two cannot replace a disk: put the old directory back".to_owned()
    } else {
        format!(
            "where that was lost, let this one in by `tercet member replace --servers LIST --node {node}` (the log of \
             node {node} says more)"
        )
    };
    format!(
        "warning: node {node} takes no part: it is refused by nodes whose cluster knows another disk of it; {way_back}"
    )
}

/// Pairs of nodes that have committed the same index and not the same log.
fn unequal(ends: &[(NodeId, LogIndex, u64)]) -> Vec<(NodeId, NodeId, LogIndex)> {
    let mut pairs = Vec::new();
    for (at, (one, index, checksum)) in ends.iter().enumerate() {
        let others = ends[at + 1..].iter().filter(|(_, other, sum)| other == index && sum != checksum);
        pairs.extend(others.map(|(other, ..)| (*one, *other, *index)));
    }
    pairs
}

/// A checksum as text: numbers of 64 bits do not survive every JSON reader.
pub fn checksum_text(checksum: u64) -> String {
    format!("{checksum:016x}")
}

fn to_json((server, row): &Row) -> Value {
    let status = match row {
        Ok(status) => status,
        Err(error) => return json!({ "server": server.to_string(), "error": error.to_string() }),
    };
    let peers: Vec<Value> = status
        .peers
        .iter()
        .map(|peer| {
            json!({
                "node_id": peer.node_id.0,
                "connected": peer.connected,
                "next_index": peer.next_index.0,
                "match_appended": peer.match_appended.0,
                "match_stable": peer.match_stable.0,
                "state": peer.state.as_str(),
            })
        })
        .collect();
    let counters: Map<String, Value> =
        status.counters.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "server": server.to_string(),
        "node_id": status.node_id.0,
        "role": status.role.as_str(),
        "term": status.term.0,
        "leader_id": status.leader_id.map(|leader| leader.0),
        "commit_index": status.commit_index.0,
        "last_index": status.last_index.0,
        "flushed_index": status.flushed_index.0,
        "first_offset": status.first_offset.0,
        "last_offset": status.last_offset.0,
        "log_checksum_index": status.log_checksum_index.0,
        "log_checksum": checksum_text(status.log_checksum),
        "producers": status.producers,
        "producers_checksum": checksum_text(status.producers_checksum),
        "peers": peers,
        "durability": status.durability.as_str(),
        "uptime_ms": status.uptime_ms,
        "version": status.version,
        "mending_entries": mending_entries(status),
        "in_doubt": is_in_doubt(status),
        "counters": counters,
    })
}

fn counter(status: &NodeStatus, wanted: &str) -> u64 {
    let found = status.counters.iter().find(|(name, _)| name == wanted);
    found.map_or(0, |(_, value)| *value)
}

/// Damaged entries that the node waits for before it takes part; 0 for one that does.
fn mending_entries(status: &NodeStatus) -> u64 {
    counter(status, "mending_entries_lost").saturating_sub(counter(status, "mending_entries_mended"))
}

/// Whether the node may have lost entries that it acknowledged, and so neither leads nor helps to elect one that lacks
/// them, until a leader (or the other nodes) have settled it.
fn is_in_doubt(status: &NodeStatus) -> bool {
    counter(status, "batcher_in_doubt") > 0
}

/// Whether other nodes refuse this one, since their cluster knows another disk of it.
fn is_refused(status: &NodeStatus) -> bool {
    counter(status, "batcher_refused_by") > 0
}

fn role(status: &NodeStatus) -> String {
    let role = status.role.as_str();
    if is_refused(status) {
        return format!("{role}, refused");
    }
    if counter(status, "batcher_voters_unmet") > 0 {
        // A new cluster begins when all its nodes have met.
        return format!("{role}, has not met all");
    }
    match (mending_entries(status) > 0, is_in_doubt(status)) {
        (true, _) => "mending".to_owned(),
        (false, true) => format!("{role}, in doubt"),
        (false, false) => role.to_owned(),
    }
}

const COLUMNS: [&str; 11] = [
    "NODE",
    "SERVER",
    "ROLE",
    "TERM",
    "LEADER",
    "COMMITTED",
    "LAST",
    "FLUSHED",
    "OFFSETS",
    "LOG CHECKSUM",
    "UPTIME",
];

/// A row for each node; those that did not answer come last, each with its reason.
fn to_table(rows: &[Row]) -> String {
    let mut cells = vec![COLUMNS.map(str::to_owned).to_vec()];
    cells.extend(rows.iter().filter_map(|(server, row)| Some(to_cells(*server, row.as_ref().ok()?))));
    let mut out = String::new();
    if cells.len() > 1 {
        out.push_str(&output::table(&cells));
    }
    for (server, row) in rows {
        if let Err(error) = row {
            out.push_str(&format!("{server}: no answer: {error}\n"));
        }
    }
    out
}

fn to_cells(server: SocketAddr, status: &NodeStatus) -> Vec<String> {
    let offsets = match status.last_offset {
        Offset::ZERO => "none".to_owned(),
        last => format!("{}-{last}", status.first_offset),
    };
    vec![
        status.node_id.to_string(),
        server.to_string(),
        role(status),
        status.term.to_string(),
        status.leader_id.map_or_else(|| "?".to_owned(), |leader| leader.to_string()),
        status.commit_index.to_string(),
        status.last_index.to_string(),
        status.flushed_index.to_string(),
        offsets,
        format!("{}@{}", checksum_text(status.log_checksum), status.log_checksum_index),
        tercet::base::units::show_ns(status.uptime_ms.saturating_mul(1_000_000)),
    ]
}

#[cfg(test)]
mod tests {
    use super::{refusal, unequal};
    use tercet::base::ids::{LogIndex, NodeId};

    #[test]
    fn who_is_refused_is_told_what_its_cluster_can_do() {
        assert!(refusal(NodeId(3), 2).contains("`tercet member replace --servers LIST --node 3`"));
        assert!(refusal(NodeId(3), 1).contains("put the old directory back"));
    }

    #[test]
    fn logs_differ_where_one_index_has_two_checksums() {
        let end = |node, index, checksum| (NodeId(node), LogIndex(index), checksum);
        assert_eq!(unequal(&[end(1, 5, 7), end(2, 5, 7), end(3, 4, 9)]), []);
        let pairs = unequal(&[end(1, 5, 7), end(2, 5, 8), end(3, 5, 7)]);
        let pair = |one, other| (NodeId(one), NodeId(other), LogIndex(5));
        assert_eq!(pairs, [pair(1, 2), pair(2, 3)]);
    }
}
