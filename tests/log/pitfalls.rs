//! What several disks, or several power cuts, show together.

use tercet::base::ids::LogIndex;
use tercet::log::LogError;
use tercet::log::layout::ENTRIES_POSITION;
use tercet::sim::disk::SimDisk;

use crate::fixture::{dir, first_entry, format_here, open, options, run_after, segment_path};

#[test]
fn pitfall_56_new_files_survive_every_power_cut_because_their_directory_was_synced() {
    let options = options(ENTRIES_POSITION + 8192);
    let disk = SimDisk::new(1);
    format_here(&disk, dir(), &options);
    let recovers_to = |index: LogIndex, when: &str| {
        // Each seed keeps, loses or tears what was not synced, names included, in its own way.
        for seed in 0..40 {
            let copy = disk.snapshot(seed);
            copy.restart();
            match open(copy, dir(), options) {
                Ok((_, recovered, _)) => assert!(recovered.last.index >= index, "{when}, seed {seed}"),
                Err(error) => panic!("{when}, seed {seed}: {error}"),
            }
        }
    };
    recovers_to(LogIndex(1), "formatted");
    let (mut store, ..) = open(disk.clone(), dir(), options).unwrap();
    let mut last = first_entry();
    for entry in run_after(&last.clone(), 1, 16, 1000) {
        store.append(entry.clone()).unwrap();
        let flushed = store.flush().unwrap().last;
        assert_eq!(flushed, entry.index());
        recovers_to(flushed, "flushed");
        last = entry;
    }
    assert!(store.segment_count() > 3, "it rolled, and each roll was a new file");
    store.truncate_from(LogIndex(12), 1).unwrap();
    let kept = LogIndex(11);
    recovers_to(kept, "cut");
    assert!(last.index() > kept);
}

#[test]
fn pitfall_63_an_entry_that_is_bad_on_every_disk_stops_every_node_and_is_never_invented() {
    let options = options(1 << 20);
    let log = run_after(&first_entry(), 1, 6, 400);
    let position = ENTRIES_POSITION
        + first_entry().len_bytes() as u64
        + log[..2].iter().map(|entry| entry.len_bytes() as u64).sum::<u64>();
    // Entry 4 is durable below the watermark on all three, and damaged in another way on each.
    for (node, byte) in [(1, 10), (2, 120), (3, 300)] {
        let disk = SimDisk::new(node);
        format_here(&disk, dir(), &options);
        let (mut store, ..) = open(disk.clone(), dir(), options).unwrap();
        for entry in &log {
            store.append(entry.clone()).unwrap();
            store.flush().unwrap();
        }
        drop(store);
        disk.kill();
        disk.flip_bit(&segment_path(1), position + byte, 2);
        let before = disk.bytes(&segment_path(1));
        for _ in 0..2 {
            match open(disk.clone(), dir(), options).map(|_| ()).unwrap_err() {
                LogError::Corrupt(found) => {
                    assert_eq!((found.file, found.position), (segment_path(1), position), "node {node}");
                    assert_eq!(found.first, LogIndex(4), "node {node}");
                }
                other => panic!("node {node}: {other}"),
            }
        }
        assert_eq!(disk.bytes(&segment_path(1)), before, "node {node}: not a byte was changed");
    }
}
