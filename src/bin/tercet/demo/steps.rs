//! The steps of the demo, in order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tercet::base::ids::{LogIndex, NodeId, Offset};
use tercet::client::{ClientOptions, NodeStatus, Publisher};
use tercet::config::ThreadingMode;
use tercet::entry::Durability;

use super::load::{self, Seen};
use super::proof::{self, Comparison, Faults};
use super::report::Report;
use crate::cluster::{self, Cluster, Plan};
use crate::dev::wait_leader;
use crate::exit::{FAILED, Failure, UNAVAILABLE};
use crate::interrupt::Interrupt;
use crate::log;
use crate::publish::ack_log::AckLog;
use crate::publish::engine::{Engine, Job};
use crate::publish::input::Input;
use crate::publish::tally::Tally;
use crate::status::checksum_text;

/// Real events that come with the program: see `data/README.md`.
const EARTHQUAKES: &[u8] = include_bytes!("../../../../data/earthquakes.ndjson");
const QUAKES_TOPIC: &str = "quakes";
const QUAKES_PRODUCER: &str = "usgs";
const NODES: u16 = 3;
const RATE: f64 = 5_000.0;
const SIZE: usize = 256;
/// Time for anything that should take a fraction of it.
const PATIENCE: Duration = Duration::from_secs(20);
const STEPS: usize = 7;

/// A demo under way.
pub struct Demo<'a> {
    cluster: Cluster,
    servers: Vec<SocketAddr>,
    load: load::Plan,
    interrupt: &'a Interrupt,
    report: &'a mut Report,
    step: usize,
}

/// What happened to the leader.
struct Killing {
    victim: NodeId,
    /// After the load's start.
    at: Duration,
    /// From the restart until the node said that it was ready.
    restart: Duration,
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl<'a> Demo<'a> {
    /// Three nodes on free ports.
    pub fn start(
        dir: &Path,
        load_for: Duration,
        interrupt: &'a Interrupt,
        report: &'a mut Report,
    ) -> Result<Self, Failure> {
        let begun = Instant::now();
        say(1, "three nodes start");
        let plan = Plan {
            name: "demo",
            dir: dir.to_owned(),
            ports: cluster::free_ports(NODES)?,
            durability: Durability::Disk,
            threads: ThreadingMode::Auto,
            quiet: true,
        };
        let mut cluster = Cluster::start(&plan)?;
        cluster.wait_ready(PATIENCE)?;
        let servers: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.client).collect();
        wait_leader(&servers, PATIENCE)?;
        report.number("startup_ms", ms(begun.elapsed()));
        report.number("durability", plan.durability.as_str());
        let load = load::Plan { rate: RATE, size: SIZE, duration: load_for };
        Ok(Self { cluster, servers, load, interrupt, report, step: 1 })
    }

    /// Everything else.
    pub fn run(mut self) -> Result<(), Failure> {
        let end = self.publish_earthquakes()?;
        self.read_back(end)?;
        self.publish_again(end)?;
        let (seen, killing) = self.load_and_kill()?;
        let statuses = self.compare_logs(&seen)?;
        self.compare_events(&seen, &killing, statuses[0].last_offset)?;
        self.stop_and_verify(&statuses[0])
    }

    fn next(&mut self, what: &str) -> Result<(), Failure> {
        self.interrupt.check()?;
        self.step += 1;
        say(self.step, what);
        Ok(())
    }

    fn client(&self) -> ClientOptions {
        ClientOptions { no_progress_timeout: PATIENCE, ..ClientOptions::new(self.servers.clone()) }
    }

    fn publish(&self) -> Result<Tally, Failure> {
        let mut publisher = Publisher::open(self.client(), QUAKES_PRODUCER)?;
        publisher.start_at(tercet::base::ids::Sequence(1));
        let waker = publisher.waker();
        let input = Input::spawn(EARTHQUAKES, move || {
            // Without it lines are found at the next turn.
            let _ = waker.wake();
        });
        let job = Job { topic: QUAKES_TOPIC, pace: None, interrupt: self.interrupt };
        let (tally, outcome) = Engine::new(&mut publisher, input, AckLog::create(None)?, job).run(&|_| {});
        outcome.map(|()| tally)
    }

    fn publish_earthquakes(&mut self) -> Result<Offset, Failure> {
        self.next("real events are published")?;
        let lines = EARTHQUAKES.split_inclusive(|byte| *byte == b'\n').count() as u64;
        let tally = self.publish()?;
        self.report.number("published", tally.to_json());
        self.report.prove(
            "published",
            tally.acknowledged == lines && tally.duplicates == 0,
            format!(
                "{} of {lines} earthquakes acknowledged in {:.0} ms: on the disks of a majority",
                tally.acknowledged,
                ms(tally.elapsed())
            ),
        );
        Ok(tally.last_offset)
    }

