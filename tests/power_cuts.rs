//! Power cuts on real nodes: the short form of `tercet-powercut`, and what a `memory` cluster does after one (rule 6). What
//! needs rights that the machine does not give is skipped, and says so.

#![allow(clippy::unwrap_used)]

#[path = "../tools/tercet-powercut/campaign.rs"]
mod campaign;
#[path = "../tools/lab/mod.rs"]
mod lab;

use std::process::{Command, Stdio};

use campaign::{Campaign, Report, Target, Wish};
use lab::cluster::{Cluster, PATIENCE, Plan};
use lab::error::LabError;
use lab::interrupt::Interrupt;
use lab::load::{Load, LoadPlan};
use lab::power::enter_private_mounts;
use parking_lot::Mutex;
use tercet::base::ids::NodeId;
use tercet::client::NodeStatus;
use tercet::config::ThreadingMode;
use tercet::entry::Durability;

/// One at a time: each brings full load.
static ALONE: Mutex<()> = Mutex::new(());
/// For so long nobody may lead where nobody can: many times what an election takes.
const WATCH_MS: u64 = 2_000;

/// None where this machine cannot do it; the reason is printed.
fn cut(target: Target, durability: Durability, rounds: u32) -> Option<Report> {
    let wish = Wish {
        tercet: env!("CARGO_BIN_EXE_tercet").into(),
        target,
        rounds,
        durability,
        rate: 20_000.0,
        size: 200,
        seed: 1,
        threads: ThreadingMode::Shared,
        disk_bytes: 256 << 20,
        plant: None,
    };
    let (report, ended) = Campaign::new(&wish, &Interrupt::default()).run();
    if let Err(LabError::Environment(reason)) = ended {
        eprintln!("skipped: {reason}");
        return None;
    }
    assert!(report.violations.is_empty(), "{}", report.to_text(&wish));
    ended.unwrap();
    assert_eq!(report.rounds, rounds);
    assert!(report.acknowledged > 0);
    Some(report)
}

#[test]
fn power_cuts_of_all_nodes_and_of_the_leader_alone_lose_nothing_with_durability_disk() {
    let _alone = ALONE.lock();
    if let Err(reason) = enter_private_mounts() {
        eprintln!("skipped: {reason}");
        return;
    }
    let Some(all) = cut(Target::All, Durability::Disk, 3) else { return };
    assert_eq!(all.lost, 0);
    let Some(leader) = cut(Target::Leader, Durability::Disk, 2) else { return };
    assert_eq!(leader.lost, 0);
}

#[test]
fn with_durability_memory_a_cut_of_one_node_loses_nothing() {
    let _alone = ALONE.lock();
    if let Err(reason) = enter_private_mounts() {
        eprintln!("skipped: {reason}");
        return;
    }
    let Some(leader) = cut(Target::Leader, Durability::Memory, 2) else { return };
    assert_eq!(leader.lost, 0);
}

fn in_doubt(row: &NodeStatus) -> bool {
    row.counters.iter().any(|(name, value)| name == "batcher_in_doubt" && *value > 0)
}

fn memory_cluster() -> Cluster {
    let tercet = env!("CARGO_BIN_EXE_tercet").into();
    let plan = Plan {
        durability: Durability::Memory,
        threads: ThreadingMode::Shared,
        segment_bytes: Some(8 << 20),
        // No busy machine takes leadership from whom a test is about.
        heartbeat_interval: Some(std::time::Duration::from_millis(200)),
        ..Plan::new(tercet)
    };
    Cluster::start(&plan, &Interrupt::default()).unwrap()
}

/// So many events more, all acknowledged.
fn publish(cluster: &Cluster, producer: &str, events: u64) {
    let load = Load::start(LoadPlan {
        servers: cluster.servers(),
        producer: producer.to_owned(),
        topic: "t".to_owned(),
        rate: 5_000.0,
        size: 100,
    });
    let load = load.unwrap();
    cluster.until("events", PATIENCE, |_| Ok((load.acked() >= events).then_some(()))).unwrap();
    load.finish(PATIENCE).unwrap();
}

