//! A node's commit index, and what it has applied, never fall while it runs.

use std::collections::BTreeMap;

use super::{Invariant, View};
use crate::base::ids::{LogIndex, NodeId};

#[derive(Default)]
pub(super) struct CommitNeverFalls {
    known: BTreeMap<NodeId, (u64, LogIndex, LogIndex)>,
}

impl Invariant for CommitNeverFalls {
    fn name(&self) -> &'static str {
        "commit never falls"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        let (commit, applied) = (view.raft.commit_index(), view.applied.0);
        if applied > commit {
            return Err(format!("node {} applied {applied}, committed is {commit}", view.node));
        }
        match self.known.insert(view.node, (view.life, commit, applied)) {
            Some((life, earlier, applied_earlier))
                if life == view.life && (commit < earlier || applied < applied_earlier) =>
            {
                Err(format!(
                    "node {} went back from {earlier} to {commit}, applied {applied_earlier} to {applied}",
                    view.node
                ))
            }
            _ => Ok(()),
        }
    }
}