    fn read_back(&mut self, end: Offset) -> Result<(), Failure> {
        self.next("they are read back from each node alone")?;
        let mut identical = 0;
        for server in self.servers.clone() {
            let mut read = Vec::with_capacity(EARTHQUAKES.len());
            proof::read(server, QUAKES_TOPIC, end, self.interrupt, |event| {
                read.extend_from_slice(event.body);
                read.push(b'\n');
            })?;
            identical += u16::from(read == EARTHQUAKES);
        }
        self.report.prove(
            "read_back_identical",
            identical == NODES,
            format!("read back from each node alone: {identical} of {NODES} byte-identical to the input"),
        );
        Ok(())
    }

    fn publish_again(&mut self, end: Offset) -> Result<(), Failure> {
        self.next("the same events are published again")?;
        let tally = self.publish()?;
        let statuses = proof::agreed(&self.servers, end, self.interrupt)?;
        let unmoved = statuses.iter().all(|status| status.last_offset == end);
        self.report.number("published_again", tally.to_json());
        self.report.prove(
            "published_again_adds_nothing",
            tally.duplicates == tally.published && tally.acknowledged == tally.published && unmoved,
            format!(
                "published again: {} of {} told apart as duplicates, the log ends at offset {} as before",
                tally.duplicates,
                tally.published,
                statuses.iter().map(|status| status.last_offset).max().unwrap_or_default()
            ),
        );
        Ok(())
    }

    fn load_and_kill(&mut self) -> Result<(Seen, Killing), Failure> {
        self.next("an open-loop load; its leader is killed (-9) in the middle and started again")?;
        let mut publisher = Publisher::open(self.client(), load::PRODUCER)?;
        self.interrupt.wakes(publisher.waker());
        let (plan, interrupt) = (self.load, self.interrupt);
        let killed = AtomicBool::new(false);
        let start = Instant::now() + Duration::from_millis(20);
        let (seen, killing) = std::thread::scope(|scope| {
            let load = scope.spawn(|| load::run(&mut publisher, &plan, start, &killed, interrupt));
            // Nodes are started by this thread: they end with the thread that started them.
            let killing = self.kill_and_restart(start, &killed);
            (load.join(), killing)
        });
        let (seen, killing) = (seen.map_err(|_| Failure::new(FAILED, "the load broke down"))?, killing?);
        self.interrupt.check()?;
        if let Some(error) = seen.failure {
            return Err(error.into());
        }
        Ok((seen, killing))
    }

    fn kill_and_restart(&mut self, start: Instant, killed: &AtomicBool) -> Result<Killing, Failure> {
        let pause = |until: Duration| {
            while start.elapsed() < until {
                self.interrupt.check()?;
                std::thread::sleep(Duration::from_millis(5).min(until.saturating_sub(start.elapsed())));
            }
            Ok::<(), Failure>(())
        };
        pause(self.load.duration.mul_f64(0.4))?;
        let victim = leader(&self.servers)?;
        let node = self.cluster.nodes.iter_mut().find(|node| node.id == victim);
        let node = node.ok_or_else(|| Failure::new(FAILED, "the leader is no node of this cluster"))?;
        let at = start.elapsed();
        killed.store(true, Ordering::SeqCst);
        node.kill();
        pause(self.load.duration.mul_f64(0.7))?;
        let restarted = Instant::now();
        node.start()?;
        node.wait_ready(restarted + PATIENCE)?;
        Ok(Killing { victim, at, restart: restarted.elapsed() })
    }

    fn compare_logs(&mut self, seen: &Seen) -> Result<Vec<NodeStatus>, Failure> {
        self.next("the three logs are compared")?;
        let last = seen.offsets.iter().copied().max().unwrap_or(0);
        let begun = Instant::now();
        let statuses = proof::agreed(&self.servers, Offset(last), self.interrupt)?;
        let sums = |status: &NodeStatus| (status.log_checksum, status.producers_checksum);
        let equal = statuses.iter().all(|status| sums(status) == sums(&statuses[0]));
        let first = &statuses[0];
        self.report.number("caught_up_ms", ms(begun.elapsed()));
        self.report.number("log_checksum", checksum_text(first.log_checksum));
        self.report.number("log_checksum_index", first.log_checksum_index.0);
        self.report.number("producers_checksum", checksum_text(first.producers_checksum));
        let text = format!(
            "all three logs are identical: checksum {} over {} entries, producers {}",
            checksum_text(first.log_checksum),
            first.log_checksum_index,
            checksum_text(first.producers_checksum)
        );
        let differ = || {
            let each = |status: &NodeStatus| format!("node {}: {:?}", status.node_id, sums(status));
            format!("the logs differ: {}", statuses.iter().map(each).collect::<Vec<_>>().join(", "))
        };
        self.report.prove("logs_identical", equal, if equal { text } else { differ() });
        Ok(statuses)
    }

