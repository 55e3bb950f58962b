//! Settings that are right: every key, every source, and the way back to a file.

use std::path::PathBuf;

use crate::base::clock::{NS_PER_MS, NS_PER_S};
use crate::base::ids::{ClusterId, NodeId};
use crate::entry::Durability;

use super::{Flag, IdleStrategy, Settings, Sources, ThreadingMode, Token, cluster_id};

/// The documented file, with the keys it only mentions added.
const SAMPLE: &str = r#"
cluster = "demo"            # name; with the optional `token` it makes the cluster id: another cluster's traffic is refused
node_id = 1
data_dir = "data/1"

[[nodes]]
id = 1
client = "127.0.0.1:9001"
peer = "127.0.0.1:9101"

[[nodes]]
id = 3
client = "127.0.0.1:9003"
peer = "127.0.0.1:9103"

[[nodes]]
id = 2
client = "127.0.0.1:9002"
peer = "127.0.0.1:9102"

[batch]
events_max = 64             # 64 events or 1 ms, whichever comes first
bytes_max = "1MiB"          # or one event that is larger
delay_max = "1ms"

[log]
durability = "disk"         # cluster-wide
segment_bytes = "64MiB"
# retention_bytes, retention_age: when segments may go (default: keep all)

[election]
heartbeat_interval = "50ms"
missed_heartbeats = 3       # then pre-vote, plus a random part of one interval
disk_stall_limit = "500ms"  # a leader whose flush hangs for longer gives up leadership

[producers]
window = "24h"              # idle producers expire, by the log's own time
max = 100_000

[threads]
mode = "auto"               # auto | shared | dedicated
cores = []                  # real core ids in the order of the roles; empty: no pinning
idle = "park"               # park | backoff | spin
"#;

/// The least that a file must say.
const LEAST: &str = r#"
cluster = "demo"
node_id = 1
data_dir = "data/1"
[[nodes]]
id = 1
client = "127.0.0.1:9001"
peer = "127.0.0.1:9101"
"#;

fn parse(text: &str) -> Settings {
    Settings::parse(Some(("tercet.toml", text)), &[], &[]).unwrap()
}

#[test]
fn the_documented_file_reads_and_its_values_are_the_defaults() {
    let settings = parse(SAMPLE);
    assert_eq!(settings.nodes.iter().map(|node| node.id.0).collect::<Vec<_>>(), [1, 2, 3], "sorted");
    let nodes = settings.nodes.clone();
    assert_eq!(settings, Settings::with_defaults("demo", NodeId(1), PathBuf::from("data/1"), &nodes));
    assert_eq!(settings.own().peer.to_string(), "127.0.0.1:9101");
    assert_eq!(settings.others().map(|node| node.id.0).collect::<Vec<_>>(), [2, 3]);

    assert_eq!((settings.batch.events_max, settings.batch.bytes_max), (64, 1 << 20));
    assert_eq!(settings.batch.delay_max_ns, NS_PER_MS);
    assert_eq!((settings.log.durability, settings.log.segment_bytes), (Durability::Disk, 64 << 20));
    assert_eq!(settings.election.heartbeat_interval_ns, 50 * NS_PER_MS);
    assert_eq!(settings.election.missed_heartbeats, 3);
    assert_eq!(settings.election.disk_stall_limit_ns, 500 * NS_PER_MS);
    assert_eq!((settings.producers.window_ns, settings.producers.max), (86_400 * NS_PER_S, 100_000));
    assert_eq!((settings.threads.mode, settings.threads.idle), (ThreadingMode::Auto, IdleStrategy::Park));
    assert!(settings.threads.cores.is_empty());
}

#[test]
fn the_least_file_takes_every_default() {
    let settings = parse(LEAST);
    let nodes = settings.nodes.clone();
    assert_eq!(settings, Settings::with_defaults("demo", NodeId(1), PathBuf::from("data/1"), &nodes));
}

