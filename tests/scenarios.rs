//! The four scenarios of failure on real clusters: steady state, a dead leader, a partition (full, partial, one-way), and
//! a cascade. Cuts are made by the proxy of `tools/lab/`.
//!
//! Nothing here asserts how long something takes: waits are long, and end as soon as what is waited for is there. What
//! must *not* happen is watched for a stated while.

#![allow(clippy::unwrap_used)]

#[path = "../tools/lab/mod.rs"]
mod lab;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lab::check::{self, Comparison, Faults};
use lab::cluster::{Cluster, PATIENCE, Plan};
use lab::interrupt::Interrupt;
use lab::load::{self, AckRun, History, Load, LoadPlan};
use lab::namespaces::{self, Entered, Namespaces};
use lab::proxy::Traffic;
use tercet::base::ids::{NodeId, Offset};
use tercet::client::{Ack, AckKind, ClientOptions, Event, NodeRole, NodeStatus, Publisher};
use tercet::config::ThreadingMode;

const SIZE: usize = 200;
const RATE: f64 = 500.0;
/// For so long nothing may be acknowledged where nothing can be committed: many times what an election takes.
const WATCH: Duration = Duration::from_millis(1_500);
/// How many whiles are looked at before a cluster counts as one without a stable leader.
const WHILES: u64 = 4;

fn plan(proxied: bool) -> Plan {
    let mut plan = Plan::new(env!("CARGO_BIN_EXE_tercet").into());
    // The same suite runs in both threading modes: the test binary's name says which.
    let dedicated = env!("CARGO_CRATE_NAME").ends_with("_dedicated");
    plan.threads = if dedicated { ThreadingMode::Dedicated } else { ThreadingMode::Shared };
    plan.segment_bytes = Some(8 << 20);
    plan.proxied = proxied;
    plan
}

fn start(proxied: bool) -> Cluster {
    Cluster::start(&plan(proxied), &Interrupt::default()).unwrap()
}

/// Nobody is suspected because a busy machine did not give it its turn.
fn start_calm(proxied: bool, heartbeat_interval: Duration) -> Cluster {
    let plan = Plan { heartbeat_interval: Some(heartbeat_interval), ..plan(proxied) };
    Cluster::start(&plan, &Interrupt::default()).unwrap()
}

fn start_load(servers: Vec<SocketAddr>) -> Load {
    let (producer, topic) = ("load".to_owned(), "load".to_owned());
    Load::start(LoadPlan { servers, producer, topic, rate: RATE, size: SIZE }).unwrap()
}

/// Waits until so many events more than were sent by now are acknowledged.
fn wait_for_more(cluster: &Cluster, load: &Load, events: u64) {
    let wanted = load.sent() + events;
    let reached = |_: &Cluster| {
        load.check()?;
        Ok((load.acked() >= wanted).then_some(()))
    };
    cluster.until("events go on", PATIENCE, reached).unwrap();
}

/// A publisher that is driven by hand, and what was acknowledged to it.
struct Hand {
    publisher: Publisher,
    topic: &'static str,
    history: History,
    duplicates: u64,
}

impl Hand {
    fn open(servers: Vec<SocketAddr>, topic: &'static str) -> Self {
        let publisher = Publisher::open(ClientOptions::new(servers), topic).unwrap();
        Self { publisher, topic, history: History::default(), duplicates: 0 }
    }

    /// Hands events over, without waiting for their acknowledgements.
    fn send(&mut self, events: u64) {
        let mut body = Vec::new();
        for _ in 0..events {
            load::body(self.publisher.next_sequence().0, SIZE, &mut body);
            self.publisher.publish(&Event::new(self.topic, &body)).unwrap();
        }
    }

    /// Moves bytes for that long; how many events were acknowledged.
    fn watch(&mut self, length: Duration) -> usize {
        let end = Instant::now() + length;
        let before = self.publisher.outstanding();
        while Instant::now() < end {
            self.poll(Duration::from_millis(20));
        }
        before - self.publisher.outstanding()
    }

    fn poll(&mut self, wait: Duration) {
        let (history, duplicates) = (&mut self.history, &mut self.duplicates);
        let note = |ack: Ack| {
            *duplicates += if ack.kind == AckKind::Written { 0 } else { u64::from(ack.count) };
            let (first_sequence, first_offset) = (ack.first_sequence.0, ack.first_offset.0);
            history.runs.push(AckRun { first_sequence, count: ack.count, first_offset, at_ns: 0 });
        };
        self.publisher.poll(wait, note).unwrap();
    }

