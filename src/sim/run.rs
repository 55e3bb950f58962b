//! One simulation from one seed: a safety phase with faults, a liveness phase without, and a look at every log.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::cluster::Cluster;
use super::coverage::rare;
use super::faults::fault;
use super::invariants::End;
use super::node::{DATA_DIR, Shape};
use super::report::{Report, Violation};
use super::workload::PublisherPlan;
use crate::agent::batcher::{BatcherLimits, RetentionSettings, TimerSettings};
use crate::agent::delivery::DeliveryLimits;
use crate::base::clock::{NS_PER_MS, NS_PER_S};
use crate::base::prng::Prng;
use crate::entry::{BatchLimits, Durability, Entry};
use crate::log;

/// What a simulation is asked to do; the rest is drawn from the seed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Nodes; drawn when `None`.
    pub nodes: Option<u16>,
    /// How long faults last, in simulated time.
    pub safety_ns: u64,
    /// Within so long everything must commit and converge once they are over.
    pub liveness_limit_ns: u64,
    /// Whether there are faults at all.
    pub faults: bool,
    /// Tells on stderr what happens.
    pub narrate: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: None,
            safety_ns: 6 * NS_PER_S,
            liveness_limit_ns: 30 * NS_PER_S,
            faults: true,
            narrate: false,
        }
    }
}

/// Runs the simulation of `seed`. A panic anywhere in it is a violation, too (where panics unwind).
#[must_use]
pub fn run(seed: u64, options: Options) -> Report {
    let mut report = Report { seed, ..Report::default() };
    let outcome = catch_unwind(AssertUnwindSafe(|| simulate(seed, options, &mut report)));
    report.violation = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(Violation::new("nobody panics", text.unwrap_or_default()))
        }
    };
    report
}

fn simulate(seed: u64, options: Options, report: &mut Report) -> Result<(), Violation> {
    let mut prng = Prng::new(seed);
    let shape = draw_shape(&mut prng, options);
    let plans = draw_publishers(&mut prng, shape.nodes);
    (report.nodes, report.durability) = (shape.nodes, shape.durability.as_str());
    let mut cluster = Cluster::new(shape, &plans, &mut prng);
    cluster.narrate = options.narrate;
    if !options.faults {
        cluster.be_kind();
    }
    let outcome = both_phases(&mut cluster, options);
    fill(report, &cluster);
    outcome?;
    let end = stop_and_read(&mut cluster)?;
    for node in &cluster.nodes {
        for (name, count) in &node.rare {
            *report.rare.entry(name).or_insert(0) += count;
        }
    }
    for (name, count) in cluster.coverage.counts() {
        *report.rare.entry(name).or_insert(0) += count;
    }
    let done = cluster.operator.counts;
    for (name, count) in [(rare::MEMBER_REPLACED, done.replaced), (rare::MEMBER_PROMOTED, done.promoted)] {
        *report.rare.entry(name).or_insert(0) += count;
    }
    let last = end.log().last();
    report.events_committed = last.map_or(0, |entry| entry.header().next_offset().prev().0);
    cluster.book.finish(&end)
}

fn both_phases(cluster: &mut Cluster, options: Options) -> Result<(), Violation> {
    cluster.advance(options.safety_ns, |_| false)?;
    cluster.make_peace();
    if options.faults && cluster.keep_some_ill() {
        become_quiet(cluster, options, "after the last fault of a majority", |cluster| {
            cluster.is_converged() || cluster.needs_who_is_ill()
        })?;
        let name = if cluster.is_converged() { rare::MINORITY_ILL } else { rare::MINORITY_NEEDED };
        cluster.coverage.count(name);
        cluster.heal();
    }
    become_quiet(cluster, options, "after the last fault", Cluster::is_converged)
}

fn become_quiet(
    cluster: &mut Cluster,
    options: Options,
    since: &str,
    enough: impl Fn(&Cluster) -> bool,
) -> Result<(), Violation> {
    let limit_ns = cluster.now_ns() + options.liveness_limit_ns;
    cluster.advance(limit_ns, &enough)?;
    if enough(cluster) {
        return Ok(());
    }
    let (limit_s, ill) = (options.liveness_limit_ns / NS_PER_S, &cluster.ill);
    let what = cluster.unfinished().unwrap_or_default();
    Err(Violation::new("liveness", format!("{limit_s} s {since} (ill places {ill:?}): {what}")))
}

