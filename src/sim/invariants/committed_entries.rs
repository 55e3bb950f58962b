//! Committed entries never change and never differ between nodes (state machine safety), and whoever leads a later
//! term has them all (leader completeness; Raft paper, figure 3).

use std::collections::{BTreeMap, BTreeSet};

use super::{End, Invariant, View};
use crate::base::ids::{EntryId, LogIndex, NodeId, Term};
use crate::raft::{LogView, Role};

#[derive(Default)]
pub(super) struct CommittedEntries {
    /// Term of the entry at index `place + 1`, and the lowest term in which somebody knew it committed.
    known: Vec<(Term, Term)>,
    /// Terms whose leader was looked at; a leader only appends.
    leaders: BTreeSet<Term>,
    /// What each node had committed when it was first seen leading its newest term.
    at_election: BTreeMap<NodeId, (Term, LogIndex)>,
}

impl CommittedEntries {
    fn note(&mut self, view: &View<'_>, index: LogIndex) -> Result<(), String> {
        let log = view.raft.log();
        let Some(term) = log.term_at(index) else {
            return Err(format!("node {} committed index {index}, which it does not have", view.node));
        };
        let place = index.0 as usize - 1;
        match self.known.get_mut(place) {
            None => self.known.push((term, view.raft.term())),
            Some((known, committed_in)) => {
                *committed_in = view.raft.term().min(*committed_in);
                if *known != term {
                    return Err(format!(
                        "node {} has {} committed, another had term {known} there",
                        view.node,
                        EntryId::new(term, index)
                    ));
                }
            }
        }
        Ok(())
    }
}

impl CommittedEntries {
    /// A leader commits entries of older terms only along with one of its own (figure 8).
    fn check_figure_8(&mut self, view: &View<'_>) -> Result<(), String> {
        let (term, commit) = (view.raft.term(), view.raft.commit_index());
        let at_election = self.at_election.entry(view.node).or_insert((term, commit));
        if at_election.0 != term {
            *at_election = (term, commit);
        }
        if commit > at_election.1 && view.raft.term_at(commit) != Some(term) {
            return Err(format!(
                "leader {} of term {term} committed {commit}, which is of term {:?}",
                view.node,
                view.raft.term_at(commit)
            ));
        }
        Ok(())
    }
}

impl Invariant for CommittedEntries {
    fn name(&self) -> &'static str {
        "committed entries"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        let commit = view.raft.commit_index();
        // Newly committed anywhere: look at each entry. Known already: the newest one stands for those before it,
        // by log matching.
        let mut index = commit.min(LogIndex(self.known.len() as u64)).max(LogIndex(1));
        while index <= commit {
            self.note(view, index)?;
            index = index.next();
        }
        let term = view.raft.term();
        if view.raft.role() == Role::Leader {
            self.check_figure_8(view)?;
        }
        if view.raft.role() == Role::Leader && self.leaders.insert(term) {
            let last = self.known.iter().rposition(|(_, committed_in)| *committed_in < term);
            if let Some(place) = last {
                let index = LogIndex(place as u64 + 1);
                if view.raft.term_at(index) != Some(self.known[place].0) {
                    return Err(format!(
                        "leader {} of term {term} lacks the committed {}",
                        view.node,
                        EntryId::new(self.known[place].0, index)
                    ));
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, end: &End) -> Result<(), String> {
        for (node, log) in &end.logs {
            for (place, (term, _)) in self.known.iter().enumerate() {
                let index = LogIndex(place as u64 + 1);
                if log.get(place).map(|entry| entry.id()) != Some(EntryId::new(*term, index)) {
                    return Err(format!(
                        "node {node} lost the committed {} (it has {:?})",
                        EntryId::new(*term, index),
                        log.get(place)
                    ));
                }
            }
        }
        Ok(())
    }
}
