//! Damage below the watermark on real nodes: mended with the other nodes' copies before the node takes part, or refused
//! with file and byte where nobody has a whole one (issue 'Storage that never lies').

#![allow(clippy::unwrap_used)]

mod cluster;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cluster::{TestCluster, eventually, run, run_with};
use rustix::process::Signal;
use tercet::base::prng::Prng;
use tercet::entry::EntryView;
use tercet::log::layout::{ENTRIES_POSITION, SegmentHeader};
use tercet::log::{LogOptions, RealDisk, verify};

/// Where an entry lies.
#[derive(Clone, Debug)]
struct Place {
    index: u64,
    file: PathBuf,
    position: u64,
    bytes: u64,
}

/// Every entry of a stopped node, in order.
fn places(data_dir: &Path) -> Vec<Place> {
    let options = LogOptions::new(tercet::node::GROUP, 8 << 20).unwrap();
    let mut sizes = Vec::new();
    let report = verify(&RealDisk, data_dir, &options, &mut |entry: &EntryView<'_>, _| {
        sizes.push(entry.bytes().len() as u64);
    })
    .unwrap();
    let mut places = Vec::new();
    for segment in &report.segments {
        let mut position = ENTRIES_POSITION;
        for index in segment.base_index.0..=segment.last_index.0 {
            let bytes = sizes[index as usize - 1];
            places.push(Place { index, file: segment.file.clone(), position, bytes });
            position += bytes;
        }
    }
    places
}

/// Flips a bit of one byte.
fn flip(file: &Path, position: u64) {
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 4], position).unwrap();
    file.sync_all().unwrap();
}

impl Place {
    /// Flips a bit in the middle of the entry.
    fn damage(&self) {
        flip(&self.file, self.position + self.bytes / 2);
    }
}

/// About 20 MB in several segments, and a small batch at the end that has been idle for over a second.
fn filled() -> (TestCluster, Vec<u8>) {
    let cluster = TestCluster::start(3);
    let mut input = Vec::new();
    for line in 0..20_000 {
        input.extend_from_slice(format!("{line:06} {}\n", "tercet ".repeat(140)).as_bytes());
    }
    publish(&cluster, &input);
    publish(&cluster, b"the newest batch\n");
    input.extend_from_slice(b"the newest batch\n");
    cluster.settled();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    (cluster, input)
}

fn publish(cluster: &TestCluster, input: &[u8]) {
    run_with(&["publish", "--servers", &cluster.servers(), "--topic", "t"], input).expect_code(0);
}

fn counter(row: &serde_json::Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("no {name} in {row}"))
}

fn assert_whole(cluster: &mut TestCluster, input: &[u8]) {
    cluster.settled();
    for place in 0..cluster.nodes.len() {
        assert!(cluster.read(place, "t") == input, "node {} reads something else", place + 1);
    }
    for node in &mut cluster.nodes {
        assert_eq!(node.stop(), Some(0));
        let dir = node.data_dir.to_str().unwrap();
        run(&["log", "verify", "--data-dir", dir]).expect_code(0);
    }
}

#[test]
fn pitfall_61_a_sealed_segment_and_the_newest_batch_are_mended_before_the_node_takes_part() {
    let (mut cluster, input) = filled();
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    assert_eq!(cluster.nodes[follower].stop(), Some(0));
    let places = places(&cluster.nodes[follower].data_dir);
    let sealed = &places[places.len() / 3];
    assert_ne!(sealed.file, places[places.len() - 1].file, "several segments");
    sealed.damage();
    places[places.len() - 1].damage();
    cluster.nodes[follower].start();
    assert!(cluster.nodes[follower].said().contains("mended"), "{}", cluster.nodes[follower].said());
    // It is half of the quorum now.
    cluster.nodes[leader].kill();
    publish(&cluster, b"after the damage\n");
    let input = [&input[..], b"after the damage\n"].concat();
    cluster.nodes[leader].start();
    assert_whole(&mut cluster, &input);
}

#[test]
fn three_nodes_with_different_damage_heal_each_other() {
    let (mut cluster, input) = filled();
    let mut all = Vec::new();
    for node in &mut cluster.nodes {
        assert_eq!(node.stop(), Some(0));
        all.push(places(&node.data_dir));
    }
    for (which, places) in all.iter().enumerate() {
        // Each node another third of the indexes, the configuration among them.
        for place in places.iter().filter(|place| place.index % 3 == which as u64).step_by(5) {
            place.damage();
        }
    }
    for node in &mut cluster.nodes {
        node.launch();
    }
    for node in &mut cluster.nodes {
        node.wait_ready();
    }
    assert_whole(&mut cluster, &input);
}

