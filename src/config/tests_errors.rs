//! Settings that are wrong: each error is one line that says where, which key, and what to do.

use super::{ConfigError, Settings, Sources};

const GOOD: &str = r#"cluster = "demo"
node_id = 1
data_dir = "data/1"
[[nodes]]
id = 1
client = "127.0.0.1:9001"
peer = "127.0.0.1:9101"
[[nodes]]
id = 2
client = "127.0.0.1:9002"
peer = "127.0.0.1:9102"
"#;

fn fails(text: &str) -> String {
    let error = Settings::parse(Some(("t.toml", text)), &[], &[]).unwrap_err();
    one_line(&error)
}

fn one_line(error: &ConfigError) -> String {
    let line = error.to_string();
    assert!(!line.contains('\n'), "more than one line: {line}");
    line
}

/// The good file with one part replaced.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    fails(&GOOD.replacen(from, to, 1))
}

/// The good file with lines added at its end (from line 12 on).
fn plus(lines: &str) -> String {
    fails(&format!("{GOOD}{lines}"))
}

#[test]
fn the_good_file_is_good() {
    Settings::parse(Some(("t.toml", GOOD)), &[], &[]).unwrap();
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_table() {
    let error = plus("[batch]\nevnts_max = 3\n");
    assert_eq!(
        error,
        "t.toml:13: unknown key `evnts_max` in [batch]; known here: one of `events_max`, `bytes_max`, `delay_max`"
    );
    assert!(with("node_id", "nodeid").starts_with("t.toml:2: unknown key `nodeid`; known here: "));
    assert!(with("peer", "pier").starts_with("t.toml:7: unknown key `pier` in [[nodes]]; known here: "));
    assert!(plus("[bacth]\n").starts_with("t.toml:12: unknown key `bacth`"));
}

#[test]
fn what_is_no_toml_is_placed() {
    assert!(with("node_id = 1", "node_id = ").starts_with("t.toml:2: "));
    assert!(plus("[batch]\n[batch]\n").starts_with("t.toml:13: "));
    assert!(with("node_id = 1", "node_id = 1\nnode_id = 2").starts_with("t.toml:3: "));
    assert!(fails("batch = 3\n").starts_with("t.toml:1: invalid type: integer `3`, expected a table"));
}

#[test]
fn what_is_missing_is_named_with_the_way_to_set_it() {
    let line = with("node_id = 1\n", "");
    assert_eq!(line, "t.toml: node_id is missing: set it in the file, by --node-id or TERCET_NODE_ID");
    assert!(with("cluster = \"demo\"\n", "").starts_with("t.toml: cluster is missing: "));
    assert!(with("data_dir = \"data/1\"\n", "").starts_with("t.toml: data_dir is missing: "));
    assert!(with("peer = \"127.0.0.1:9102\"\n", "").starts_with("t.toml:8: nodes[1].peer is missing: "));
    assert!(with("id = 2\n", "").starts_with("t.toml:8: nodes[1].id is missing: "));
    let bare = "cluster = \"demo\"\nnode_id = 1\ndata_dir = \"d\"\n";
    assert!(fails(bare).starts_with("t.toml: nodes is missing: add a table [[nodes]]"));
    let nothing = Settings::parse(None, &[], &[]).unwrap_err();
    assert!(one_line(&nothing).starts_with("settings: cluster is missing"));
}

#[test]
fn nodes_are_checked() {
    assert!(with("id = 2", "id = 1").starts_with("t.toml:9: nodes[1].id: 1 is used twice"));
    assert!(
        with("id = 2", "id = 0")
            .starts_with("t.toml:9: nodes[1].id: 0 is out of range; choose from 1 to 65535")
    );
    assert!(with("id = 2", "id = 65536").contains("nodes[1].id: 65536 is out of range"));
    assert!(with("id = 2", "id = -1").contains("nodes[1].id: -1 is out of range"));
    assert!(with("id = 2", "id = \"2\"").contains("nodes[1].id: the text \"2\" stands where a whole number"));
    let line = with("node_id = 1", "node_id = 7");
    assert_eq!(line, "t.toml:2: node_id: 7 is not in the list of nodes (1, 2); add it or correct it");
    let eight: String = (1..=8)
        .map(|id| format!("[[nodes]]\nid = {id}\nclient = \"10.0.0.{id}:1\"\npeer = \"10.0.0.{id}:2\"\n"))
        .collect();
    let eight = format!("cluster = \"demo\"\nnode_id = 1\ndata_dir = \"d\"\n{eight}");
    assert_eq!(fails(&eight), "t.toml:32: nodes: 8 nodes are more than the 7 allowed");
}

#[test]
fn addresses_are_checked() {
    let same_peer = with("127.0.0.1:9102", "127.0.0.1:9101");
    assert_eq!(
        same_peer,
        "t.toml:11: nodes[1].peer: 127.0.0.1:9101 is the address of nodes[0].peer too; each needs its own"
    );
    assert!(with("127.0.0.1:9102", "127.0.0.1:9002").contains("is the address of nodes[1].client too"));
    for bad in ["localhost", "127.0.0.1", "host:9001", "127.0.0.1:99999", ""] {
        let line = with("127.0.0.1:9102", bad);
        assert!(line.starts_with(&format!("t.toml:11: nodes[1].peer: '{bad}' is no IP address")), "{line}");
    }
    assert!(with("127.0.0.1:9102", "127.0.0.1:0").contains("port 0 cannot be dialled"));
    assert!(with("127.0.0.1:9102", "0.0.0.0:9102").contains("0.0.0.0 cannot be dialled"));
}

#[test]
fn names_are_checked() {
    assert!(with("\"demo\"", "\"\"").starts_with("t.toml:1: cluster: must be 1 to 255 bytes"));
    assert!(
        with("\"demo\"", &format!("\"{}\"", "x".repeat(256))).contains("cluster: must be 1 to 255 bytes")
    );
    assert!(with("\"demo\"", "\"a\\nb\"").contains("cluster: must be"));
    assert!(with("\"demo\"", "3").contains("cluster: the number 3 stands where text in quotes is needed"));
    assert!(with("\"data/1\"", "\"\"").starts_with("t.toml:3: data_dir: empty"));
    let long = format!("token = \"{}\"\n{GOOD}", "x".repeat(256));
    assert!(fails(&long).starts_with("t.toml:1: token: must be 0 to 255 bytes"));
}

#[test]
fn every_number_duration_and_size_has_its_range() {
    for (lines, expected) in [
        ("[batch]\nevents_max = 0", "t.toml:13: batch.events_max: 0 is out of range; choose from 1 to 64"),
        ("[batch]\nevents_max = 65", "t.toml:13: batch.events_max: 65 is out of range; choose from 1 to 64"),
        (
            "[batch]\nevents_max = 1.5",
            "t.toml:13: batch.events_max: a number with a decimal point stands where",
        ),
        ("[batch]\nevents_max = true", "t.toml:13: batch.events_max: true or false stands where"),
        ("[batch]\nevents_max = [1]", "t.toml:13: batch.events_max: a list stands where"),
        ("[batch]\nevents_max = {}", "t.toml:13: batch.events_max: a table or a date stands where"),
        (
            "[batch]\nbytes_max = \"2MiB\"",
            "t.toml:13: batch.bytes_max: 2MiB is out of range; choose from 1KiB to ",
        ),
        ("[batch]\nbytes_max = 100", "t.toml:13: batch.bytes_max: 100 is out of range"),
        ("[batch]\nbytes_max = -1", "t.toml:13: batch.bytes_max: -1 is out of range"),
        ("[batch]\nbytes_max = \"1 mb\"", "t.toml:13: batch.bytes_max: '1 mb' is not a size such as"),
        (
            "[batch]\ndelay_max = \"2s\"",
            "t.toml:13: batch.delay_max: 2s is out of range; choose from 0ns to 1s",
        ),
        (
            "[batch]\ndelay_max = 1",
            "t.toml:13: batch.delay_max: the number 1 stands where a duration in quotes",
        ),
        ("[batch]\ndelay_max = \"1\"", "t.toml:13: batch.delay_max: '1' is not a duration such as"),
        (
            "[log]\nsegment_bytes = \"1MiB\"",
            "t.toml:13: log.segment_bytes: 1MiB is out of range; choose from 8MiB to 2GiB",
        ),
        ("[log]\nsegment_bytes = \"3GiB\"", "t.toml:13: log.segment_bytes: 3GiB is out of range"),
        (
            "[log]\nretention_bytes = \"1MiB\"",
            "t.toml:13: log.retention_bytes: 1MiB is out of range; choose from 64MiB",
        ),
        (
            "[log]\nretention_age = \"1ms\"",
            "t.toml:13: log.retention_age: 1ms is out of range; choose from 1s",
        ),
        ("[log]\ndurability = \"both\"", "t.toml:13: log.durability: 'both' is not one of disk, memory"),
        (
            "[election]\nheartbeat_interval = \"999us\"",
            "t.toml:13: election.heartbeat_interval: 999us is out of range; choose from 1ms",
        ),
        ("[election]\nmissed_heartbeats = 0", "t.toml:13: election.missed_heartbeats: 0 is out of range"),
        ("[election]\ndisk_stall_limit = \"0\"", "t.toml:13: election.disk_stall_limit: 0 is out of range"),
        ("[producers]\nwindow = \"0\"", "t.toml:13: producers.window: 0 is out of range"),
        ("[producers]\nmax = 0", "t.toml:13: producers.max: 0 is out of range"),
        (
            "[threads]\nmode = \"fast\"",
            "t.toml:13: threads.mode: 'fast' is not one of auto, shared, dedicated",
        ),
        ("[threads]\nidle = \"nap\"", "t.toml:13: threads.idle: 'nap' is not one of park, backoff, spin"),
        ("[threads]\ncores = [1, 1]", "t.toml:13: threads.cores: core 1 is named twice"),
        ("[threads]\ncores = [-1]", "t.toml:13: threads.cores: -1 is no core number (0 to 1023)"),
        ("[threads]\ncores = [\"1\"]", "t.toml:13: threads.cores: a list of other things than whole numbers"),
        ("[threads]\ncores = 3", "t.toml:13: threads.cores: the number 3 stands where a list"),
        ("[limits]\nconnections_max = 0", "t.toml:13: limits.connections_max: 0 is out of range"),
    ] {
        let line = plus(lines);
        assert!(line.starts_with(expected), "\n  found {line}\n  not   {expected}");
    }
}

#[test]
fn a_wrong_variable_or_flag_is_named() {
    let variable = |name: &str, value: &str| {
        let given = [(name.to_owned(), value.to_owned())];
        one_line(&Settings::parse(Some(("t.toml", GOOD)), &given, &[]).unwrap_err())
    };
    assert_eq!(
        variable("TERCET_BATCH_EVENT_MAX", "3"),
        "TERCET_BATCH_EVENT_MAX: no such setting; did you mean TERCET_BATCH_EVENTS_MAX? Unset it otherwise"
    );
    assert!(variable("TERCET_XYZ", "").starts_with("TERCET_XYZ: no such setting; unset it"));
    assert!(variable("TERCET_NODES", "").contains("the nodes are listed in the file"));
    assert!(
        variable("TERCET_NODE_ID", "one").starts_with("TERCET_NODE_ID: node_id: 'one' is no whole number")
    );
    assert!(
        variable("TERCET_THREADS_CORES", "1;2")
            .starts_with("TERCET_THREADS_CORES: threads.cores: '1;2' is no list")
    );

    let sources = Sources::default().with_flag("--node-id", "node_id", Some("9"));
    let error = Settings::parse(Some(("t.toml", GOOD)), &[], &sources.flags).unwrap_err();
    assert!(one_line(&error).starts_with("--node-id: node_id: 9 is not in the list of nodes"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let sources = Sources { file: Some("/nowhere/t.toml".into()), ..Sources::default() };
    let line = one_line(&Settings::load(&sources).unwrap_err());
    assert!(line.starts_with("/nowhere/t.toml: cannot read the configuration file: "), "{line}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.toml");
    std::fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    let sources = Sources { file: Some(path.clone()), ..Sources::default() };
    assert!(one_line(&Settings::load(&sources).unwrap_err()).contains("are more than the 1048576 allowed"));
    std::fs::write(&path, b"\xff\xfe").unwrap();
    assert!(one_line(&Settings::load(&sources).unwrap_err()).contains("cannot read"));
}