#[test]
fn flags_beat_the_environment_beats_the_file_beats_the_defaults() {
    let file = LEAST.replace("data/1", "from-file") + "[batch]\nevents_max = 10\n";
    let environment = [("TERCET_DATA_DIR", "from-environment"), ("TERCET_BATCH_EVENTS_MAX", "20")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let flags = [Flag { name: "--data-dir", key: "data_dir", value: "from-flag".to_owned() }];
    let read = |environment: &[(String, String)], flags: &[Flag]| {
        let settings = Settings::parse(Some(("tercet.toml", &file)), environment, flags).unwrap();
        (settings.data_dir.display().to_string(), settings.batch.events_max, settings.log.segment_bytes)
    };
    assert_eq!(read(&[], &[]), ("from-file".to_owned(), 10, 64 << 20));
    assert_eq!(read(&environment, &[]), ("from-environment".to_owned(), 20, 64 << 20));
    assert_eq!(read(&environment, &flags), ("from-flag".to_owned(), 20, 64 << 20));
}

#[test]
fn every_key_but_nodes_can_come_from_the_environment() {
    let given = [
        ("TERCET_CLUSTER", "other"),
        ("TERCET_TOKEN", "secret"),
        ("TERCET_NODE_ID", "2"),
        ("TERCET_DATA_DIR", "/var/lib/tercet"),
        ("TERCET_BATCH_EVENTS_MAX", "32"),
        ("TERCET_BATCH_BYTES_MAX", "65536"),
        ("TERCET_BATCH_DELAY_MAX", "250us"),
        ("TERCET_LOG_DURABILITY", "memory"),
        ("TERCET_LOG_SEGMENT_BYTES", "8MiB"),
        ("TERCET_LOG_RETENTION_BYTES", "1GiB"),
        ("TERCET_LOG_RETENTION_AGE", "7d"),
        ("TERCET_ELECTION_HEARTBEAT_INTERVAL", "10ms"),
        ("TERCET_ELECTION_MISSED_HEARTBEATS", "5"),
        ("TERCET_ELECTION_DISK_STALL_LIMIT", "1s"),
        ("TERCET_PRODUCERS_WINDOW", "1h"),
        ("TERCET_PRODUCERS_MAX", "1_000"),
        ("TERCET_THREADS_MODE", "dedicated"),
        ("TERCET_THREADS_CORES", "2, 3,5"),
        ("TERCET_THREADS_IDLE", "spin"),
        ("TERCET_LIMITS_CONNECTIONS_MAX", "99"),
        // Not settings, and none of our business.
        ("TERCET_LOG", "debug"),
        ("TERCET_CONFIG", "x.toml"),
        ("PATH", "/bin"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = Settings::parse(Some(("tercet.toml", SAMPLE)), &given, &[]).unwrap();
    assert_eq!((settings.cluster.as_str(), settings.token.0.as_str()), ("other", "secret"));
    assert_eq!((settings.node_id, settings.data_dir.to_str()), (NodeId(2), Some("/var/lib/tercet")));
    assert_eq!((settings.batch.events_max, settings.batch.bytes_max), (32, 65536));
    assert_eq!((settings.batch.delay_max_ns, settings.log.durability), (250_000, Durability::Memory));
    assert_eq!((settings.log.segment_bytes, settings.log.retention_bytes), (8 << 20, Some(1 << 30)));
    assert_eq!(settings.log.retention_age_ns, Some(7 * 86_400 * NS_PER_S));
    assert_eq!(settings.election.heartbeat_interval_ns, 10 * NS_PER_MS);
    assert_eq!(settings.election.missed_heartbeats, 5);
    assert_eq!(settings.election.disk_stall_limit_ns, NS_PER_S);
    assert_eq!((settings.producers.window_ns, settings.producers.max), (3_600 * NS_PER_S, 1000));
    assert_eq!(
        (settings.threads.mode, settings.threads.idle),
        (ThreadingMode::Dedicated, IdleStrategy::Spin)
    );
    assert_eq!(settings.threads.cores, [2, 3, 5]);
    assert_eq!(settings.limits.connections_max, 99);
    assert_eq!(parse(&settings.render()), settings, "all of them survive the way through a file");
}

#[test]
fn rendered_settings_read_back_to_themselves() {
    let mut settings = parse(SAMPLE);
    assert_eq!(parse(&settings.render()), settings);
    settings.cluster = "quote \" backslash \\ ümlaut".to_owned();
    settings.token = Token("'\"\"\"'".to_owned());
    settings.data_dir = PathBuf::from("a dir/with # and [x]");
    settings.batch.delay_max_ns = 1_500_001;
    settings.batch.bytes_max = 123_457;
    assert_eq!(parse(&settings.render()), settings);
}

#[test]
fn a_file_is_read_from_disk_with_flags_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tercet.toml");
    std::fs::write(&path, SAMPLE).unwrap();
    let sources = Sources { file: Some(path), ..Sources::default() };
    let sources =
        sources.with_flag("--node-id", "node_id", Some(3)).with_flag("--data-dir", "data_dir", None::<&str>);
    let settings = Settings::load(&sources).unwrap();
    assert_eq!((settings.node_id, settings.data_dir.to_str()), (NodeId(3), Some("data/1")));
}

#[test]
fn the_cluster_id_follows_from_name_token_and_node_ids_alone_and_is_fixed_for_ever() {
    let ids = [NodeId(1), NodeId(2), NodeId(3)];
    let plain = cluster_id("demo", &Token::default(), &ids);
    // SHA-256 by another program; this value lies in data directories.
    assert_eq!(plain, ClusterId(CLUSTER_ID_OF_DEMO), "{plain:?}");
    assert_eq!(
        cluster_id("demo", &Token::default(), &[NodeId(3), NodeId(1), NodeId(2)]),
        plain,
        "order is nothing"
    );
    let other = |name: &str, token: &str, ids: &[NodeId]| cluster_id(name, &Token(token.to_owned()), ids);
    assert_ne!(other("demo", "x", &ids), plain);
    assert_ne!(other("demo2", "", &ids), plain);
    assert_ne!(other("demo", "", &ids[..2]), plain);
    assert_ne!(other("ab", "c", &ids), other("a", "bc", &ids), "where the name ends counts");

    let (first, mut second) = (parse(SAMPLE), parse(SAMPLE));
    second.node_id = NodeId(2);
    second.data_dir = PathBuf::from("elsewhere");
    assert_eq!(first.cluster_id(), plain);
    assert_eq!(first.first_configuration(), second.first_configuration(), "the same on every node");
    assert!(first.first_configuration().check().is_ok());
}

/// `printf 'tercet cluster id 1\n\4\0\0\0demo\0\0\0\0\3\0\1\0\2\0\3\0' | sha256sum`, first 32 digits.
const CLUSTER_ID_OF_DEMO: u128 = 0x1126_4efa_3031_19be_e1d0_347e_a4ca_647f;

#[test]
fn a_token_is_never_shown() {
    let settings = Settings { token: Token("hunter2".to_owned()), ..parse(LEAST) };
    assert!(!format!("{settings:?}").contains("hunter2"));
}
