//! The configurations in this node's log that matter: the one in force, and those that a truncation could bring back.

use crate::base::ids::{Incarnation, NodeId};
use crate::base::planted::{Bug, is_planted};
use crate::entry::{Configuration, Member};
use crate::raft::{InForce, Membership, MembershipError, MembershipLog};

/// The configuration in force, and those that a truncation could bring back.
pub type Configurations = InForce<Configuration>;

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

/// The same for the core of the node `own`, whose disk was formatted as `incarnation`, before it has met anybody.
///
/// # Errors
/// A configuration that is none, which no decoder lets through.
pub fn memberships_of(
    configurations: &Configurations,
    own: NodeId,
    incarnation: Incarnation,
) -> Result<MembershipLog, MembershipError> {
    configurations.try_map(|configuration| membership_of(configuration, own, incarnation, &[]))
}

/// The voters besides `own` whose disk `configuration` does not name and who are not among those that have been `met`.
pub fn unmet<'a>(
    configuration: &'a Configuration,
    own: NodeId,
    met: &'a [NodeId],
) -> impl Iterator<Item = NodeId> + 'a {
    let unnamed = configuration.voters.iter().filter(|voter| voter.incarnation == Incarnation(0));
    unnamed.map(|voter| voter.node_id).filter(move |voter| *voter != own && !met.contains(voter))
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
/// this one, the node takes no part in elections (PITFALLS 48); where it names not all voters, and not all of those have
/// been `met`, the node awaits them.
///
/// # Errors
/// A configuration that is none, which no decoder lets through.
pub fn membership_of(
    configuration: &Configuration,
    own: NodeId,
    incarnation: Incarnation,
    met: &[NodeId],
) -> Result<Membership, MembershipError> {
    let ids = |members: &[Member]| members.iter().map(|member| member.node_id).collect();
    let membership = Membership::new(ids(&configuration.voters), ids(&configuration.learners))?;
    let membership = match unmet(configuration, own, met).next() {
        Some(_) => membership.awaiting_others(),
        None => membership,
    };
    Ok(match named(configuration, own) {
        Named::Only(other) if other != incarnation && !is_planted(Bug::AnyFormattingCounts) => {
            membership.denying(own)
        }
        _ => membership,
    })
}

/// What helps a node whose disk is another than the one that counts, by the members that whoever says it knows.
pub fn way_back(members: &[Member], node: NodeId) -> String {
    if members.len() <= 2 {
        // One of two is no quorum, so nothing can be changed through the log.
        return "a cluster of two cannot replace a disk: put the old directory back".to_owned();
    }
    let before_it_begins = members.iter().any(|member| member.incarnation == Incarnation(0));
    let otherwise = if before_it_begins {
        "; or, where this cluster never had a leader, format all its nodes anew"
    } else {
        ""
    };
    format!(
        "where its disk was lost, let this one in by `tercet member replace --servers LIST --node {node}`{otherwise}"
    )
}

#[cfg(test)]
mod tests {
    use super::{Configurations, Named, membership_of, memberships_of, named, unmet};
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
        let mut log = memberships_of(&whole(), OWN, THIS).unwrap();
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
    fn a_node_awaits_the_voters_that_nobody_names_and_it_has_not_met() {
        let configuration = of(&[(1, 11), (2, 0), (3, 0), (4, 0)], &[(5, 0)]);
        let left = |met: &[u16]| {
            let met: Vec<NodeId> = met.iter().copied().map(NodeId).collect();
            let membership = membership_of(&configuration, OWN, THIS, &met).unwrap();
            (unmet(&configuration, OWN, &met).count(), membership.is_awaiting_others())
        };
        assert_eq!([left(&[]), left(&[1, 4]), left(&[2, 4])], [(2, true), (1, true), (0, false)]);
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