/// kill -9, and what looks like another boot of the machine.
fn reboot(cluster: &mut Cluster, id: NodeId) {
    cluster.kill(id).unwrap();
    cluster.node(id).pretend_reboot().unwrap();
}

#[test]
fn pitfall_60_after_a_quorum_rebooted_uncleanly_nobody_leads_a_memory_cluster_until_an_operator_says_so() {
    let _alone = ALONE.lock();
    let mut cluster = memory_cluster();
    publish(&cluster, "before", 500);
    let before = cluster.settled(PATIENCE).unwrap()[0].last_offset;
    for id in cluster.ids() {
        reboot(&mut cluster, id);
    }
    for id in cluster.ids() {
        cluster.restart(id).unwrap();
    }
    let rows = cluster.until("all nodes in doubt for a while", PATIENCE, |cluster| {
        let rows = cluster.statuses(&cluster.ids())?;
        let all = rows.len() == 3 && rows.iter().all(|row| row.uptime_ms > WATCH_MS);
        Ok(all.then_some(rows))
    });
    let rows = rows.unwrap();
    assert!(rows.iter().all(|row| in_doubt(row) && row.leader_id.is_none()), "{rows:?}");
    assert!(cluster.nodes.iter().all(|node| node.has_said("--accept-loss") == 1), "each says what to do");
    // A quorum is told to go on; the third needs nobody's word, for it has a leader.
    for id in [NodeId(1), NodeId(2)] {
        assert_eq!(cluster.terminate(id).unwrap(), Some(0));
        cluster.restart_with(id, &["--accept-loss"]).unwrap();
    }
    let rows = cluster.settled(PATIENCE).unwrap();
    assert_eq!(rows[0].last_offset, before, "no page cache was lost here, so nothing was");
    let settled = |cluster: &Cluster| {
        let rows = cluster.statuses(&cluster.ids())?;
        Ok((rows.len() == 3 && !rows.iter().any(in_doubt)).then_some(()))
    };
    cluster.until("no node in doubt", PATIENCE, settled).unwrap();
    publish(&cluster, "after", 100);
}

#[test]
fn one_node_back_from_an_unclean_reboot_settles_with_its_leader_and_then_elects_the_next() {
    let _alone = ALONE.lock();
    let mut cluster = memory_cluster();
    publish(&cluster, "before", 500);
    let (leader, _) = cluster.leader(PATIENCE).unwrap();
    let [follower, third] = cluster.others(leader)[..] else { unreachable!("three nodes") };
    reboot(&mut cluster, follower);
    cluster.restart(follower).unwrap();
    assert_eq!(cluster.node(follower).has_said("its machine went down without a clean stop"), 1);
    let settled = |cluster: &Cluster| {
        let rows = cluster.statuses(&[follower])?;
        Ok(rows.iter().any(|row| row.leader_id == Some(leader) && !in_doubt(row)).then_some(()))
    };
    cluster.until("the node has caught up with its leader", PATIENCE, settled).unwrap();
    cluster.kill(leader).unwrap();
    cluster.leader_among(&[follower, third], PATIENCE).unwrap();
    cluster.restart(leader).unwrap();
    assert_eq!(
        cluster.node(leader).has_said("its machine went down"),
        0,
        "the same boot: its cache is there"
    );
    // A clean stop is none of it, whatever the machine does meanwhile.
    assert_eq!(cluster.terminate(third).unwrap(), Some(0));
    cluster.node(third).pretend_reboot().unwrap();
    cluster.restart(third).unwrap();
    assert_eq!(cluster.node(third).has_said("its machine went down"), 0);
    publish(&cluster, "after", 100);
    cluster.settled(PATIENCE).unwrap();
}

#[test]
fn a_node_of_durability_disk_that_claims_nothing_has_no_loss_to_accept() {
    let _alone = ALONE.lock();
    let plan = Plan { nodes: 1, ..Plan::new(env!("CARGO_BIN_EXE_tercet").into()) };
    let mut cluster = Cluster::start(&plan, &Interrupt::default()).unwrap();
    cluster.terminate(NodeId(1)).unwrap();
    let config = cluster.dir().join("node-1.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tercet"));
    let ended = command
        .args(["node", "--accept-loss", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("nothing that this node acknowledged is missing"), "{said}");
}
