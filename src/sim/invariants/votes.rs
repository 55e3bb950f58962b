//! A disk grants its vote once a term, whatever crashes lie between: a vote is durable before it leaves (PITFALLS 2).

use std::collections::BTreeMap;

use super::{Answer, Invariant};
use crate::base::ids::{Incarnation, NodeId, Term};
use crate::raft::Message;

#[derive(Default)]
pub(super) struct Votes {
    granted: BTreeMap<(NodeId, Incarnation, Term), NodeId>,
}

impl Invariant for Votes {
    fn name(&self) -> &'static str {
        "one vote a term"
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Result<(), String> {
        let Message::VoteReply { term, granted: true, .. } = answer.message else { return Ok(()) };
        let first = *self.granted.entry((answer.from, answer.incarnation, *term)).or_insert(answer.to);
        if first == answer.to {
            return Ok(());
        }
        Err(format!("node {} voted for {first} and for {} in term {term}", answer.from, answer.to))
    }
}
