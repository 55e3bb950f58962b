//! The seeds: real encodings, from which mutations start.

use std::collections::BTreeMap;

use tercet::base::ids::{ClusterId, EntryId, Incarnation, LogIndex, NodeId, Term};
use tercet::entry::EntryHeader;
use tercet::log::{Identity, StoredHardState};

use crate::bounded::{Target, corpus, corpus_dir};
use crate::{directory, stored};

/// How a seed's file begins; other files of a corpus were found by fuzzing and stay as they are.
const SEED: &str = "seed-";

/// Every dump of a page: name and bytes. In a line, what stands behind a `#` or before a `:` is for people.
fn dumps(page: &str) -> Vec<(String, Vec<u8>)> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("\n```hex ").skip(1).map(|block| {
        let (name, rest) = block.split_once('\n').unwrap();
        let (body, _) = rest.split_once("\n```").unwrap();
        let lines = body.lines().map(|line| line.split('#').next().unwrap_or_default());
        let digits = lines.map(|line| line.split_once(':').map_or(line, |(_, bytes)| bytes));
        let digits: String = digits.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
        let name: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        (name.trim_matches('-').to_owned(), data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap())
    });
    blocks.collect()
}

/// Target, name and bytes of every seed.
fn seeds() -> BTreeMap<(&'static str, String), Vec<u8>> {
    let mut seeds = BTreeMap::new();
    let mut add = |target, name: &str, bytes| {
        assert!(
            seeds.insert((target, format!("{SEED}{name}")), bytes).is_none(),
            "{target}/{name} is there twice"
        );
    };
    let mut streams = [Vec::new(), Vec::new(), Vec::new()];
    for (name, bytes) in dumps("NETWORK_PROTOCOL.md") {
        let (target, port) = match bytes[4] {
            0x00..0x40 => ("peer_message", 0),
            0x40..0x80 => ("client_message", 1),
            _ => ("server_message", 2),
        };
        streams[port].extend_from_slice(&bytes);
        add(target, &name, bytes);
    }
    for (stream, name) in streams.into_iter().zip(["peer", "client", "node"]) {
        for (cuts, choice) in [[0, 1, 0, 2], [1, 0, 1, 1], [3, 2, 0, 2]].into_iter().enumerate() {
            let choice = [&[cuts as u8 + 1; 8][..], &choice, &[0; 4]].concat();
            add("connection", &format!("{name}-{cuts}"), [&choice, &stream[..]].concat());
        }
        add("frames", name, stream);
    }
    let mut log = Vec::new();
    for (name, bytes) in dumps("PROTOCOL.md") {
        if name.starts_with("entry") {
            let body_bytes = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
            let body = &bytes[EntryHeader::BYTES..EntryHeader::BYTES + body_bytes];
            add("entry_body", &name, [&[bytes[5] - 1, bytes[64]], body].concat());
            log.extend_from_slice(&bytes);
            add("entry", &name, bytes);
        } else if name == "event" {
            add("event", &name, bytes);
        }
    }
    add("entry", "log", log);
    stored_seeds(&mut add);
    seeds
}

