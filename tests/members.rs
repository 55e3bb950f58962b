//! Wiped disks on real nodes: they count for nothing until the configuration names their new formatting, and
//! `tercet member` brings them back (issue 'Storage that never lies', part 2).

#![allow(clippy::unwrap_used)]

mod cluster;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cluster::{Ended, TestCluster, TestNode, dead_address, eventually, run, run_with, spawn};
use rustix::process::Signal;
use serde_json::Value;
use tercet::entry::Durability;

/// Takes the disk of a stopped node away and gives it an empty one, freshly formatted. Gives its incarnation.
fn wipe(node: &TestNode) -> String {
    fs::remove_dir_all(&node.data_dir).unwrap();
    fs::create_dir(&node.data_dir).unwrap();
    let said = run(&["format", "--config", node.config.to_str().unwrap()]).expect_code(0).text();
    let (_, incarnation) = said.trim_end().trim_end_matches(')').rsplit_once(' ').unwrap();
    incarnation.to_owned()
}

/// A node of three does not lead any more, loses its disk, and starts on an empty one.
fn lose_disk(cluster: &mut TestCluster, place: usize) {
    let to = cluster.nodes[(place + 1) % 3].id.to_string();
    // A target that is late by an election timeout is given up, and asked again.
    eventually("another leader", || {
        let leads = cluster.leader() == place;
        if leads {
            run(&["transfer", "--servers", &cluster.servers(), "--to", &to]);
        }
        (!leads).then_some(())
    });
    cluster.nodes[place].kill();
    wipe(&cluster.nodes[place]);
    cluster.nodes[place].start();
}

fn member(arguments: &[&str], servers: &str) -> Ended {
    run(&[&["member"], arguments, &["--servers", servers, "--json"]].concat())
}

fn list(cluster: &TestCluster) -> Value {
    member(&["list"], &cluster.servers()).expect_code(0).json()
}

fn row(list: &Value, node: u16) -> Value {
    let rows = list["members"].as_array().unwrap();
    rows.iter()
        .find(|row| row["node_id"] == node)
        .unwrap_or_else(|| panic!("no node {node} in {list}"))
        .clone()
}

fn publish(cluster: &TestCluster, input: &str) {
    run_with(&["publish", "--servers", &cluster.servers(), "--topic", "t"], input.as_bytes()).expect_code(0);
}

/// A publisher that is fed until it is told to end.
struct Load {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<u8>, Ended)>,
}

impl Load {
    fn begin(cluster: &TestCluster) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (servers, end) = (cluster.servers(), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let mut publisher = spawn(&["publish", "--servers", &servers, "--topic", "t"]);
            let mut fed = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let from = fed.len();
                for line in 0..50 {
                    fed.extend_from_slice(format!("{from}-{line} {}\n", "load ".repeat(60)).as_bytes());
                }
                publisher.feed(&fed[from..]);
                std::thread::sleep(Duration::from_millis(5));
            }
            (fed, publisher.wait())
        });
        Self { is_over, thread }
    }

    /// What was published, all of it acknowledged.
    fn end(self) -> Vec<u8> {
        self.is_over.store(true, Ordering::Relaxed);
        let (fed, ended) = self.thread.join().unwrap();
        ended.expect_code(0);
        fed
    }
}

fn assert_whole(cluster: &mut TestCluster, input: &[u8]) {
    let rows = cluster.settled();
    assert!(rows.iter().all(|row| row["log_checksum"] == rows[0]["log_checksum"]), "{rows:?}");
    for place in 0..cluster.nodes.len() {
        assert!(cluster.read(place, "t") == input, "node {} reads something else", place + 1);
    }
    for node in &mut cluster.nodes {
        assert_eq!(node.stop(), Some(0));
        run(&["log", "verify", "--data-dir", node.data_dir.to_str().unwrap()]).expect_code(0);
    }
}

