//! The adversary: what it does next, and when, drawn from the seed. Each seed has a temper of its own, and a choice of
//! faults that it knows at all, so that some runs are all about one thing.

mod atlas;
mod corner;
mod disk;
mod minority;
mod network;

use std::collections::{BTreeMap, BTreeSet};

pub use atlas::{Atlas, Damage};

use super::net::{Host, NetFaults, SharedWorld};
use super::node::{Death, Shape, SimNode};
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
    /// A node's clock goes too fast or too slow from now on.
    pub const CLOCK_DRIFT: &str = "clock_drift";
    /// A disk is slow for a while.
    pub const SLOW_DISK: &str = "slow_disk";
    /// A disk does its work, and says so late.
    pub const LATE_REPORTS: &str = "late_reports";
    /// A disk does nothing at all for a while.
    pub const STALLED_DISK: &str = "stalled_disk";
    /// A disk has no room for another file.
    pub const DISK_FULL: &str = "disk_full";
    /// Bits flip in what lies on a disk.
    pub const BIT_ROT: &str = "bit_rot";
    /// Bits flip in what was flushed and what no watermark vouches for yet: behind a header that is whole.
    pub const TAIL_ROT: &str = "tail_rot";
    /// A page is as it was before it was ever written: the disk lost what was written there.
    pub const LOST_WRITE: &str = "lost_write";
    /// A page holds what was meant for another one.
    pub const MISDIRECTED_WRITE: &str = "misdirected_write";
    /// A page cannot be read.
    pub const READ_ERROR: &str = "read_error";
    /// A disk is lost, and an empty one stands in its place.
    pub const DISK_LOST: &str = "disk_lost";
    /// One node is cut off from all others.
    pub const PARTITION_FULL: &str = "partition_full";
    /// Two nodes are cut off from each other.
    pub const PARTITION_PARTIAL: &str = "partition_partial";
    /// What one node sends to another is lost.
    pub const PARTITION_ONE_WAY: &str = "partition_one_way";
    /// What one node sends to another is held up for up to five seconds.
    pub const CLOG: &str = "clog";
    /// Frames are lost, late, overtaken and doubled at other rates than before.
    pub const WEATHER: &str = "network_weather";
    /// A minority falls behind; then one of the others goes down, and the rest is cut off.
    pub const CORNERED: &str = "quorum_cornered";
    /// A stream breaks.
    pub const STREAM_RESET: &str = "stream_reset";
    /// Somebody hands leadership over.
    pub const TRANSFER: &str = "transfer_asked";
    /// One of the faults of storage that lies struck the hard state.
    pub const HARD_STATE_HIT: &str = "hard_state_damaged";
    /// And a checkpoint.
    pub const CHECKPOINT_HIT: &str = "checkpoint_damaged";
    /// Frames took more than 5 ms.
    pub const LATE: &str = "frame_late";
    /// Frames were lost.
    pub const LOST: &str = "frame_lost";
    /// Frames were overtaken.
    pub const REORDERED: &str = "frame_reordered";
    /// Frames came twice.
    pub const DUPLICATED: &str = "frame_duplicated";
    /// Frames were swallowed by a cut.
    pub const CUT: &str = "frame_cut";
    /// Frames were held up.
    pub const CLOGGED: &str = "frame_clogged";

    /// What the adversary does, or has others do.
    pub const STRIKES: &[&str] = &[
        POWER_LOSS,
        POWER_LOSS_ALL,
        KILL,
        POWER_LOSS_MID_WRITE,
        DISK_ERROR,
        DEATH_AFTER_VOTE,
        PAUSE,
        CLOCK_DRIFT,
        SLOW_DISK,
        LATE_REPORTS,
        STALLED_DISK,
        DISK_FULL,
        BIT_ROT,
        TAIL_ROT,
        LOST_WRITE,
        MISDIRECTED_WRITE,
        READ_ERROR,
        DISK_LOST,
        PARTITION_FULL,
        PARTITION_PARTIAL,
        PARTITION_ONE_WAY,
        CLOG,
        CORNERED,
        WEATHER,
        STREAM_RESET,
        TRANSFER,
    ];
    /// Small files that are struck by what strikes disks: rarer than all the others.
    pub const STRUCK: &[&str] = &[HARD_STATE_HIT, CHECKPOINT_HIT];
    /// What follows from that.
    pub const CONSEQUENCES: &[&str] = &[RESTART, LATE, LOST, REORDERED, DUPLICATED, CUT, CLOGGED];
}