    fn drain(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.publisher.outstanding() > 0 {
            assert!(Instant::now() < deadline, "{:?}", self.publisher);
            self.poll(Duration::from_millis(20));
        }
    }

    fn sent(&self) -> u64 {
        self.publisher.next_sequence().0 - 1
    }
}

/// All nodes agree on everything; gives what they say.
fn agreed(cluster: &Cluster) -> Vec<NodeStatus> {
    // One that has just voted is a term ahead of the others.
    let in_one_term = |cluster: &Cluster| {
        let rows = cluster.settled(PATIENCE)?;
        Ok(rows.iter().all(|row| row.term == rows[0].term).then_some(rows))
    };
    let rows = cluster.until("all nodes in one term", PATIENCE, in_one_term).unwrap();
    for row in &rows {
        let said =
            |row: &NodeStatus| (row.log_checksum, row.producers_checksum, row.producers, row.last_offset);
        assert_eq!(said(row), said(&rows[0]), "node {}", row.node_id);
    }
    rows
}

/// Every event was acknowledged exactly once, and stands exactly once, at its offset, in order, on every node.
fn assert_stands(cluster: &Cluster, topic: &str, history: &History, events: u64) {
    let (offsets, wrong) = history.offsets(events);
    assert_eq!(wrong, 0, "events of '{topic}' that are not acknowledged exactly once");
    let end = agreed(cluster)[0].last_offset;
    for node in &cluster.nodes {
        assert_eq!(read_and_compare(node.direct, topic, end, &offsets), (events, Faults::default()));
    }
}

fn read_and_compare(
    server: SocketAddr,
    topic: &str,
    end: Offset,
    offsets: &[Option<Offset>],
) -> (u64, Faults) {
    let (mut comparison, mut events) = (Comparison::new(offsets, SIZE), 0);
    check::read(server, topic, end, &Interrupt::default(), |event| {
        comparison.see(event.offset, event.sequence.0, event.body);
        events += 1;
    })
    .unwrap();
    (events, comparison.finish())
}

/// Nodes end cleanly, and their files are whole.
fn stop_and_verify(mut cluster: Cluster) {
    for id in cluster.ids() {
        assert_eq!(cluster.terminate(id).unwrap(), Some(0), "node {id}");
        let (code, said) = cluster.node(id).verify().unwrap();
        assert_eq!(code, Some(0), "node {id}: {said}");
    }
}

fn finish(cluster: Cluster, load: Load) {
    let (history, sent) = load.finish(PATIENCE).unwrap();
    assert_eq!(history.duplicates_unexplained, 0);
    assert_stands(&cluster, "load", &history, sent);
    stop_and_verify(cluster);
}

