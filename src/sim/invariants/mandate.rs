//! Whoever leads a term was voted for in that very term by a quorum of the voters, by the disks that count (PITFALLS 3, 17,
//! 48). Two leaders in a term are what follows where this fails, but only when somebody else stands in it too.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, Invariant, View};
use crate::base::ids::{Incarnation, NodeId, Term};
use crate::raft::{Message, Role};

#[derive(Default)]
pub(super) struct Mandate {
    /// Who granted a vote, with which formatting, by candidate and term.
    granted: BTreeMap<(NodeId, Term), BTreeSet<(NodeId, Incarnation)>>,
    /// Leaderships that were looked at.
    leaders: BTreeSet<(NodeId, Term)>,
}

impl Invariant for Mandate {
    fn name(&self) -> &'static str {
        "a leader has a quorum's votes"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        let leadership = (view.node, view.raft.term());
        if view.raft.role() != Role::Leader || !self.leaders.insert(leadership) {
            return Ok(());
        }
        let granted = self.granted.entry(leadership).or_default();
        let is_for_it = |node: NodeId, named: Incarnation| {
            node == view.node
                || granted
                    .iter()
                    .any(|(voter, disk)| *voter == node && (named == Incarnation(0) || named == *disk))
        };
        let voters = view.voters();
        let votes = voters.iter().filter(|voter| is_for_it(voter.node_id, voter.incarnation)).count();
        if votes > voters.len() / 2 {
            return Ok(());
        }
        Err(format!(
            "node {} leads term {} with {votes} votes of {} voters; granted to it were {granted:?}",
            view.node,
            view.raft.term(),
            voters.len()
        ))
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Result<(), String> {
        if let Message::VoteReply { term, granted: true, .. } = answer.message {
            let voter = (answer.from, answer.incarnation);
            self.granted.entry((answer.to, *term)).or_default().insert(voter);
        }
        Ok(())
    }
}
