//! Mistakes at the command line: one clear line on stderr, nothing on stdout, the documented exit code, no cluster
//! needed.

mod cluster;

use cluster::{dead_address, run, run_with};

/// A server that does not matter: the mistake is found first.
const NOWHERE: &str = "127.0.0.1:1";

/// Arguments, and what the one line must say.
const MISTAKES: &[(&[&str], &str)] = &[
    (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
    (&["publish", "--topic", "t"], "--servers"),
    (&["publish", "--servers", NOWHERE], "--topic"),
    (&["publish", "--servers", "", "--topic", "t"], "bad list of servers"),
    (&["publish", "--servers", "localhost", "--topic", "t"], "bad list of servers"),
    (&["publish", "--servers", NOWHERE, "--topic", "a b"], "bad --topic 'a b'"),
    (&["publish", "--servers", NOWHERE, "--topic", ""], "bad --topic"),
    (&["publish", "--servers", NOWHERE, "--topic", "a*"], "bad --topic"),
    (&["publish", "--servers", NOWHERE, "--topic", "t", "--first-sequence", "0"], "--first-sequence"),
    (&["publish", "--servers", NOWHERE, "--topic", "t", "--window", "0"], "--window"),
    (&["publish", "--servers", NOWHERE, "--topic", "t", "--rate", "0"], "--rate"),
    (&["publish", "--servers", NOWHERE, "--topic", "t", "--rate", "nan"], "--rate"),
    (&["publish", "--servers", NOWHERE, "--topic", "t", "--timeout", "10"], "--timeout"),
    (&["publish", "--servers", NOWHERE, "--topic", "t", "--input", "/nowhere/x"], "cannot read /nowhere/x"),
    (&["publish", "--servers", NOWHERE, "--topic", "t", "--input", "/"], "cannot read /: it is a directory"),
    (
        &["publish", "--servers", NOWHERE, "--topic", "t", "--ack-log", "/nowhere/x"],
        "cannot create the ack log",
    ),
    (&["publish", "--servers", NOWHERE, "--topic", "t", "--producer", ""], "bad producer name"),
    (&["publish", "--servers", NOWHERE, "--topic", "t", "--producer", "a\nb"], "bad producer name"),
    (&["subscribe", "--servers", NOWHERE, "--from", "yesterday"], "bad --from 'yesterday'"),
    (&["subscribe", "--servers", NOWHERE, "--from", "0"], "bad --from '0'"),
    (&["subscribe", "--servers", NOWHERE, "--topic", "a*b"], "bad filter 'a*b'"),
    (&["subscribe", "--servers", NOWHERE, "--count", "many"], "--count"),
    (&["status", "--servers", "nonsense"], "bad list of servers"),
    (&["status"], "--servers"),
    (&["format", "--accept-loss", "--config", "/nowhere"], "unexpected argument '--accept-loss'"),
    (&["member", "list"], "--servers"),
    (&["member", "list", "--servers", "nonsense"], "bad list of servers"),
    (&["member", "promote", "--servers", NOWHERE], "--node"),
    (&["member", "replace", "--servers", NOWHERE, "--node", "0"], "--node"),
    (&["member", "replace", "--servers", NOWHERE, "--node", "3", "--incarnation", "12"], "--incarnation"),
    (&["transfer", "--servers", NOWHERE], "--to"),
    (&["transfer", "--servers", NOWHERE, "--to", "0"], "--to"),
    (&["transfer", "--servers", NOWHERE, "--to", "two"], "--to"),
    (&["transfer", "--servers", "nonsense", "--to", "2"], "bad list of servers"),
    (&["bench", "--servers", NOWHERE, "--rate", "fast", "--size", "1", "--duration", "1s"], "--rate"),
    (&["bench", "--servers", NOWHERE, "--rate", "1", "--size", "2MiB", "--duration", "1s"], "--size 2097152"),
    (&["bench", "--servers", NOWHERE, "--rate", "1", "--size", "1", "--duration", "0"], "--duration"),
    (
        &[
            "bench",
            "--servers",
            NOWHERE,
            "--rate",
            "1",
            "--size",
            "1",
            "--duration",
            "1s",
            "--connections",
            "0",
        ],
        "--connections",
    ),
    (&["node", "--config", "/nowhere/tercet.toml"], "/nowhere/tercet.toml"),
    (&["format", "--config", "/nowhere/tercet.toml"], "/nowhere/tercet.toml"),
    (&["dev", "--nodes", "8"], "--nodes"),
    (&["log", "verify"], "--data-dir"),
    (&["log", "verify", "--data-dir", "/nowhere/data"], "/nowhere/data"),
    (&["log", "dump", "--data-dir", "/"], "not formatted"),
    (&["log"], "Usage"),
];

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn usage_errors_are_one_line_and_exit_code_2() {
    for (arguments, expected) in MISTAKES {
        let ended = run(arguments).expect_code(2);
        assert_eq!(ended.text(), "", "{arguments:?}");
        assert!(ended.stderr.contains(expected), "{arguments:?}: '{expected}' is not in: {}", ended.stderr);
        if *expected != "Usage" {
            assert_eq!(ended.stderr.lines().count(), 1, "{arguments:?}: {}", ended.stderr);
        }
    }
}

#[test]
fn help_and_version_are_results() {
    let version = run(&["--version"]).expect_code(0);
    assert!(version.text().starts_with("tercet "));
    let help = run(&["bench", "--help"]).expect_code(0).text();
    assert!(help.contains("open loop") && help.contains("generator itself was late"), "{help}");
}

#[test]
fn a_cluster_that_is_not_there_is_exit_code_3_and_one_line() {
    let dead = dead_address();
    let publish = ["publish", "--servers", &dead, "--topic", "t", "--timeout", "300ms", "--producer", "p"];
    run_with(&publish, b"a\n").expect_code(3).expect_line("no node reachable");
    run(&["subscribe", "--servers", &dead, "--until-end"]).expect_code(3).expect_line("no node reachable");
    let transfer = ["transfer", "--servers", &dead, "--to", "2", "--timeout", "300ms"];
    run(&transfer).expect_code(3).expect_line("no node reachable");
    let status = run(&["status", "--servers", &dead, "--json"]).expect_code(3).expect_line("none of 1 nodes");
    let rows = &status.json()["nodes"];
    assert_eq!(rows[0]["server"], dead.as_str());
    assert!(rows[0]["error"].is_string());
}

#[test]
fn a_configuration_mistake_names_the_key_and_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tercet.toml");
    std::fs::write(&config, "cluster = \"x\"\nnode_id = 1\ndata_dir = \"d\"\nheartbeet = 1\n").unwrap();
    let config = config.to_str().unwrap();
    run(&["node", "--config", config]).expect_code(2).expect_line("heartbeet");
}

#[test]
fn a_data_directory_that_is_a_file_is_a_mistake_and_no_disk_error() {
    let dir = tempfile::tempdir().unwrap();
    let (config, file) = (dir.path().join("tercet.toml"), dir.path().join("file"));
    let nodes = "[[nodes]]\nid = 1\nclient = \"127.0.0.1:9001\"\npeer = \"127.0.0.1:9101\"\n";
    std::fs::write(&config, format!("cluster = \"x\"\nnode_id = 1\ndata_dir = \"d\"\n{nodes}")).unwrap();
    std::fs::write(&file, "mine").unwrap();
    for data_dir in [file.clone(), file.join("below")] {
        let data_dir = data_dir.to_str().unwrap();
        let format = ["format", "--config", config.to_str().unwrap(), "--data-dir", data_dir];
        run(&format).expect_code(2).expect_line(data_dir);
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}
