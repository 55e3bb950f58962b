//! The adversary: what it does next, and when, drawn from the seed.

use std::collections::BTreeMap;

use super::disk::Fault;
use super::net::{Host, NetFaults, SharedWorld};
use super::node::{Death, SimNode};
use crate::base::clock::NS_PER_MS;
use crate::base::prng::Prng;
use crate::entry::Durability;

/// Names of the faults that the adversary commits, as they stand in reports.
pub mod fault {
    /// A machine loses power.
    pub const POWER_LOSS: &str = "power_loss";
    /// All machines lose power at once.
    pub const POWER_LOSS_ALL: &str = "power_loss_of_all";
    /// A process is killed.
    pub const KILL: &str = "kill";
    /// A machine loses power in the middle of what its disk does.
    pub const POWER_LOSS_MID_WRITE: &str = "power_loss_mid_write";
    /// A write or a flush fails; the node gives up.
    pub const DISK_ERROR: &str = "disk_error";
    /// A node dies right after it granted its vote.
    pub const DEATH_AFTER_VOTE: &str = "death_after_vote";
    /// A node is started again.
    pub const RESTART: &str = "restart";
    /// A node takes no turns for a while.
    pub const PAUSE: &str = "pause";
    /// A disk is slow for a while.
    pub const SLOW_DISK: &str = "slow_disk";
    /// One node is cut off from all others.
    pub const PARTITION_FULL: &str = "partition_full";
    /// Two nodes are cut off from each other.
    pub const PARTITION_PARTIAL: &str = "partition_partial";
    /// What one node sends to another is lost.
    pub const PARTITION_ONE_WAY: &str = "partition_one_way";
    /// A stream breaks.
    pub const STREAM_RESET: &str = "stream_reset";
    /// Frames were lost.
    pub const LOST: &str = "frame_lost";
    /// Frames were overtaken.
    pub const REORDERED: &str = "frame_reordered";
    /// Frames came twice.
    pub const DUPLICATED: &str = "frame_duplicated";
    /// Frames were swallowed by a cut.
    pub const CUT: &str = "frame_cut";
    /// All of them.
    pub const ALL: &[&str] = &[
        POWER_LOSS,
        POWER_LOSS_ALL,
        KILL,
        POWER_LOSS_MID_WRITE,
        DISK_ERROR,
        DEATH_AFTER_VOTE,
        RESTART,
        PAUSE,
        SLOW_DISK,
        PARTITION_FULL,
        PARTITION_PARTIAL,
        PARTITION_ONE_WAY,
        STREAM_RESET,
        LOST,
        REORDERED,
        DUPLICATED,
        CUT,
    ];
}

/// How bad it gets, drawn once a seed.
#[derive(Clone, Debug)]
struct Temper {
    /// Between two faults, on average.
    every_ns: u64,
    /// Lost frames per million at most.
    loss_max: u64,
    /// Weight of each kind: network, node, disk.
    weights: [u64; 3],
    /// Any machines may lose power; in a `memory` cluster, which promises nothing where a quorum does, a minority at a
    /// time.
    power: bool,
}

/// The adversary.
pub struct Adversary {
    prng: Prng,
    temper: Temper,
    /// When it strikes next.
    pub next_ns: u64,
    /// When everything that it cut is mended.
    mend_at_ns: Option<u64>,
    /// What it did.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Adversary {
    /// One for this cluster.
    #[must_use]
    pub fn new(mut prng: Prng, durability: Durability) -> Self {
        let temper = Temper {
            every_ns: prng.between(40, 400) * NS_PER_MS,
            loss_max: [0, 10_000, 100_000, 300_000][prng.below(4) as usize],
            weights: [prng.between(1, 5), prng.between(1, 5), prng.between(1, 5)],
            power: durability == Durability::Disk,
        };
        Self { prng, temper, next_ns: 300 * NS_PER_MS, mend_at_ns: None, counts: BTreeMap::new() }
    }

