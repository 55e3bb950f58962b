//! Logs that agree in one entry agree in all before it (Raft paper, figure 3), and a node acknowledges to a leader only
//! entries that the leader has (PITFALLS 15, 20).
//!
//! Terms stand for entries here; that equal (index, term) means equal bytes is checked by chain values
//! (`checksums`, and the byte comparison at the end).

use std::collections::BTreeMap;

use super::{Answer, Invariant, View};
use crate::base::ids::{EntryId, LogIndex, NodeId, Term};
use crate::raft::{AppendOutcome, LogView, Message, Role, TermRuns};

#[derive(Default)]
pub(super) struct LogMatching {
    /// Term and log of each node.
    logs: BTreeMap<NodeId, (Term, TermRuns)>,
    /// The log of each term's leader, as last seen while it led.
    of_leaders: BTreeMap<Term, TermRuns>,
    /// Everything up to here was compared already, for a pair of nodes.
    agreed: BTreeMap<(NodeId, NodeId), EntryId>,
}

/// The last index at which both have the same entry.
fn last_common(a: &TermRuns, b: &TermRuns) -> LogIndex {
    let mut index = a.last_id().index.min(b.last_id().index);
    let begins = a.base().index.max(b.base().index);
    while index > begins && a.term_at(index) != b.term_at(index) {
        index = index.prev();
    }
    index
}

impl LogMatching {
    fn compare(&mut self, node: NodeId, other: NodeId) -> Result<(), String> {
        let (Some((_, a)), Some((_, b))) = (self.logs.get(&node), self.logs.get(&other)) else {
            return Ok(());
        };
        let common = last_common(a, b);
        let pair = (node.min(other), node.max(other));
        let known = self.agreed.get(&pair).copied().unwrap_or_default();
        let still_known = a.contains(known) && b.contains(known) && known.index <= common;
        // What retention has removed cannot be compared any more.
        let begins = a.base().index.max(b.base().index).max(LogIndex(1));
        let mut index = if still_known { known.index.next().max(begins) } else { begins };
        // Where they differ as far back as both reach, nothing can be said.
        if common < begins || a.term_at(common) != b.term_at(common) {
            return Ok(());
        }
        while index <= common {
            if a.term_at(index) != b.term_at(index) {
                return Err(format!(
                    "nodes {node} and {other} agree at index {common}, but not at {index}: terms {:?} and {:?}",
                    a.term_at(index),
                    b.term_at(index)
                ));
            }
            index = index.next();
        }
        let term = a.term_at(common).unwrap_or_default();
        self.agreed.insert(pair, EntryId::new(term, common));
        Ok(())
    }
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        let log = view.raft.log();
        match self.logs.get_mut(&view.node) {
            Some((term, known)) if known == log => {
                *term = view.raft.term();
                return Ok(());
            }
            _ => {}
        }
        if view.raft.role() == Role::Leader {
            self.of_leaders.insert(view.raft.term(), log.clone());
        }
        self.logs.insert(view.node, (view.raft.term(), log.clone()));
        let others: Vec<NodeId> = self.logs.keys().copied().filter(|other| *other != view.node).collect();
        others.into_iter().try_for_each(|other| self.compare(view.node, other))
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Result<(), String> {
        let (term, appended) = match answer.message {
            Message::AppendReply { term, outcome: AppendOutcome::Accepted { appended, .. } } => {
                (*term, *appended)
            }
            Message::HeartbeatReply { term, round, appended, .. } if *round > 0 => (*term, *appended),
            _ => return Ok(()),
        };
        let (Some(leader), Some((now_in, mine))) = (self.of_leaders.get(&term), self.logs.get(&answer.from))
        else {
            return Ok(());
        };
        // Within a term what was verified stays; a node that went on to a newer one may have cut it since.
        if *now_in != term || appended == LogIndex::ZERO {
            return Ok(());
        }
        if appended < mine.base().index || appended < leader.base().index {
            return Ok(());
        }
        let (here, there) = (mine.term_at(appended), leader.term_at(appended));
        if here.is_none() || here != there {
            return Err(format!(
                "node {} acknowledges index {appended} to the leader of term {term}, but has term {here:?} there, the \
                 leader {there:?}",
                answer.from
            ));
        }
        Ok(())
    }
}
