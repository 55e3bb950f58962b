//! The commands against real clusters of node processes.

mod cluster;

use std::fs;

use cluster::{TestCluster, dead_address, eventually, read_ack_log, run, run_with, spawn};
use serde_json::{Value, json};

const EARTHQUAKES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/earthquakes.ndjson");

fn fields(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Publishes a file as JSON and expects that every line is acknowledged.
fn publish(servers: &str, topic: &str, producer: &str, input: &str) -> Value {
    let arguments = ["publish", "--servers", servers, "--topic", topic, "--producer", producer];
    run(&[&arguments[..], &["--input", input, "--json"]].concat()).expect_code(0).json()
}

#[test]
fn real_events_come_back_byte_identical_from_each_node_and_publishing_again_adds_nothing() {
    let cluster = TestCluster::start(3);
    let servers = cluster.servers();
    let first = publish(&servers, "quakes", "usgs", EARTHQUAKES);
    let documented = ["acknowledged", "duplicates", "elapsed_ms", "first_offset", "last_offset", "published"];
    assert_eq!(fields(&first), documented);
    let expected = json!({
        "published": 1707, "acknowledged": 1707, "duplicates": 0, "first_offset": 1, "last_offset": 1707,
        "elapsed_ms": first["elapsed_ms"],
    });
    assert_eq!(first, expected);

    let file = fs::read(EARTHQUAKES).unwrap();
    for place in 0..3 {
        assert!(cluster.read(place, "quakes") == file, "node {} has every byte", place + 1);
    }

    // A server list of which one node is dead is no obstacle, wherever it stands.
    let dead = dead_address();
    let again = publish(&format!("{dead},{servers}"), "quakes", "usgs", EARTHQUAKES);
    assert_eq!((&again["published"], &again["duplicates"]), (&json!(1707), &json!(1707)));
    assert_eq!((&again["first_offset"], &again["last_offset"]), (&json!(1), &json!(1707)));

    let rows = cluster.settled();
    for row in &rows {
        assert_eq!(row["last_offset"], 1707, "nothing was added");
        assert_eq!(row["first_offset"], 1);
        assert_eq!(row["log_checksum"], rows[0]["log_checksum"]);
        assert_eq!(row["producers_checksum"], rows[0]["producers_checksum"]);
        assert_eq!(row["producers"], 1);
        assert_eq!(row["durability"], "disk");
        assert_eq!(row["peers"].as_array().unwrap().len(), 2);
        for field in ["term", "leader_id", "flushed_index", "uptime_ms"] {
            assert!(row[field].is_u64(), "{field}: {row}");
        }
        assert!(row["version"].is_string() && row["role"].is_string());
    }

    let status = run(&["status", "--servers", &format!("{dead},{servers}"), "--json"]).expect_code(0);
    let nodes = status.json()["nodes"].as_array().unwrap().clone();
    assert_eq!(nodes.len(), 4);
    let silent = nodes.iter().find(|row| row["server"] == dead.as_str()).unwrap();
    assert_eq!(fields(silent), ["error", "server"]);
    let table = run(&["status", "--servers", &servers]).expect_code(0).text();
    assert!(table.contains("leader") && table.contains("follower"), "{table}");
}

#[test]
fn lines_are_raw_bytes_and_can_be_read_from_any_place_by_topic_and_as_json() {
    let cluster = TestCluster::start(1);
    let servers = cluster.servers();
    let to = |topic: &'static str, producer: &'static str| {
        ["publish", "--servers", &servers, "--topic", topic, "--producer", producer].map(str::to_owned)
    };
    let send = |topic, producer, bytes: &[u8]| {
        let arguments = to(topic, producer);
        run_with(&arguments.each_ref().map(String::as_str), bytes).expect_code(0)
    };
    send("a.x", "one", b"first\n\ncarriage\r\n\xff\x00end");
    send("a.y", "two", b"5\n6\n");
    send("b", "one-more", b"7\n");
    assert_eq!(cluster.read(0, "a.x"), b"first\n\ncarriage\r\n\xff\x00end\n");
    assert_eq!(cluster.read(0, "a.*"), b"first\n\ncarriage\r\n\xff\x00end\n5\n6\n");
    assert_eq!(cluster.read(0, "*"), b"first\n\ncarriage\r\n\xff\x00end\n5\n6\n7\n");
    assert_eq!(cluster.read(0, "a"), b"", "a topic is no prefix");

    let subscribe =
        |more: &[&str]| run(&[&["subscribe", "--servers", &servers], more].concat()).expect_code(0);
    assert_eq!(subscribe(&["--from", "6", "--until-end"]).stdout, b"6\n7\n");
    assert_eq!(subscribe(&["--from", "2", "--count", "2"]).stdout, b"\ncarriage\r\n");
    assert_eq!(subscribe(&["--from", "5", "--topic", "b", "--count", "1"]).stdout, b"7\n");
    assert_eq!(subscribe(&["--from", "latest", "--until-end"]).stdout, b"");
    assert_eq!(subscribe(&["--from", "100", "--until-end"]).stdout, b"");
    assert_eq!(subscribe(&["--count", "0"]).stdout, b"");

    let events = subscribe(&["--until-end", "--json"]).json_lines();
    assert_eq!(events.len(), 7);
    let documented = ["body", "index", "offset", "producer", "sequence", "timestamp_unix_ns", "topic"];
    assert_eq!(fields(&events[0]), documented);
    assert_eq!((&events[1]["body"], &events[2]["body"]), (&json!(""), &json!("carriage\r")));
    assert_eq!((&events[3]["body"], &events[3]["body_base64"]), (&Value::Null, &json!("/wBlbmQ=")));
    let identities: Vec<_> = events
        .iter()
        .map(|event| {
            let number = |field: &str| event[field].as_u64().unwrap();
            (
                number("offset"),
                event["topic"].as_str().unwrap(),
                event["producer"].as_str().unwrap(),
                number("sequence"),
            )
        })
        .collect();
    let expected = [
        (1, "a.x", "one", 1),
        (2, "a.x", "one", 2),
        (3, "a.x", "one", 3),
        (4, "a.x", "one", 4),
        (5, "a.y", "two", 1),
        (6, "a.y", "two", 2),
        (7, "b", "one-more", 1),
    ];
    assert_eq!(identities, expected);
}

#[test]
fn sequences_gaps_and_oversized_lines_are_told_apart() {
    let cluster = TestCluster::start(1);
    let servers = cluster.servers();
    let log = cluster.path("acks");
    let log_path = log.to_str().unwrap();
    let send = |first: &str, bytes: &[u8]| {
        let identity = ["--producer", "p", "--first-sequence", first, "--ack-log", log_path, "--json"];
        let arguments = ["publish", "--servers", &servers, "--topic", "t"];
        run_with(&[&arguments[..], &identity].concat(), bytes)
    };
    send("1", b"a\nb\nc\n").expect_code(0);
    assert_eq!(read_ack_log(&log), [(1, 1), (2, 2), (3, 3)]);

    // Half known, half new: duplicates keep their offsets, and are in the log as well.
    let mixed = send("2", b"b\nc\nd\n").expect_code(0).json();
    assert_eq!((&mixed["acknowledged"], &mixed["duplicates"]), (&json!(3), &json!(2)));
    assert_eq!((&mixed["first_offset"], &mixed["last_offset"]), (&json!(2), &json!(4)));
    assert_eq!(read_ack_log(&log), [(2, 2), (3, 3), (4, 4)]);

    let gap = send("9", b"x\n").expect_code(2).expect_line("expects sequence 5");
    assert_eq!(gap.json()["acknowledged"], 0);
    assert_eq!(read_ack_log(&log), []);

    let mut oversized = b"e\nf\n".to_vec();
    oversized.extend(vec![b'x'; (1 << 20) + 1]);
    oversized.extend(b"\nnever\n");
    let refused = send("5", &oversized).expect_code(2).expect_line("line 3 is larger");
    assert_eq!((&refused.json()["published"], &refused.json()["acknowledged"]), (&json!(2), &json!(2)));
    assert_eq!(read_ack_log(&log), [(5, 5), (6, 6)]);

    let largest = vec![b'y'; 1 << 20];
    send("7", &largest).expect_code(0);
    let all = cluster.read(0, "t");
    assert_eq!(&all[..12], b"a\nb\nc\nd\ne\nf\n");
    assert!(all[12..all.len() - 1] == largest[..]);
}

#[test]
fn acknowledgements_do_not_wait_for_more_input_and_a_signal_reports_them() {
    let cluster = TestCluster::start(1);
    let log = cluster.path("acks");
    let arguments = ["publish", "--servers", &cluster.servers(), "--topic", "t", "--json"];
    let mut running = spawn(&[&arguments[..], &["--ack-log", log.to_str().unwrap()]].concat());
    running.feed(b"one\ntwo\nhalf a li");
    let known = || read_ack_log(&log);
    eventually("two acknowledged lines while the input is open", || (known().len() == 2).then_some(()));
    running.feed(b"ne\n");
    eventually("the third line", || (known() == [(1, 1), (2, 2), (3, 3)]).then_some(()));
    running.signal(rustix::process::Signal::INT);
    let ended = running.wait_with_open_input().expect_code(5).expect_line("interrupted");
    assert_eq!(ended.json()["acknowledged"], 3);

    let follower = spawn(&["subscribe", "--servers", &cluster.servers()]);
    follower.signal(rustix::process::Signal::TERM);
    let ended = follower.wait();
    // The signal may have come before it was waited for.
    assert!(matches!(ended.code, Some(5) | None), "{ended:?}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_subscription_quietly() {
    let cluster = TestCluster::start(1);
    publish(&cluster.servers(), "quakes", "usgs", EARTHQUAKES);
    let pipeline = format!(
        "'{}' subscribe --servers {} | head -n 3; echo ${{PIPESTATUS[0]}}",
        cluster::TERCET,
        cluster.servers()
    );
    let output = std::process::Command::new("bash").args(["-c", &pipeline]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let file = fs::read_to_string(EARTHQUAKES).unwrap();
    assert_eq!(lines[..3], file.lines().take(3).collect::<Vec<_>>());
    assert_eq!((lines[3], String::from_utf8(output.stderr).unwrap().as_str()), ("0", ""));
}

#[test]
fn without_a_leader_nothing_is_promised_and_readers_get_what_the_node_knows() {
    let mut cluster = TestCluster::start(3);
    publish(&cluster.servers(), "quakes", "usgs", EARTHQUAKES);
    cluster.settled();
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();
    let servers = cluster.servers();

    let arguments = ["publish", "--servers", &servers, "--topic", "t", "--timeout", "1500ms", "--json"];
    let refused = run_with(&arguments, b"lost\n").expect_code(3);
    assert!(refused.stderr.contains("no leader"), "{}", refused.stderr);

    let read = run(&["subscribe", "--servers", &cluster.server(2), "--until-end"]).expect_code(0);
    assert!(read.stdout == fs::read(EARTHQUAKES).unwrap());
    assert!(read.stderr.contains("no leader within 1s"), "{}", read.stderr);

    let rows = cluster.status();
    assert!(rows[0]["error"].is_string() && rows[1]["error"].is_string());
    assert_eq!(rows[2]["node_id"], 3);

    // With a quorum back, the same line goes in under its own identity.
    cluster.nodes[0].start();
    run_with(&["publish", "--servers", &servers, "--topic", "t"], b"found\n").expect_code(0);
    assert_eq!(cluster.read(2, "t"), b"found\n");
}

/// What was acknowledged stands once, at its offset, in input order, on every node; and nothing else stands there.
fn check_acknowledged(cluster: &TestCluster, log: &[(u64, u64)], lines: &[String]) {
    assert_eq!(log.len(), lines.len(), "every line is acknowledged");
    assert!(log.iter().zip(1..).all(|((sequence, _), n)| *sequence == n), "in sequence order, each once");
    assert!(log.windows(2).all(|pair| pair[0].1 < pair[1].1), "in the order of their offsets");
    let rows = cluster.settled();
    assert!(rows.iter().all(|row| row["log_checksum"] == rows[0]["log_checksum"]));
    assert!(rows.iter().all(|row| row["producers_checksum"] == rows[0]["producers_checksum"]));
    for place in 0..cluster.nodes.len() {
        let read = run(&["subscribe", "--servers", &cluster.server(place), "--until-end", "--json"]);
        let events = read.expect_code(0).json_lines();
        let stored: Vec<_> =
            events.iter().map(|event| (&event["sequence"], &event["offset"], &event["body"])).collect();
        let expected: Vec<Value> = log.iter().zip(lines).map(|((s, o), line)| json!([s, o, line])).collect();
        assert_eq!(stored.len(), expected.len(), "node {}", place + 1);
        for (stored, expected) in stored.iter().zip(&expected) {
            assert_eq!((stored.0, stored.1, stored.2), (&expected[0], &expected[1], &expected[2]));
        }
    }
}

#[test]
fn a_publish_survives_its_leader_and_counts_no_duplicates_of_its_own() {
    let mut cluster = TestCluster::start(3);
    let lines: Vec<String> = (0..6_000).map(|n| format!("event {n}")).collect();
    let (input, log) = (cluster.path("input"), cluster.path("acks"));
    fs::write(&input, lines.join("\n")).unwrap();
    let files = ["--input", input.to_str().unwrap(), "--ack-log", log.to_str().unwrap(), "--json"];
    let arguments = ["publish", "--servers", &cluster.servers(), "--topic", "t", "--rate", "2000"];
    let running = spawn(&[&arguments[..], &files].concat());
    eventually("some acknowledgements", || (read_ack_log(&log).len() > 500).then_some(()));
    let leader = cluster.leader();
    cluster.nodes[leader].kill();
    let published = running.wait().expect_code(0).json();
    assert_eq!((&published["acknowledged"], &published["duplicates"]), (&json!(6_000), &json!(0)));
    cluster.nodes[leader].start();
    check_acknowledged(&cluster, &read_ack_log(&log), &lines);
}

#[test]
fn a_rolling_restart_under_load_costs_no_error_and_no_duplicate() {
    let mut cluster = TestCluster::start(3);
    let lines: Vec<String> = (0..24_000).map(|n| format!("event {n}")).collect();
    let (input, log) = (cluster.path("input"), cluster.path("acks"));
    fs::write(&input, lines.join("\n")).unwrap();
    let files = ["--input", input.to_str().unwrap(), "--ack-log", log.to_str().unwrap(), "--json"];
    let arguments = ["publish", "--servers", &cluster.servers(), "--topic", "t", "--rate", "4000"];
    let running = spawn(&[&arguments[..], &files].concat());
    for place in 0..3 {
        let enough = (place + 1) * 2_000;
        eventually("more acknowledgements", || (read_ack_log(&log).len() > enough).then_some(()));
        assert_eq!(cluster.nodes[place].stop(), Some(0), "node {}", place + 1);
        cluster.nodes[place].start();
        // All three run and agree before the next one goes.
        cluster.leader();
    }
    let ended = running.wait().expect_code(0);
    assert_eq!(ended.stderr, "", "not a word");
    let published = ended.json();
    assert_eq!((&published["acknowledged"], &published["duplicates"]), (&json!(24_000), &json!(0)));
    check_acknowledged(&cluster, &read_ack_log(&log), &lines);
}

#[test]
fn a_publish_survives_all_nodes_killed_again_and_again_and_their_files_verify() {
    let mut cluster = TestCluster::start(3);
    let lines: Vec<String> = (0..9_000).map(|n| format!("event {n} {}", "x".repeat(n % 700))).collect();
    let (input, log) = (cluster.path("input"), cluster.path("acks"));
    fs::write(&input, lines.join("\n")).unwrap();
    let files = ["--input", input.to_str().unwrap(), "--ack-log", log.to_str().unwrap(), "--json"];
    let arguments = ["publish", "--servers", &cluster.servers(), "--topic", "t", "--rate", "3000"];
    let running = spawn(&[&arguments[..], &files].concat());
    for round in 1..=3 {
        let enough = round * 2_000;
        eventually("more acknowledgements", || (read_ack_log(&log).len() > enough).then_some(()));
        cluster.crash_all();
    }
    running.wait().expect_code(0);
    check_acknowledged(&cluster, &read_ack_log(&log), &lines);
    let chain = cluster.settled()[0]["log_checksum"].clone();
    for node in &mut cluster.nodes {
        let dir = node.data_dir.to_str().unwrap().to_owned();
        run(&["log", "verify", "--data-dir", &dir]).expect_code(2).expect_line("is in use");
        assert_eq!(node.stop(), Some(0));
        let report = run(&["log", "verify", "--data-dir", &dir, "--json"]).expect_code(0).json();
        assert_eq!((&report["ok"], &report["torn_tail"]), (&json!(true), &Value::Null));
        let dump = run(&["log", "dump", "--data-dir", &dir, "--json"]).expect_code(0).json_lines();
        assert_eq!(dump.len() as u64, report["entries"].as_u64().unwrap());
        assert!(dump.iter().any(|entry| entry["chain"] == chain), "the chain that the running node showed");
        assert_eq!(dump[0]["kind"], "configuration");
        let bodies = dump.iter().filter_map(|entry| entry["events"].as_array()).flatten();
        assert!(bodies.map(|event| event["body"].as_str().unwrap()).eq(lines.iter().map(String::as_str)));
    }
}

#[test]
fn a_torn_tail_is_reported_and_damage_below_the_watermark_is_exit_code_4_with_file_and_position() {
    let mut cluster = TestCluster::start(1);
    publish(&cluster.servers(), "quakes", "usgs", EARTHQUAKES);
    assert_eq!(cluster.nodes[0].stop(), Some(0));
    let dir = cluster.nodes[0].data_dir.clone();
    let dir_text = dir.to_str().unwrap();
    let verify = ["log", "verify", "--data-dir", dir_text];
    let good = run(&[&verify[..], &["--json"]].concat()).expect_code(0).json();
    assert_eq!((&good["events"], &good["node_id"]), (&json!(1707), &json!(1)));
    assert!(run(&verify).expect_code(0).text().contains("no damage"));
    let dump = run(&["log", "dump", "--data-dir", dir_text]).expect_code(0).text();
    assert!(dump.contains("configuration") && dump.contains("quakes 'usgs' #1707"), "{}", dump.len());

    let segment = good["segments"][0]["file"].as_str().unwrap().to_owned();
    let mut bytes = fs::read(&segment).unwrap();
    let end = good["segments"][0]["end_position"].as_u64().unwrap() as usize;
    bytes[end..end + 100].fill(0x55);
    fs::write(&segment, &bytes).unwrap();
    let torn = run(&[&verify[..], &["--json"]].concat()).expect_code(0).json();
    assert_eq!((&torn["ok"], &torn["torn_tail"]["position"]), (&json!(true), &json!(end)));
    assert_eq!(torn["log_checksum"], good["log_checksum"]);

    let at = end / 2;
    bytes[at] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let broken = run(&[&verify[..], &["--json"]].concat()).expect_code(4);
    let report = broken.json();
    assert_eq!((&report["ok"], &report["file"]), (&json!(false), &json!(segment)));
    let position = report["position"].as_u64().unwrap() as usize;
    assert!(position <= at && at - position < 100_000, "{position} is near {at}");
    broken.expect_line(&segment);
    // The node itself refuses as well, and changes nothing.
    let config = cluster.nodes[0].config.to_str().unwrap();
    let refused = run(&["node", "--config", config]).expect_code(4);
    assert!(refused.stderr.contains(&segment), "{}", refused.stderr);
    assert!(fs::read(&segment).unwrap() == bytes);

    let empty = cluster.path("empty");
    fs::create_dir(&empty).unwrap();
    let unformatted = ["log", "verify", "--data-dir", empty.to_str().unwrap()];
    run(&unformatted).expect_code(2).expect_line("not formatted");
}

#[test]
fn a_transfer_is_done_where_the_node_leads_already_and_refused_to_a_stranger() {
    let cluster = TestCluster::start(3);
    let leader = cluster.nodes[cluster.leader()].id.to_string();
    // One node of the list will do, whoever leads.
    for place in 0..3 {
        let done = run(&["transfer", "--servers", &cluster.server(place), "--to", &leader]).expect_code(0);
        assert!(done.text().starts_with(&format!("node {leader} leads now (term ")), "{}", done.text());
        assert_eq!((done.text().lines().count(), done.stderr.as_str()), (1, ""));
    }
    let servers = cluster.servers();
    let refused = run(&["transfer", "--servers", &servers, "--to", "9"]).expect_code(1);
    assert_eq!(refused.expect_line("node 9 cannot lead").text(), "");
    let done = run(&["transfer", "--servers", &servers, "--to", &leader, "--json"]).expect_code(0).json();
    assert_eq!(done["leader_id"].to_string(), leader);
    assert!(done["term"].is_u64() && done["elapsed_ms"].is_f64(), "{done}");
}

#[test]
fn leadership_moves_to_every_node_under_load_without_an_error_or_a_duplicate() {
    let cluster = TestCluster::start_with(3, cluster::calm);
    let lines: Vec<String> = (0..12_000).map(|n| format!("event {n}")).collect();
    let (input, log) = (cluster.path("input"), cluster.path("acks"));
    fs::write(&input, lines.join("\n")).unwrap();
    let files = ["--input", input.to_str().unwrap(), "--ack-log", log.to_str().unwrap(), "--json"];
    let arguments = ["publish", "--servers", &cluster.servers(), "--topic", "t", "--rate", "4000"];
    let running = spawn(&[&arguments[..], &files].concat());
    let mut terms = Vec::new();
    for round in 0..6 {
        let enough = 1_000 + round * 1_500;
        eventually("more acknowledgements", || (read_ack_log(&log).len() > enough).then_some(()));
        let target = (cluster.nodes[cluster.leader()].id % 3 + 1).to_string();
        let moved = ["transfer", "--servers", &cluster.servers(), "--to", &target, "--json"];
        let moved = run(&moved).expect_code(0).json();
        assert_eq!(moved["leader_id"].to_string(), target);
        terms.push(moved["term"].as_u64().unwrap());
    }
    assert!(terms.is_sorted_by(|a, b| a < b), "each move is a new term: {terms:?}");
    let ended = running.wait().expect_code(0);
    assert_eq!(ended.stderr, "", "no client sees an error");
    let published = ended.json();
    assert_eq!((&published["acknowledged"], &published["duplicates"]), (&json!(12_000), &json!(0)));
    check_acknowledged(&cluster, &read_ack_log(&log), &lines);
}

#[test]
fn bench_reports_what_is_documented() {
    let cluster = TestCluster::start(3);
    let load = ["--size", "100", "--duration", "1s", "--warmup", "200ms", "--connections", "2", "--json"];
    for rate in ["500", "max"] {
        let arguments = ["bench", "--servers", &cluster.servers(), "--rate", rate];
        let ended = run(&[&arguments[..], &load].concat());
        // A busy machine may miss the rate: then it must say so.
        assert!(matches!(ended.code, Some(0 | 1)), "{ended:?}");
        assert_eq!(ended.code == Some(1), !ended.stderr.is_empty(), "{ended:?}");
        let report = ended.json();
        for field in ["offered_per_s", "achieved_per_s", "missed", "errors", "generator_late_p99_us"] {
            assert!(report[field].is_number(), "{field}");
        }
        let quantiles = ["p50_us", "p90_us", "p99_us", "p999_us", "p9999_us", "max_us"];
        let values: Vec<f64> = quantiles.iter().map(|field| report[field].as_f64().unwrap()).collect();
        assert!(values[0] > 0.0 && values.is_sorted(), "{values:?}");
        assert_eq!((&report["durability"], &report["errors"]), (&json!("disk"), &json!(0)));
        let nodes = report["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 3);
        for node in nodes {
            assert!(node["node_id"].is_u64() && node["cpu_s"].is_number());
            assert!(node["rss_peak_bytes"].as_u64().unwrap() > 1 << 20, "{node}");
        }
    }
}
