//! Round after round.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tercet::base::ids::{NodeId, Offset, Term};
use tercet::base::prng::Prng;
use tercet::client::NodeStatus;

use super::lab::check::{self, Comparison};
use super::lab::cluster::{Cluster, PATIENCE, Plan};
use super::lab::error::{LabError, LabResult};
use super::lab::interrupt::Interrupt;
use super::lab::load::{History, Load, LoadPlan};
use super::lab::probe::DiskProbe;
use super::report::{Report, Round};
use super::{Args, Kind};

const TOPIC: &str = "failover";
const PRODUCER: &str = "failover-load";
/// A cluster that has taken so many bytes of events is checked and replaced: logs are not trimmed, and a node reads its
/// whole log when it starts.
const CLUSTER_BYTES: u64 = 256 << 20;
/// Before the first round.
const WARM_UP: Duration = Duration::from_secs(1);
/// The load keeps up again once nothing has been due for longer than this.
const RECOVERED_LAG: Duration = Duration::from_millis(25);
const LOOK: Duration = Duration::from_millis(2);

/// By how much longer a flush takes in the kind `stall`: less than `disk_stall_limit`, as long as two heartbeats.
const STALL_MS: &str = "100";
const FLUSH_STALL: &str = "flush_stall_ms";

/// A run of the tool.
pub struct Campaign<'a> {
    args: &'a Args,
    begun: Instant,
    plan: Plan,
    interrupt: &'a Interrupt,
    prng: Prng,
    report: Report,
}

/// A cluster under load.
struct Stage {
    cluster: Cluster,
    load: Load,
    probe: Option<DiskProbe>,
    /// As of the end of the latest failure.
    standing: Standing,
    /// Elections that nothing caused, on the clusters before this one.
    uncaused_before: u64,
}

/// Who led at a moment when nothing was wrong, and how often its disk alone had hung by then.
#[derive(Clone, Copy)]
struct Standing {
    leader: NodeId,
    term: Term,
    disk_stalls: u64,
}

impl Standing {
    fn look(cluster: &Cluster, (leader, term): (NodeId, Term)) -> LabResult<Self> {
        Ok(Self { leader, term, disk_stalls: disk_stalls(cluster, leader)? })
    }
}

/// How often a node has seen others commit without its disk for longer than `disk_stall_limit`.
fn disk_stalls(cluster: &Cluster, node: NodeId) -> LabResult<u64> {
    let rows = cluster.statuses(&[node])?;
    let counters = rows.iter().flat_map(|row| &row.counters);
    Ok(counters.filter(|(name, _)| name == "batcher_disk_stalls").map(|(_, value)| value).sum())
}

impl<'a> Campaign<'a> {
    /// Nothing done yet.
    pub fn new(args: &'a Args, tercet: PathBuf, interrupt: &'a Interrupt) -> Self {
        let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
        let plan = Plan {
            nodes: args.nodes,
            durability: args.durability(),
            threads: args.threads(),
            heartbeat_interval: args.heartbeat_interval,
            proxied: args.kind == Kind::Cut,
            ..Plan::new(tercet)
        };
        let report = Report::new(args, seed);
        Self { args, begun: Instant::now(), plan, interrupt, prng: Prng::new(seed), report }
    }

    /// All rounds, on as many clusters as it takes. What was measured, and what ended it early.
    pub fn run(mut self) -> (Report, LabResult<()>) {
        let mut ended = Ok(());
        while ended.is_ok() && !self.is_done() {
            ended = self.run_cluster();
        }
        (self.report, ended)
    }

    fn is_done(&self) -> bool {
        match self.args.duration {
            Some(duration) => self.begun.elapsed() >= duration,
            None => self.report.rounds.len() >= self.args.rounds as usize,
        }
    }