#[test]
fn pitfall_63_an_entry_that_is_damaged_everywhere_stops_every_node_which_names_file_and_byte() {
    let (mut cluster, _) = filled();
    let mut damaged = Vec::new();
    for node in &mut cluster.nodes {
        assert_eq!(node.stop(), Some(0));
        let places = places(&node.data_dir);
        let place = places[100].clone();
        place.damage();
        damaged.push(place);
    }
    for node in &mut cluster.nodes {
        node.launch();
    }
    for (node, place) in cluster.nodes.iter_mut().zip(&damaged) {
        assert_eq!(node.wait_end(), Some(4), "{}", node.said());
        let said = node.said();
        let last = said.lines().last().unwrap();
        assert!(last.contains(place.file.to_str().unwrap()), "{last}");
        assert!(last.contains(&format!("at byte {}", place.position)), "{last}");
    }
    // Nothing was touched: put right again, everything is there.
    for (node, place) in cluster.nodes.iter_mut().zip(&damaged) {
        place.damage();
        node.launch();
    }
    cluster.nodes.iter_mut().for_each(cluster::TestNode::wait_ready);
    cluster.settled();
}

#[test]
fn a_node_that_mends_says_so_and_waits_for_who_can_help() {
    let (mut cluster, input) = filled();
    for node in &mut cluster.nodes {
        assert_eq!(node.stop(), Some(0));
    }
    places(&cluster.nodes[0].data_dir)[7].damage();
    cluster.nodes[0].launch();
    let row = eventually("a status of the node that mends", || {
        let row = cluster.status()[0].clone();
        row["error"].is_null().then_some(row)
    });
    assert_eq!((&row["role"], counter(&row, "mending_entries")), (&"learner".into(), 1), "{row}");
    let table = run(&["status", "--servers", &cluster.server(0)]).text();
    assert!(table.contains("mending"), "{table}");
    // One healthy node has a whole copy, and is enough.
    cluster.nodes[1].start();
    cluster.nodes[0].wait_ready();
    assert_eq!(counter(&cluster.status()[0], "mending_entries"), 0);
    cluster.nodes[2].start();
    assert_whole(&mut cluster, &input);
}

#[test]
fn damaged_entries_that_no_quorum_ever_held_are_cut_and_the_publisher_sends_them_again() {
    let mut cluster = TestCluster::start(3);
    let servers = cluster.servers();
    let arguments = ["publish", "--servers", &servers, "--topic", "t", "--producer", "p"];
    let mut publisher = cluster::spawn(&arguments);
    let mut input = Vec::new();
    let mut say = |input: &mut Vec<u8>, line: &str| {
        publisher.feed(line.as_bytes());
        input.extend_from_slice(line.as_bytes());
    };
    say(&mut input, "held by all\n");
    eventually("an event on all nodes", || {
        cluster.settled().iter().all(|row| row["last_offset"] == 1).then_some(())
    });
    // Both followers stand still; the leader's own disk takes one more entry, if that comes before the leader notices.
    let (leader, others) = loop {
        let leader = cluster.leader();
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        // Nothing is under way: of an earlier round the others may take an entry that nobody has acknowledged.
        let said = input.iter().filter(|byte| **byte == b'\n').count();
        eventually("all said so far on all nodes", || {
            cluster.settled().iter().all(|row| row["last_offset"] == said).then_some(())
        });
        let before = entry_bytes(&cluster, leader);
        others.iter().for_each(|other| cluster.nodes[*other].signal(Signal::STOP));
        say(&mut input, "held by one\n");
        let taken = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            entry_bytes(&cluster, leader) > before
        });
        if taken {
            break (leader, others);
        }
        others.iter().for_each(|other| cluster.nodes[*other].signal(Signal::CONT));
    };
    publisher.end_input();
    // After a second of quiet the watermark covers it.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    cluster.nodes[leader].kill();
    for other in others {
        cluster.nodes[other].kill();
    }
    let places = places(&cluster.nodes[leader].data_dir);
    places[places.len() - 1].damage();
    for node in &mut cluster.nodes {
        node.launch();
    }
    for node in &mut cluster.nodes {
        node.wait_ready();
    }
    let ended = publisher.wait();
    ended.expect_code(0);
    let said = cluster.nodes[leader].said();
    assert!(said.contains("no quorum ever held"), "{said}");
    assert_whole(&mut cluster, &input);
}

/// Where the newest segment's last byte lies that is not zero.
fn entry_bytes(cluster: &TestCluster, place: usize) -> usize {
    let dir = cluster.nodes[place].data_dir.join("group-0");
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    let bytes = fs::read(files.last().unwrap()).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0)
}

