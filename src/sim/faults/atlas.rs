//! The fault atlas: which nodes' disks have lost or damaged something, so that never more of them have than a quorum can
//! mend. A node is in the atlas from the fault until its disk is proven whole again, or named anew by the cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::base::ids::{Incarnation, NodeId};
use crate::log;
use crate::sim::node::{DATA_DIR, Serving, Shape, SimNode};

/// Bytes of a file that are not what was written there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// From where on.
    pub position: u64,
    /// What is there; empty where it cannot be read.
    pub bytes: Vec<u8>,
    /// Something that is written anew time and again: whole only when these bytes are gone, although a copy stands in.
    pub must_go: bool,
    /// What looks like a torn write, and was durable: whole only when the node has come back, in a life after this one,
    /// and what it claims then is settled.
    pub settles_after: Option<u64>,
}

/// The atlas.
pub struct Atlas {
    minority: usize,
    /// Disks that were replaced, until a committed configuration has them as voters.
    lost: BTreeMap<usize, Incarnation>,
    /// Disks with damage, until there is none.
    damaged: BTreeMap<usize, Damage>,
}

impl Atlas {
    /// For a cluster of `nodes`, all of them whole.
    #[must_use]
    pub fn new(nodes: u16) -> Self {
        let minority = usize::from(nodes).saturating_sub(1) / 2;
        Self { minority, lost: BTreeMap::new(), damaged: BTreeMap::new() }
    }

    /// Whether this node's disk is whole, as far as the adversary has to do with it.
    #[must_use]
    pub fn is_whole(&self, place: usize) -> bool {
        !self.lost.contains_key(&place) && !self.damaged.contains_key(&place)
    }

    /// Nothing is lost or damaged.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.lost.is_empty() && self.damaged.is_empty()
    }

    /// Whether a quorum keeps all that it acknowledged when this node loses something too. In a `memory` cluster those
    /// who have lost their page cache count like the others.
    #[must_use]
    pub fn may_impair(&self, nodes: &[SimNode], place: usize, counts_doubt: bool) -> bool {
        let impaired = |at: usize, node: &SimNode| {
            at == place || !self.is_whole(at) || (counts_doubt && node.is_in_doubt())
        };
        nodes.iter().enumerate().filter(|(at, node)| impaired(*at, node)).count() <= self.minority
    }

    /// A node's disk was replaced by an empty one.
    pub fn disk_lost(&mut self, place: usize, incarnation: Incarnation) {
        self.damaged.remove(&place);
        self.lost.insert(place, incarnation);
    }

    /// A node's disk was damaged.
    pub fn damaged(&mut self, place: usize, damage: Damage) {
        self.damaged.insert(place, damage);
    }

    /// The nodes whose new disks the cluster has to be told of.
    #[must_use]
    pub fn to_replace(&self) -> Vec<(NodeId, Incarnation)> {
        self.lost.iter().map(|(place, incarnation)| (NodeId(*place as u16 + 1), *incarnation)).collect()
    }

    /// Nothing more will be damaged: what another copy stands in for need not be written anew.
    pub fn relent(&mut self) {
        self.damaged.values_mut().for_each(|damage| damage.must_go = false);
    }

    /// Strikes out what is whole again.
    pub fn refresh(&mut self, nodes: &[SimNode], shape: &Shape) {
        self.lost.retain(|place, incarnation| !is_voter(nodes, nodes[*place].id, *incarnation));
        self.damaged.retain(|place, damage| !is_mended(&nodes[*place], damage, shape));
    }

    /// What is in it, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        let lost = self.lost.keys().map(|place| format!("node {} has a new disk", place + 1));
        let damaged = self.damaged.iter().map(|(place, damage)| {
            format!("node {} is damaged at {} of {}", place + 1, damage.position, damage.path.display())
        });
        lost.chain(damaged).collect::<Vec<_>>().join(", ")
    }
}

/// Whether some node knows it committed that this formatting votes.
fn is_voter(nodes: &[SimNode], node: NodeId, incarnation: Incarnation) -> bool {
    nodes.iter().filter_map(SimNode::serving).any(|serving| {
        let committed = serving.batcher.configurations().oldest();
        committed.voters.iter().any(|voter| voter.node_id == node && voter.incarnation == incarnation)
    })
}

/// Whether the whole directory can be read, and the damaged bytes are gone.
fn is_mended(node: &SimNode, damage: &Damage, shape: &Shape) -> bool {
    if damage.bytes.is_empty() && node.disk.has_read_errors(&damage.path) {
        return false;
    }
    // What was above its watermark may be claimed: then it answers for an entry that another disk has to have.
    let is_settled = |serving: &Serving| serving.batcher.raft().claimed_tail().is_none();
    if !node.serving().is_some_and(is_settled) {
        return false;
    }
    if damage
        .settles_after
        .is_some_and(|life| node.life <= life || node.serving().is_none() || node.is_in_doubt())
    {
        return false;
    }
    if damage.must_go && node.disk.peek(&damage.path, damage.position, damage.bytes.len()) == damage.bytes {
        return false;
    }
    let copy = node.disk.snapshot(0);
    log::verify(&copy, Path::new(DATA_DIR), &shape.log_options(), &mut |_, _| {}).is_ok()
}
