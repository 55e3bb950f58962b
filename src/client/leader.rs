//! Who leads, as far as all nodes together have told.
//!
//! Pure: told what was heard, it answers who is to be published to. At most one node leads in a term (Raft paper,
//! election safety), so the newest term decides, and in one term whoever is named first.

use crate::base::ids::{NodeId, Term};

/// What is known of the cluster's leadership.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Leadership {
    term: Term,
    leader: Option<NodeId>,
    /// This node has said that it takes nothing in although it leads in this term (it drains, or its disk failed).
    /// What others say of it does not count then; its own word does.
    declined: Option<NodeId>,
}

impl Leadership {
    /// The newest term heard of.
    pub(super) const fn term(&self) -> Term {
        self.term
    }

    /// Who leads in it, if somebody is known to.
    pub(super) const fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// `from` says that `leader` (or nobody that it knows of) leads in `term`. True when another node than before is
    /// to be published to.
    pub(super) fn hear(&mut self, from: Option<NodeId>, term: Term, leader: Option<NodeId>) -> bool {
        if term < self.term {
            return false;
        }
        let before = self.leader;
        if term > self.term {
            *self = Self { term, leader, declined: None };
        } else if self.leader.is_none() && (self.declined != leader || from == leader) {
            self.leader = leader;
        }
        self.leader.is_some() && self.leader != before
    }

    /// `node` has said that it does not take events in; it may have said who does.
    pub(super) fn declined(&mut self, node: NodeId, term: Term, leader: Option<NodeId>) -> bool {
        let before = self.leader;
        self.hear(Some(node), term, leader.filter(|leader| *leader != node));
        if self.leader == Some(node) {
            (self.leader, self.declined) = (None, Some(node));
            self.leader = leader.filter(|leader| *leader != node && term == self.term);
        }
        self.leader.is_some() && self.leader != before
    }
}

#[cfg(test)]
mod tests {
    use super::Leadership;
    use crate::base::ids::{NodeId, Term};

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    #[test]
    fn the_newest_term_decides_and_old_news_change_nothing() {
        let mut known = Leadership::default();
        assert!(known.hear(Some(B), Term(3), Some(A)));
        assert!(!known.hear(Some(B), Term(2), Some(B)), "old news");
        assert!(!known.hear(Some(B), Term(3), None), "not knowing is no news");
        assert_eq!(known.leader(), Some(A));
        assert!(!known.hear(Some(B), Term(4), None), "an election is under way");
        assert_eq!((known.term(), known.leader()), (Term(4), None));
        assert!(known.hear(Some(A), Term(4), Some(B)));
    }

    #[test]
    fn a_node_that_declined_is_believed_only_by_its_own_word() {
        let mut known = Leadership::default();
        known.hear(Some(A), Term(3), Some(A));
        assert!(!known.declined(A, Term(3), None));
        assert_eq!(known.leader(), None);
        assert!(!known.hear(Some(B), Term(3), Some(A)), "others do not know that it drains");
        assert!(known.hear(Some(A), Term(3), Some(A)), "its own word counts");
        assert!(known.declined(A, Term(4), Some(B)), "a redirect names the next leader");
        assert_eq!((known.term(), known.leader()), (Term(4), Some(B)));
    }
}
