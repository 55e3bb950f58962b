//! The configurations in this node's log that matter: the one in force, and those that a truncation could bring back.

use crate::base::ids::{Incarnation, LogIndex, NodeId};
use crate::entry::{Configuration, Member};
use crate::raft::{Membership, MembershipError, MembershipLog};

/// Never empty; ascending by index; all but the first may be uncommitted. The last one is in force, from its append on
/// (PITFALLS 31).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configurations {
    older: Vec<(LogIndex, Configuration)>,
    index: LogIndex,
    newest: Configuration,
}

/// What a configuration says of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// It is no member.
    Stranger,
    /// A member; whichever formatting is met first is pinned.
    AnyFormatting,
    /// A member, as this formatting of its disk and no other.
    Only(Incarnation),
}

impl Configurations {
    /// One that stands from `index` on.
    #[must_use]
    pub const fn new(index: LogIndex, configuration: Configuration) -> Self {
        Self { older: Vec::new(), index, newest: configuration }
    }

    /// Another one stands from `index` on, which is after the last one.
    pub fn push(&mut self, index: LogIndex, configuration: Configuration) {
        assert!(index > self.index, "configurations follow each other: {index} after {}", self.index);
        let older = std::mem::replace(&mut self.newest, configuration);
        self.older.push((self.index, older));
        self.index = index;
    }

    /// Entries from `first_removed` on are gone. True where that brings an older one back.
    pub fn truncate_from(&mut self, first_removed: LogIndex) -> bool {
        let before = self.index;
        while self.index >= first_removed
            && let Some((index, configuration)) = self.older.pop()
        {
            (self.index, self.newest) = (index, configuration);
        }
        self.index != before
    }

    /// Everything up to `commit` stays for good: what came before the last of them is forgotten.
    pub fn committed(&mut self, commit: LogIndex) {
        if self.index <= commit {
            self.older.clear();
        } else if let Some(last) = self.older.iter().rposition(|(index, _)| *index <= commit) {
            self.older.drain(..last);
        }
    }

    /// The one in force.
    #[must_use]
    pub const fn newest(&self) -> &Configuration {
        &self.newest
    }

    /// The entry that it stands in.
    #[must_use]
    pub const fn index(&self) -> LogIndex {
        self.index
    }

    /// The oldest one that is kept: the last committed one, as far as is known.
    #[must_use]
    pub fn oldest(&self) -> &Configuration {
        self.older.first().map_or(&self.newest, |(_, configuration)| configuration)
    }

    /// The same for the core of the node `own`, whose disk was formatted as `incarnation`.
    ///
    /// # Errors
    /// A configuration that is none, which no decoder lets through.
    pub fn memberships(
        &self,
        own: NodeId,
        incarnation: Incarnation,
    ) -> Result<MembershipLog, MembershipError> {
        let mut placed = self.older.iter().map(|(index, configuration)| (*index, configuration));
        let newest = (self.index, &self.newest);
        let first = placed.next().unwrap_or(newest);
        let mut log = MembershipLog::new(first.0, membership_of(first.1, own, incarnation)?);
        for (index, configuration) in placed.chain((!self.older.is_empty()).then_some(newest)) {
            log.push(index, membership_of(configuration, own, incarnation)?);
        }
        Ok(log)
    }
}

/// What `configuration` says of `node`.
#[must_use]
pub fn named(configuration: &Configuration, node: NodeId) -> Named {
    match configuration.member(node).copied() {
        None => Named::Stranger,
        Some(Member { incarnation: Incarnation(0), .. }) => Named::AnyFormatting,
        Some(Member { incarnation, .. }) => Named::Only(incarnation),
    }
}

/// A configuration as the core of the node `own` sees it: where it names another formatting of that node's disk than
/// this one, the node takes no part in elections (PITFALLS 48).
///
/// # Errors
/// A configuration that is none, which no decoder lets through.
pub fn membership_of(
    configuration: &Configuration,
    own: NodeId,
    incarnation: Incarnation,
) -> Result<Membership, MembershipError> {
    let ids = |members: &[Member]| members.iter().map(|member| member.node_id).collect();
    let membership = Membership::new(ids(&configuration.voters), ids(&configuration.learners))?;
    Ok(match named(configuration, own) {
        Named::Only(other) if other != incarnation => membership.denying(own),
        _ => membership,
    })
}

#[cfg(test)]
mod tests {
    use super::{Configurations, Named, named};
    use crate::base::ids::{ClusterId, Incarnation, LogIndex, NodeId};
    use crate::entry::{Configuration, Durability, Member};

    const OWN: NodeId = NodeId(3);
    const THIS: Incarnation = Incarnation(33);

    fn of(voters: &[(u16, u128)], learners: &[(u16, u128)]) -> Configuration {
        let members = |list: &[(u16, u128)]| {
            list.iter()
                .map(|&(id, word)| Member { node_id: NodeId(id), incarnation: Incarnation(word) })
                .collect()
        };
        Configuration {
            cluster_id: ClusterId(1),
            cluster_version: 1,
            cluster_name: "test".to_owned(),
            durability: Durability::Disk,
            producers_window_ns: 1,
            producers_max: 1,
            voters: members(voters),
            learners: members(learners),
        }
    }

    fn whole() -> Configurations {
        let mut all = Configurations::new(LogIndex(1), of(&[(1, 0), (2, 0), (3, 0)], &[]));
        all.push(LogIndex(5), of(&[(1, 11), (2, 22)], &[(3, 33)]));
        all.push(LogIndex(9), of(&[(1, 11), (2, 22), (3, 99)], &[]));
        all
    }

    #[test]
    fn the_core_starts_with_the_one_in_force_and_with_all_that_a_truncation_could_bring_back() {
        let mut log = whole().memberships(OWN, THIS).unwrap();
        assert_eq!(log.index(), LogIndex(9));
        assert!(log.newest().denies(OWN) && !log.newest().is_voter(OWN), "another disk is meant");
        assert!(log.truncate_from(LogIndex(9)));
        assert_eq!((log.index(), log.newest().voters().len()), (LogIndex(5), 2));
        assert!(log.newest().contains(OWN) && !log.newest().denies(OWN), "a learner, and this very disk");
        assert!(log.truncate_from(LogIndex(4)));
        assert!(log.newest().is_voter(OWN), "whichever is met first");
        assert!(!log.truncate_from(LogIndex(1)), "one is always left");
    }

    #[test]
    fn what_is_committed_cannot_be_taken_back_and_what_is_truncated_is_gone() {
        let mut all = whole();
        all.committed(LogIndex(7));
        assert_eq!((all.index(), all.oldest()), (LogIndex(9), &of(&[(1, 11), (2, 22)], &[(3, 33)])));
        assert!(all.truncate_from(LogIndex(8)) && !all.truncate_from(LogIndex(2)));
        assert_eq!((all.index(), all.newest()), (LogIndex(5), all.oldest()));
        let mut all = whole();
        all.committed(LogIndex(9));
        assert_eq!(all, Configurations::new(LogIndex(9), of(&[(1, 11), (2, 22), (3, 99)], &[])));
    }

    #[test]
    fn a_node_is_a_stranger_or_any_formatting_or_one_alone() {
        let configuration = of(&[(1, 0), (2, 22)], &[(3, 33)]);
        let said = [1, 2, 3, 4].map(|id| named(&configuration, NodeId(id)));
        let only = |word| Named::Only(Incarnation(word));
        assert_eq!(said, [Named::AnyFormatting, only(22), only(33), Named::Stranger]);
    }
}
