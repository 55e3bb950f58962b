//! Who votes and who only receives.

use crate::base::ids::{LogIndex, NodeId};
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
    /// The node of this id is another than the one that is meant; see [`Membership::denying`].
    denied: Option<NodeId>,
    /// Not everybody has been met; see [`Membership::awaiting_others`].
    is_awaiting: bool,
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
        Ok(Self { voters, learners, denied: None, is_awaiting: false })
    }

    /// The same members, as seen by a node that is not the `node` which is meant: the configuration names another
    /// formatting of its disk. It counts among the voters of others, but knows that it is none.
    #[must_use]
    pub fn denying(self, node: NodeId) -> Self {
        Self { denied: Some(node), ..self }
    }

    /// The same members, as seen by a node that cannot yet tell who they are: nothing names all voters' disks, and it has
    /// not met them all. It does not campaign, and votes only for one whose log goes beyond this membership's entry: what
    /// stands there names them. Otherwise two disks without a log could elect each other beside nodes that have one.
    #[must_use]
    pub fn awaiting_others(self) -> Self {
        Self { is_awaiting: true, ..self }
    }

    /// Everybody has been met now.
    pub(super) const fn all_met(&mut self) {
        self.is_awaiting = false;
    }

    /// Whether this node cannot tell yet who the voters are.
    #[must_use]
    pub const fn is_awaiting_others(&self) -> bool {
        self.is_awaiting
    }

    /// Whether the node of this id is another than the one that is meant.
    #[must_use]
    pub fn denies(&self, node: NodeId) -> bool {
        self.denied == Some(node)
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
        self.voters.contains(&node) && !self.denies(node)
    }

    /// Whether `node` is a voter or a learner.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }

    /// How many voters are only in one of the two.
    #[must_use]
    pub fn voters_changed(&self, other: &Self) -> usize {
        let missing =
            |one: &Self, from: &Self| one.voters.iter().filter(|&v| !from.voters.contains(v)).count();
        missing(self, other) + missing(other, self)
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

/// What configuration entries put in force: the newest one from its append on (PITFALLS 31), and those that a truncation
/// could bring back.
///
/// Never empty; ascending by index. All but the first may be uncommitted. The index is that of the configuration entry;
/// zero where there is none (tests).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InForce<T> {
    older: Vec<(LogIndex, T)>,
    index: LogIndex,
    newest: T,
}

/// The membership in force, and those that a truncation could bring back.
pub type MembershipLog = InForce<Membership>;

impl From<Membership> for MembershipLog {
    fn from(membership: Membership) -> Self {
        Self::new(LogIndex::ZERO, membership)
    }
}

impl<T> InForce<T> {
    /// One that stands from `index` on.
    #[must_use]
    pub const fn new(index: LogIndex, value: T) -> Self {
        Self { older: Vec::new(), index, newest: value }
    }

    /// Another one stands from `index` on.
    ///
    /// # Panics
    /// Where that is not after the last one.
    pub fn push(&mut self, index: LogIndex, value: T) {
        assert!(index > self.index, "configurations follow each other: {index} after {}", self.index);
        let older = std::mem::replace(&mut self.newest, value);
        self.older.push((self.index, older));
        self.index = index;
    }

    /// Entries from `first_removed` on are gone. True where that brings an older one back.
    pub fn truncate_from(&mut self, first_removed: LogIndex) -> bool {
        let before = self.index;
        while self.index >= first_removed
            && let Some((index, value)) = self.older.pop()
        {
            (self.index, self.newest) = (index, value);
        }
        self.index != before
    }

    /// Everything up to `commit` stays for good: what came before the last of them is forgotten.
    pub fn committed(&mut self, commit: LogIndex) {
        if self.older.is_empty() {
            return;
        }
        if self.index <= commit {
            self.older.clear();
        } else if let Some(last) = self.older.iter().rposition(|(index, _)| *index <= commit) {
            self.older.drain(..last);
        }
    }

    /// All of them, from the oldest on.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.older.iter_mut().map(|(_, value)| value).chain(std::iter::once(&mut self.newest))
    }

    /// The one in force.
    #[must_use]
    pub const fn newest(&self) -> &T {
        &self.newest
    }

    /// The entry that it stands in.
    #[must_use]
    pub const fn index(&self) -> LogIndex {
        self.index
    }

    /// The oldest one that is kept: the last committed one, as far as is known.
    #[must_use]
    pub fn oldest(&self) -> &T {
        self.older.first().map_or(&self.newest, |(_, value)| value)
    }

    /// The same entries with something made of each value.
    ///
    /// # Errors
    /// The first one that `make` gives.
    pub fn try_map<U, E>(&self, mut make: impl FnMut(&T) -> Result<U, E>) -> Result<InForce<U>, E> {
        let older: Result<Vec<_>, E> =
            self.older.iter().map(|(index, value)| Ok((*index, make(value)?))).collect();
        Ok(InForce { older: older?, index: self.index, newest: make(&self.newest)? })
    }
}

#[cfg(test)]
mod tests {
    use super::{Membership, MembershipError, MembershipLog};
    use crate::base::ids::{LogIndex, NodeId};

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

    #[test]
    fn a_truncation_brings_back_what_stood_before_and_a_commit_forgets_it() {
        let of = |voters: &[u16]| Membership::new(nodes(voters), vec![]).unwrap();
        let mut log = MembershipLog::new(LogIndex(1), of(&[1, 2, 3]));
        log.push(LogIndex(5), of(&[1, 2]));
        log.push(LogIndex(9), of(&[1, 2, 4]));
        let whole = log.clone();
        assert!(!log.truncate_from(LogIndex(10)));
        assert!(log.truncate_from(LogIndex(6)));
        assert_eq!((log.index(), log.newest()), (LogIndex(5), &of(&[1, 2])));
        assert!(log.truncate_from(LogIndex(2)));
        assert_eq!((log.index(), log.newest()), (LogIndex(1), &of(&[1, 2, 3])));
        // Between the two nothing before the committed one can come back.
        let mut log = whole.clone();
        log.committed(LogIndex(8));
        assert_ne!(log, whole);
        assert!(log.truncate_from(LogIndex(9)));
        assert_eq!(log, MembershipLog::new(LogIndex(5), of(&[1, 2])));
        let mut log = whole;
        log.committed(LogIndex(9));
        assert_eq!(log, MembershipLog::new(LogIndex(9), of(&[1, 2, 4])));
    }

    #[test]
    fn a_node_that_is_not_the_one_meant_is_no_voter_but_counts_for_others() {
        let m = Membership::new(nodes(&[1, 2, 3]), vec![]).unwrap().denying(NodeId(3));
        assert!(!m.is_voter(NodeId(3)) && m.contains(NodeId(3)) && m.denies(NodeId(3)));
        assert_eq!((m.quorum(), m.voters().len()), (2, 3));
    }
}
