//! Disks that fill up and disks that fail, under real nodes. What needs rights that the machine does not give is skipped,
//! and says so.

#![allow(clippy::unwrap_used)]

mod cluster;
#[path = "../tools/lab/mod.rs"]
mod lab;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cluster::{TestCluster, eventually, read_ack_log, run, run_with, spawn};
use lab::power::{LossyDisk, enter_private_mounts};

/// File systems in memory, of a fixed size, for as long as this lives.
#[derive(Default)]
struct SmallDisks(Vec<PathBuf>);

impl SmallDisks {
    /// False, with the reason printed, where this machine mounts nothing for us.
    fn mount(&mut self, dir: &Path, mebibytes: u32) -> bool {
        let options = format!("size={mebibytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir).output();
        let why = match mount {
            Ok(done) if done.status.success() => {
                self.0.push(dir.to_owned());
                return true;
            }
            Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("skipped: no small file system can be mounted here: {why}");
        false
    }
}

impl Drop for SmallDisks {
    fn drop(&mut self) {
        for dir in &self.0 {
            let _ = Command::new("umount").arg("-l").arg(dir).stderr(Stdio::null()).status();
        }
    }
}

/// Takes all the room that is left in a directory's file system.
fn fill(dir: &Path) -> PathBuf {
    let ballast = dir.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    let piece = vec![1; 64 << 10];
    while std::io::Write::write_all(&mut file, &piece).is_ok() {}
    ballast
}

fn lines(count: usize) -> Vec<u8> {
    let line = |at| format!("{at:06} {}\n", "tercet ".repeat(140));
    (0..count).flat_map(|at| line(at).into_bytes()).collect()
}

#[test]
fn a_full_disk_costs_the_leader_its_leadership_and_nobody_an_event_and_it_heals_by_itself() {
    let mut disks = SmallDisks::default();
    let mut mounted = true;
    let mut cluster = TestCluster::start_on(3, |dir| mounted &= disks.mount(dir, 96));
    if !mounted {
        return;
    }
    let leader = cluster.leader();
    let ballast = fill(&cluster.nodes[leader].data_dir);
    let (input, acks) = (cluster.path("input"), cluster.path("acks"));
    let events = lines(30_000);
    fs::write(&input, &events).unwrap();
    let servers = cluster.servers();
    let files = ["--input", input.to_str().unwrap(), "--ack-log", acks.to_str().unwrap()];
    let publish =
        [&["publish", "--servers", &servers, "--topic", "t", "--producer", "p"][..], &files].concat();
    spawn(&publish).wait().expect_code(0);
    assert_eq!(
        read_ack_log(&acks).len(),
        30_000,
        "every event was acknowledged, with one full disk of three"
    );
    assert!(
        cluster.nodes[leader].said().contains("no more entries until there is room"),
        "{}",
        cluster.nodes[leader].said()
    );
    let rows = eventually("nobody died", || {
        let rows = cluster.status();
        rows.iter().all(|row| row["error"].is_null()).then_some(rows)
    });
    assert_ne!(rows[leader]["role"], "leader");
    // Still readable, as far as it came.
    let node = cluster.server(leader);
    let first = run(&["subscribe", "--servers", &node, "--topic", "t", "--from", "1", "--count", "100"]);
    assert!(first.expect_code(0).stdout == lines(100));

    fs::remove_file(ballast).unwrap();
    cluster.settled();
    for place in 0..3 {
        assert!(cluster.read(place, "t") == events, "node {}", place + 1);
    }
    assert!(cluster.nodes[leader].said().contains("the disk has room again"));
    for node in &mut cluster.nodes {
        assert_eq!(node.stop(), Some(0));
        run(&["log", "verify", "--data-dir", node.data_dir.to_str().unwrap()]).expect_code(0);
    }
}

#[test]
fn when_all_disks_are_full_publishers_wait_and_go_on_as_soon_as_a_quorum_has_room() {
    let mut disks = SmallDisks::default();
    let mut mounted = true;
    let cluster = TestCluster::start_on(3, |dir| mounted &= disks.mount(dir, 64));
    if !mounted {
        return;
    }
    let ballasts: Vec<PathBuf> = cluster.nodes.iter().map(|node| fill(&node.data_dir)).collect();
    let (input, events) = (cluster.path("input"), lines(20_000));
    // A file, not a pipe that this test feeds: how much a publisher takes off a pipe before somebody has room depends on
    // whether a next segment was prepared before the ballast came.
    fs::write(&input, &events).unwrap();
    let servers = cluster.servers();
    let files = ["--input", input.to_str().unwrap()];
    let publish =
        [&["publish", "--servers", &servers, "--topic", "t", "--producer", "p"][..], &files].concat();
    let publisher = spawn(&publish);
    for node in &cluster.nodes {
        let is_full = || node.said().contains("no more entries until there is room").then_some(());
        eventually("a node whose disk is full", is_full);
    }
    for ballast in &ballasts[..2] {
        fs::remove_file(ballast).unwrap();
    }
    publisher.wait().expect_code(0);
    fs::remove_file(&ballasts[2]).unwrap();
    cluster.settled();
    for place in 0..3 {
        assert!(cluster.read(place, "t") == events, "node {}", place + 1);
    }
}

#[test]
fn pitfall_55_a_leader_whose_fdatasync_fails_ends_with_6_and_nothing_acknowledged_is_lost() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: strace, which makes system calls fail, is not installed");
        return;
    }
    let mut cluster = TestCluster::start(3);
    let leader = cluster.leader();
    let (input, acks) = (cluster.path("input"), cluster.path("acks"));
    let events = lines(20_000);
    fs::write(&input, &events).unwrap();
    let servers = cluster.servers();
    let files = ["--input", input.to_str().unwrap(), "--ack-log", acks.to_str().unwrap()];
    let options = ["publish", "--servers", &servers, "--topic", "t", "--producer", "p", "--rate", "5000"];
    let publisher = spawn(&[&options[..], &files].concat());
    eventually("some acknowledgements", || (read_ack_log(&acks).len() > 2_000).then_some(()));
    let pid = cluster.nodes[leader].pid().to_string();
    let mut strace = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=fdatasync",
            "-e",
            "inject=fdatasync:error=EIO",
            "-o",
            "/dev/null",
            "-p",
            &pid,
        ])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let code = cluster.nodes[leader].wait_end();
    let _ = strace.wait();
    if code.is_none() {
        eprintln!("skipped: strace may not attach here");
        return;
    }
    assert_eq!(code, Some(6), "{}", cluster.nodes[leader].said());
    // A segment mostly; a spare, a checkpoint or the hard state where that is flushed first.
    let (said, dir) = (cluster.nodes[leader].said(), cluster.nodes[leader].data_dir.display().to_string());
    assert!(said.lines().last().unwrap().contains(&format!("{dir}/")), "the file is named: {said}");
    cluster.nodes[leader].start();
    publisher.wait().expect_code(0);
    cluster.settled();
    for place in 0..3 {
        assert!(cluster.read(place, "t") == events, "node {}", place + 1);
    }
}

