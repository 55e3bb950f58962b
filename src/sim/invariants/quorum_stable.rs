//! Whatever a node takes for committed lies flushed on a quorum of the voters' disks, and no acknowledgement between
//! nodes reaches beyond the sender's own flush (PITFALLS 14, 15, 17). Only for clusters in which stable means flushed.

use std::collections::BTreeMap;

use super::{Answer, Invariant, View, agreed};
use crate::base::ids::{Incarnation, LogIndex, NodeId, Term};
use crate::entry::Configuration;
use crate::raft::{AppendOutcome, LogView, Message, TermRuns};

/// What a disk holds for certain.
struct Held {
    /// Of the node's log as it is now.
    flushed: LogIndex,
    /// The terms of the node's log.
    log: TermRuns,
    term: Term,
    /// Truncations that the log writer may have yet to carry out, with the last index that each has left: an entry that is
    /// flushed behind that is not the one that the core has there by now (PITFALLS 28).
    cuts: Vec<(u64, LogIndex)>,
}

impl Held {
    fn note(&mut self, view: &View<'_>) {
        let log = view.raft.log();
        let seen = self.cuts.last().map_or(view.flushed_generation, |cut| cut.0);
        if view.raft.log_generation() > seen {
            self.cuts.push((view.raft.log_generation(), agreed(&self.log, log)));
        }
        self.cuts.retain(|(generation, _)| *generation > view.flushed_generation);
        let left = self.cuts.iter().map(|(_, left)| *left).min();
        self.flushed = left.map_or(view.flushed, |left| left.min(view.flushed));
        self.term = view.raft.term();
        if self.log != *log {
            self.log = log.clone();
        }
    }
}

#[derive(Default)]
pub(super) struct QuorumStable {
    /// By node and formatting. Dead nodes' disks included, and lost ones too: an acknowledgement that is under way when a
    /// disk is lost was true, and the fault atlas sees to it that it does no harm.
    held: BTreeMap<(NodeId, Incarnation), Held>,
    /// Every configuration that was ever in force, by the index of its entry; one of a suffix that was cut off gives way
    /// to what came in its place.
    configurations: BTreeMap<LogIndex, Configuration>,
    checked: LogIndex,
}

impl QuorumStable {
    fn note(&mut self, view: &View<'_>) {
        let disk = (view.node, view.incarnation);
        let (log, term) = (view.raft.log(), view.raft.term());
        let new = || Held { flushed: view.flushed, log: log.clone(), term, cuts: Vec::new() };
        let held = self.held.entry(disk).or_insert_with(new);
        if view.flushed_generation == view.raft.log_generation() {
            // Another life counts anew.
            held.cuts.clear();
        }
        held.note(view);
        let (index, newest) = (view.configurations.index(), view.configurations.newest());
        if self.configurations.get(&index) != Some(newest) {
            self.configurations.insert(index, newest.clone());
        }
    }

    /// The voters whose disks have the entry.
    fn holders(&self, configuration: &Configuration, view: &View<'_>) -> usize {
        let commit = view.raft.commit_index();
        let term = view.raft.term_at(commit);
        let holds = |node: NodeId, named: Incarnation| {
            self.held.iter().any(|((of, incarnation), held)| {
                *of == node
                    && (named == Incarnation(0) || named == *incarnation)
                    && held.flushed >= commit
                    && held.log.term_at(commit) == term
            })
        };
        configuration.voters.iter().filter(|voter| holds(voter.node_id, voter.incarnation)).count()
    }

    fn describe(&self) -> String {
        let state = self.held.iter().map(|((node, _), held)| format!("{node}: {}", held.flushed));
        state.collect::<Vec<_>>().join(", ")
    }
}

impl Invariant for QuorumStable {
    fn name(&self) -> &'static str {
        "committed is stable on a quorum"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        self.note(view);
        let commit = view.raft.commit_index();
        if commit <= self.checked.max(LogIndex(1)) {
            return Ok(());
        }
        // A leader counts by the configuration in force, which may stand behind the entry; whoever else is the first to
        // be seen with the commit may not have that one any more (or not yet), so any from the entry's own on will do. And
        // what is in force here: one that was cut off may still stand at a later index in the book.
        let in_force = view.configurations.newest();
        let of_entry = self.configurations.range(..=commit).next_back();
        let later = self.configurations.range(commit.next()..);
        let possible = of_entry.into_iter().chain(later).map(|(_, known)| known).chain([in_force]);
        let has_quorum = |known: &Configuration| self.holders(known, view) > known.voters.len() / 2;
        if !possible.clone().any(has_quorum) {
            let best = possible.map(|known| self.holders(known, view)).max().unwrap_or(0);
            return Err(format!(
                "node {} has committed {commit} of term {:?}, flushed on {best} voters only ({})",
                view.node,
                view.raft.term_at(commit),
                self.describe()
            ));
        }
        self.checked = commit;
        Ok(())
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Result<(), String> {
        let (term, stable) = match answer.message {
            Message::AppendReply { term, outcome: AppendOutcome::Accepted { stable, .. } }
            | Message::HeartbeatReply { term, stable, .. } => (*term, *stable),
            _ => return Ok(()),
        };
        // What it said in an older term may be cut off since; and what it has begun anew behind is in a checkpoint.
        let held = self.held.get(&(answer.from, answer.incarnation));
        let held = held.filter(|held| held.term == term && stable > held.log.base().index);
        let flushed = held.map_or(answer.flushed, |held| held.flushed.min(answer.flushed));
        if stable > flushed {
            return Err(format!(
                "node {} says {stable} is stable, its disk has flushed {flushed}",
                answer.from
            ));
        }
        Ok(())
    }
}
