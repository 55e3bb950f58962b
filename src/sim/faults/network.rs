//! What the adversary does to the network.

use super::{Adversary, fault};
use crate::base::clock::NS_PER_MS;
use crate::sim::net::{Host, NetFaults, SharedWorld};
use crate::sim::node::SimNode;

/// The longest that anything is held up.
const CLOG_MAX_NS: u64 = 5_000 * NS_PER_MS;

impl Adversary {
    pub(super) fn strike_net(&mut self, now_ns: u64, world: &SharedWorld, nodes: &[SimNode]) {
        let hosts: Vec<Host> = nodes.iter().map(SimNode::host).collect();
        let (a, b) = (self.pick(&hosts), self.pick(&hosts));
        let lasts_ns = self.prng.between(20 * NS_PER_MS, 1500 * NS_PER_MS);
        let mut world = world.borrow_mut();
        match self.prng.below(7) {
            0 if self.knows(fault::PARTITION_FULL) => {
                for other in hosts.iter().filter(|other| **other != a) {
                    world.set_cut(a, *other, true);
                    world.set_cut(*other, a, true);
                }
                self.count(fault::PARTITION_FULL);
            }
            1 if a != b && self.knows(fault::PARTITION_PARTIAL) => {
                world.set_cut(a, b, true);
                world.set_cut(b, a, true);
                self.count(fault::PARTITION_PARTIAL);
            }
            2 if a != b && self.knows(fault::PARTITION_ONE_WAY) => {
                world.set_cut(a, b, true);
                self.count(fault::PARTITION_ONE_WAY);
            }
            3 if self.knows(fault::PARTITION_ONE_WAY) => {
                // Clients, too: a node that is up but that they cannot reach.
                for client in 100..110 {
                    world.set_cut(a, client, true);
                    world.set_cut(client, a, self.prng.chance(500_000));
                }
                self.count(fault::PARTITION_ONE_WAY);
            }
            4 if self.knows(fault::STREAM_RESET) && world.reset_one() => self.count(fault::STREAM_RESET),
            5 if self.knows(fault::CLOG) => {
                world.clog(a, b, now_ns + self.prng.between(NS_PER_MS, CLOG_MAX_NS));
                if self.prng.chance(300_000) {
                    world.clog(b, a, now_ns + self.prng.between(NS_PER_MS, CLOG_MAX_NS));
                }
                self.count(fault::CLOG);
                return;
            }
            6 if self.knows(fault::WEATHER) => {
                let most_ns = [1, 2, 20, 100][self.prng.below(4) as usize] * NS_PER_MS;
                world.faults = NetFaults {
                    delay_ns: (50_000, most_ns),
                    loss_per_million: self.prng.below(self.temper.loss_max + 1),
                    reorder_per_million: self.prng.below(200_000),
                    duplicate_per_million: self.prng.below(50_000),
                };
                self.count(fault::WEATHER);
            }
            _ => {}
        }
        self.mend_at_ns.get_or_insert(now_ns + lasts_ns);
    }
}