/// `mount` with these words, or the reason why not, printed.
fn remount(dir: &Path, how: &str) -> bool {
    let options = format!("remount,{how}");
    let done = Command::new("mount").args(["-o", &options]).arg(dir).output().unwrap();
    if !done.status.success() {
        eprintln!("skipped: no remount here: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    done.status.success()
}

#[test]
fn a_node_on_a_read_only_disk_does_not_start_and_says_so_in_one_line() {
    let mut disks = SmallDisks::default();
    let mut mounted = true;
    let mut cluster = TestCluster::start_on(1, |dir| mounted &= disks.mount(dir, 64));
    if !mounted {
        return;
    }
    let servers = cluster.servers();
    run_with(&["publish", "--servers", &servers, "--topic", "t"], &lines(100)).expect_code(0);
    assert_eq!(cluster.nodes[0].stop(), Some(0));
    let (dir, config) = (cluster.nodes[0].data_dir.clone(), cluster.nodes[0].config.clone());
    if !remount(&dir, "ro") {
        return;
    }
    let refused = run(&["node", "--config", config.to_str().unwrap()]).expect_code(6);
    refused.expect_line("Read-only file system").expect_line(dir.to_str().unwrap());
    // Nothing was touched, and a check of it needs no right to write.
    run(&["log", "verify", "--data-dir", dir.to_str().unwrap()]).expect_code(0);
    assert!(remount(&dir, "rw"));
    cluster.nodes[0].start();
    assert!(cluster.read(0, "t") == lines(100));
    assert_eq!(cluster.nodes[0].stop(), Some(0));
}

#[test]
fn a_leader_whose_disk_becomes_read_only_ends_with_6_and_the_cluster_goes_on() {
    if let Err(reason) = enter_private_mounts() {
        eprintln!("skipped: {reason}");
        return;
    }
    let (mut disks, mut refused) = (Vec::new(), None);
    let mut cluster = TestCluster::start_on(3, |dir| match LossyDisk::create(dir, 128 << 20) {
        Ok(disk) => disks.push(disk),
        Err(reason) => refused = Some(reason),
    });
    if let Some(reason) = refused {
        eprintln!("skipped: {reason}");
        return;
    }
    let leader = cluster.leader();
    let (input, acks) = (cluster.path("input"), cluster.path("acks"));
    let events = lines(20_000);
    fs::write(&input, &events).unwrap();
    let servers = cluster.servers();
    let files = ["--input", input.to_str().unwrap(), "--ack-log", acks.to_str().unwrap()];
    let options = ["publish", "--servers", &servers, "--topic", "t", "--producer", "p", "--rate", "5000"];
    let publisher = spawn(&[&options[..], &files].concat());
    eventually("some acknowledgements", || (read_ack_log(&acks).len() > 2_000).then_some(()));
    if !disks[leader].break_to_read_only().unwrap() {
        eprintln!("skipped: this kernel cannot be told to break a file system");
        return;
    }
    assert_eq!(cluster.nodes[leader].wait_end(), Some(6), "{}", cluster.nodes[leader].said());
    // A segment mostly; a spare, a checkpoint or the hard state where that is flushed first.
    let (said, dir) = (cluster.nodes[leader].said(), cluster.nodes[leader].data_dir.display().to_string());
    assert!(said.lines().last().unwrap().contains(&format!("{dir}/")), "the file is named: {said}");
    publisher.wait().expect_code(0);
    assert_eq!(read_ack_log(&acks).len(), 20_000, "two of three go on");
    // As long as it is read-only the node is refused; repaired, it catches up.
    let config = cluster.nodes[leader].config.clone();
    run(&["node", "--config", config.to_str().unwrap()]).expect_code(6).expect_line("Read-only file system");
    disks[leader].restore().unwrap();
    cluster.nodes[leader].start();
    cluster.settled();
    for place in 0..3 {
        assert!(cluster.read(place, "t") == events, "node {}", place + 1);
    }
    for node in &mut cluster.nodes {
        assert_eq!(node.stop(), Some(0));
        run(&["log", "verify", "--data-dir", node.data_dir.to_str().unwrap()]).expect_code(0);
    }
    drop(disks);
}

#[test]
fn an_error_on_a_cold_read_is_damage_and_no_end_of_the_node() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: strace, which makes system calls fail, is not installed");
        return;
    }
    let cluster = TestCluster::start(3);
    // Several segments, so that the first ones are read by pread and not through a map.
    let events = lines(30_000);
    run_with(&["publish", "--servers", &cluster.servers(), "--topic", "t"], &events).expect_code(0);
    cluster.settled();
    let follower = (cluster.leader() + 1) % 3;
    // Of the reader alone: it dies with this life of the node's threads, and its disk is well again.
    let tasks = fs::read_dir(format!("/proc/{}/task", cluster.nodes[follower].pid())).unwrap();
    let is_reader = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap().contains("reader");
    let reader = tasks.map(|task| task.unwrap().path()).find(is_reader).expect("a thread for cold reads");
    let trace = ["-qq", "-e", "trace=pread64", "-e", "inject=pread64:error=EIO", "-o", "/dev/null", "-p"];
    let mut strace = Command::new("strace").args(trace).arg(reader.file_name().unwrap()).spawn().unwrap();
    let node = cluster.server(follower);
    let read = ["subscribe", "--servers", &node, "--topic", "t", "--count", "1", "--from", "1"];
    let refused = eventually("the error, or that strace may not attach", || {
        let ended = run(&read);
        let detached = strace.try_wait().unwrap().is_some();
        (detached || ended.code != Some(0)).then_some(ended)
    });
    let _ = strace.kill();
    let _ = strace.wait();
    if refused.code == Some(0) {
        eprintln!("skipped: strace may not attach here");
        return;
    }
    refused.expect_code(1).expect_line("cannot read its log at offset 1");
    let said = cluster.nodes[follower].said();
    assert!(
        said.contains("Input/output error") && said.contains("group-0/seg-"),
        "the file is named: {said}"
    );
    eventually("the node takes part again", || {
        let row = &cluster.status()[follower];
        (row["error"].is_null() && row["mending_entries"] == 0).then_some(())
    });
    cluster.settled();
    for place in 0..3 {
        assert!(cluster.read(place, "t") == events, "node {}", place + 1);
    }
}
