//! Tables of what is so.

use tercet::base::ids::LogIndex;

use crate::commands::node;
use crate::log::Log;
use crate::words;
use crate::world::{Node, World};

/// # Errors
/// Where there is no such table.
pub fn show(world: &mut World, args: &[&str]) -> Result<(), String> {
    let lines = match args {
        ["logs"] => logs(world),
        ["state"] => world.nodes.iter().map(|(id, node)| state(*id, node)).collect(),
        ["wire"] => world.wire.iter().map(|flight| flight.words("...")).collect(),
        ["progress", id] => {
            let raft = world.raft(node(id)?)?;
            let peers = raft.membership().members().filter_map(|peer| raft.progress(peer));
            peers.map(words::progress).collect()
        }
        _ => return Err("show what?".to_owned()),
    };
    if lines.is_empty() {
        world.say("nothing".to_owned());
    }
    lines.into_iter().for_each(|line| world.say(line));
    Ok(())
}

/// One row a node: `[ ]` is committed as far as it knows, `~` is not on its disk yet.
fn logs(world: &World) -> Vec<String> {
    let ends = world.nodes.values().map(|node| log(node).last().index.get());
    let last = ends.max().unwrap_or(0);
    let begin = world.nodes.values().map(|node| log(node).base.index.get()).min().unwrap_or(0) + 1;
    let mut rows = vec![vec![String::new()]];
    rows[0].extend((begin..=last).map(|index| format!(" {index}")));
    for (id, node) in &world.nodes {
        let role = node
            .raft
            .as_ref()
            .map_or("down".to_owned(), |raft| format!("{} t{}", words::role(raft.role()), raft.term()));
        let mut row = vec![format!("n{id} {role}")];
        row.extend((begin..=last).map(|index| cell(node, LogIndex(index))));
        rows.push(row);
    }
    let columns = rows[0].len();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Of a node that is down, what it will read.
fn log(node: &Node) -> &Log {
    if node.raft.is_some() { &node.log } else { &node.disk }
}

fn cell(node: &Node, index: LogIndex) -> String {
    let (log, disk) = (log(node), &node.disk);
    let Some(slot) = log.get(index) else {
        return if index <= log.base.index { " removed".to_owned() } else { String::new() };
    };
    let committed = node.raft.as_ref().is_some_and(|raft| index <= raft.commit_index());
    let flushed = disk.get(index) == Some(slot);
    let (open, close) = if committed { ("[", "]") } else { (" ", "") };
    let mark = if flushed { "" } else { "~" };
    format!("{open}t{} {}{close}{mark}", slot.term, words::brief(&slot.what))
}

fn state(id: u16, node: &Node) -> String {
    let Some(raft) = &node.raft else {
        return format!("n{id} is down; on its disk: {}", words::hard(&node.disk_hard));
    };
    let of = raft.leader().filter(|leader| leader.0 != id).map_or(String::new(), |n| format!(" of n{n}"));
    format!(
        "n{id} {}{of}: {}; last {}, flushed {}, committed {}",
        words::role(raft.role()),
        words::hard(raft.hard_state()),
        words::entry(raft.last_id()),
        raft.stable_index(),
        raft.commit_index()
    )
}