fn stored_seeds(add: &mut impl FnMut(&'static str, &str, Vec<u8>)) {
    for (number, head) in directory::heads().into_iter().enumerate() {
        add("segment_head", &format!("{}", number + 1), head);
    }
    for covered in [1, 3, 6] {
        add("segment", &format!("covered-{covered}"), directory::covered(covered));
    }
    for (slot, bytes) in directory::hard_states().into_iter().enumerate() {
        add("hard_state", &format!("slot-{slot}"), bytes);
    }
    let full = StoredHardState {
        term: Term(9),
        voted_for: Some(NodeId(2)),
        claimed_tail: Some(EntryId::new(Term(8), LogIndex(77))),
        pins: (1..=7).map(|n| (NodeId(n), Incarnation(u128::from(n) << 100))).collect(),
        boot_id_hash: 5,
        closed: false,
    };
    add("hard_state", "full", full.encode(4));
    add("checkpoint", "checkpoint", directory::checkpoint());
    for (name, is_ahead) in [("regular", false), ("ahead", true)] {
        add("checkpoint_file", name, directory::checkpoint_file(is_ahead));
    }
    let identity = Identity {
        cluster_id: ClusterId(0x0f0e_0d0c),
        node_id: NodeId(3),
        incarnation: Incarnation(1 << 100),
    };
    add("identity", "identity", stored::identity_bytes(identity));
    // File, what, position, value: heads, bodies, lengths, whole blocks, missing files; as it is and made right.
    let edits: [(&str, &[[u8; 8]]); 8] = [
        ("none", &[]),
        ("head", &[[0, 0x80, 9, 0, 1, 0, 0, 0]]),
        ("slot", &[[2, 0x80, 1, 1, 255, 0, 0, 0]]),
        ("entry", &[[0, 0, 100, 48, 4, 0, 0, 0]]),
        ("entries", &[[0, 0, 100, 48, 4, 0, 0, 0], [1, 0, 100, 50, 4, 0, 0, 0], [2, 3, 0, 56, 0, 1, 0, 0]]),
        ("number", &[[2, 0x86, 70, 0, 1, 7, 1, 0]]),
        ("block", &[[1, 4, 0, 32, 255, 7, 0, 0]]),
        ("file", &[[1, 7, 0, 0, 255, 0, 0, 0]]),
    ];
    for (name, edits) in edits {
        for (first, form) in ["raw", "summed", "", "linked"].into_iter().enumerate() {
            if !form.is_empty() {
                add(
                    "directory",
                    &format!("{name}-{form}"),
                    [&[first as u8], edits.concat().as_slice()].concat(),
                );
            }
        }
    }
    for (name, text) in SETTINGS {
        add("settings", name, text.as_bytes().to_vec());
    }
}

const SETTINGS: [(&str, &str); 4] = [
    (
        "least",
        "cluster = \"demo\"\nnode_id = 1\ndata_dir = \"d\"\n[[nodes]]\nid = 1\nclient = \"127.0.0.1:9001\"\npeer = \"127.0.0.1:9101\"\n",
    ),
    (
        "all",
        r#"
cluster = "demo"
token = "t"
node_id = 1
data_dir = "data/1"
[[nodes]]
id = 1
client = "127.0.0.1:9001"
peer = "127.0.0.1:9101"
[[nodes]]
id = 2
client = "[::1]:9002"
peer = "10.0.0.2:9102"
[batch]
events_max = 64
bytes_max = "1MiB"
delay_max = "1ms"
[log]
durability = "disk"
segment_bytes = "64MiB"
[election]
heartbeat_interval = "50ms"
missed_heartbeats = 3
disk_stall_limit = "500ms"
[producers]
window = "24h"
max = 100_000
[threads]
mode = "auto"
cores = [0, 1]
idle = "park"
"#,
    ),
    (
        "variables",
        "cluster = \"demo\"\ndata_dir = \"d\"\n[[nodes]]\nid = 1\nclient = \"127.0.0.1:9001\"\npeer = \"127.0.0.1:9101\"\n\
         \n%%\nTERCET_NODE_ID=1\nTERCET_BATCH_BYTES_MAX=64KiB\nTERCET_LOG_DURABILITY=memory\nTERCET_THREADS_CORES=0,1",
    ),
    (
        "nested",
        "a = [[[[[[{ b = [1, 2, { c = 1e9, d = 1979-05-27T07:32:00Z }] }]]]]]]\n'x'.\"y\".z = '''\nq'''\n",
    ),
];

/// Every seed lies in the corpus as the code writes it now.
pub fn check(targets: &[Target]) {
    let seeds = seeds();
    if std::env::var_os("FUZZ_WRITE_CORPUS").is_some() {
        for ((target, name), bytes) in &seeds {
            std::fs::create_dir_all(corpus_dir(target)).unwrap();
            std::fs::write(corpus_dir(target).join(name), bytes).unwrap();
        }
    }
    for target in targets {
        let mut there = BTreeMap::new();
        for (name, bytes) in corpus(target.name) {
            assert!(
                bytes.len() <= target.bytes_max,
                "{}/{name} is too long to be mutated whole",
                target.name
            );
            if let Some(other) = there.insert(bytes, name.clone()) {
                panic!("{}: {name} and {other} are the same", target.name);
            }
        }
        let written: Vec<String> = there.into_values().filter(|name| name.starts_with(SEED)).collect();
        let made = seeds.keys().filter(|(of, _)| *of == target.name).count();
        assert_eq!(
            written.len(),
            made,
            "{}: FUZZ_WRITE_CORPUS=1 writes the seeds, stale ones are removed by hand",
            target.name
        );
    }
    for ((target, name), bytes) in &seeds {
        let there = std::fs::read(corpus_dir(target).join(name)).unwrap_or_default();
        assert!(there == *bytes, "{target}/{name} is another now; FUZZ_WRITE_CORPUS=1 writes the seeds anew");
    }
}
