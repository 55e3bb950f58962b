//! Round after round: load, a cut at a random moment, power again, and everything that was acknowledged is looked for.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tercet::base::ids::Offset;
use tercet::base::prng::Prng;
use tercet::client::{ClientError, From, NodeStatus};
use tercet::config::ThreadingMode;
use tercet::entry::Durability;

use super::lab::check::{self, Comparison, Faults};
use super::lab::cluster::{Cluster, PATIENCE, Plan};
use super::lab::error::{LabError, LabResult};
use super::lab::interrupt::Interrupt;
use super::lab::load::{Concluded, Load, LoadPlan};

const TOPIC: &str = "power";
const NODES: u16 = 3;
/// A cluster that has taken so many bytes of events is checked as a whole and replaced.
const CLUSTER_BYTES: u64 = 192 << 20;
/// Small segments, so that cuts also fall into rolls and into the preparation of the next segment.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Of the load before the cut, from the first acknowledgement on.
const LOAD_MS: (u64, u64) = (200, 1_200);
/// For how long one follower stands still before the leader is cut.
const FROZEN_MS: (u64, u64) = (100, 600);
/// For how long the restarted leader and the follower that stood still are given to go on without the third node.
const WITHOUT_THIRD: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(5);
/// What a node says of a torn tail that it cut.
const TORN: &str = "torn tail:";

/// Whose power fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Target {
    /// All three nodes' at once.
    All,
    /// The leader's alone, while one follower stands still; then the other follower stands still, so that only the
    /// leader's disk knows what was acknowledged last.
    Leader,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The `tercet` binary.
    pub tercet: PathBuf,
    /// Whose power fails.
    pub target: Target,
    /// How often.
    pub rounds: u32,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Events a second; what the cluster cannot take waits.
    pub rate: f64,
    /// Bytes of each event.
    pub size: usize,
    /// Of the random moments.
    pub seed: u64,
    /// How nodes lay agents onto threads.
    pub threads: ThreadingMode,
    /// Size of each node's file system.
    pub disk_bytes: u64,
    /// A planted bug, by the name of its file (feature `faults`).
    pub plant: Option<&'static str>,
}

impl Wish {
    /// Whether a lost event breaks a promise. Only where a quorum's page caches are gone, and they were all that was
    /// promised, it does not.
    fn promises_all(&self) -> bool {
        self.durability == Durability::Disk || self.target == Target::Leader
    }
}

/// What came of it.
#[derive(Default, Debug)]
pub struct Report {
    /// Cuts that were looked into.
    pub rounds: u32,
    /// Clusters that were used one after the other.
    pub clusters: u32,
    /// Events that were acknowledged.
    pub acknowledged: u64,
    /// Events that were sent again.
    pub resent: u64,
    /// Acknowledged events that were missing right after a cut.
    pub lost: u64,
    /// Rounds in which some were.
    pub rounds_with_loss: u32,
    /// Torn tails that nodes found and cut.
    pub torn_tails: usize,
    /// With [`Target::Leader`]: rounds in which the leader, back again, and the follower that had stood still went on
    /// without the third node.
    pub rounds_without_third: u32,
    /// Of `tercet log verify`, node by node.
    pub verify_exit_codes: Vec<i32>,
    /// What must not be.
    pub violations: Vec<String>,
    /// Files of clusters in which something was violated.
    pub kept: Vec<PathBuf>,
}

impl Report {
    /// What came of it, in words.
    #[must_use]
    pub fn to_text(&self, wish: &Wish) -> String {
        let mut text = format!(
            "seed {}: {} power cuts of {}, durability {}: {} acknowledged events, {} lost in {} rounds; {} torn tails \
             cut; log verify {:?}\n",
            wish.seed,
            self.rounds,
            match wish.target {
                Target::All => "all nodes",
                Target::Leader => "the leader",
            },
            wish.durability.as_str(),
            self.acknowledged,
            self.lost,
            self.rounds_with_loss,
            self.torn_tails,
            self.verify_exit_codes,
        );
        if wish.target == Target::Leader {
            text += &format!(
                "in {} rounds the leader's disk alone brought back all\n",
                self.rounds_without_third
            );
        }
        self.violations.iter().for_each(|what| text += &format!("violated: {what}\n"));
        text
    }
}

/// One round's load, after the cut.
struct Written {
    producer: String,
    offsets: Vec<Option<Offset>>,
}

/// A run.
pub struct Campaign<'a> {
    wish: &'a Wish,
    interrupt: &'a Interrupt,
    prng: Prng,
    report: Report,
}

impl<'a> Campaign<'a> {
    /// Nothing done yet. [`enter_private_mounts`](super::lab::power::enter_private_mounts) comes first, on this thread.
    #[must_use]
    pub fn new(wish: &'a Wish, interrupt: &'a Interrupt) -> Self {
        Self { wish, interrupt, prng: Prng::new(wish.seed), report: Report::default() }
    }

