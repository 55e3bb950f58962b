//! What is done to the cluster, and when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tercet::base::ids::NodeId;
use tercet::base::prng::Prng;
use tercet::client::transfer_leadership;

use super::lab::cluster::{Cluster, PATIENCE};
use super::lab::error::{LabError, LabResult};
use super::lab::interrupt::Interrupt;
use super::lab::load::Load;
use super::lab::proxy::Traffic;

/// One fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Kill(NodeId),
    KillAll,
    Freeze(NodeId),
    Isolate(NodeId),
    CutPair(NodeId, NodeId),
    CutOneWay(NodeId, NodeId),
    Delay(Duration),
    RollingRestart,
    Transfer(NodeId),
    /// Each flush takes so much longer (feature `faults`).
    FlushStall(NodeId, Duration),
    /// kill -9, and what was not synced is lost (feature `faults`).
    PowerCut(NodeId),
    PowerCutAll,
}

const FLUSH_STALL: &str = "flush_stall_ms";
const POWER_CUT: &str = "power_cut";
/// The client's patience with a transfer. One that fails is no fault of the cluster's while others are injected.
const TRANSFER_LIMIT: Duration = Duration::from_secs(1);

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::KillAll => "kill all",
            Self::Freeze(_) => "freeze",
            Self::Isolate(_) => "full cut",
            Self::CutPair(..) => "partial cut",
            Self::CutOneWay(..) => "one-way cut",
            Self::Delay(_) => "delay",
            Self::RollingRestart => "rolling restart",
            Self::Transfer(_) => "transfer",
            Self::FlushStall(..) => "flush stall",
            Self::PowerCut(_) => "power cut",
            Self::PowerCutAll => "power cut of all",
        }
    }
}

/// Injects faults, and writes down which.
pub struct Injector {
    prng: Prng,
    begun: Instant,
    /// How many of each.
    pub counts: BTreeMap<&'static str, u64>,
    /// A line for each.
    pub diary: Vec<String>,
}

impl Injector {
    /// Nothing done yet.
    pub fn new(prng: Prng) -> Self {
        Self { prng, begun: Instant::now(), counts: BTreeMap::new(), diary: Vec::new() }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.prng.below(100) < percent
    }

    fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.prng.between(low, high))
    }

    /// One or two faults at a time, then all is healed; most times the nodes may catch up before the next ones.
    ///
    /// # Errors
    /// When the cluster does not recover in time from what was healed; when a writer fails; Ctrl-C.
    pub fn torment(
        &mut self,
        cluster: &mut Cluster,
        loads: &[Load],
        length: Duration,
        interrupt: &Interrupt,
    ) -> LabResult<()> {
        self.begun = Instant::now();
        while self.begun.elapsed() < length {
            let calm = self.ms(100, 600);
            pause(calm, loads, interrupt)?;
            // All draws of a step are made before anything depends on the cluster.
            let (mut first, mut second) = (self.draw(cluster)?, self.draw(cluster)?);
            if matches!(second, Fault::Delay(_)) {
                // A delay of everything would end a cut that came before it.
                std::mem::swap(&mut first, &mut second);
            }
            let (both, held) = (self.chance(30), self.ms(100, 1_500));
            let wait_caught_up = self.chance(70);
            self.inject(cluster, first)?;
            if both && first != Fault::RollingRestart && second != Fault::RollingRestart {
                self.inject(cluster, second)?;
            }
            pause(held, loads, interrupt)?;
            self.heal(cluster)?;
            if wait_caught_up {
                cluster.caught_up(PATIENCE)?;
            }
        }
        Ok(())
    }

    /// The kind and the place come from the seed; who leads just now does not.
    fn draw(&mut self, cluster: &Cluster) -> LabResult<Fault> {
        let (kind, wants_leader) = (self.prng.below(100), self.chance(50));
        let ids = cluster.ids();
        let place = self.prng.below(ids.len() as u64) as usize;
        let next = 1 + self.prng.below(ids.len() as u64 - 1) as usize;
        let (delay, stall) = (self.ms(1, 25), self.ms(20, 900));
        let lab = cfg!(feature = "faults");
        let leader = if wants_leader {
            let rows = cluster.statuses(&ids)?;
            rows.iter().max_by_key(|row| row.term).and_then(|row| row.leader_id)
        } else {
            None
        };
        let target = leader.unwrap_or(ids[place]);
        let at = ids.iter().position(|id| *id == target).unwrap_or(place);
        let other = ids[(at + next) % ids.len()];
        Ok(match kind {
            0..10 if lab => Fault::PowerCut(target),
            0..18 => Fault::Kill(target),
            18..22 if lab => Fault::PowerCutAll,
            18..22 => Fault::KillAll,
            22..38 => Fault::Freeze(target),
            38..50 => Fault::Isolate(target),
            50..60 => Fault::CutPair(target, other),
            60..74 if wants_leader => Fault::CutOneWay(target, other),
            60..74 => Fault::CutOneWay(other, target),
            74..80 => Fault::Delay(delay),
            80..90 if lab => Fault::FlushStall(target, stall),
            80..96 => Fault::Transfer(other),
            _ => Fault::RollingRestart,
        })
    }

    fn inject(&mut self, cluster: &mut Cluster, fault: Fault) -> LabResult<()> {
        let line = format!("{:9.3} s: {fault:?}", self.begun.elapsed().as_secs_f64());
        eprintln!("{line}");
        self.diary.push(line);
        *self.counts.entry(fault.name()).or_insert(0) += 1;
        match fault {
            Fault::Kill(node) => cluster.kill(node)?,
            Fault::KillAll => cluster.ids().into_iter().try_for_each(|node| cluster.kill(node))?,
            Fault::Freeze(node) => cluster.node(node).freeze(),
            Fault::Isolate(node) => cluster.network()?.isolate(node, true)?,
            Fault::CutPair(one, other) => cluster.network()?.set_pair(one, other, Traffic::Cut)?,
            Fault::CutOneWay(from, to) => cluster.network()?.set_way(from, to, Traffic::Cut)?,
            Fault::Delay(delay) => cluster.network()?.delay_all(delay)?,
            Fault::Transfer(node) => {
                if let Err(error) = transfer_leadership(&cluster.servers(), node, TRANSFER_LIMIT) {
                    eprintln!("  no transfer: {error}");
                }
            }
            Fault::FlushStall(node, stall) => {
                cluster.node(node).order_fault(FLUSH_STALL, Some(&stall.as_millis().to_string()))?;
            }
            Fault::PowerCut(node) => power_cut(cluster, node)?,
            Fault::PowerCutAll => {
                cluster.ids().into_iter().try_for_each(|node| power_cut(cluster, node))?;
            }
            Fault::RollingRestart => {
                for node in cluster.ids() {
                    let code = cluster.terminate(node)?;
                    if code != Some(0) {
                        let line = format!("node {node} ended with exit code {code:?} on SIGTERM");
                        return Err(LabError::Failed(line));
                    }
                    cluster.restart(node)?;
                    cluster.caught_up(PATIENCE)?;
                }
            }
        }
        Ok(())
    }

    /// Everything runs and everything passes.
    ///
    /// # Errors
    /// When a node does not start, or has ended by itself.
    pub fn heal(&mut self, cluster: &mut Cluster) -> LabResult<()> {
        cluster.check_alive()?;
        cluster.network()?.heal()?;
        for node in cluster.ids() {
            cluster.node(node).order_fault(FLUSH_STALL, None)?;
            if cluster.node(node).is_running() {
                cluster.node(node).resume();
            } else {
                cluster.restart(node)?;
            }
        }
        Ok(())
    }
}

/// The process dies, and at its next start the node loses what it had not synced.
fn power_cut(cluster: &mut Cluster, node: NodeId) -> LabResult<()> {
    cluster.kill(node)?;
    cluster.node(node).order_fault(POWER_CUT, Some(""))
}

fn pause(length: Duration, loads: &[Load], interrupt: &Interrupt) -> LabResult<()> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        interrupt.check()?;
        loads.iter().try_for_each(Load::check)?;
        std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(20)));
    }
    Ok(())
}
