//! Who votes and who only receives.

use crate::base::ids::NodeId;
use crate::base::limits::NODES_MAX;
use crate::raft::quorum::majority;
use thiserror::Error;

/// Why a set of nodes cannot be a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MembershipError {
    /// There is nobody to elect.
    #[error("a cluster has at least one voter")]
    NoVoter,
    /// Too many nodes.
    #[error("a cluster has at most {NODES_MAX} nodes, learners included")]
    TooMany,
    /// A node is named twice.
    #[error("node {0} is named twice")]
    Twice(NodeId),
}

/// The members of the cluster, 1 to [`NODES_MAX`] in all, each named once; both lists sorted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
}

impl Membership {
    /// Sorts and checks.
    ///
    /// # Errors
    /// [`MembershipError`] for no voter, more than [`NODES_MAX`] nodes, or a node named twice.
    pub fn new(mut voters: Vec<NodeId>, mut learners: Vec<NodeId>) -> Result<Self, MembershipError> {
        if voters.is_empty() {
            return Err(MembershipError::NoVoter);
        }
        if voters.len() + learners.len() > NODES_MAX {
            return Err(MembershipError::TooMany);
        }
        voters.sort_unstable();
        learners.sort_unstable();
        let mut all: Vec<NodeId> = voters.iter().chain(&learners).copied().collect();
        all.sort_unstable();
        if let Some(pair) = all.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(MembershipError::Twice(pair[0]));
        }
        Ok(Self { voters, learners })
    }

    /// Those who vote, sorted.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Those who receive the log and are never counted, sorted.
    #[must_use]
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// Whether `node` votes.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node)
    }

    /// Whether `node` is a voter or a learner.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// Votes needed.
    #[must_use]
    pub fn quorum(&self) -> usize {
        majority(self.voters.len())
    }

    /// Every member.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().chain(&self.learners).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{Membership, MembershipError};
    use crate::base::ids::NodeId;

    fn nodes(ids: &[u16]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn a_membership_is_sorted_and_checked() {
        let m = Membership::new(nodes(&[3, 1, 2]), nodes(&[9, 4])).unwrap();
        assert_eq!(m.voters(), nodes(&[1, 2, 3]));
        assert_eq!(m.learners(), nodes(&[4, 9]));
        assert_eq!(m.quorum(), 2);
        assert!(m.contains(NodeId(9)) && !m.is_voter(NodeId(9)) && !m.contains(NodeId(8)));
        assert_eq!(Membership::new(vec![], nodes(&[1])), Err(MembershipError::NoVoter));
        assert_eq!(Membership::new(nodes(&[1, 2]), nodes(&[2])), Err(MembershipError::Twice(NodeId(2))));
        assert_eq!(
            Membership::new(nodes(&[1, 2, 3, 4, 5]), nodes(&[6, 7, 8])),
            Err(MembershipError::TooMany)
        );
    }
}