    /// All rounds, on as many clusters as it takes, until something is violated. What was seen, and what ended it early.
    pub fn run(mut self) -> (Report, LabResult<()>) {
        let mut ended = Ok(());
        while ended.is_ok() && self.goes_on() {
            ended = self.run_cluster();
        }
        (self.report, ended)
    }

    fn goes_on(&self) -> bool {
        self.report.rounds < self.wish.rounds && self.report.violations.is_empty()
    }

    fn run_cluster(&mut self) -> LabResult<()> {
        let plan = Plan {
            nodes: NODES,
            durability: self.wish.durability,
            threads: self.wish.threads,
            segment_bytes: Some(SEGMENT_BYTES),
            lossy_disk_bytes: Some(self.wish.disk_bytes),
            ..Plan::new(self.wish.tercet.clone())
        };
        let mut cluster = Cluster::start(&plan, self.interrupt)?;
        if let Some(bug) = self.wish.plant {
            cluster.nodes.iter().try_for_each(|node| node.order_fault(bug, Some("")))?;
        }
        self.report.clusters += 1;
        let done = self.rounds(&mut cluster);
        self.report.torn_tails += cluster.nodes.iter().map(|node| node.has_said(TORN)).sum::<usize>();
        let done = match (done, cluster.check_alive()) {
            (Err(LabError::Violation(what)), _) | (_, Err(LabError::Violation(what))) => {
                self.report.violations.push(what);
                Ok(())
            }
            (done, _) => done,
        };
        if done.is_err() || !self.report.violations.is_empty() {
            self.report.kept.push(cluster.keep());
        }
        done
    }

    fn rounds(&mut self, cluster: &mut Cluster) -> LabResult<()> {
        let mut written = Vec::new();
        let mut bytes = 0;
        while self.goes_on() && bytes < CLUSTER_BYTES {
            let round = self.round(cluster)?;
            bytes += (round.offsets.len() * self.wish.size.max(64)) as u64;
            written.push(round);
        }
        if self.report.violations.is_empty() { self.check_all(cluster, &written) } else { Ok(()) }
    }

    fn round(&mut self, cluster: &mut Cluster) -> LabResult<Written> {
        cluster.caught_up(PATIENCE)?;
        let base = cluster.settled(PATIENCE)?[0].last_offset;
        let round = self.report.rounds + 1;
        let producer = format!("power-{round}");
        let load = Load::start(LoadPlan {
            servers: cluster.servers(),
            producer: producer.clone(),
            topic: TOPIC.to_owned(),
            rate: self.wish.rate,
            size: self.wish.size,
        })?;
        let deadline = Instant::now() + PATIENCE;
        while load.acked() == 0 && Instant::now() < deadline {
            load.check()?;
            std::thread::sleep(LOOK);
        }
        self.pause(LOAD_MS)?;
        match self.wish.target {
            Target::All => self.cut_all(cluster)?,
            Target::Leader => self.cut_leader(cluster)?,
        }
        // Where acknowledged events may be lost, the producer cannot go on: the cluster expects what it has acknowledged.
        let finishes = self.wish.promises_all();
        if finishes {
            cluster.caught_up(PATIENCE)?;
        }
        let Concluded { history, sent, failure } = load.conclude(finishes.then_some(PATIENCE))?;
        let acknowledged = history.acknowledged();
        let (mut offsets, wrong) = history.offsets(sent);
        offsets.truncate(sent as usize);
        self.report.acknowledged += acknowledged;
        self.report.resent += history.resent;
        self.judge_load(round, failure, finishes.then_some(wrong))?;
        cluster.caught_up(PATIENCE)?;
        let statuses = cluster.settled(PATIENCE)?;
        let written = Written { producer, offsets };
        // In a cluster that may forget, offsets are given anew.
        let from = if finishes { From::Offset(base.next()) } else { From::Earliest };
        let lost = self.compare(cluster, &statuses, from, std::slice::from_ref(&written))?;
        self.report.rounds += 1;
        self.report.lost += lost;
        self.report.rounds_with_loss += u32::from(lost > 0);
        eprintln!("round {round}: {acknowledged} acknowledged, {lost} lost");
        Ok(written)
    }

