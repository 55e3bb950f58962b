//! In some runs faults do not end: they stay on a minority, and the others must commit and converge all the same. Only
//! then the minority recovers, and everything must.

use super::{Adversary, Death};
use crate::base::clock::NS_PER_MS;
use crate::sim::net::SharedWorld;
use crate::sim::node::SimNode;

/// What ails the minority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ill {
    /// The nodes are down.
    Down,
    /// They hear nobody and nobody hears them.
    CutOff,
    /// They are heard by the others, and hear nobody.
    Deaf,
    /// They hear the others, and nobody hears them.
    Mute,
    /// Their processes are stopped.
    Paused,
    /// Their disks do nothing.
    DiskStalled,
}

impl Adversary {
    /// After the last fault: chooses who stays ill, and how. Nobody where somebody else is not whole already, since those
    /// may need them.
    pub fn keep_some_ill(
        &mut self,
        now_ns: u64,
        world: &SharedWorld,
        nodes: &mut [SimNode],
        most: usize,
    ) -> Vec<usize> {
        if most == 0 || !self.prng.chance(400_000) || !self.atlas.is_clear() {
            return Vec::new();
        }
        let count = self.prng.between(1, most as u64) as usize;
        let mut places: Vec<usize> = (0..nodes.len()).collect();
        while places.len() > count {
            places.remove(self.prng.below(places.len() as u64) as usize);
        }
        let all = [Ill::Down, Ill::CutOff, Ill::Deaf, Ill::Mute, Ill::Paused, Ill::DiskStalled];
        let ill = all[self.prng.below(all.len() as u64) as usize];
        for &place in &places {
            make_ill(ill, now_ns, world, nodes, place);
        }
        places
    }

    /// They are well again.
    pub fn heal(&mut self, now_ns: u64, world: &SharedWorld, nodes: &mut [SimNode], places: &[usize]) {
        world.borrow_mut().mend_all();
        for &place in places {
            let node = &mut nodes[place];
            node.paused_until_ns = node.paused_until_ns.min(now_ns);
            node.stalled_until_ns = node.stalled_until_ns.min(now_ns);
            if node.running.is_none() {
                node.restart_at_ns = Some(now_ns + self.prng.below(200 * NS_PER_MS));
            }
        }
    }
}

fn make_ill(ill: Ill, now_ns: u64, world: &SharedWorld, nodes: &mut [SimNode], place: usize) {
    match ill {
        Ill::Down => {
            nodes[place].die(Death::Killed);
            nodes[place].restart_at_ns = None;
        }
        Ill::Paused => nodes[place].paused_until_ns = u64::MAX,
        Ill::DiskStalled => nodes[place].stalled_until_ns = u64::MAX,
        Ill::CutOff | Ill::Deaf | Ill::Mute => {
            let host = nodes[place].host();
            let others = nodes.iter().map(SimNode::host).filter(|other| *other != host);
            for other in others {
                world.borrow_mut().set_cut(host, other, ill != Ill::Deaf);
                world.borrow_mut().set_cut(other, host, ill != Ill::Mute);
            }
        }
    }
    // A stopped process, or one that a cut keeps from its peers, starts all the same if it was down.
    if ill != Ill::Down && nodes[place].running.is_none() {
        nodes[place].restart_at_ns = Some(now_ns);
    }
}