    fn run_cluster(&mut self) -> LabResult<()> {
        let cluster = Cluster::start(&self.plan, self.interrupt)?;
        self.report.clusters += 1;
        let load = Load::start(LoadPlan {
            servers: cluster.servers(),
            producer: PRODUCER.to_owned(),
            topic: TOPIC.to_owned(),
            rate: self.args.rate,
            size: self.args.size,
        })?;
        let probe = self.args.probe.then(|| DiskProbe::start(cluster.dir())).transpose()?;
        let standing = Standing::look(&cluster, cluster.caught_up(PATIENCE)?)?;
        let uncaused_before = self.report.elections_uncaused;
        let mut stage = Stage { cluster, load, probe, standing, uncaused_before };
        self.pause(&stage.load, WARM_UP)?;
        while !self.is_done() && stage.load.sent() * (self.args.size.max(64) as u64) < CLUSTER_BYTES {
            let round = match self.round(&mut stage) {
                Ok(round) => round,
                Err(error) => return Err(self.explain(&mut stage.cluster, error)),
            };
            let done = self.report.rounds.len() + 1;
            eprintln!("round {done}: {}", round.to_line(self.args.kind));
            self.report.rounds.push(round);
        }
        self.finish(stage)
    }

    /// A node that has ended by itself explains why a round cannot be done; its files are kept.
    fn explain(&mut self, cluster: &mut Cluster, error: LabError) -> LabError {
        let Err(violation) = cluster.check_alive() else { return error };
        eprintln!("tercet-failover: files are kept in {}", cluster.keep().display());
        violation
    }

