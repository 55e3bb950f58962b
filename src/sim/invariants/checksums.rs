//! Nodes with equal applied indexes have equal logs (chain) and equal tables of producers (checksum); at the end the
//! logs are equal byte for byte.

use std::collections::BTreeMap;

use super::{End, Invariant, View};
use crate::base::ids::{LogIndex, NodeId};

#[derive(Default)]
pub(super) struct Checksums {
    at: BTreeMap<LogIndex, (NodeId, u64, u64)>,
    /// Of logs that have yet to reach the checkpoint that they began with, whose state is ahead of them.
    behind: BTreeMap<LogIndex, (NodeId, u64)>,
}

impl Invariant for Checksums {
    fn name(&self) -> &'static str {
        "equal checksums"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        let (index, chain) = view.state;
        if view.applied.0 > index {
            return Err(format!(
                "node {}: its state is at {index}, applied is {}",
                view.node, view.applied.0
            ));
        }
        if view.applied.0 < index {
            self.behind.insert(view.applied.0, (view.node, view.applied.1));
        }
        let producers = view.producers.checksum();
        if view.producers.applied_index() != index {
            return Err(format!(
                "node {}: the table of producers is at {}, the node's state at {index}",
                view.node,
                view.producers.applied_index()
            ));
        }
        let (first, first_chain, first_producers) =
            *self.at.entry(index).or_insert((view.node, chain, producers));
        if (first_chain, first_producers) == (chain, producers) {
            return Ok(());
        }
        Err(format!(
            "at applied index {index}: node {first} had chain {first_chain:016x} and producers \
             {first_producers:016x}, node {} has {chain:016x} and {producers:016x}",
            view.node
        ))
    }

    fn finish(&mut self, end: &End) -> Result<(), String> {
        let log = end.log();
        for (node, other) in &end.logs {
            if other.len() != log.len() {
                return Err(format!(
                    "node {node} ends with {} entries, another with {}",
                    other.len(),
                    log.len()
                ));
            }
            if let Some((a, b)) = log.iter().zip(other).find(|(a, b)| a.bytes() != b.bytes()) {
                return Err(format!("node {node} has {b:?}, another {a:?}"));
            }
        }
        let chains = self.at.iter().map(|(index, (node, chain, _))| (index, (node, chain)));
        let behind = self.behind.iter().map(|(index, (node, chain))| (index, (node, chain)));
        for (index, (node, chain)) in chains.chain(behind) {
            let at_end = (*index > LogIndex::ZERO).then(|| log.get(index.0 as usize - 1)).flatten();
            if at_end.is_some_and(|entry| entry.chain() != *chain) {
                return Err(format!("node {node} once had another log up to {index}"));
            }
        }
        Ok(())
    }
}
