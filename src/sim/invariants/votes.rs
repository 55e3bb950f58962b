//! A disk grants its vote once a term, whatever crashes lie between: a vote is durable before it leaves, and a start reads
//! it again (PITFALLS 2, 5). What it has forgotten does harm only when somebody else asks in that very term, so what it
//! remembers is looked at.

use std::collections::BTreeMap;

use super::{Answer, Invariant, View};
use crate::base::ids::{Incarnation, NodeId, Term};
use crate::raft::Message;

#[derive(Default)]
pub(super) struct Votes {
    granted: BTreeMap<(NodeId, Incarnation, Term), NodeId>,
    /// The newest term that a disk has voted in, and the life in which its memory of that was looked at last.
    newest: BTreeMap<(NodeId, Incarnation), (Term, u64)>,
}

impl Invariant for Votes {
    fn name(&self) -> &'static str {
        "one vote a term"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        let disk = (view.node, view.incarnation);
        let Some((term, life)) = self.newest.get_mut(&disk) else { return Ok(()) };
        if std::mem::replace(life, view.life) == view.life {
            return Ok(());
        }
        let hard = view.raft.hard_state();
        let voted = self.granted.get(&(view.node, view.incarnation, *term)).copied();
        if hard.term > *term || (hard.term == *term && hard.voted_for == voted) {
            return Ok(());
        }
        Err(format!(
            "node {} voted for {voted:?} in term {term}, and started again with term {} and a vote for {:?}",
            view.node, hard.term, hard.voted_for
        ))
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Result<(), String> {
        let Message::VoteReply { term, granted: true, .. } = answer.message else { return Ok(()) };
        let newest = self.newest.entry((answer.from, answer.incarnation)).or_default();
        newest.0 = newest.0.max(*term);
        let first = *self.granted.entry((answer.from, answer.incarnation, *term)).or_insert(answer.to);
        if first == answer.to {
            return Ok(());
        }
        Err(format!("node {} voted for {first} and for {} in term {term}", answer.from, answer.to))
    }
}