    /// Sleeps, and notices Ctrl-C and a load that has failed.
    fn pause(&self, load: &Load, length: Duration) -> LabResult<()> {
        let end = Instant::now() + length;
        while Instant::now() < end {
            self.interrupt.check()?;
            load.check()?;
            std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(20)));
        }
        Ok(())
    }

    fn round(&mut self, stage: &mut Stage) -> LabResult<Round> {
        stage.cluster.caught_up(PATIENCE)?;
        let before = Duration::from_micros(self.prng.between(100_000, 400_000));
        self.pause(&stage.load, before)?;
        let (leader, term_before) = stage.cluster.leader(PATIENCE)?;
        self.note_elections(stage, term_before)?;
        stage.standing = Standing::look(&stage.cluster, (leader, term_before))?;
        let node = if self.args.kind.is_fatal() { leader } else { self.any_node(&stage.cluster) };

        let oldest = stage.load.acked();
        let begun_ns = stage.load.now_ns().min(stage.load.pace().due_ns(oldest));
        self.hit(&mut stage.cluster, node)?;
        let hit_ns = stage.load.now_ns();
        self.wait_recovered(&stage.load, hit_ns)?;
        let recovered_ns = stage.load.now_ns();
        let survivors =
            if self.args.kind.is_fatal() { stage.cluster.others(node) } else { stage.cluster.ids() };
        let (_, term_after) = stage.cluster.leader_among(&survivors, PATIENCE)?;
        let held = Duration::from_micros(self.prng.between(50_000, 250_000));
        self.pause(&stage.load, held)?;

        let healing_ns = stage.load.now_ns();
        self.heal(&mut stage.cluster, node)?;
        let (leader_end, term_end) = stage.cluster.caught_up(PATIENCE)?;
        let healed_ns = stage.load.now_ns();
        self.wait_recovered(&stage.load, healed_ns)?;
        if !self.args.kind.is_fatal() {
            self.note_elections(stage, term_end)?;
        }
        stage.standing = Standing::look(&stage.cluster, (leader_end, term_end))?;
        Ok(Round {
            node,
            outage_ns: stage.load.slowest_ns(begun_ns, recovered_ns),
            return_ns: stage.load.slowest_ns(healing_ns, stage.load.now_ns()),
            caught_up_ns: healed_ns - healing_ns,
            elections: term_after.0.saturating_sub(term_before.0),
            elections_on_return: term_end.0.saturating_sub(term_after.0),
        })
    }

    /// Elections since the last look, in which no failure of ours has a part.
    fn note_elections(&mut self, stage: &Stage, now: Term) -> LabResult<()> {
        let before = stage.standing;
        let elections = now.0.saturating_sub(before.term.0);
        if elections > 0 && disk_stalls(&stage.cluster, before.leader)? > before.disk_stalls {
            self.report.elections_by_disk += elections;
        } else {
            self.report.elections_uncaused += elections;
        }
        Ok(())
    }

    fn any_node(&mut self, cluster: &Cluster) -> NodeId {
        let ids = cluster.ids();
        ids[self.prng.below(ids.len() as u64) as usize]
    }

    fn hit(&mut self, cluster: &mut Cluster, node: NodeId) -> LabResult<()> {
        match self.args.kind {
            Kind::Kill => cluster.kill(node)?,
            Kind::Freeze => cluster.node(node).freeze(),
            Kind::Cut => cluster.network()?.isolate(node, true)?,
            Kind::Term => {
                let code = cluster.terminate(node)?;
                self.report.unclean_stops += u64::from(code != Some(0));
            }
            Kind::Stall => cluster.node(node).order_fault(FLUSH_STALL, Some(STALL_MS))?,
        }
        Ok(())
    }

    fn heal(&self, cluster: &mut Cluster, node: NodeId) -> LabResult<()> {
        match self.args.kind {
            Kind::Kill | Kind::Term => cluster.restart(node)?,
            Kind::Freeze => cluster.node(node).resume(),
            Kind::Cut => cluster.network()?.heal()?,
            Kind::Stall => cluster.node(node).order_fault(FLUSH_STALL, None)?,
        }
        Ok(())
    }

    /// Waits until an event that was due after `since_ns` is acknowledged, and all that are due now nearly are.
    fn wait_recovered(&self, load: &Load, since_ns: u64) -> LabResult<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.interrupt.check()?;
            load.check()?;
            let acked = load.acked();
            if acked > 0 && load.pace().due_ns(acked - 1) > since_ns && load.lag() < RECOVERED_LAG {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let line = format!(
                    "round {}: the load does not keep up again within {PATIENCE:?}; it is {:?} behind",
                    self.report.rounds.len() + 1,
                    load.lag()
                );
                return Err(LabError::Failed(line));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Everything is read back and verified.
    fn finish(&mut self, stage: Stage) -> LabResult<()> {
        let Stage { mut cluster, load, probe, uncaused_before, .. } = stage;
        self.report.probe_ns.extend(probe.iter().flat_map(DiskProbe::take));
        drop(probe);
        let (history, sent) = load.finish(PATIENCE)?;
        let statuses = cluster.settled(PATIENCE)?;
        let before = self.report.violations().len();
        self.compare(&cluster, &history, sent, &statuses)?;
        for id in cluster.ids() {
            let code = cluster.terminate(id)?;
            self.report.unclean_stops += u64::from(code != Some(0));
            let (code, said) = cluster.node(id).verify()?;
            self.report.verify_exit_codes.push(code.unwrap_or(-1));
            if code != Some(0) {
                eprintln!("node {id}: log verify: {said}");
            }
        }
        if self.report.violations().len() > before || self.report.elections_uncaused > uncaused_before {
            self.report.kept.push(cluster.keep());
        }
        Ok(())
    }

    fn compare(
        &mut self,
        cluster: &Cluster,
        history: &History,
        sent: u64,
        statuses: &[NodeStatus],
    ) -> LabResult<()> {
        let report = &mut self.report;
        let (offsets, wrong) = history.offsets(sent);
        report.events += sent;
        report.acknowledgements_wrong += wrong;
        report.duplicates_unexplained += history.duplicates_unexplained;
        report.resent += history.resent;
        let sums = |status: &NodeStatus| (status.log_checksum, status.producers_checksum);
        report.logs_differ +=
            statuses.iter().filter(|status| sums(status) != sums(&statuses[0])).count() as u64;
        let end: Offset = statuses[0].last_offset;
        for node in &cluster.nodes {
            let mut comparison = Comparison::new(&offsets, self.args.size);
            check::read(node.direct, TOPIC, end, self.interrupt, |event| {
                comparison.see(event.offset, event.sequence.0, event.body);
            })?;
            report.faults = report.faults.plus(&comparison.finish());
        }
        Ok(())
    }
}