#[test]
fn a_node_with_a_wiped_disk_is_replaced_under_load_and_is_worth_a_vote_again() {
    let mut cluster = TestCluster::start(3);
    publish(&cluster, "before\n");
    let load = Load::begin(&cluster);
    let leader = cluster.leader();
    let (wiped, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = cluster.nodes[wiped].id;
    cluster.nodes[wiped].kill();
    let incarnation = wipe(&cluster.nodes[wiped]);
    cluster.nodes[wiped].launch();
    let seen = eventually("the leader sees the new disk", || {
        let row = row(&list(&cluster), id);
        (!row["new_incarnation"].is_null()).then_some(row)
    });
    assert_eq!((&seen["new_incarnation"], &seen["role"]), (&Value::from(&incarnation[..]), &"voter".into()));
    assert_eq!(seen["connected"], false, "{seen}");
    let done = member(&["replace", "--node", &id.to_string()], &cluster.servers()).expect_code(0);
    assert!(done.stderr.contains("learner") && done.stderr.contains("voter"), "{}", done.stderr);
    assert_eq!(
        (&done.json()["role"], &done.json()["incarnation"]),
        (&"voter".into(), &Value::from(incarnation))
    );
    // Asked again, or for what is so already, it is done at once.
    member(&["promote", "--node", &id.to_string()], &cluster.servers()).expect_code(0);
    // Its vote and its copy count: without the old leader it is half of a quorum.
    cluster.nodes[leader].kill();
    eventually("another leader", || {
        let rows = cluster.status();
        [wiped, other].iter().any(|&place| rows[place]["role"] == "leader").then_some(())
    });
    std::thread::sleep(Duration::from_millis(300));
    let fed = load.end();
    cluster.nodes[leader].start();
    let input = [b"before\n", &fed[..]].concat();
    let all = list(&cluster);
    assert!(all["members"].as_array().unwrap().iter().all(|row| row["role"] == "voter"), "{all}");
    assert_whole(&mut cluster, &input);
}

#[test]
fn pitfall_48_a_wiped_disk_beside_a_stale_node_elects_nobody() {
    let mut cluster = TestCluster::start(3);
    publish(&cluster, "first\n");
    cluster.settled();
    let leader = cluster.leader();
    let (wiped, stale) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[stale].kill();
    publish(&cluster, "acknowledged by two\n");
    cluster.nodes[wiped].kill();
    cluster.nodes[leader].kill();
    wipe(&cluster.nodes[wiped]);
    cluster.nodes[stale].start();
    cluster.nodes[wiped].start();
    // Two of three, and neither has the acknowledged event: many election timeouts long nobody may lead.
    for _ in 0..40 {
        let rows = cluster.status();
        assert!(rows.iter().all(|row| row["role"] != "leader"), "{rows:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let id = cluster.nodes[wiped].id.to_string();
    let refused = member(&["replace", "--node", &id, "--timeout", "3s"], &cluster.servers());
    refused.expect_code(3).expect_line("no leader");
    // The wiped one knows by whom it is refused, and waits for no new cluster.
    let said = cluster.nodes[wiped].said();
    let by = format!("takes no part: it was refused by node {}, whose cluster", cluster.nodes[stale].id);
    let way_back = format!("`tercet member replace --servers LIST --node {id}`");
    assert!(said.lines().any(|line| line.contains(&by) && line.contains(&way_back)), "{said}");
    assert!(!said.contains("a new cluster begins"), "{said}");
    let status = run(&["status", "--servers", &cluster.servers()]).expect_code(0);
    assert_eq!(status.text().matches("follower, refused").count(), 1, "{}", status.text());
    assert!(status.stderr.contains(&format!("node {id} takes no part")), "{}", status.stderr);
    assert!(status.stderr.contains(&way_back), "{}", status.stderr);
    cluster.nodes[leader].start();
    publish(&cluster, "after\n");
    member(&["replace", "--node", &id], &cluster.servers()).expect_code(0);
    assert_whole(&mut cluster, b"first\nacknowledged by two\nafter\n");
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_dir() {
            copy_dir(&file.path(), &to.join(file.file_name()));
        } else {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// Many election timeouts long.
fn assert_nobody_leads(cluster: &TestCluster, places: &[usize]) {
    for _ in 0..40 {
        let rows = cluster.status();
        assert!(places.iter().all(|&place| rows[place]["role"] != "leader"), "{rows:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn pitfall_48_a_wiped_disk_and_a_node_that_has_met_nobody_do_not_begin_anew() {
    let mut cluster = TestCluster::start(3);
    cluster.crash_all();
    for node in &mut cluster.nodes {
        node.kill();
        wipe(node);
    }
    let blank = cluster.path("blank");
    copy_dir(&cluster.nodes[2].data_dir, &blank);
    // A cluster begins when all have met: what two of three do, a wiped disk and the third could do again.
    cluster.nodes[0].start();
    cluster.nodes[1].start();
    eventually("two that have met", || {
        (cluster.status()[0]["counters"]["batcher_voters_unmet"] == 1).then_some(())
    });
    // It remembers that, and says from the start whom it has not met.
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    assert_nobody_leads(&cluster, &[0, 1]);
    let said = cluster.nodes[0].said();
    let shown = run(&["status", "--servers", &cluster.server(0)]).expect_code(0).text();
    assert!(shown.contains("has not met all"), "{shown}");
    assert!(said.contains("has not met node 3 yet") && !said.contains("has not met node 2"), "{said}");
    cluster.nodes[2].start();
    cluster.leader();
    publish(&cluster, "acknowledged\n");
    cluster.settled();
    for node in &mut cluster.nodes {
        node.kill();
    }
    // As if the third had stopped before it had met the others, and with the second one's disk lost.
    fs::remove_dir_all(&cluster.nodes[2].data_dir).unwrap();
    copy_dir(&blank, &cluster.nodes[2].data_dir);
    wipe(&cluster.nodes[1]);
    cluster.nodes[1].start();
    cluster.nodes[2].start();
    assert_nobody_leads(&cluster, &[1, 2]);
    cluster.nodes[0].start();
    publish(&cluster, "after\n");
    member(&["replace", "--node", "2"], &cluster.servers()).expect_code(0);
    cluster.settled();
    // Two lost disks: more than a cluster of three bears, and it is not passed over in silence.
    for node in &mut cluster.nodes {
        node.kill();
    }
    let kept = [0, 1].map(|place: usize| cluster.path(&format!("kept-{place}")));
    for (place, kept) in kept.iter().enumerate() {
        fs::rename(&cluster.nodes[place].data_dir, kept).unwrap();
        fs::create_dir(&cluster.nodes[place].data_dir).unwrap();
        wipe(&cluster.nodes[place]);
        cluster.nodes[place].start();
    }
    assert_nobody_leads(&cluster, &[0, 1]);
    cluster.nodes[2].start();
    assert_nobody_leads(&cluster, &[0, 1, 2]);
    for (place, kept) in kept.iter().enumerate() {
        cluster.nodes[place].kill();
        fs::remove_dir_all(&cluster.nodes[place].data_dir).unwrap();
        fs::rename(kept, &cluster.nodes[place].data_dir).unwrap();
        cluster.nodes[place].start();
    }
    assert_whole(&mut cluster, b"acknowledged\nafter\n");
}

#[test]
fn a_replaced_node_stays_a_member_over_restarts_and_its_old_disk_stays_out() {
    let mut cluster = TestCluster::start(3);
    publish(&cluster, "first\n");
    cluster.settled();
    let leader = cluster.leader();
    let wiped = (leader + 1) % 3;
    let id = cluster.nodes[wiped].id.to_string();
    assert_eq!(cluster.nodes[wiped].stop(), Some(0));
    let kept = cluster.path("old-disk");
    fs::rename(&cluster.nodes[wiped].data_dir, &kept).unwrap();
    fs::create_dir(&cluster.nodes[wiped].data_dir).unwrap();
    let incarnation = wipe(&cluster.nodes[wiped]);
    cluster.nodes[wiped].start();
    // Named by hand, as `format` has printed it.
    let servers = cluster.servers();
    member(&["replace", "--node", &id, "--incarnation", &incarnation], &servers).expect_code(0);
    publish(&cluster, "second\n");
    cluster.settled();
    cluster.crash_all();
    cluster.leader();
    publish(&cluster, "third\n");
    cluster.settled();
    // The disk that was thought lost turns up again: it is another one now, and nobody listens to it.
    assert_eq!(cluster.nodes[wiped].stop(), Some(0));
    let newer = cluster.path("newer-disk");
    fs::rename(&cluster.nodes[wiped].data_dir, &newer).unwrap();
    fs::rename(&kept, &cluster.nodes[wiped].data_dir).unwrap();
    cluster.nodes[wiped].launch();
    let id = cluster.nodes[wiped].id;
    let row = eventually("the leader sees the old disk", || {
        let row = row(&list(&cluster), id);
        (!row["new_incarnation"].is_null()).then_some(row)
    });
    assert_eq!((&row["role"], &row["connected"]), (&"voter".into(), &false.into()), "{row}");
    publish(&cluster, "fourth\n");
    let status = cluster.status();
    assert!(status[wiped]["last_offset"].as_u64().unwrap() < 4, "nothing reaches a disk that is not meant");
    cluster.nodes[wiped].kill();
    fs::remove_dir_all(&cluster.nodes[wiped].data_dir).unwrap();
    fs::rename(&newer, &cluster.nodes[wiped].data_dir).unwrap();
    cluster.nodes[wiped].start();
    assert_whole(&mut cluster, b"first\nsecond\nthird\nfourth\n");
}

#[test]
fn what_cannot_be_done_is_said_in_one_line_and_changes_nothing() {
    let mut cluster = TestCluster::start_with(3, cluster::calm);
    publish(&cluster, "first\n");
    let leader = cluster.leader();
    let (wiped, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = |place: usize| cluster.nodes[place].id.to_string();
    let (leader_id, wiped_id) = (id(leader), id(wiped));
    let servers = cluster.servers();
    let before = list(&cluster);
    let refused = |arguments: &[&str], code: i32, line: &str| {
        member(arguments, &servers).expect_code(code).expect_line(line);
    };
    refused(&["replace", "--node", "9"], 1, "no member");
    refused(&["promote", "--node", "9"], 1, "no member");
    refused(&["replace", "--node", &leader_id], 1, "leads");
    refused(&["replace", "--node", "0"], 2, "--node");
    refused(&["replace", "--node", "1", "--incarnation", "xyz"], 2, "32 hexadecimal digits");
    member(&["list", "--timeout", "300ms"], &dead_address()).expect_code(3).expect_line("no node reachable");
    let works = "known disk is connected and works";
    let waited = member(&["replace", "--node", &wiped_id, "--timeout", "2s"], &servers).expect_code(3);
    assert!(waited.stderr.contains(works), "{}", waited.stderr);
    // Any node of the list will do.
    member(&["list"], &cluster.server(other)).expect_code(0);
    // Without the others that would remain, nothing could be committed any more.
    let strange = "0123456789abcdef0123456789abcdef";
    cluster.nodes[other].signal(Signal::STOP);
    let alone = eventually("the leader misses a node", || {
        let row = row(&list(&cluster), cluster.nodes[other].id);
        (row["connected"] == false).then_some(row)
    });
    assert_eq!(alone["role"], "voter");
    refused(
        &["replace", "--node", &wiped_id, "--incarnation", strange, "--timeout", "2s"],
        3,
        "too few of the other voters",
    );
    cluster.nodes[other].signal(Signal::CONT);
    // A disk that is there and works is not given up for a number; nor is one that only pauses.
    refused(&["replace", "--node", &wiped_id, "--incarnation", strange, "--timeout", "5s"], 3, works);
    cluster.nodes[wiped].signal(Signal::STOP);
    eventually("the leader misses a node", || {
        (row(&list(&cluster), cluster.nodes[wiped].id)["connected"] == false).then_some(())
    });
    let named = ["replace", "--node", &wiped_id, "--incarnation", strange, "--timeout", "2s"];
    let unseen = member(&named, &servers).expect_code(3);
    let line = format!("disk {strange} of node {wiped_id} has not shown up; start node {wiped_id}");
    assert!(unseen.stderr.contains(&line), "{}", unseen.stderr);
    cluster.nodes[wiped].signal(Signal::CONT);
    let after = list(&cluster);
    assert_eq!(after["configuration_index"], before["configuration_index"], "{after}");
    publish(&cluster, "second\n");
    assert_whole(&mut cluster, b"first\nsecond\n");
}

/// Two of three machines lose what they had not flushed, and the cluster goes on without it; the third knows more.
#[test]
fn a_node_that_knows_more_than_the_cluster_went_on_with_ends_in_one_line_and_gives_it_up_only_when_it_is_told()
 {
    let mut cluster = TestCluster::start_with(3, |settings| settings.log.durability = Durability::Memory);
    publish(&cluster, "kept\n");
    cluster.settled();
    let stop_all = |cluster: &mut TestCluster| {
        for node in &mut cluster.nodes {
            assert_eq!(node.stop(), Some(0));
        }
    };
    stop_all(&mut cluster);
    let copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to).unwrap();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    };
    for place in [0, 1] {
        let log = cluster.nodes[place].data_dir.join("group-0");
        copy(&log, &cluster.path(&format!("log-{place}")));
    }
    for node in &mut cluster.nodes {
        node.launch();
    }
    cluster.leader();
    publish(&cluster, "lost\nlost too\n");
    cluster.settled();
    stop_all(&mut cluster);
    // Hard state is always flushed; the log of two of them is as it was.
    for place in [0, 1] {
        let log = cluster.nodes[place].data_dir.join("group-0");
        fs::remove_dir_all(&log).unwrap();
        copy(&cluster.path(&format!("log-{place}")), &log);
        cluster.nodes[place].start();
    }
    cluster.leader();
    publish(&cluster, "what came instead\n");
    cluster.nodes[2].launch();
    assert_eq!(cluster.nodes[2].wait_end(), Some(4));
    let said = cluster.nodes[2].said();
    let last = said.lines().last().unwrap();
    assert!(last.contains("member replace") && last.contains("loss was accepted"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    // It still knows that it is committed, at every start, until somebody gives it up.
    cluster.nodes[2].launch();
    assert_eq!(cluster.nodes[2].wait_end(), Some(4));
    cluster.nodes[2].launch_with(&["--accept-loss"]);
    cluster.nodes[2].wait_ready();
    cluster.settled();
    // It is durable that nothing of that is committed any more.
    cluster.nodes[2].kill();
    cluster.nodes[2].start();
    publish(&cluster, "and on\n");
    assert_whole(&mut cluster, b"kept\nwhat came instead\nand on\n");
}

/// What its leader's checkpoint ends with is all there is: no entry follows that would be flushed.
#[test]
fn a_node_is_replaced_also_where_retention_has_trimmed_the_log_and_nobody_publishes() {
    let mut cluster = TestCluster::start_with(3, |settings| {
        settings.log.retention_bytes = Some(8 << 20);
        settings.log.retention_slack_bytes = Some(8 << 20);
    });
    let lines: String = (0..40 * 64).map(|line| format!("{line:08} {}\n", "x".repeat(16 << 10))).collect();
    publish(&cluster, &lines);
    cluster.settled();
    let wiped = (cluster.leader() + 1) % 3;
    let id = cluster.nodes[wiped].id.to_string();
    cluster.nodes[wiped].kill();
    let incarnation = wipe(&cluster.nodes[wiped]);
    // The change is committed while the node, which has knocked, is not there.
    let named = ["replace", "--node", &id, "--incarnation", &incarnation, "--timeout", "3s"];
    eventually("a learner that is away", || {
        if row(&list(&cluster), cluster.nodes[wiped].id)["incarnation"] == incarnation[..] {
            return Some(());
        }
        cluster.nodes[wiped].launch();
        eventually("a knock", || {
            let row = row(&list(&cluster), cluster.nodes[wiped].id);
            (row["new_incarnation"] == incarnation[..]).then_some(())
        });
        cluster.nodes[wiped].kill();
        // Otherwise that took so long that the knock is forgotten.
        let told = member(&named, &cluster.servers()).expect_code(3).stderr;
        told.contains("learner").then_some(())
    });
    cluster.nodes[wiped].start();
    let rows = cluster.settled();
    eventually("the learner knows that what it has is flushed", || {
        let flushed = cluster.status()[wiped]["flushed_index"].as_u64();
        (flushed >= rows[wiped]["last_index"].as_u64()).then_some(())
    });
    member(&["promote", "--node", &id, "--timeout", "5s"], &cluster.servers()).expect_code(0);
    let said = cluster.nodes[wiped].said();
    assert!(said.contains("begins anew behind its leader's checkpoint"), "{said}");
}

/// With all disks changed, what retention keeps is still there: new disks get it, and not only what came after them.
#[test]
fn what_is_retained_outlives_every_disk() {
    const KEPT_BYTES: usize = 16 << 20;
    let mut cluster = TestCluster::start_with(3, |settings| {
        settings.log.retention_bytes = Some(KEPT_BYTES as u64);
        settings.log.retention_slack_bytes = Some(KEPT_BYTES as u64);
    });
    let lines: String = (0..60 * 64).map(|line| format!("{line:08} {}\n", "x".repeat(16 << 10))).collect();
    publish(&cluster, &lines);
    let before = cluster.at_rest();
    let read = |cluster: &TestCluster, place: usize| {
        let server = cluster.server(place);
        run(&["subscribe", "--servers", &server, "--until-end", "--json"]).expect_code(0).stdout
    };
    let (from, kept) = (&before[0]["first_offset"], read(&cluster, 0));
    assert!(*from != 1 && kept.len() > KEPT_BYTES, "{from}: {} bytes", kept.len());
    for place in 0..3 {
        lose_disk(&mut cluster, place);
        let (id, servers) = (cluster.nodes[place].id.to_string(), cluster.servers());
        let replacing = spawn(&["member", "replace", "--node", &id, "--servers", &servers]);
        // It starts again in the middle of fetching, and knows or does not know that what it has is committed.
        let begun = "begins anew behind its leader's checkpoint";
        eventually("a log begun", || cluster.nodes[place].said().contains(begun).then_some(()));
        if place == 1 {
            assert_eq!(cluster.nodes[place].stop(), Some(0));
        } else {
            cluster.nodes[place].kill();
        }
        cluster.nodes[place].start();
        replacing.wait().expect_code(0);
    }
    cluster.settled();
    cluster.crash_all();
    cluster.settled();
    // The leader looks every second whether its log is to begin later: not under the eyes of a reader.
    std::thread::sleep(Duration::from_millis(2500));
    for (place, row) in cluster.settled().iter().enumerate() {
        assert_eq!(row["producers_checksum"], before[0]["producers_checksum"], "node {}", place + 1);
        // Segments of a node whose start cut a torn tail off begin elsewhere, and one that leads gives the next disk what
        // its own keep: at least what the settings say, and it may be a little less than what was there before.
        let (first, has) = (&row["first_offset"], read(&cluster, place));
        assert!(has.len() > KEPT_BYTES && kept.ends_with(&has), "node {}: from {first}", place + 1);
    }
}

/// Damaged, and away until the others had trimmed what is damaged: nobody can mend it, and a new disk is the way back.
#[test]
fn a_node_whose_damage_the_others_have_trimmed_says_so_and_comes_back_on_a_new_disk() {
    const SEGMENT_BYTES: u64 = 8 << 20;
    let mut cluster = TestCluster::start_with(3, |settings| {
        settings.log.retention_bytes = Some(SEGMENT_BYTES);
        settings.log.retention_slack_bytes = Some(SEGMENT_BYTES);
    });
    let lines = |from: usize, mib: usize| -> String {
        (from..from + mib * 64).map(|line| format!("{line:08} {}\n", "x".repeat(16 << 10))).collect()
    };
    publish(&cluster, &lines(0, 20));
    cluster.settled();
    let away = (cluster.leader() + 1) % 3;
    let id = cluster.nodes[away].id.to_string();
    assert_eq!(cluster.nodes[away].stop(), Some(0));
    let log = cluster.nodes[away].data_dir.join("group-0");
    let name = |file: std::io::Result<fs::DirEntry>| file.unwrap().file_name().into_string().unwrap();
    let mut segments: Vec<String> =
        fs::read_dir(&log).unwrap().map(name).filter(|name| name.starts_with("seg-")).collect();
    segments.sort();
    let file = fs::File::options().read(true).write(true).open(log.join(&segments[0])).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, SEGMENT_BYTES / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 4], SEGMENT_BYTES / 2).unwrap();
    publish(&cluster, &lines(20 * 64, 60));
    cluster.nodes[away].launch();
    assert_eq!(cluster.nodes[away].wait_end(), Some(4));
    let said = cluster.nodes[away].said();
    let last = said.lines().last().unwrap();
    assert!(last.contains(&segments[0]) && last.contains("tercet member replace"), "{said}");
    wipe(&cluster.nodes[away]);
    cluster.nodes[away].start();
    member(&["replace", "--node", &id], &cluster.servers()).expect_code(0);
    publish(&cluster, "after\n");
    let rows = cluster.settled();
    assert!(rows.iter().all(|row| row["log_checksum"] == rows[0]["log_checksum"]), "{rows:?}");
    assert!(rows.iter().all(|row| row["last_offset"] == 80 * 64 + 1), "{rows:?}");
    for node in &mut cluster.nodes {
        assert_eq!(node.stop(), Some(0));
        run(&["log", "verify", "--data-dir", node.data_dir.to_str().unwrap()]).expect_code(0);
    }
}

/// Every node is replaced once, then one again, which has to read of all the others' old disks on its way; and all are
/// killed in the middle of that, so that a node that was replaced itself leads.
#[test]
fn a_node_that_learns_passes_the_configurations_in_which_others_had_other_disks() {
    let mut cluster = TestCluster::start(3);
    let mut input = String::new();
    let more = |cluster: &TestCluster, input: &mut String| {
        let lines: String = (0..200).map(|line| format!("{} {line}\n", input.len())).collect();
        publish(cluster, &lines);
        input.push_str(&lines);
    };
    more(&cluster, &mut input);
    for place in [0, 1, 2, 0] {
        lose_disk(&mut cluster, place);
        let id = cluster.nodes[place].id.to_string();
        member(&["replace", "--node", &id], &cluster.servers()).expect_code(0);
        more(&cluster, &mut input);
        cluster.settled();
        cluster.crash_all();
    }
    more(&cluster, &mut input);
    assert_whole(&mut cluster, input.as_bytes());
}
