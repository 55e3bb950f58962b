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