#[test]
fn damage_found_while_the_node_takes_part_is_mended_without_a_person() {
    let (mut cluster, input) = filled();
    let leader = cluster.leader();
    let dir = cluster.nodes[leader].data_dir.clone();
    // Without a lock: the node runs. The first entries of the first segment are cold.
    let files = fs::read_dir(dir.join("group-0")).unwrap().map(|file| file.unwrap().path());
    let first = files.filter(|file| file.extension().is_some_and(|kind| kind == "log")).min().unwrap();
    let head = fs::read(&first).unwrap();
    assert!(matches!(SegmentHeader::decode(&head), tercet::log::layout::HeaderFound::Good(_)));
    flip(&first, ENTRIES_POSITION + 100_000);
    // Reading it there makes the node notice; the client library goes elsewhere where it must.
    let _ = run(&["subscribe", "--servers", &cluster.server(leader), "--topic", "t", "--until-end"]);
    eventually("a node that has mended itself", || {
        cluster.nodes[leader].said().contains("mended").then_some(())
    });
    eventually("the node takes part again", || {
        let ready = cluster.nodes[leader].said().lines().filter(|line| *line == "node is ready").count();
        (ready == 2).then_some(())
    });
    assert_whole(&mut cluster, &input);
}

#[test]
fn damage_farther_back_than_a_start_looks_is_mended_too() {
    let mut cluster = TestCluster::start(3);
    // A start reads the last 128 MiB; what lies before is read at leisure, and by then the node takes part.
    let line = "tercet ".repeat(7_000);
    let lines = (0..3_000).map(|number| format!("{number:06} {line}\n"));
    publish(&cluster, lines.collect::<String>().as_bytes());
    cluster.settled();
    let follower = (cluster.leader() + 1) % 3;
    assert_eq!(cluster.nodes[follower].stop(), Some(0));
    let dir = cluster.nodes[follower].data_dir.clone();
    places(&dir)[3].damage();
    cluster.nodes[follower].start();
    eventually("a node that has mended itself", || {
        cluster.nodes[follower].said().contains("are mended").then_some(())
    });
    cluster.settled();
    assert_eq!(cluster.nodes[follower].stop(), Some(0));
    run(&["log", "verify", "--data-dir", dir.to_str().unwrap()]).expect_code(0);
}

#[test]
fn damaged_heads_and_a_missing_file_are_mended_too() {
    let (mut cluster, input) = filled();
    let follower = (cluster.leader() + 1) % 3;
    assert_eq!(cluster.nodes[follower].stop(), Some(0));
    let mut files: Vec<PathBuf> =
        places(&cluster.nodes[follower].data_dir).into_iter().map(|p| p.file).collect();
    files.dedup();
    assert!(files.len() >= 3, "{files:?}");
    // The head of the first; and the one behind it is gone.
    flip(&files[0], 40);
    fs::remove_file(&files[1]).unwrap();
    cluster.nodes[follower].start();
    let said = cluster.nodes[follower].said();
    assert!(said.contains("rebuilt from its neighbours") && said.contains("are mended"), "{said}");
    assert_whole(&mut cluster, &input);
}

/// Rounds of random damage to one stopped node each, whose leader is killed as soon as it is back. Gives the flips.
fn random_flips(seed: u64, flips_min: u64) -> u64 {
    let mut prng = Prng::new(seed);
    let (mut cluster, mut input) = filled();
    let mut flips = 0;
    while flips < flips_min {
        let leader = cluster.leader();
        let node = (leader + 1 + prng.below(2) as usize) % 3;
        assert_eq!(cluster.nodes[node].stop(), Some(0));
        let places = places(&cluster.nodes[node].data_dir);
        let end = &places[places.len() - 1];
        for _ in 0..1 + prng.below(12) {
            // Any byte of any file that holds something, heads included.
            let place = &places[prng.below(places.len() as u64) as usize];
            let last = if place.file == end.file {
                end.position + end.bytes
            } else {
                fs::metadata(&place.file).unwrap().len()
            };
            flip(&place.file, prng.below(last));
            flips += 1;
        }
        cluster.nodes[node].start();
        cluster.nodes[leader].kill();
        let line = format!("after {flips} flips\n");
        publish(&cluster, line.as_bytes());
        input.extend_from_slice(line.as_bytes());
        cluster.nodes[leader].start();
        cluster.settled();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_whole(&mut cluster, &input);
    flips
}

/// The long form: `MENDING_FLIPS=200 cargo test --test mending random_flips -- --nocapture`.
#[test]
fn random_flips_cost_nothing_that_was_acknowledged() {
    let wanted = std::env::var("MENDING_FLIPS").map_or(20, |count| count.parse().expect("a number"));
    let mut flips = 0;
    for seed in 100.. {
        flips += random_flips(seed, wanted.min(25));
        println!("seed {seed}: {flips} flips so far");
        if flips >= wanted {
            break;
        }
    }
}
