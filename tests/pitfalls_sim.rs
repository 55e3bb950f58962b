//! Pitfalls of whole nodes, as one scenario each in the simulated world; every invariant of `src/sim/` looks on.

use tercet::agent::batcher::{BatcherLimits, RetentionSettings, TimerSettings};
use tercet::agent::delivery::DeliveryLimits;
use tercet::base::clock::{NS_PER_MS, NS_PER_S};
use tercet::base::ids::LogIndex;
use tercet::base::prng::Prng;
use tercet::entry::{BatchLimits, Durability};
use tercet::raft::Role;
use tercet::sim::cluster::Cluster;
use tercet::sim::coverage::rare;
use tercet::sim::disk::Fault;
use tercet::sim::node::Shape;
use tercet::sim::workload::PublisherPlan;

fn cluster(seed: u64) -> Cluster {
    let shape = Shape {
        nodes: 3,
        durability: Durability::Disk,
        segment_bytes: 512 << 10,
        batch: BatchLimits { events_max: 64, bytes_max: 24 << 10, delay_max_ns: NS_PER_MS },
        batcher: BatcherLimits::default(),
        delivery: DeliveryLimits::default(),
        timers: TimerSettings { heartbeat_interval_ns: 50 * NS_PER_MS, missed_heartbeats: 3 },
        interleaved: seed.is_multiple_of(2),
        disk_stall_limit_ns: 500_000_000,
        retention: RetentionSettings::default(),
    };
    let plan = PublisherPlan {
        window: 50,
        frame_events: 8,
        pause_ns: 5 * NS_PER_MS,
        twice_per_million: 0,
        again_per_million: 0,
        nodes: 3,
    };
    let mut cluster = Cluster::new(shape, &[plan, plan], &mut Prng::new(seed));
    // The test breaks things; nobody else does.
    cluster.be_kind();
    run_until(&mut cluster, "a leader and some events", |cluster| {
        leader(cluster).is_some() && cluster.acknowledgements > 200
    });
    cluster
}

fn advance(cluster: &mut Cluster, ns: u64) {
    let until_ns = cluster.now_ns() + ns;
    cluster.advance(until_ns, |_| false).unwrap_or_else(|violation| panic!("{violation}"));
}

fn run_until(cluster: &mut Cluster, what: &str, enough: impl Fn(&Cluster) -> bool) {
    for _ in 0..2_000 {
        if enough(cluster) {
            return;
        }
        advance(cluster, 10 * NS_PER_MS);
    }
    panic!("no {what} in 20 s of simulated time");
}

fn converge(cluster: &mut Cluster) {
    cluster.make_peace();
    let until_ns = cluster.now_ns() + 20 * NS_PER_S;
    cluster.advance(until_ns, Cluster::is_converged).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(cluster.unfinished(), None);
}

/// The place of the node that leads in the newest term.
fn leader(cluster: &Cluster) -> Option<usize> {
    let leading = cluster.nodes.iter().enumerate().filter_map(|(place, node)| {
        let raft = node.serving()?.batcher.raft();
        (raft.role() == Role::Leader).then(|| (raft.term(), place))
    });
    leading.max().map(|(_, place)| place)
}

fn committed(cluster: &Cluster, place: usize) -> LogIndex {
    cluster.nodes[place].serving().map_or(LogIndex::ZERO, |serving| serving.batcher.applied().0)
}

fn term(cluster: &Cluster, place: usize) -> u64 {
    cluster.nodes[place].serving().map_or(0, |serving| serving.batcher.raft().term().0)
}

#[test]
fn pitfall_45_a_leader_paused_and_resumed_gives_no_false_acknowledgement_and_steps_down() {
    for seed in 1..=4 {
        let mut cluster = cluster(seed);
        let old = leader(&cluster).expect("a leader");
        let old_term = term(&cluster, old);
        cluster.nodes[old].paused_until_ns = cluster.now_ns() + NS_PER_S;
        run_until(&mut cluster, "another leader", |cluster| leader(cluster).is_some_and(|new| new != old));
        let new = leader(&cluster).expect("a leader");
        let at_change = committed(&cluster, new);
        run_until(&mut cluster, "progress without it", |cluster| {
            committed(cluster, new).0 > at_change.0 + 20
        });
        // It wakes as leader of an old term, with clients' frames in its sockets; the acknowledgements are checked
        // against the log by the invariants.
        advance(&mut cluster, 2 * NS_PER_S);
        assert!(term(&cluster, old) > old_term, "seed {seed}");
        assert_eq!(leader(&cluster), Some(new), "seed {seed}: and it deposes nobody");
        converge(&mut cluster);
    }
}

