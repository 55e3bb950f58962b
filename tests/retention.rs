//! Retention on real nodes: the log's beginning moves on, disks stay within their bound, files are used again, restarts
//! are short, and who was away comes back by a checkpoint.

#![allow(clippy::unwrap_used)]

mod cluster;

use std::fs;
use std::io::Write;
use std::path::Path;

use cluster::{TestCluster, eventually, run, run_with};

const SEGMENT_BYTES: u64 = 8 << 20;

/// 8 MiB segments of which about two are kept, and a third for members that are behind.
fn cluster() -> TestCluster {
    TestCluster::start_with(3, |settings| {
        settings.log.retention_bytes = Some(2 * SEGMENT_BYTES);
        settings.log.retention_slack_bytes = Some(SEGMENT_BYTES);
    })
}

/// `mib` MiB of events in lines of 16 KiB; `from` tells the first line's number.
fn publish(cluster: &TestCluster, from: usize, mib: usize) -> usize {
    let mut input = Vec::new();
    for line in 0..mib * 64 {
        writeln!(input, "{:08} {}", from + line, "x".repeat(16 << 10)).unwrap();
    }
    run_with(&["publish", "--servers", &cluster.servers(), "--topic", "t"], &input).expect_code(0);
    from + mib * 64
}

fn number(row: &serde_json::Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("no {name} in {row}"))
}

fn log_bytes(data_dir: &Path) -> u64 {
    let files = fs::read_dir(data_dir.join("group-0")).unwrap();
    files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

fn names(data_dir: &Path) -> Vec<String> {
    let files = fs::read_dir(data_dir.join("group-0")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// The two segments that are kept, what of the one before and of the one being filled is in use, one for laggards that
/// there may have been, one that is prepared, two that wait to be used again; and little files.
fn assert_within_bound(cluster: &TestCluster) {
    for node in &cluster.nodes {
        eventually("a disk within its bound", || {
            (log_bytes(&node.data_dir) <= 9 * SEGMENT_BYTES).then_some(())
        });
    }
}

#[test]
fn the_beginning_moves_on_everywhere_and_who_wants_more_is_told_where_it_is() {
    let mut cluster = cluster();
    let lines = publish(&cluster, 0, 100);
    let rows = cluster.at_rest();
    let first = number(&rows[0], "first_offset");
    assert!(first > 2000, "{first}: 16 of 100 MiB are kept, and some");
    for row in &rows {
        assert_eq!(number(row, "first_offset"), first, "the beginning is a matter of the log");
        assert_eq!(number(row, "last_offset"), lines as u64);
    }
    assert_within_bound(&cluster);
    for place in 0..3 {
        let server = cluster.server(place);
        let ask =
            |from: &str| run(&["subscribe", "--servers", &server, "--from", from, "--until-end", "--json"]);
        let refused = ask("1").expect_code(1);
        assert!(refused.stderr.contains(&format!("the oldest is {first}")), "{}", refused.stderr);
        ask(&(first - 1).to_string()).expect_code(1);
        for from in ["earliest", &first.to_string()] {
            let got = ask(from).expect_code(0).json_lines();
            assert_eq!(got.len() as u64, lines as u64 - first + 1);
            assert_eq!(got[0]["offset"].as_u64(), Some(first));
            assert!(got[0]["body"].as_str().unwrap().starts_with(&format!("{:08} ", first - 1)));
        }
    }
    // A restart reads the checkpoint and what lies behind it, and finds the same.
    let before = cluster.settled();
    cluster.crash_all();
    let after = cluster.settled();
    for (before, after) in before.iter().zip(&after) {
        for name in ["first_offset", "last_offset", "producers_checksum"] {
            assert_eq!(before[name], after[name], "{name}");
        }
    }
    // Deduplication lives in the checkpoint.
    let again = ["publish", "--servers", &cluster.servers(), "--topic", "t", "--producer", "p", "--json"];
    run_with(&again, b"one\ntwo\n").expect_code(0);
    publish(&cluster, lines, 60);
    cluster.crash_all();
    let ended = run_with(&again, b"one\ntwo\n").expect_code(0).json();
    assert_eq!((ended["acknowledged"].as_u64(), ended["duplicates"].as_u64()), (Some(2), Some(2)));
    for node in &mut cluster.nodes {
        assert_eq!(node.stop(), Some(0));
        run(&["log", "verify", "--data-dir", node.data_dir.to_str().unwrap()]).expect_code(0);
    }
}

#[test]
fn files_of_trimmed_segments_are_used_again() {
    let cluster = cluster();
    let mut lines = publish(&cluster, 0, 60);
    // By now each roll finds a file that was let go; the node's own count of them is in the headers.
    lines = publish(&cluster, lines, 40);
    let rows = cluster.settled();
    assert_eq!(number(&rows[0], "last_offset"), lines as u64);
    let mut recycled = 0;
    for node in &cluster.nodes {
        for name in names(&node.data_dir).iter().filter(|name| name.starts_with("seg-")) {
            // One may be let go at this very moment.
            let Ok(bytes) = fs::read(node.data_dir.join("group-0").join(name)) else { continue };
            recycled += usize::from(bytes[14] & 1 == 1);
        }
    }
    assert!(recycled >= 3, "{recycled} recycled segments on three nodes");
}

#[test]
fn a_follower_behind_the_floor_comes_back_by_its_leaders_checkpoint() {
    let mut cluster = cluster();
    let mut lines = publish(&cluster, 0, 20);
    cluster.settled();
    let away = (cluster.leader() + 1) % 3;
    cluster.nodes[away].kill();
    lines = publish(&cluster, lines, 120);
    cluster.nodes[away].start();
    lines = publish(&cluster, lines, 4);
    // What was kept for it beyond what is to be kept goes, now that it is back; its own log begins behind that.
    let rows = cluster.at_rest();
    assert!(
        cluster.nodes[away].said().contains("begins anew behind its leader's checkpoint"),
        "{}",
        cluster.nodes[away].said()
    );
    for row in &rows {
        for name in ["first_offset", "last_offset", "producers_checksum", "producers"] {
            assert_eq!(row[name], rows[0][name], "{name}");
        }
    }
    // All that is retained is there, and not only what came after the leader's state.
    let read = |place: usize| {
        let server = cluster.server(place);
        run(&["subscribe", "--servers", &server, "--until-end", "--json"]).expect_code(0).stdout
    };
    let first = number(&rows[0], "first_offset");
    let got = read(away);
    assert_eq!(got.iter().filter(|byte| **byte == b'\n').count() as u64, lines as u64 - first + 1);
    assert!(got == read(cluster.leader()), "another log is read from it");
    eventually("equal logs", || {
        let rows = cluster.settled();
        rows.iter().all(|row| row["log_checksum"] == rows[0]["log_checksum"]).then_some(())
    });
    // It is a full member: with it alone the leader has a quorum, and after a crash it is still one.
    let leader = cluster.leader();
    let other = (0..3).find(|&place| place != away && place != leader).unwrap();
    cluster.nodes[other].kill();
    lines = publish(&cluster, lines, 1);
    cluster.nodes[away].kill();
    cluster.nodes[away].start();
    lines = publish(&cluster, lines, 1);
    cluster.nodes[other].start();
    let rows = cluster.settled();
    assert!(rows.iter().all(|row| number(row, "last_offset") == lines as u64));
    for node in &mut cluster.nodes {
        assert_eq!(node.stop(), Some(0));
        run(&["log", "verify", "--data-dir", node.data_dir.to_str().unwrap()]).expect_code(0);
    }
}
