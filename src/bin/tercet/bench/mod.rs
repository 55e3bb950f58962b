//! `tercet bench`: latency under load, measured from the intended send time.

pub mod generator;
mod report;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tercet::base::limits::EVENT_BODY_BYTES_MAX;
use tercet::base::prng::Prng;
use tercet::client::{ClientOptions, Publisher, query_status_all};

use self::generator::{Generator, Measured, Plan};
use self::report::{Costs, NodeCost, Report};
use crate::args::{BenchOptions, Rate};
use crate::connect;
use crate::exit::{FAILED, Failure, INTERRUPTED, Outcome};
use crate::interrupt::{GRACE, Interrupt};
use crate::output;
use crate::pace::Pace;
use crate::processes::{self, MachineTicks, Usage};
use crate::status::ANSWER_LIMIT;

/// Nothing acknowledged for this long ends a connection, and the wait for the last acknowledgements.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between opening the connections and the first event.
const HEAD_START: Duration = Duration::from_millis(50);

/// Loads and measures.
pub fn run(options: &BenchOptions) -> Outcome {
    if options.size > EVENT_BODY_BYTES_MAX as u64 {
        return Err(Failure::usage(format!(
            "--size {} is larger than an event may be ({EVENT_BODY_BYTES_MAX} bytes)",
            options.size
        )));
    }
    if options.duration.is_zero() {
        return Err(Failure::usage("--duration must be above 0"));
    }
    let client = connect::options(&options.servers, "tercet bench", PATIENCE)?;
    let interrupt = Interrupt::install(GRACE)?;
    let nodes = find_nodes(&client.servers)?;
    let publishers = open_all(&client, options.connections, &interrupt)?;

    let start = Instant::now() + HEAD_START;
    let pace = match options.rate {
        Rate::Max => None,
        Rate::PerSecond(rate) => Some(Pace::new(rate / f64::from(options.connections))),
    };
    let plan = Plan { start, warmup: options.warmup, duration: options.duration, drain: PATIENCE, pace };
    let (measured, costs) = load(publishers, options, plan, &nodes, &interrupt)?;
    for error in measured.iter().filter_map(|measured| measured.failure.as_ref()) {
        crate::output::note(format_args!("tercet: a connection ended: {error}"));
    }
    let report = Report::new(options, &measured, costs);
    if options.json {
        output::print_json(&report.to_json())?;
    } else {
        crate::output::say(report.to_text())?;
    }
    match report.verdict() {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(why) => Err(Failure::new(FAILED, why)),
    }
}

/// Node ids, and their processes where they run here.
fn find_nodes(servers: &[SocketAddr]) -> Result<Vec<(u16, u32)>, Failure> {
    let rows = query_status_all(servers, ANSWER_LIMIT)?;
    let answered = rows.into_iter().filter_map(|(server, row)| Some((server, row.ok()?)));
    Ok(answered
        .filter_map(|(server, status)| Some((status.node_id.0, processes::listener(server)?)))
        .collect())
}

/// Connections one after the other: each opening is an entry in the log.
fn open_all(
    client: &ClientOptions,
    connections: u16,
    interrupt: &Interrupt,
) -> Result<Vec<Publisher>, Failure> {
    let mut publishers = Vec::new();
    for _ in 0..connections {
        interrupt.check()?;
        let publisher = Publisher::open(client.clone(), &connect::random_name("bench")?)?;
        interrupt.wakes(publisher.waker());
        publishers.push(publisher);
    }
    Ok(publishers)
}

/// A thread for each connection; this one looks at the nodes when measuring begins and ends.
fn load(
    publishers: Vec<Publisher>,
    options: &BenchOptions,
    plan: Plan,
    nodes: &[(u16, u32)],
    interrupt: &Interrupt,
) -> Result<(Vec<Measured>, Costs), Failure> {
    let mut body = vec![0; options.size as usize];
    // Not compressible, and the same in every run.
    Prng::new(1).fill(&mut body);
    let connections = publishers.len() as u32;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (place, publisher) in (0u32..).zip(publishers) {
            // Schedules of several connections lie between each other, not on top of each other.
            let shift = plan
                .pace
                .map_or(Duration::ZERO, |pace| Duration::from_nanos(pace.due_ns(1)) * place / connections);
            let plan = Plan { start: plan.start + shift.min(Duration::from_secs(1)), ..plan };
            let generator = Generator::new(publisher, body.clone(), plan, interrupt);
            threads.push(scope.spawn(move || generator.run()));
        }
        sleep_until(plan.start + plan.warmup, interrupt);
        let (before, own_before, machine_before) = (usages(nodes), own_cpu_s(), MachineTicks::now());
        sleep_until(plan.start + plan.warmup + plan.duration, interrupt);
        let (after, own_after, machine_after) = (usages(nodes), own_cpu_s(), MachineTicks::now());
        let measured: Vec<Measured> = threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
        if interrupt.is_set() {
            return Err(Failure::new(INTERRUPTED, "interrupted; nothing was measured to the end"));
        }
        if measured.len() < connections as usize {
            return Err(Failure::new(FAILED, "a generator thread broke down"));
        }
        let costs = nodes.iter().zip(before.iter().zip(&after)).filter_map(|((node_id, _), usages)| {
            let (before, after) = ((*usages.0)?, (*usages.1)?);
            Some(NodeCost {
                node_id: *node_id,
                cpu_s: after.cpu_s - before.cpu_s,
                rss_peak_bytes: after.rss_peak_bytes,
            })
        });
        let stolen_pct =
            machine_before.zip(machine_after).map(|(before, after)| after.stolen_pct_since(&before));
        let costs = Costs { nodes: costs.collect(), own_cpu_s: own_after - own_before, stolen_pct };
        Ok((measured, costs))
    })
}

fn usages(nodes: &[(u16, u32)]) -> Vec<Option<Usage>> {
    nodes.iter().map(|(_, pid)| processes::usage(*pid)).collect()
}

fn own_cpu_s() -> f64 {
    processes::usage(std::process::id()).map_or(0.0, |usage| usage.cpu_s)
}

fn sleep_until(then: Instant, interrupt: &Interrupt) {
    while !interrupt.is_set() {
        let left = then.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}