    /// Counts one fault.
    pub fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_insert(0) += 1;
    }

    /// When it wants to act.
    #[must_use]
    pub fn next_due_ns(&self) -> u64 {
        self.mend_at_ns.map_or(self.next_ns, |at| at.min(self.next_ns))
    }

    /// Acts, if it is time.
    pub fn act(&mut self, now_ns: u64, world: &SharedWorld, nodes: &mut [SimNode]) {
        if self.mend_at_ns.is_some_and(|at| at <= now_ns) {
            self.mend_at_ns = None;
            world.borrow_mut().mend_all();
        }
        if now_ns < self.next_ns {
            return;
        }
        self.next_ns = now_ns + self.prng.between(NS_PER_MS, 2 * self.temper.every_ns);
        let [net, node, disk] = self.temper.weights;
        let draw = self.prng.below(net + node + disk);
        if draw < net {
            self.strike_net(now_ns, world, nodes);
        } else if draw < net + node {
            self.strike_node(now_ns, nodes);
        } else {
            self.strike_disk(nodes);
        }
        world.borrow_mut().fold_trace(self.prng.next_u64());
    }

    /// No more faults: everything mended, every dead node about to start, disks healthy and quick.
    pub fn relent(&mut self, now_ns: u64, world: &SharedWorld, nodes: &mut [SimNode]) {
        self.next_ns = u64::MAX;
        self.mend_at_ns = None;
        let mut world = world.borrow_mut();
        world.mend_all();
        world.faults = NetFaults::default();
        for node in nodes {
            node.disk.heal();
            node.disk_delay_ns = (20_000, 2 * NS_PER_MS);
            node.paused_until_ns = node.paused_until_ns.min(now_ns);
            if node.running.is_none() {
                node.restart_at_ns = Some(now_ns + self.prng.below(200 * NS_PER_MS));
            }
        }
    }

    fn strike_net(&mut self, now_ns: u64, world: &SharedWorld, nodes: &[SimNode]) {
        let hosts: Vec<Host> = nodes.iter().map(SimNode::host).collect();
        let (a, b) = (self.pick(&hosts), self.pick(&hosts));
        let lasts_ns = self.prng.between(20 * NS_PER_MS, 1500 * NS_PER_MS);
        let mut world = world.borrow_mut();
        match self.prng.below(6) {
            0 => {
                for other in hosts.iter().filter(|other| **other != a) {
                    world.set_cut(a, *other, true);
                    world.set_cut(*other, a, true);
                }
                self.count(fault::PARTITION_FULL);
            }
            1 if a != b => {
                world.set_cut(a, b, true);
                world.set_cut(b, a, true);
                self.count(fault::PARTITION_PARTIAL);
            }
            2 if a != b => {
                world.set_cut(a, b, true);
                self.count(fault::PARTITION_ONE_WAY);
            }
            3 => {
                // Clients, too: a node that is up but that they cannot reach.
                for client in 100..110 {
                    world.set_cut(a, client, true);
                    world.set_cut(client, a, self.prng.chance(500_000));
                }
                self.count(fault::PARTITION_ONE_WAY);
            }
            4 => {
                world.reset_one();
            }
            _ => {
                let most_ns = [1, 2, 20, 100][self.prng.below(4) as usize] * NS_PER_MS;
                world.faults = NetFaults {
                    delay_ns: (50_000, most_ns),
                    loss_per_million: self.prng.below(self.temper.loss_max + 1),
                    reorder_per_million: self.prng.below(200_000),
                    duplicate_per_million: self.prng.below(50_000),
                };
            }
        }
        self.mend_at_ns.get_or_insert(now_ns + lasts_ns);
    }

    fn strike_node(&mut self, now_ns: u64, nodes: &mut [SimNode]) {
        let place = self.prng.below(nodes.len() as u64) as usize;
        match self.prng.below(10) {
            0 | 1 if nodes[place].running.is_some() => {
                nodes[place].paused_until_ns = now_ns + self.prng.between(NS_PER_MS, 800 * NS_PER_MS);
                self.count(fault::PAUSE);
            }
            2 if self.temper.power => {
                for node in nodes {
                    self.fell(now_ns, node, Death::PowerLost);
                }
                self.count(fault::POWER_LOSS_ALL);
            }
            3..=6 if self.temper.power || is_minority_in_doubt(nodes, place) => {
                self.fell(now_ns, &mut nodes[place], Death::PowerLost);
                self.count(fault::POWER_LOSS);
            }
            _ => {
                self.fell(now_ns, &mut nodes[place], Death::Killed);
                self.count(fault::KILL);
            }
        }
    }

    fn strike_disk(&mut self, nodes: &mut [SimNode]) {
        let place = self.prng.below(nodes.len() as u64) as usize;
        let node = &mut nodes[place];
        // Near ones strike between a write and its flush while there is traffic.
        let nth = self.prng.between(1, 6) * self.prng.between(1, 6);
        match self.prng.below(6) {
            0 => {
                let most_ns = self.prng.between(5 * NS_PER_MS, 400 * NS_PER_MS);
                node.disk_delay_ns = (most_ns / 10, most_ns);
                self.count(fault::SLOW_DISK);
            }
            1 => node.disk_delay_ns = (20_000, 2 * NS_PER_MS),
            2..=4 if self.temper.power => node.disk.plan(nth, Fault::Crash),
            // As with lost power: what a failed flush took out of the cache was promised in a `memory` cluster.
            _ if self.temper.power => node.disk.plan(nth, Fault::Io),
            _ => {}
        }
    }

    /// A node has just granted its vote: now and then it dies of that and is back at once, while others still ask.
    pub fn after_vote(&mut self, now_ns: u64, node: &mut SimNode) {
        if self.next_ns == u64::MAX || !self.prng.chance(300_000) {
            return;
        }
        node.die(if self.temper.power { Death::PowerLost } else { Death::Killed });
        node.restart_at_ns = Some(now_ns + self.prng.between(NS_PER_MS / 10, 3 * NS_PER_MS));
        self.count(fault::DEATH_AFTER_VOTE);
    }

    /// Ends a node's life; it starts again after a while.
    pub fn fell(&mut self, now_ns: u64, node: &mut SimNode, death: Death) {
        node.die(death);
        let most_ns = if self.prng.chance(300_000) { 20 * NS_PER_MS } else { 1200 * NS_PER_MS };
        node.restart_at_ns = Some(now_ns + self.prng.between(NS_PER_MS, most_ns));
    }

    fn pick(&mut self, hosts: &[Host]) -> Host {
        hosts[self.prng.below(hosts.len() as u64) as usize]
    }
}

/// Whether, once this node has lost its page cache, a quorum still has all that it acknowledged.
fn is_minority_in_doubt(nodes: &[SimNode], place: usize) -> bool {
    let lost = nodes.iter().enumerate().filter(|(at, node)| *at == place || node.is_in_doubt()).count();
    lost <= (nodes.len() - 1) / 2
}