    /// A random while.
    fn pause(&mut self, (least, most): (u64, u64)) -> LabResult<()> {
        let end = Instant::now() + Duration::from_micros(self.prng.between(least * 1_000, most * 1_000));
        while Instant::now() < end {
            self.interrupt.check()?;
            std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(20)));
        }
        Ok(())
    }

    fn cut_all(&mut self, cluster: &mut Cluster) -> LabResult<()> {
        let ids = cluster.ids();
        cluster.cut_power(&ids)?;
        cluster.restore_power(&ids)?;
        ids.iter().try_for_each(|id| cluster.node(*id).pretend_reboot())?;
        // In a cluster that promises nothing here, somebody has to say so.
        let flags: &[&str] = if self.wish.promises_all() { &[] } else { &["--accept-loss"] };
        ids.iter().try_for_each(|id| cluster.restart_with(*id, flags))
    }

    fn cut_leader(&mut self, cluster: &mut Cluster) -> LabResult<()> {
        let (leader, _) = cluster.leader(PATIENCE)?;
        let others = cluster.others(leader);
        let which = self.prng.between(0, 1) as usize;
        let (frozen, third) = (others[which], others[1 - which]);
        cluster.node(frozen).freeze();
        self.pause(FROZEN_MS)?;
        cluster.cut_power(&[leader])?;
        cluster.node(third).freeze();
        cluster.node(frozen).resume();
        cluster.restore_power(&[leader])?;
        cluster.node(leader).pretend_reboot()?;
        let restarted = cluster.restart(leader);
        // It may not be able to: a torn tail that somebody may have, and a memory that is gone, wait for the third.
        let alone = restarted.and_then(|()| match cluster.leader_among(&[leader, frozen], WITHOUT_THIRD) {
            Ok(_) => Ok(true),
            Err(LabError::Failed(_)) => Ok(false),
            Err(error) => Err(error),
        });
        cluster.node(third).resume();
        self.report.rounds_without_third += u32::from(alone?);
        Ok(())
    }

    /// What the publisher was told, where everything had to be acknowledged in the end.
    fn judge_load(&mut self, round: u32, failure: Option<LabError>, wrong: Option<u64>) -> LabResult<()> {
        match failure {
            None => {}
            Some(LabError::Client(
                error @ (ClientError::SequenceGap { .. } | ClientError::IdentityExpired { .. }),
            )) => {
                let what = format!("round {round}: acknowledged events of a producer are lost: {error}");
                self.report.violations.push(what);
                return Ok(());
            }
            Some(error) => return Err(error),
        }
        if let Some(wrong) = wrong.filter(|wrong| *wrong > 0) {
            let what = format!("round {round}: {wrong} events are not acknowledged exactly once");
            self.report.violations.push(what);
        }
        Ok(())
    }

    /// Holds every node's events of these producers against what was acknowledged. Gives how many are missing on the
    /// node that misses most, and notes what must not be.
    fn compare(
        &mut self,
        cluster: &Cluster,
        statuses: &[NodeStatus],
        from: From,
        written: &[Written],
    ) -> LabResult<u64> {
        let sums = |status: &NodeStatus| (status.log_checksum, status.producers_checksum, status.last_offset);
        for status in statuses.iter().filter(|status| sums(status) != sums(&statuses[0])) {
            let what =
                format!("node {} and node {} have different logs", status.node_id, statuses[0].node_id);
            self.report.violations.push(what);
        }
        let end = statuses[0].last_offset;
        let mut most = 0;
        for node in &cluster.nodes {
            let faults = self.read_node(node.direct, from, end, written)?;
            most = most.max(faults.lost);
            let else_wrong = faults.sum() - faults.lost;
            if else_wrong > 0 || (faults.lost > 0 && self.wish.promises_all()) {
                self.report.violations.push(format!("node {}: {faults:?}", node.id));
            }
        }
        Ok(most)
    }

    fn read_node(
        &self,
        server: std::net::SocketAddr,
        from: From,
        end: Offset,
        written: &[Written],
    ) -> LabResult<Faults> {
        let mut comparisons: Vec<(&str, Comparison<'_>, u64, u64)> = written
            .iter()
            .map(|one| (one.producer.as_str(), Comparison::new(&one.offsets, self.wish.size), 0, 0))
            .collect();
        check::read_from(server, TOPIC, from, end, self.interrupt, |event| {
            let of = comparisons.iter_mut().rev().find(|(producer, ..)| *producer == event.producer);
            if let Some((_, comparison, count, highest)) = of {
                comparison.see(event.offset, event.sequence.0, event.body);
                *count += 1;
                *highest = (*highest).max(event.sequence.0);
            }
        })?;
        let mut faults = Faults::default();
        for (_, comparison, count, highest) in comparisons {
            faults = faults.plus(&comparison.finish());
            // What is lost, where something may be, is the end of what a producer wrote and nothing in its middle.
            faults.misplaced += highest.saturating_sub(count);
        }
        Ok(faults)
    }

    /// At the end of a cluster: everything that was ever written to it, and its files.
    fn check_all(&mut self, cluster: &mut Cluster, written: &[Written]) -> LabResult<()> {
        let statuses = cluster.settled(PATIENCE)?;
        self.compare(cluster, &statuses, From::Earliest, written)?;
        for id in cluster.ids() {
            let code = cluster.terminate(id)?;
            if code != Some(0) {
                self.report.violations.push(format!("node {id} ended with exit code {code:?} on SIGTERM"));
            }
            let (code, said) = cluster.node(id).verify()?;
            self.report.verify_exit_codes.push(code.unwrap_or(-1));
            if code != Some(0) {
                self.report.violations.push(format!("node {id}: log verify: {said}"));
            }
        }
        Ok(())
    }
}
