//! Pitfalls of real processes: signals that stop, continue and end them under load.

mod cluster;
mod raw;

use std::collections::BTreeMap;
use std::fs;

use cluster::{TestCluster, eventually, read_ack_log, run, spawn};
use raw::RawClient;
use rustix::process::Signal;
use serde_json::Value;
use tercet::protocol::client::{ClientMessage, CommitAnswer, Purpose, ServerMessage};

/// Offsets and bodies of a topic as one node has it.
fn events(cluster: &TestCluster, place: usize) -> BTreeMap<u64, (u64, String)> {
    let read = run(&["subscribe", "--servers", &cluster.server(place), "--until-end", "--json"]);
    let rows = read.expect_code(0).json_lines().into_iter().map(|event: Value| {
        let number = |field: &str| event[field].as_u64().expect("a number");
        (number("offset"), (number("sequence"), event["body"].as_str().expect("text").to_owned()))
    });
    rows.collect()
}

/// What was acknowledged stands at its offset on every node, and each event stands there once.
fn check(cluster: &TestCluster, acknowledged: &[(u64, u64)], lines: &[String]) {
    cluster.settled();
    for place in 0..cluster.nodes.len() {
        let events = events(cluster, place);
        assert_eq!(events.len(), lines.len(), "node {}", place + 1);
        for (sequence, offset) in acknowledged {
            let body = lines[*sequence as usize - 1].clone();
            assert_eq!(events.get(offset), Some(&(*sequence, body)), "node {}", place + 1);
        }
    }
}

#[test]
fn pitfall_54_sigterm_under_load_ends_in_good_order_and_loses_nothing_acknowledged() {
    let mut cluster = TestCluster::start(3);
    let lines: Vec<String> = (0..3_000).map(|n| format!("event {n}")).collect();
    let (input, log) = (cluster.path("input"), cluster.path("acks"));
    fs::write(&input, lines.join("\n")).expect("writes");
    let files =
        ["--input", input.to_str().expect("UTF-8"), "--ack-log", log.to_str().expect("UTF-8"), "--json"];
    let arguments = ["publish", "--servers", &cluster.servers(), "--topic", "t", "--rate", "1500"];
    let running = spawn(&[&arguments[..], &files].concat());
    eventually("some acknowledgements", || (read_ack_log(&log).len() > 300).then_some(()));
    let leader = cluster.leader();
    assert_eq!(cluster.nodes[leader].stop(), Some(0), "it drains and ends with 0");
    let published = running.wait().expect_code(0).json();
    assert_eq!(
        (published["acknowledged"].as_u64(), published["duplicates"].as_u64()),
        (Some(3_000), Some(0))
    );
    cluster.nodes[leader].start();
    check(&cluster, &read_ack_log(&log), &lines);
}

/// Not shown here: that the leader asks a majority before it answers. It may have read of its end, which waits in its
/// sockets like the question, before it takes the question up, and then even one that asks nobody says nothing false.
/// `pitfalls/reads.rs` shows it, where nothing but the question arrives.
#[test]
fn pitfall_45_a_leader_stopped_and_continued_answers_no_read_from_the_past() {
    let cluster = TestCluster::start(3);
    let publish = |line: &str| {
        let arguments = ["publish", "--servers", &cluster.servers(), "--topic", "t", "--producer", line];
        cluster::run_with(&arguments, format!("{line}\n").as_bytes()).expect_code(0);
    };
    publish("before");
    cluster.settled();
    let old = cluster.leader();
    let mut client = RawClient::connect(cluster.nodes[old].client, Purpose::Control);
    cluster.nodes[old].signal(Signal::STOP);
    // The question waits in its socket while the others elect and go on.
    client.send(&ClientMessage::CommitQuery { request_id: 7, leader_required: true });
    publish("meanwhile");
    let others: Vec<usize> = (0..3).filter(|place| *place != old).collect();
    let read = cluster.read(others[0], "t");
    let committed = read.iter().filter(|byte| **byte == b'\n').count() as u64;
    assert_eq!(committed, 2);
    cluster.nodes[old].signal(Signal::CONT);
    let answered = client.receive(|message| match message {
        ServerMessage::CommitReply { request_id: 7, answer: CommitAnswer::Committed { last_offset, .. } } => {
            Some(Some(last_offset.0))
        }
        ServerMessage::CommitReply { request_id: 7, .. } => Some(None),
        _ => None,
    });
    assert!(answered.is_none_or(|offset| offset >= committed), "a read from the past: {answered:?}");
    let lines = ["before".to_owned(), "meanwhile".to_owned()];
    cluster.settled();
    for place in 0..3 {
        let bodies: Vec<String> = events(&cluster, place).into_values().map(|(_, body)| body).collect();
        assert_eq!(bodies, lines);
    }
}
