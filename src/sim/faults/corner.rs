//! The worst that may happen to what is committed: a minority falls behind, then one of those that have the newest entries
//! goes down (and loses what a quorum can mend), and the rest of them is cut off. Who is left is a quorum, and the one that
//! went down is all that it shares with the quorum that committed: what that one has forgotten is lost.

use super::{Adversary, Death, fault};
use crate::base::clock::NS_PER_MS;
use crate::raft::Role;
use crate::sim::net::{Host, SharedWorld};
use crate::sim::node::SimNode;

/// Places of nodes.
pub(super) struct Corner {
    behind: Vec<usize>,
    shared: usize,
}

/// Cuts the nodes at these places off from all others, not from each other.
fn isolate(world: &SharedWorld, nodes: &[SimNode], places: &[usize]) {
    let hosts = |inside: bool| -> Vec<Host> {
        let of_side = nodes.iter().enumerate().filter(|(at, _)| places.contains(at) == inside);
        of_side.map(|(_, node)| node.host()).collect()
    };
    let (inside, outside) = (hosts(true), hosts(false));
    let mut world = world.borrow_mut();
    for one in &inside {
        for other in &outside {
            world.set_cut(*one, *other, true);
            world.set_cut(*other, *one, true);
        }
    }
}

impl Adversary {
    /// The first step: a minority without the leader falls behind.
    pub(super) fn corner_a_quorum(&mut self, now_ns: u64, world: &SharedWorld, nodes: &[SimNode]) {
        let leads = |node: &SimNode| {
            node.serving().is_some_and(|serving| serving.batcher.raft().role() == Role::Leader)
        };
        let mut others: Vec<usize> = (0..nodes.len()).filter(|at| !leads(&nodes[*at])).collect();
        let minority = nodes.len().saturating_sub(1) / 2;
        if minority == 0 || others.len() + 1 != nodes.len() {
            return;
        }
        for last in (1..others.len()).rev() {
            others.swap(last, self.prng.below(last as u64 + 1) as usize);
        }
        let behind = others.split_off(others.len() - minority);
        let Some(shared) = others.pop() else { return };
        world.borrow_mut().mend_all();
        isolate(world, nodes, &behind);
        // By a few entries, which the one that goes down may lose; or by many.
        let most_ns = if self.prng.chance(500_000) { 8 * NS_PER_MS } else { 400 * NS_PER_MS };
        self.next_ns = now_ns + self.prng.between(NS_PER_MS / 10, most_ns);
        self.mend_at_ns = Some(self.next_ns);
        self.corner = Some(Corner { behind, shared });
    }

    /// The second step.
    pub(super) fn close_in(
        &mut self,
        now_ns: u64,
        world: &SharedWorld,
        nodes: &mut [SimNode],
        corner: &Corner,
    ) {
        let Corner { behind, shared } = corner;
        self.next_ns = now_ns + self.prng.between(NS_PER_MS, 2 * self.temper.every_ns);
        self.mend_at_ns = Some(now_ns + self.prng.between(200 * NS_PER_MS, 2500 * NS_PER_MS));
        world.borrow_mut().mend_all();
        let left: Vec<usize> = behind.iter().copied().chain([*shared]).collect();
        isolate(world, nodes, &left);
        if self.knows(fault::LATE_REPORTS) && self.prng.chance(500_000) {
            // What those others flush by themselves they hear of when somebody else has cut it off.
            for place in (0..nodes.len()).filter(|place| !left.contains(place)) {
                nodes[place].report_delay_ns = self.prng.between(NS_PER_MS, 4000 * NS_PER_MS);
            }
            self.count(fault::LATE_REPORTS);
        }
        let may_lose = self.atlas.may_impair(nodes, *shared, !self.temper.power);
        if may_lose && super::disk::is_named(nodes) && self.prng.chance(500_000) {
            self.rot_tail(now_ns, nodes, *shared);
        }
        if nodes[*shared].serving().is_some() {
            let power = self.temper.power || may_lose;
            self.fell(now_ns, &mut nodes[*shared], if power { Death::PowerLost } else { Death::Killed });
        }
        nodes[*shared].restart_at_ns = Some(now_ns + self.prng.between(NS_PER_MS, 100 * NS_PER_MS));
        self.count(fault::CORNERED);
    }
}