    fn compare_events(&mut self, seen: &Seen, killing: &Killing, end: Offset) -> Result<(), Failure> {
        self.interrupt.check()?;
        let mut faults = Vec::new();
        for server in self.servers.clone() {
            let mut comparison = Comparison::new(&seen.offsets, self.load.size);
            proof::read(server, load::TOPIC, end, self.interrupt, |event| {
                comparison.see(event.offset.0, event.sequence.0, event.body);
            })?;
            faults.push(comparison.finish());
        }
        self.tell_load(seen, killing);
        let sum = |of: fn(&Faults) -> u64| faults.iter().map(of).sum::<u64>();
        let (lost, doubled) = (sum(|f| f.lost), sum(|f| f.doubled));
        let (misplaced, damaged) = (sum(|f| f.misplaced), sum(|f| f.damaged));
        for (name, count) in
            [("lost", lost), ("doubled", doubled), ("misplaced", misplaced), ("damaged", damaged)]
        {
            self.report.number(name, count);
        }
        self.report.prove(
            "acknowledged_stand_once_in_order",
            faults.iter().all(|faults| faults.sum() == 0),
            format!(
                "every acknowledged event stands once, at its offset, in order, on each node: {lost} lost, {doubled} \
                 doubled, {misplaced} misplaced, {damaged} damaged"
            ),
        );
        Ok(())
    }

    fn tell_load(&mut self, seen: &Seen, killing: &Killing) {
        let (sent, acknowledged) = (seen.offsets.len() as u64, seen.acknowledged());
        let outage = seen.longest_gap(killing.at).map_or(Duration::ZERO, |gap| gap.length);
        let slowest = Duration::from_nanos(seen.all.max_ns());
        self.report.number("rate_per_s", self.load.rate);
        self.report.number("size", self.load.size);
        self.report.number("sent", sent);
        self.report.number("acknowledged", acknowledged);
        self.report.number("resent", seen.resent);
        self.report.number("killed_node", killing.victim.0);
        self.report.number("outage_ms", ms(outage));
        self.report.number("slowest_event_ms", ms(slowest));
        self.report.number("restart_ms", ms(killing.restart));
        self.report.latency("before the kill", seen.before.summary());
        self.report.latency("whole load", seen.all.summary());
        self.report.prove(
            "load_acknowledged",
            acknowledged == sent,
            format!(
                "{acknowledged} of {sent} events at {:.0}/s acknowledged; leader {} killed after {:.1} s: no \
                 acknowledgement for {:.0} ms, {:.0} ms for the slowest event; {} sent again; restarted, ready in \
                 {:.0} ms",
                self.load.rate,
                killing.victim,
                killing.at.as_secs_f64(),
                ms(outage),
                ms(slowest),
                seen.resent,
                ms(killing.restart)
            ),
        );
    }

    fn stop_and_verify(&mut self, status: &NodeStatus) -> Result<(), Failure> {
        self.next("the nodes are stopped, and every byte of their files is verified")?;
        let begun = Instant::now();
        let clean = self.cluster.stop(PATIENCE);
        self.report.number("stop_ms", ms(begun.elapsed()));
        self.report.prove(
            "stopped_cleanly",
            clean,
            format!("all nodes stopped on SIGTERM with exit code 0 in {:.0} ms", ms(begun.elapsed())),
        );
        let (index, checksum) = (status.log_checksum_index, status.log_checksum);
        let (mut good, mut entries) = (0, 0);
        let mut found = Vec::new();
        for node in &self.cluster.nodes {
            let mut at_index = None;
            let checked = log::check(&node.data_dir, &mut |entry, _: LogIndex| {
                if entry.header().index == index {
                    at_index = Some(entry.chain());
                }
            });
            match checked {
                Ok(report) => {
                    entries = entries.max(report.recovery.entries);
                    let whole = report.recovery.cut.is_none() && at_index == Some(checksum);
                    good += u16::from(whole);
                    if !whole {
                        found.push(format!("; node {}: not what it said while it ran", node.id));
                    }
                }
                Err(error) => found.push(format!("; {}", error.into_failure(&node.data_dir).line)),
            }
        }
        self.report.prove(
            "files_verified",
            good == NODES,
            format!(
                "log verify: {good} of {NODES} directories whole ({entries} entries), with the same checksum on \
                 disk{}",
                found.concat()
            ),
        );
        Ok(())
    }
}

fn say(step: usize, what: &str) {
    crate::output::note(format_args!("[{step}/{STEPS}] {what}"));
}

/// Who leads now, in the words of a majority's newest term.
fn leader(servers: &[SocketAddr]) -> Result<NodeId, Failure> {
    wait_leader(servers, PATIENCE)?;
    let rows = tercet::client::query_status_all(servers, Duration::from_secs(1))?;
    let newest = rows.into_iter().filter_map(|(_, row)| row.ok()).max_by_key(|status| status.term);
    newest.and_then(|status| status.leader_id).ok_or_else(|| Failure::new(UNAVAILABLE, "nobody leads"))
}
