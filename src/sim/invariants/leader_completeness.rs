//! Whoever leads a term has every entry that was committed in an earlier one (leader completeness; Raft paper, figure 3),
//! and commits entries of older terms only along with one of its own (section 5.4.2, figure 8).

use std::collections::{BTreeMap, BTreeSet};

use super::{Invariant, View};
use crate::base::ids::{EntryId, LogIndex, NodeId, Term};
use crate::raft::Role;

#[derive(Default)]
pub(super) struct LeaderCompleteness {
    /// Term of the committed entry at index `place + 1`, and the lowest term in which somebody knew it committed.
    known: Vec<(Term, Term)>,
    /// Terms whose leader was looked at; a leader only appends.
    leaders: BTreeSet<Term>,
    /// What each node had committed when it was first seen leading its newest term.
    at_election: BTreeMap<NodeId, (Term, LogIndex)>,
}

impl LeaderCompleteness {
    fn note_committed(&mut self, view: &View<'_>) {
        let commit = view.raft.commit_index();
        if let Some((_, committed_in)) =
            commit.0.checked_sub(1).and_then(|at| self.known.get_mut(at as usize))
        {
            *committed_in = view.raft.term().min(*committed_in);
        }
        while (self.known.len() as u64) < commit.0 {
            let index = LogIndex(self.known.len() as u64 + 1);
            // What a node lacks that it calls committed is for another invariant to say.
            let Some(term) = view.raft.term_at(index) else { return };
            self.known.push((term, view.raft.term()));
        }
    }

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

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        self.note_committed(view);
        if view.raft.role() != Role::Leader {
            return Ok(());
        }
        self.check_figure_8(view)?;
        let term = view.raft.term();
        if !self.leaders.insert(term) {
            return Ok(());
        }
        let last = self.known.iter().rposition(|(_, committed_in)| *committed_in < term);
        let Some(place) = last else { return Ok(()) };
        let (index, committed) = (LogIndex(place as u64 + 1), self.known[place].0);
        // By log matching the newest one stands for those before it.
        if view.raft.term_at(index) == Some(committed) || index <= view.raft.log().base().index {
            return Ok(());
        }
        Err(format!(
            "leader {} of term {term} lacks the committed {}",
            view.node,
            EntryId::new(committed, index)
        ))
    }
}