/// How bad it gets, drawn once a seed.
#[derive(Clone, Debug)]
struct Temper {
    /// Between two faults, on average.
    every_ns: u64,
    /// Lost frames per million at most.
    loss_max: u64,
    /// Clocks go wrong by this many parts per million at most.
    drift_max: u64,
    /// Weight of each kind: network, node, disk, storage that lies.
    weights: [u64; 4],
    /// Any machines may lose power; in a `memory` cluster, which promises nothing where a quorum does, a minority at a
    /// time.
    power: bool,
    /// Faults that this adversary does not know.
    unknown: BTreeSet<&'static str>,
}

/// The adversary.
pub struct Adversary {
    prng: Prng,
    temper: Temper,
    /// Whose disks are not whole.
    pub atlas: Atlas,
    /// When it strikes next.
    pub next_ns: u64,
    /// When everything that it cut is mended.
    mend_at_ns: Option<u64>,
    /// It has begun to corner a quorum.
    corner: Option<corner::Corner>,
    /// What it did.
    pub counts: BTreeMap<&'static str, u64>,
}

fn draw_temper(prng: &mut Prng, durability: Durability) -> Temper {
    let every_ns = prng.between(40, 400) * NS_PER_MS;
    let loss_max = [0, 10_000, 100_000, 300_000][prng.below(4) as usize];
    let drift_max = [100, 1_000, 50_000, 200_000][prng.below(4) as usize];
    let weights = [prng.between(1, 5), prng.between(1, 5), prng.between(1, 5), prng.below(4)];
    let knows_most = prng.between(300_000, 1_000_000);
    let unknown = fault::STRIKES.iter().copied().filter(|_| !prng.chance(knows_most)).collect();
    Temper { every_ns, loss_max, drift_max, weights, power: durability == Durability::Disk, unknown }
}

impl Adversary {
    /// One for this cluster.
    #[must_use]
    pub fn new(mut prng: Prng, shape: &Shape) -> Self {
        let temper = draw_temper(&mut prng, shape.durability);
        Self {
            prng,
            temper,
            atlas: Atlas::new(shape.nodes),
            next_ns: 300 * NS_PER_MS,
            mend_at_ns: None,
            corner: None,
            counts: BTreeMap::new(),
        }
    }

