//! At most one leader in a term (Raft paper, figure 3), and no node's term falls while it runs (PITFALLS 5).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Invariant, View};
use crate::base::ids::{NodeId, Term};
use crate::raft::Role;

/// How many terms had a leader, readable while the invariant is at work.
#[derive(Clone, Default)]
pub(super) struct LeaderCount(Rc<Cell<u64>>);

impl LeaderCount {
    pub(super) fn get(&self) -> u64 {
        self.0.get()
    }
}

#[derive(Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
    terms: BTreeMap<NodeId, (u64, Term)>,
    count: LeaderCount,
}

impl ElectionSafety {
    pub(super) fn count(&self) -> LeaderCount {
        self.count.clone()
    }
}

impl Invariant for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        let (node, term) = (view.node, view.raft.term());
        let before = self.terms.insert(node, (view.life, term));
        if let Some((life, earlier)) = before
            && life == view.life
            && term < earlier
        {
            return Err(format!("the term of node {node} fell from {earlier} to {term}"));
        }
        if view.raft.role() == Role::Leader {
            let leader = *self.leaders.entry(term).or_insert(node);
            self.count.0.set(self.leaders.len() as u64);
            if leader != node {
                return Err(format!("term {term} has two leaders: {leader} and {node}"));
            }
        }
        Ok(())
    }
}