#[test]
fn pitfall_49_a_black_holed_follower_holds_up_nobody_and_comes_back() {
    for seed in 11..=12 {
        let mut cluster = cluster(seed);
        let place = leader(&cluster).expect("a leader");
        let lost = (place + 1) % 3;
        let (a, b) = (cluster.nodes[place].host(), cluster.nodes[lost].host());
        for (from, to) in [(a, b), (b, a)] {
            cluster.world.borrow_mut().set_cut(from, to, true);
        }
        let before = (committed(&cluster, place), term(&cluster, place));
        advance(&mut cluster, 3 * NS_PER_S);
        assert!(committed(&cluster, place).0 > before.0.0 + 100, "seed {seed}");
        assert_eq!((leader(&cluster), term(&cluster, place)), (Some(place), before.1), "seed {seed}");
        cluster.world.borrow_mut().mend_all();
        run_until(&mut cluster, "catching up", |cluster| {
            committed(cluster, lost).0 + 50 > committed(cluster, place).0
        });
        converge(&mut cluster);
    }
}

#[test]
fn pitfall_11_a_leader_whose_log_write_fails_is_gone_and_another_leads() {
    for seed in 21..=24 {
        let mut cluster = cluster(seed);
        let old = leader(&cluster).expect("a leader");
        let life = cluster.nodes[old].life;
        cluster.nodes[old].disk.plan(1, Fault::Io);
        run_until(&mut cluster, "the end of the failed node", |cluster| {
            cluster.nodes[old].running.is_none() || cluster.nodes[old].life > life
        });
        run_until(&mut cluster, "another leader", |cluster| leader(cluster).is_some_and(|new| new != old));
        converge(&mut cluster);
    }
}

#[test]
fn pitfall_8_a_node_that_was_cut_off_rejoins_and_deposes_nobody() {
    for seed in 31..=32 {
        let mut cluster = cluster(seed);
        let place = leader(&cluster).expect("a leader");
        let before = term(&cluster, place);
        let lone = (place + 1) % 3;
        let hosts: Vec<_> = cluster.nodes.iter().map(|node| node.host()).collect();
        for other in (0..3).filter(|other| *other != lone) {
            cluster.world.borrow_mut().set_cut(hosts[lone], hosts[other], true);
            cluster.world.borrow_mut().set_cut(hosts[other], hosts[lone], true);
        }
        advance(&mut cluster, 3 * NS_PER_S);
        cluster.world.borrow_mut().mend_all();
        advance(&mut cluster, 2 * NS_PER_S);
        assert_eq!((leader(&cluster), term(&cluster, place)), (Some(place), before), "seed {seed}");
        converge(&mut cluster);
    }
}

#[test]
fn pitfall_10_a_partial_partition_keeps_one_leader_and_its_term() {
    for seed in 41..=42 {
        let mut cluster = cluster(seed);
        let place = leader(&cluster).expect("a leader");
        let before = term(&cluster, place);
        let (a, b) = (cluster.nodes[place].host(), cluster.nodes[(place + 2) % 3].host());
        for (from, to) in [(a, b), (b, a)] {
            cluster.world.borrow_mut().set_cut(from, to, true);
        }
        advance(&mut cluster, 3 * NS_PER_S);
        assert_eq!((leader(&cluster), term(&cluster, place)), (Some(place), before), "seed {seed}");
        converge(&mut cluster);
    }
}

/// A follower's newest entry is torn by a loss of power, which it claims from then on; the only other disk that had the
/// entry is lost. `None` where the loss of power tore nothing.
fn torn_and_lost(seed: u64) -> Option<(Cluster, usize)> {
    let mut cluster = cluster(seed);
    let leads = leader(&cluster).expect("a leader");
    let (torn, behind) = ((leads + 1) % 3, (leads + 2) % 3);
    let (from, to) = (cluster.nodes[leads].host(), cluster.nodes[behind].host());
    cluster.world.borrow_mut().set_cut(from, to, true);
    advance(&mut cluster, 30 * NS_PER_MS);
    // In the middle of a write or of its flush.
    cluster.nodes[torn].disk.plan(1 + seed % 3, Fault::Crash);
    while cluster.nodes[torn].running.is_some() {
        advance(&mut cluster, NS_PER_MS / 2);
    }
    let now_ns = cluster.now_ns();
    let Cluster { adversary, nodes, shape, .. } = &mut cluster;
    adversary.replace_disk(now_ns, nodes, leads, shape);
    cluster.nodes[torn].restart_at_ns = Some(now_ns);
    advance(&mut cluster, 10 * NS_PER_MS);
    let claims = cluster.nodes[torn].serving()?.batcher.raft().claimed_tail().is_some();
    claims.then_some((cluster, torn))
}

#[test]
fn pitfall_60_a_claim_of_which_nobody_is_left_to_tell_waits_for_an_operator() {
    let mut met = 0;
    for (mut cluster, torn) in (1..=120).filter_map(torn_and_lost) {
        met += 1;
        cluster.world.borrow_mut().mend_all();
        advance(&mut cluster, 4 * NS_PER_S);
        assert_eq!(leader(&cluster), None, "the lost disk may have held the entry, and acknowledged it");
        assert!(cluster.nodes[torn].serving().unwrap().batcher.raft().claimed_tail().is_some());
        converge(&mut cluster);
        assert_eq!(cluster.nodes[torn].rare[rare::LOSS_ACCEPTED], 1);
    }
    assert!(met >= 3, "only {met} losses of power tore the newest entry");
}