    /// Counts one fault.
    pub fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_insert(0) += 1;
    }

    /// Whether it does such things in this run.
    #[must_use]
    pub fn knows(&self, name: &'static str) -> bool {
        !self.temper.unknown.contains(name)
    }

    /// It does nothing any more.
    #[must_use]
    pub const fn has_relented(&self) -> bool {
        self.next_ns == u64::MAX
    }

    /// When it wants to act.
    #[must_use]
    pub fn next_due_ns(&self) -> u64 {
        self.mend_at_ns.map_or(self.next_ns, |at| at.min(self.next_ns))
    }

    /// Acts, if it is time.
    pub fn act(&mut self, now_ns: u64, world: &SharedWorld, nodes: &mut [SimNode], shape: &Shape) {
        if self.mend_at_ns.is_some_and(|at| at <= now_ns) {
            self.mend_at_ns = None;
            world.borrow_mut().mend_all();
        }
        if now_ns < self.next_ns {
            return;
        }
        self.atlas.refresh(nodes, shape);
        if let Some(corner) = self.corner.take() {
            self.close_in(now_ns, world, nodes, &corner);
            return;
        }
        self.next_ns = now_ns + self.prng.between(NS_PER_MS, 2 * self.temper.every_ns);
        if self.knows(fault::CORNERED) && self.prng.chance(30_000) {
            self.corner_a_quorum(now_ns, world, nodes);
            return;
        }
        let [net, node, disk, lies] = self.temper.weights;
        let draw = self.prng.below(net + node + disk + lies);
        if draw < net {
            self.strike_net(now_ns, world, nodes);
        } else if draw < net + node {
            self.strike_node(now_ns, nodes);
        } else if draw < net + node + disk {
            self.strike_disk(now_ns, nodes);
        } else {
            self.strike_storage(now_ns, nodes, shape);
        }
        world.borrow_mut().fold_trace(self.prng.next_u64());
    }

    /// No more faults: everything mended, every dead node about to start, disks healthy and quick, clocks true.
    pub fn relent(&mut self, now_ns: u64, world: &SharedWorld, nodes: &mut [SimNode]) {
        self.next_ns = u64::MAX;
        self.mend_at_ns = None;
        self.corner = None;
        self.atlas.relent();
        world.borrow_mut().mend_all();
        world.borrow_mut().faults = NetFaults::default();
        for (place, node) in nodes.iter_mut().enumerate() {
            if !self.atlas.is_whole(place) && node.serving().is_some() {
                // What was written and read since its start is read again after the next one only.
                node.die(Death::Killed);
            }
            node.disk.heal();
            (node.disk_delay_ns, node.report_delay_ns) = ((20_000, 2 * NS_PER_MS), 0);
            node.paused_until_ns = node.paused_until_ns.min(now_ns);
            node.stalled_until_ns = node.stalled_until_ns.min(now_ns);
            node.space_at_ns = None;
            node.clock.set_drift(now_ns, 0);
            if node.running.is_none() {
                node.restart_at_ns = Some(now_ns + self.prng.below(200 * NS_PER_MS));
            }
        }
    }

    fn strike_node(&mut self, now_ns: u64, nodes: &mut [SimNode]) {
        let place = self.prng.below(nodes.len() as u64) as usize;
        match self.prng.below(12) {
            0 | 1 if nodes[place].running.is_some() && self.knows(fault::PAUSE) => {
                nodes[place].paused_until_ns = now_ns + self.prng.between(NS_PER_MS, 800 * NS_PER_MS);
                self.count(fault::PAUSE);
            }
            2 if self.temper.power && self.knows(fault::POWER_LOSS_ALL) => {
                for node in nodes {
                    self.fell(now_ns, node, Death::PowerLost);
                }
                self.count(fault::POWER_LOSS_ALL);
            }
            3..=6
                if (self.temper.power || self.atlas.may_impair(nodes, place, true))
                    && self.knows(fault::POWER_LOSS) =>
            {
                self.fell(now_ns, &mut nodes[place], Death::PowerLost);
                self.count(fault::POWER_LOSS);
            }
            7 | 8 if self.knows(fault::CLOCK_DRIFT) => {
                let drift = self.prng.below(2 * self.temper.drift_max + 1) as i64;
                nodes[place].clock.set_drift(now_ns, drift - self.temper.drift_max as i64);
                self.count(fault::CLOCK_DRIFT);
            }
            _ if self.knows(fault::KILL) => {
                self.fell(now_ns, &mut nodes[place], Death::Killed);
                self.count(fault::KILL);
            }
            _ => {}
        }
    }

    /// A node has just granted its vote: now and then it dies of that and is back at once, while others still ask.
    pub fn after_vote(&mut self, now_ns: u64, node: &mut SimNode) {
        if self.has_relented() || !self.knows(fault::DEATH_AFTER_VOTE) || !self.prng.chance(300_000) {
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
