//! A leader never overwrites or deletes entries of its log; it only appends (Raft paper, figure 3). What retention lets
//! go from the beginning is no part of that.

use std::collections::BTreeMap;

use super::{Invariant, View};
use crate::base::ids::{EntryId, NodeId, Term};
use crate::raft::Role;

#[derive(Default)]
pub(super) struct LeaderAppendOnly {
    /// Who leads in which term and life, the last entry that it was seen with, and how often its log had been cut.
    leaders: BTreeMap<NodeId, (Term, u64, EntryId, u64)>,
}

impl Invariant for LeaderAppendOnly {
    fn name(&self) -> &'static str {
        "leader append-only"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        if view.raft.role() != Role::Leader {
            self.leaders.remove(&view.node);
            return Ok(());
        }
        let (term, last, cuts) = (view.raft.term(), view.raft.last_id(), view.raft.log_generation());
        let before = self.leaders.insert(view.node, (term, view.life, last, cuts));
        let Some((led, life, end, cuts_before)) = before else { return Ok(()) };
        if (led, life) != (term, view.life) {
            return Ok(());
        }
        if cuts != cuts_before || !view.raft.log().contains(end) || last < end {
            return Err(format!(
                "leader {} of term {term} had {end} at the end of its log, and has {last} now",
                view.node
            ));
        }
        Ok(())
    }
}