fn fill(report: &mut Report, cluster: &Cluster) {
    let world = cluster.world.borrow();
    report.trace_hash = world.trace();
    report.simulated_ns = world.now_ns();
    report.acknowledgements = cluster.acknowledgements;
    report.elections = cluster.book.elections();
    report.faults.clone_from(&cluster.adversary.counts);
    let net = [
        (fault::LATE, world.counts.late),
        (fault::LOST, world.counts.lost),
        (fault::REORDERED, world.counts.reordered),
        (fault::DUPLICATED, world.counts.duplicated),
        (fault::CUT, world.counts.cut),
        (fault::CLOGGED, world.counts.clogged),
        (fault::TRANSFER, cluster.operator.counts.asked),
    ];
    for (name, count) in net {
        *report.faults.entry(name).or_insert(0) += count;
    }
}

/// Stops every node in good order, recovers each log as a start would, and reads it.
fn stop_and_read(cluster: &mut Cluster) -> Result<End, Violation> {
    let options = cluster.shape.log_options();
    let mut logs = Vec::new();
    let archives: Vec<BTreeMap<u64, Entry>> =
        cluster.nodes.iter_mut().map(|node| std::mem::take(&mut node.archive)).collect();
    for node in &mut cluster.nodes {
        node.close();
        let mut entries = Vec::new();
        let report = log::verify(&node.disk, Path::new(DATA_DIR), &options, &mut |entry, _| {
            entries.extend(Entry::decode(entry.bytes()));
        });
        let report = match report {
            Ok(report) => report,
            Err(error) => return Err(Violation::new("logs verify", format!("node {}: {error}", node.id))),
        };
        // What retention has let go, from the end of it back to the first entry.
        let mut before = Vec::new();
        let mut chain = entries.first().map_or(report.last_chain, |first: &Entry| first.header().prev_chain);
        while chain != 0 {
            let known = archives.iter().find_map(|archive| archive.get(&chain)).cloned();
            let Some(entry) = known else {
                let what = format!("node {}: nobody ever appended the entry of chain {chain:016x}", node.id);
                return Err(Violation::new("logs verify", what));
            };
            chain = entry.header().prev_chain;
            before.push(entry);
        }
        before.reverse();
        before.append(&mut entries);
        logs.push((node.id, before));
    }
    Ok(End { logs })
}

/// In half of the runs little is kept, and not much for those who are behind.
fn draw_retention(prng: &mut Prng, segment_bytes: u64) -> RetentionSettings {
    let bytes = prng.chance(400_000).then(|| prng.below(3) * segment_bytes);
    let age_ns = prng.chance(200_000).then(|| prng.between(100, 3000) * NS_PER_MS);
    RetentionSettings { bytes, age_ns, slack_bytes: prng.below(3) * segment_bytes }
}

fn draw_shape(prng: &mut Prng, options: Options) -> Shape {
    let nodes = options.nodes.unwrap_or([3, 3, 3, 3, 3, 3, 5, 5, 1, 4][prng.below(10) as usize]);
    let segment_bytes = [64 << 10, 128 << 10, 512 << 10][prng.below(3) as usize];
    Shape {
        nodes,
        durability: if prng.chance(200_000) { Durability::Memory } else { Durability::Disk },
        segment_bytes,
        batch: BatchLimits {
            events_max: prng.between(1, 64) as usize,
            bytes_max: 24 << 10,
            delay_max_ns: NS_PER_MS,
        },
        batcher: BatcherLimits {
            peer_messages_limit: prng.between(1, 64) as usize,
            requests_limit: prng.between(1, 64) as usize,
            unsettled_bytes_limit: prng.between(16 << 10, 512 << 10),
            waiters_limit: prng.between(64, 512) as usize,
            hot_tail_bytes_limit: prng.between(4 << 10, 128 << 10),
            append_bytes_limit: prng.between(1 << 10, 64 << 10) as usize,
        },
        delivery: DeliveryLimits {
            window_bytes_limit: prng.between(1 << 10, 64 << 10) as usize,
            outbox_bytes_limit: prng.between(4 << 10, 64 << 10) as usize,
            frame_bytes_limit: prng.between(1 << 10, 32 << 10) as usize,
            cold_read_bytes: prng.between(1 << 10, 64 << 10) as usize,
            ..DeliveryLimits::default()
        },
        timers: TimerSettings { heartbeat_interval_ns: 50 * NS_PER_MS, missed_heartbeats: 3 },
        interleaved: prng.chance(500_000),
        disk_stall_limit_ns: prng.between(50, 500) * NS_PER_MS,
        retention: draw_retention(prng, segment_bytes),
    }
}

fn draw_publishers(prng: &mut Prng, nodes: u16) -> Vec<PublisherPlan> {
    let count = prng.between(1, 4);
    (0..count)
        .map(|_| PublisherPlan {
            window: prng.between(1, 200),
            frame_events: prng.between(1, 24),
            pause_ns: prng.between(1, 30) * NS_PER_MS,
            twice_per_million: [0, 20_000, 200_000][prng.below(3) as usize],
            again_per_million: [0, 0, 50_000][prng.below(3) as usize],
            nodes,
        })
        .collect()
}