#[test]
fn steady_state_5000_events_on_three_equal_nodes_without_duplicates() {
    let cluster = start_calm(false, Duration::from_millis(400));
    let (_, term) = cluster.leader(PATIENCE).unwrap();
    let mut hand = Hand::open(cluster.servers(), "steady");
    hand.send(5_000);
    hand.drain();
    assert_eq!((hand.sent(), hand.duplicates), (5_000, 0));
    let (offsets, _) = hand.history.offsets(5_000);
    let dense: Vec<Option<Offset>> = (1..=5_000).map(|n| Some(Offset(n))).collect();
    assert!(offsets == dense, "one producer's events stand at 1 to 5000");
    assert_stands(&cluster, "steady", &hand.history, 5_000);
    let rows = agreed(&cluster);
    assert_eq!((rows[0].last_offset, rows[0].producers), (Offset(5_000), 1));
    assert_eq!(rows[0].term, term, "nothing caused an election");
    stop_and_verify(cluster);
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back_with_an_equal_log() {
    let mut cluster = start(false);
    let load = start_load(cluster.servers());
    wait_for_more(&cluster, &load, 100);
    let (old, old_term) = cluster.leader(PATIENCE).unwrap();
    cluster.kill(old).unwrap();
    wait_for_more(&cluster, &load, 300);
    let others = cluster.others(old);
    let (new, new_term) = cluster.leader_among(&others, PATIENCE).unwrap();
    assert!(new != old && new_term > old_term, "{new} in {new_term} after {old} in {old_term}");
    cluster.restart(old).unwrap();
    cluster.caught_up(PATIENCE).unwrap();
    wait_for_more(&cluster, &load, 100);
    finish(cluster, load);
}

#[test]
fn a_frozen_leader_is_replaced_and_acknowledges_nothing_falsely_when_it_wakes() {
    let cluster = start(false);
    let load = start_load(cluster.servers());
    wait_for_more(&cluster, &load, 100);
    let (old, old_term) = cluster.leader(PATIENCE).unwrap();
    // Its client has events under way at that moment.
    cluster.node(old).freeze();
    wait_for_more(&cluster, &load, 300);
    let (new, new_term) = cluster.leader_among(&cluster.others(old), PATIENCE).unwrap();
    assert!(new != old && new_term > old_term);
    cluster.node(old).resume();
    cluster.caught_up(PATIENCE).unwrap();
    wait_for_more(&cluster, &load, 100);
    finish(cluster, load);
}

#[test]
fn a_cut_off_leader_acknowledges_nothing_and_drops_only_what_it_never_acknowledged() {
    // Its one client could not follow another leader before the cut.
    let cluster = start_calm(true, Duration::from_millis(200));
    let (old, old_term) = cluster.leader(PATIENCE).unwrap();
    let others = cluster.others(old);
    let load = start_load(cluster.nodes.iter().map(|node| node.direct).collect());
    let network = cluster.network().unwrap();
    // This client reaches the leader alone: others are known to it by their proxies, and those refuse.
    for other in &others {
        network.refuse_clients(*other).unwrap();
    }
    let mut stranded = Hand::open(vec![cluster.node(old).direct], "stranded");
    stranded.send(50);
    stranded.drain();
    wait_for_more(&cluster, &load, 100);

    network.isolate(old, false).unwrap();
    stranded.send(50);
    assert_eq!(stranded.watch(2 * WATCH), 0, "a minority acknowledges nothing");
    let (new, new_term) = cluster.leader_among(&others, PATIENCE).unwrap();
    assert!(new != old && new_term > old_term);
    wait_for_more(&cluster, &load, 300);
    assert_eq!(stranded.watch(WATCH), 0, "and goes on doing so");
    let stepped_down = |cluster: &Cluster| {
        let rows = cluster.statuses(&[old])?;
        Ok(rows.into_iter().next().filter(|row| row.role != NodeRole::Leader))
    };
    let alone = cluster.until("the old leader steps down", PATIENCE, stepped_down).unwrap();
    assert!(alone.last_index > alone.commit_index, "it holds entries that nobody else has");

    network.heal().unwrap();
    for other in &others {
        network.listen_node(*other).unwrap();
    }
    stranded.drain();
    cluster.caught_up(PATIENCE).unwrap();
    let (history, sent) = load.finish(PATIENCE).unwrap();
    assert_stands(&cluster, "load", &history, sent);
    assert_stands(&cluster, "stranded", &stranded.history, 100);
    stop_and_verify(cluster);
}

/// Events go on, and there comes a while in which one leader's term stays the same. On a starved machine an election may
/// fall into a while; where nodes depose each other for ever, one falls into every while.
fn assert_one_stable_leader(cluster: &Cluster, load: &Load, among: &[NodeId]) -> NodeId {
    // The cut itself may cost an election; give it time to settle.
    wait_for_more(cluster, load, 200);
    let is_stable = || {
        let settled = cluster.leader_among(among, PATIENCE).unwrap();
        wait_for_more(cluster, load, 1_000);
        (cluster.leader_among(among, PATIENCE).unwrap() == settled).then_some(settled.0)
    };
    let found = (0..WHILES).find_map(|_| is_stable());
    found.expect("the same leader in the same term for a while")
}

#[test]
fn pitfall_10_a_partial_cut_leaves_one_stable_leader() {
    let cluster = start(true);
    let load = start_load(cluster.servers());
    wait_for_more(&cluster, &load, 100);
    let (leader, term) = cluster.leader(PATIENCE).unwrap();
    let others = cluster.others(leader);
    let (cut_off, between) = (others[0], others[1]);
    let network = cluster.network().unwrap();
    network.set_pair(leader, cut_off, Traffic::Cut).unwrap();
    let stable = assert_one_stable_leader(&cluster, &load, &[leader, between]);
    let (_, after) = cluster.leader_among(&[stable], PATIENCE).unwrap();
    assert!(after.0 <= term.0 + 2 + WHILES, "few terms: {term} became {after}");
    network.heal().unwrap();
    let (_, healed) = cluster.caught_up(PATIENCE).unwrap();
    assert!(healed.0 <= after.0 + 2, "few terms: {after} became {healed}");
    finish(cluster, load);
}

#[test]
fn a_leader_that_cannot_be_heard_is_replaced() {
    one_way_cut(|cluster, leader, other| {
        cluster.network().unwrap().set_way(leader, other, Traffic::Cut).unwrap();
    });
}

#[test]
fn a_leader_that_hears_nobody_gives_up_although_its_heartbeats_arrive() {
    one_way_cut(|cluster, leader, other| {
        cluster.network().unwrap().set_way(other, leader, Traffic::Cut).unwrap();
    });
}

fn one_way_cut(cut: impl Fn(&Cluster, NodeId, NodeId)) {
    let cluster = start(true);
    let load = start_load(cluster.servers());
    wait_for_more(&cluster, &load, 100);
    let (old, old_term) = cluster.leader(PATIENCE).unwrap();
    let others = cluster.others(old);
    for other in &others {
        cut(&cluster, old, *other);
    }
    let new = assert_one_stable_leader(&cluster, &load, &others);
    assert_ne!(new, old);
    cluster.network().unwrap().heal().unwrap();
    let (_, term) = cluster.caught_up(PATIENCE).unwrap();
    assert!(term > old_term);
    finish(cluster, load);
}

/// The name by which the test harness knows a test of this file.
fn full_name(test: &str) -> String {
    match module_path!().split_once("::") {
        Some((_, module)) => format!("{module}::{test}"),
        None => test.to_owned(),
    }
}

#[test]
fn a_leader_whose_cable_is_pulled_is_replaced_and_a_follower_whose_cable_is_pulled_deposes_nobody() {
    let own =
        "a_leader_whose_cable_is_pulled_is_replaced_and_a_follower_whose_cable_is_pulled_deposes_nobody";
    match namespaces::enter(&full_name(own)).unwrap() {
        Entered::Inside => {}
        Entered::Passed => return,
        Entered::Refused(reason) => {
            eprintln!("skipped: this system lets this user make no network namespaces: {reason}");
            return;
        }
    }
    let hosts = Namespaces::create(3).unwrap();
    // So that what a busy machine costs in elections is not counted as what the cable costs.
    let plan = Plan { heartbeat_interval: Some(Duration::from_millis(150)), ..plan(false) };
    let cluster = Cluster::start_on(&plan, &hosts, &Interrupt::default()).unwrap();
    let load = start_load(cluster.servers());
    wait_for_more(&cluster, &load, 100);
    let (old, old_term) = cluster.leader(PATIENCE).unwrap();
    hosts.set_link(old, false).unwrap();
    wait_for_more(&cluster, &load, 300);
    let (new, new_term) = cluster.leader_among(&cluster.others(old), PATIENCE).unwrap();
    assert!(new != old && new_term > old_term, "{new} in {new_term} after {old} in {old_term}");
    hosts.set_link(old, true).unwrap();
    let (leader, before) = cluster.caught_up(PATIENCE).unwrap();

    let follower = cluster.others(leader)[0];
    hosts.set_link(follower, false).unwrap();
    // Many election timeouts pass for the one that hears nobody.
    wait_for_more(&cluster, &load, 2_000);
    hosts.set_link(follower, true).unwrap();
    let (_, after) = cluster.caught_up(PATIENCE).unwrap();
    assert!(after.0 <= before.0 + 1, "it comes back without a higher term: {before} became {after}");
    finish(cluster, load);
}

#[test]
fn with_two_of_three_dead_nothing_is_decided_and_all_that_was_committed_can_be_read() {
    let mut cluster = start(false);
    let mut hand = Hand::open(cluster.servers(), "cascade");
    hand.send(500);
    hand.drain();
    let before = agreed(&cluster);
    let (leader, _) = cluster.leader(PATIENCE).unwrap();
    let others = cluster.others(leader);
    let (second, survivor) = (others[0], others[1]);
    cluster.kill(leader).unwrap();
    cluster.kill(second).unwrap();

    hand.send(50);
    assert_eq!(hand.watch(WATCH), 0, "a minority decides nothing");
    let says = |cluster: &Cluster| Ok(cluster.statuses(&[survivor])?.pop());
    let alone = cluster.until("the survivor's status", PATIENCE, says).unwrap();
    // Its commit index may have moved by the no-op of an election before the kills, but by no event.
    assert_eq!(alone.last_offset, before[0].last_offset);
    assert_ne!(alone.role, NodeRole::Leader);
    let (offsets, _) = hand.history.offsets(500);
    let server = cluster.node(survivor).direct;
    let read = read_and_compare(server, "cascade", alone.last_offset, &offsets);
    assert_eq!(read, (500, Faults::default()), "committed events are still read from the survivor");

    cluster.restart(leader).unwrap();
    cluster.restart(second).unwrap();
    hand.drain();
    assert_stands(&cluster, "cascade", &hand.history, 550);
    stop_and_verify(cluster);
}
