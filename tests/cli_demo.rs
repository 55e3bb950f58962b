//! The commands that bring their own cluster.

mod cluster;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use cluster::{TERCET, run};

#[test]
fn the_demo_proves_everything_and_leaves_nothing_behind() {
    let ended = run(&["demo", "--json", "--load", "4s"]).expect_code(0);
    let report = ended.json();
    assert_eq!(report["ok"], true);
    let proofs = report["proofs"].as_object().unwrap();
    assert!(proofs.len() >= 7 && proofs.values().all(|holds| holds == true), "{report}");
    assert_eq!(report["sent"], 20_000);
    assert_eq!(report["acknowledged"], 20_000);
    assert_eq!(report["published_again"]["duplicates"], 1707);
    for field in ["outage_ms", "slowest_event_ms", "restart_ms", "startup_ms"] {
        assert!(report[field].as_f64().unwrap() > 0.0, "{field}");
    }
    for row in ["before_the_kill", "whole_load"] {
        assert!(report["latency"][row]["p50_us"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert!(ended.stderr.lines().count() >= 7, "a line for each step: {}", ended.stderr);
}

/// A port with nine free ones behind it and their peers' a hundred above; taken at random, so tests may run at once.
fn free_base_port() -> u16 {
    for attempt in 0..100 {
        let base = 20_000 + (std::process::id() as u16 % 200) * 50 + attempt * 7;
        let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (base..base + 3).all(|port| free(port) && free(port + 100)) {
            return base;
        }
    }
    panic!("no free ports");
}

#[test]
fn dev_runs_a_cluster_until_it_is_interrupted_and_keeps_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let base = free_base_port().to_string();
    let servers = format!("127.0.0.1:{base}");
    for (round, expected) in [(1, "1\n"), (2, "1\n2\n")] {
        let mut dev = Command::new(TERCET)
            .args(["dev", "--base-port", &base, "--data-dir", data_dir.to_str().unwrap()])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(dev.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert!(line.starts_with("cluster is ready: ") && line.contains(&servers), "{line}");
        let input = dir.path().join("input");
        std::fs::write(&input, format!("{round}\n")).unwrap();
        let arguments =
            ["publish", "--servers", &servers, "--topic", "t", "--input", input.to_str().unwrap()];
        run(&arguments).expect_code(0);
        let read = run(&["subscribe", "--servers", &servers, "--until-end"]).expect_code(0);
        assert_eq!(read.text(), expected);

        // A second one on the same ports says so.
        let second = run(&["dev", "--base-port", &base]).expect_code(2);
        assert!(second.stderr.contains("in use"), "{}", second.stderr);

        // As Ctrl-C on a terminal does it: to the whole group.
        let group = rustix::process::Pid::from_raw(dev.id() as i32).unwrap();
        rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
        assert_eq!(dev.wait().unwrap().code(), Some(0));
    }
}
