//! Committed entries never change and never differ between nodes, so no two nodes apply different entries at one index
//! (state machine safety; Raft paper, figure 3); and every node's log has them all at the end.

use super::{End, Invariant, View};
use crate::base::ids::{EntryId, LogIndex, Term};
use crate::raft::LogView;

#[derive(Default)]
pub(super) struct StateMachineSafety {
    /// Term of the committed entry at index `place + 1`.
    known: Vec<Term>,
}

impl StateMachineSafety {
    fn note(&mut self, view: &View<'_>, index: LogIndex) -> Result<(), String> {
        let Some(term) = view.raft.log().term_at(index) else {
            return Err(format!("node {} committed index {index}, which it does not have", view.node));
        };
        match self.known.get(index.0 as usize - 1) {
            None => self.known.push(term),
            Some(known) if *known != term => {
                return Err(format!(
                    "node {} has {} committed, another had term {known} there",
                    view.node,
                    EntryId::new(term, index)
                ));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

impl Invariant for StateMachineSafety {
    fn name(&self) -> &'static str {
        "state machine safety"
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
        Ok(())
    }

    fn finish(&mut self, end: &End) -> Result<(), String> {
        for (node, log) in &end.logs {
            for (place, term) in self.known.iter().enumerate() {
                let committed = EntryId::new(*term, LogIndex(place as u64 + 1));
                if log.get(place).map(|entry| entry.id()) != Some(committed) {
                    return Err(format!(
                        "node {node} lost the committed {committed} (it has {:?})",
                        log.get(place)
                    ));
                }
            }
        }
        Ok(())
    }
}
