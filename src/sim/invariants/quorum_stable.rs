//! Whatever a node takes for committed lies flushed on a quorum of disks, and no acknowledgement between nodes reaches
//! beyond the sender's own flush (PITFALLS 14, 15). Only for clusters in which stable means flushed.

use std::collections::BTreeMap;

use super::{Answer, Invariant, View};
use crate::base::ids::{LogIndex, NodeId};
use crate::raft::{AppendOutcome, LogView, Message, TermRuns};

pub(super) struct QuorumStable {
    quorum: usize,
    /// What each disk holds for certain, dead nodes' included, and the terms of the node's log.
    flushed: BTreeMap<NodeId, (LogIndex, TermRuns)>,
    checked: LogIndex,
}

impl QuorumStable {
    pub(super) fn new(nodes: u16) -> Self {
        let quorum = usize::from(nodes) / 2 + 1;
        Self { quorum, flushed: BTreeMap::new(), checked: LogIndex(1) }
    }
}

impl Invariant for QuorumStable {
    fn name(&self) -> &'static str {
        "committed is stable on a quorum"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        let known = self.flushed.get(&view.node);
        if known.is_none_or(|(flushed, log)| *flushed != view.flushed || log != view.raft.log()) {
            self.flushed.insert(view.node, (view.flushed, view.raft.log().clone()));
        }
        let commit = view.raft.commit_index();
        if commit <= self.checked {
            return Ok(());
        }
        let term = view.raft.term_at(commit);
        let holders = self
            .flushed
            .iter()
            .filter(|(_, (flushed, log))| *flushed >= commit && log.term_at(commit) == term)
            .count();
        if holders < self.quorum {
            let state: Vec<String> =
                self.flushed.iter().map(|(node, (flushed, _))| format!("{node}: {flushed}")).collect();
            return Err(format!(
                "node {} has committed {commit} of term {term:?}, flushed on {holders} nodes only ({})",
                view.node,
                state.join(", ")
            ));
        }
        self.checked = commit;
        Ok(())
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Result<(), String> {
        let stable = match answer.message {
            Message::AppendReply { outcome: AppendOutcome::Accepted { stable, .. }, .. }
            | Message::HeartbeatReply { stable, .. } => *stable,
            _ => return Ok(()),
        };
        if stable > answer.flushed {
            return Err(format!(
                "node {} says {stable} is stable, its disk has flushed {}",
                answer.from, answer.flushed
            ));
        }
        Ok(())
    }
}
