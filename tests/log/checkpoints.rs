//! Checkpoints, trimmed logs and files that are used again.

use std::path::PathBuf;

use tercet::base::ids::{GroupId, LogIndex, Term};
use tercet::entry::{Entry, EntryHeader, LogBase, LogFloor};
use tercet::log::layout::{ENTRIES_POSITION, HeaderFound, SegmentHeader};
use tercet::log::{
    Checkpoint, CheckpointOrder, Disk, LogError, LogOptions, LogStore, Mender, Recovered, lost_runs, verify,
};
use tercet::raft::TermRuns;
use tercet::sim::disk::{Fault, SimDisk};

use crate::fixture::{
    dir, entry_after, first_entry, format_here, identity, open, options, reader_of, run_after, segment_path,
};

/// Four entries of `run_after(.., 600)` fit a segment.
const SEGMENT_BYTES: u64 = ENTRIES_POSITION + (8 << 10);

fn small() -> LogOptions {
    options(SEGMENT_BYTES)
}

fn checkpoint_path(parity: u64) -> PathBuf {
    dir().join("group-0").join(format!("checkpoint-{parity}"))
}

/// A checkpoint at the end of `log` whose log begins at `begins`.
fn order_at(log: &[Entry], begins: u64) -> CheckpointOrder {
    let last = log.last().unwrap();
    let checkpoint = Checkpoint {
        cluster_id: identity().cluster_id,
        group: GroupId(0),
        id: last.id(),
        chain: last.chain(),
        next_offset: last.header().next_offset(),
        log_time_ns: last.header().log_time_ns,
        configuration: first_entry(),
        producers: vec![7; 100],
    };
    let offset = log.get(begins as usize - 1).map_or(last.header().next_offset(), |e| e.header().base_offset);
    let terms: Vec<Term> = log.iter().map(|entry| entry.header().term).collect();
    CheckpointOrder {
        image: checkpoint.encode().into(),
        id: last.id(),
        floor: LogFloor { index: LogIndex(begins), offset },
        runs: TermRuns::from_terms(&terms),
    }
}

fn write<D: Disk>(store: &mut LogStore<D>, order: CheckpointOrder) {
    store.order_checkpoint(order);
    while store.has_checkpoint_work() {
        store.checkpoint_step().unwrap();
    }
}

/// A fresh log of 40 entries in segments of a few, flushed.
fn filled(disk: &SimDisk) -> (LogStore<SimDisk>, Vec<Entry>) {
    format_here(disk, dir(), &small());
    let mut log = vec![first_entry()];
    log.extend(run_after(&log[0], 1, 39, 600));
    let (mut store, ..) = open(disk.clone(), dir(), small()).unwrap();
    log[1..].iter().for_each(|entry| store.append(entry.clone()).unwrap());
    store.flush().unwrap();
    (store, log)
}

/// A log of 40 entries in segments of a few, trimmed to `begins` by two checkpoints, stopped in good order.
fn trimmed(disk: &SimDisk, begins: u64) -> Vec<Entry> {
    let (mut store, log) = filled(disk);
    write(&mut store, order_at(&log[..30], begins));
    write(&mut store, order_at(&log[..35], begins));
    store.catalog_changes().for_each(drop);
    store.idle(1).unwrap();
    store.close().unwrap();
    log
}

fn names(disk: &SimDisk, prefix: &str) -> Vec<String> {
    let names = disk.files().into_iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn pitfall_37_a_checkpoint_is_there_whole_or_not_at_all_whatever_step_is_cut_short() {
    let mut outcomes = [0; 2];
    for nth in 1..40 {
        for restart in [false, true] {
            let disk = SimDisk::new(nth);
            let (mut store, log) = filled(&disk);
            write(&mut store, order_at(&log[..20], 10));
            disk.plan(nth, Fault::Crash);
            store.order_checkpoint(order_at(&log[..35], 25));
            while store.has_checkpoint_work() && store.checkpoint_step().is_ok() {}
            drop(store);
            disk.heal();
            if restart {
                disk.restart()
            } else {
                disk.kill()
            }
            let (_, recovered, seen) = open(disk.clone(), dir(), small()).unwrap();
            let begins = recovered.floor.index.0;
            assert!([10, 25].contains(&begins), "step {nth}: {begins}");
            outcomes[usize::from(begins == 25)] += 1;
            assert_eq!(recovered.report.checkpoint.unwrap().index.0, if begins == 10 { 20 } else { 35 });
            assert_eq!(recovered.last, log[39].id());
            assert_eq!(seen.last(), log.last());
            assert!(seen[0].index().0 <= begins);
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

#[test]
fn a_damaged_checkpoint_costs_a_longer_replay_and_two_are_named() {
    let disk = SimDisk::new(1);
    let log = trimmed(&disk, 20);
    let (newest, older) = (checkpoint_path(0), checkpoint_path(1));
    disk.flip_bit(&newest, 300, 1);
    let (store, recovered, seen) = open(disk.clone(), dir(), small()).unwrap();
    assert_eq!(recovered.report.checkpoint, Some(log[29].id()), "the older one serves");
    assert_eq!(recovered.report.damaged_checkpoints, std::slice::from_ref(&newest));
    assert_eq!((seen.last(), recovered.floor.index), (log.last(), LogIndex(20)));
    drop(store);
    disk.flip_bit(&older, 20, 1);
    let before: Vec<_> = disk.files().iter().map(|file| disk.bytes(file)).collect();
    match open(disk.clone(), dir(), small()).map(|_| ()).unwrap_err() {
        LogError::Corrupt(corruption) => {
            assert!([newest, older].contains(&corruption.file));
            assert_eq!(corruption.last, Some(seen[0].index().prev()));
        }
        other => panic!("{other}"),
    }
    assert_eq!(before, disk.files().iter().map(|file| disk.bytes(file)).collect::<Vec<_>>(), "untouched");
}

#[test]
fn what_the_older_of_two_checkpoints_needs_stays_until_it_is_replaced() {
    let disk = SimDisk::new(3);
    let (mut store, log) = filled(&disk);
    write(&mut store, order_at(&log[..20], 10));
    write(&mut store, order_at(&log[..35], 30));
    store.catalog_changes().for_each(drop);
    store.unlink_free().unwrap();
    store.close().unwrap();
    drop(store);
    // The newer one, which begins twenty entries later, rots.
    disk.flip_bit(&checkpoint_path(0), 300, 1);
    let (_, recovered, seen) = open(disk.clone(), dir(), small()).unwrap();
    assert_eq!((recovered.report.checkpoint, recovered.floor.index), (Some(log[19].id()), LogIndex(10)));
    assert!(seen[0].index() <= LogIndex(10) && seen.last() == log.last());
}

/// Recovery takes a checkpoint for a watermark, and the state in it for applied.
#[test]
fn what_a_checkpoint_contains_is_durable_before_the_checkpoint_is() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        format_here(&disk, dir(), &small());
        let mut log = vec![first_entry()];
        log.extend(run_after(&log[0], 1, 2, 600));
        let (mut store, ..) = open(disk.clone(), dir(), small()).unwrap();
        log[1..].iter().for_each(|entry| store.append(entry.clone()).unwrap());
        // Neither flushed nor rolled: a `memory` cluster commits what is only written.
        store.write_staged().unwrap();
        write(&mut store, order_at(&log, 1));
        drop(store);
        disk.restart();
        let (_, recovered, seen) = open(disk.clone(), dir(), small()).unwrap();
        assert_eq!((recovered.last, seen.len()), (log[2].id(), 3), "seed {seed}");
    }
}

#[test]
fn damaged_checkpoints_of_a_log_that_was_never_trimmed_cost_nothing_but_time() {
    let disk = SimDisk::new(1);
    let log = trimmed(&disk, 1);
    [0, 1].into_iter().for_each(|parity| disk.flip_bit(&checkpoint_path(parity), 30, 1));
    let (_, recovered, seen) = open(disk.clone(), dir(), small()).unwrap();
    assert_eq!((recovered.report.checkpoint, seen), (None, log));
}

#[test]
fn pitfall_62_a_segment_that_the_checkpoint_counts_on_is_missed() {
    let disk = SimDisk::new(1);
    trimmed(&disk, 20);
    let first = names(&disk, "seg-").into_iter().min().unwrap();
    disk.vanish(&dir().join("group-0").join(first));
    let error = open(disk.clone(), dir(), small()).map(|_| ()).unwrap_err();
    assert!(matches!(error, LogError::MissingSegment { .. }), "{error}");
}

#[test]
fn a_trimmed_log_is_verified_and_mended_like_any_other() {
    let disk = SimDisk::new(1);
    let log = trimmed(&disk, 20);
    let mut seen = Vec::new();
    let report = verify(&disk, dir(), &small(), &mut |entry, _| seen.push(entry.header().index)).unwrap();
    assert_eq!(report.last, log[39].id());
    assert_eq!(seen.last(), Some(&LogIndex(40)));
    let (first, second) = (&report.segments[0], &report.segments[1]);
    // The head with which the log begins, and a body in the segment behind it.
    disk.flip_bit(&first.file, 50, 1);
    disk.flip_bit(&second.file, ENTRIES_POSITION + 300, 1);
    let mut mender = Mender::open(disk.clone(), dir(), small()).unwrap();
    assert_eq!(mender.rebuilt(), std::slice::from_ref(&first.file));
    let run = mender.runs()[0].clone();
    assert_eq!((run.first, run.last), (second.base_index, second.base_index));
    mender.mend(&[vec![log[run.first.0 as usize - 1].clone()]]).unwrap();
    drop(mender);
    assert_eq!(lost_runs(&disk, dir(), &small()).unwrap(), []);
    assert_eq!(open(disk.clone(), dir(), small()).unwrap().2.last(), log.last());
}

/// A log that goes on in files that held trimmed segments; not closed.
fn recycled(disk: &SimDisk) -> (LogStore<SimDisk>, Vec<Entry>) {
    let mut log = trimmed(disk, 28);
    let (mut store, ..) = open(disk.clone(), dir(), small()).unwrap();
    assert!(!names(disk, "free-").is_empty());
    store.catalog_changes().for_each(drop);
    let seqs = names(disk, "seg-").len();
    loop {
        let entry = entry_after(log.last().unwrap(), 2, 1, 500);
        store.append(entry.clone()).unwrap();
        log.push(entry);
        store.flush().unwrap();
        let newest = names(disk, "seg-").into_iter().max().unwrap();
        let head = disk.bytes(&dir().join("group-0").join(&newest));
        let HeaderFound::Good(header) = SegmentHeader::decode(&head) else { panic!("{newest}") };
        if header.recycled && log.last().unwrap().index() > header.base_index {
            return (store, log);
        }
        assert!(names(disk, "seg-").len() < seqs + 8, "no file was used again");
    }
}

#[test]
fn pitfall_59_what_a_recycled_file_held_before_never_comes_back() {
    for restart in [false, true] {
        let disk = SimDisk::new(3);
        let (mut store, mut log) = recycled(&disk);
        // Torn in the middle: nothing but leftovers lie behind what was flushed.
        drop(store);
        if restart {
            disk.restart()
        } else {
            disk.kill()
        }
        let (next, recovered, seen) = open(disk.clone(), dir(), small()).unwrap();
        assert_eq!((recovered.last, recovered.claimed_tail), (log.last().unwrap().id(), None));
        assert!(recovered.report.cut.is_none(), "leftovers are no torn tail");
        assert_eq!(seen.last(), log.last());
        store = next;
        // It goes on in place, and is still right after the next start.
        for _ in 0..3 {
            let entry = entry_after(log.last().unwrap(), 2, 1, 300);
            store.append(entry.clone()).unwrap();
            log.push(entry);
        }
        store.flush().unwrap();
        let mut reader = reader_of(&mut store);
        assert_eq!(reader.read_from_index(log.last().unwrap().index(), LogIndex(999), 1).unwrap().len(), 1);
        store.close().unwrap();
        drop(store);
        assert_eq!(open(disk.clone(), dir(), small()).unwrap().2.last(), log.last());
    }
}

/// The names `free-…` and `spare` are not synced one by one. A crash that keeps only the last rename leaves a file with
/// two names (found by the simulator, seed 206543: the next segment was written over the live one).
#[test]
fn pitfall_59_a_live_segment_that_is_also_named_free_is_not_used_again() {
    let disk = SimDisk::new(5);
    let (mut store, mut log) = recycled(&disk);
    let group = dir().join("group-0");
    let live = names(&disk, "seg-").into_iter().max().unwrap();
    drop(store);
    disk.kill();
    disk.link(&group.join(live), &group.join("free-0000000000000001"));
    for _ in 0..2 {
        let before = names(&disk, "seg-").len();
        (store, ..) = open(disk.clone(), dir(), small()).unwrap();
        while names(&disk, "seg-").len() < before + 3 {
            let entry = entry_after(log.last().unwrap(), 2, 1, 500);
            store.append(entry.clone()).unwrap();
            log.push(entry);
            store.flush().unwrap();
            store.idle(1).unwrap();
        }
        drop(store);
        disk.kill();
        assert_eq!(open(disk.clone(), dir(), small()).unwrap().2.last(), log.last());
    }
}

#[test]
fn pitfall_60_a_torn_entry_in_a_recycled_file_is_claimed_all_the_same() {
    let disk = SimDisk::new(4);
    let (mut store, log) = recycled(&disk);
    let torn = entry_after(log.last().unwrap(), 2, 1, 400);
    store.append(torn.clone()).unwrap();
    store.write_staged().unwrap();
    drop(store);
    disk.kill();
    // Its header reached the disk, its body did not.
    let newest = names(&disk, "seg-").into_iter().max().unwrap();
    let path = dir().join("group-0").join(newest);
    let at = disk.bytes(&path).windows(torn.len_bytes()).rposition(|bytes| bytes == torn.bytes()).unwrap();
    disk.flip_bit(&path, at as u64 + 200, 2);
    let (_, recovered, _) = open(disk.clone(), dir(), small()).unwrap();
    assert_eq!(recovered.last, log.last().unwrap().id());
    assert_eq!(recovered.claimed_tail, Some(torn.id()));
    assert!(recovered.report.cut.is_some());
}

/// A crash right after a roll: in the new segment's file stands an entry of its earlier use. By its time, all that lies
/// before would be old enough to be let go (found by the simulator, seed 132).
#[test]
fn pitfall_59_what_a_recycled_file_held_before_does_not_tell_how_old_the_log_is() {
    let disk = SimDisk::new(6);
    let (mut store, mut log) = recycled(&disk);
    let most = log.len() + 40;
    let (base, leftover) = loop {
        store.idle(1).unwrap();
        let entry = entry_after(log.last().unwrap(), 2, 1, 500);
        store.append(entry.clone()).unwrap();
        let newest = names(&disk, "seg-").into_iter().max().unwrap();
        let bytes = disk.bytes(&dir().join("group-0").join(&newest));
        let HeaderFound::Good(header) = SegmentHeader::decode(&bytes) else { panic!("{newest}") };
        if header.recycled && header.base_index == entry.index() {
            break (header.base_index, EntryHeader::decode(&bytes[ENTRIES_POSITION as usize..]).unwrap());
        }
        log.push(entry);
        store.flush().unwrap();
        assert!(log.len() < most, "no file was used again");
    };
    drop(store);
    disk.kill();
    let (_, recovered, _) = open(disk.clone(), dir(), small()).unwrap();
    let (mark, last) = (recovered.marks.last().unwrap(), log.last().unwrap());
    assert_eq!((mark.floor.index, recovered.last), (base, last.id()));
    assert!(leftover.log_time_ns < last.header().log_time_ns);
    assert_eq!(mark.log_time_ns, last.header().log_time_ns);
}

#[test]
fn a_file_that_somebody_reads_is_not_used_again() {
    let disk = SimDisk::new(1);
    let (mut store, log) = filled(&disk);
    let mut reader = reader_of(&mut store);
    write(&mut store, order_at(&log[..30], 28));
    write(&mut store, order_at(&log[..35], 28));
    assert_eq!(store.idle(1).unwrap().unlinked, 0, "the reader has not heard of it");
    assert_eq!(reader.read_from_index(LogIndex(1), LogIndex(4), 1 << 20).unwrap(), log[..4]);
    crate::fixture::feed(&mut store, &mut reader);
    assert!(store.idle(2).unwrap().unlinked > 0);
    assert!(reader.read_from_index(LogIndex(1), LogIndex(4), 1 << 20).is_err());
    assert!(!disk.files().contains(&segment_path(1)));
}

#[test]
fn a_full_disk_gives_up_what_is_kept_ready_for_the_checkpoint_that_makes_room() {
    let disk = SimDisk::new(1);
    let (mut store, log) = filled(&disk);
    while store.prepare_slice().unwrap() {}
    assert_eq!(names(&disk, "spare").len(), 1);
    let used: u64 = disk.files().iter().map(|file| disk.bytes(file).len() as u64).sum();
    disk.set_capacity(used);
    write(&mut store, order_at(&log[..30], 28));
    write(&mut store, order_at(&log[..35], 28));
    store.catalog_changes().for_each(drop);
    store.idle(1).unwrap();
    assert!(!disk.files().contains(&segment_path(1)), "there is room again");
}

/// A leader's log of 60 entries, and the last of them, behind which a log begins anew.
fn leading(log: &[Entry]) -> (Vec<Entry>, CheckpointOrder, LogBase) {
    let mut leading = log.to_vec();
    leading.extend(run_after(log.last().unwrap(), 2, 20, 600));
    let last = leading.last().unwrap();
    let (chain, log_time_ns) = (last.chain(), last.header().log_time_ns);
    let base = LogBase { id: last.id(), chain, next_offset: last.header().next_offset(), log_time_ns };
    let order = CheckpointOrder { runs: TermRuns::after(base.id), ..order_at(&leading, 61) };
    (leading, order, base)
}

/// A log of 40 entries with two checkpoints of its own, behind which a leader's are to be installed.
fn to_be_replaced(disk: &SimDisk) -> (LogStore<SimDisk>, Vec<Entry>) {
    let (mut store, log) = filled(disk);
    write(&mut store, order_at(&log[..30], 20));
    write(&mut store, order_at(&log[..35], 20));
    (store, log)
}

/// What was opened is the log that begins behind entry 60, and nothing of the one before.
fn begins_anew(recovered: &Recovered, seen: &[Entry], leading: &[Entry]) {
    assert_eq!(recovered.report.checkpoint, Some(leading[59].id()));
    assert_eq!((recovered.floor.index, recovered.last), (LogIndex(61), leading[59].id()));
    assert_eq!(recovered.last_chain, leading[59].chain());
    assert_eq!(seen, []);
}

#[test]
fn an_installed_checkpoint_stands_in_both_files_so_that_neither_brings_the_old_log_back() {
    for parity in [0, 1] {
        for has_files_of_the_old_log in [true, false] {
            let disk = SimDisk::new(parity);
            let (mut store, log) = to_be_replaced(&disk);
            let (leading, order, base) = leading(&log);
            store.install_checkpoint(&order, &base, 1).unwrap();
            if !has_files_of_the_old_log {
                store.catalog_changes().for_each(drop);
                store.idle(1).unwrap();
                assert_eq!(names(&disk, "seg-").len(), 1);
            }
            drop(store);
            disk.kill();
            disk.flip_bit(&checkpoint_path(parity), 300, 1);
            let (store, recovered, seen) = open(disk.clone(), dir(), small()).unwrap();
            assert_eq!(recovered.report.damaged_checkpoints, [checkpoint_path(parity)]);
            begins_anew(&recovered, &seen, &leading);
            drop(store);
        }
    }
}

/// The old log or the new one, whole, and once the new one has been gone on with, never the old one again.
#[test]
fn an_installation_that_is_cut_short_leaves_one_log_or_the_other_whatever_rots_later() {
    let mut outcomes = [0; 2];
    for nth in 1..20 {
        for (restart, parity) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
            let disk = SimDisk::new(nth);
            let (mut store, log) = to_be_replaced(&disk);
            let (leading, order, base) = leading(&log);
            disk.plan(nth, Fault::Crash);
            let is_done = store.install_checkpoint(&order, &base, 1).is_ok();
            drop(store);
            disk.heal();
            if restart {
                disk.restart()
            } else {
                disk.kill()
            }
            let (mut store, recovered, seen) = open(disk.clone(), dir(), small()).unwrap();
            let is_new = recovered.floor.index == LogIndex(61);
            outcomes[usize::from(is_new)] += 1;
            if !is_new {
                assert!(!is_done, "step {nth}: what was reported as installed is gone");
                assert_eq!((recovered.floor.index, recovered.last), (LogIndex(20), log[39].id()));
                assert_eq!(seen.last(), log.last());
                continue;
            }
            begins_anew(&recovered, &seen, &leading);
            let next = entry_after(&leading[59], 2, 1, 300);
            store.append(next.clone()).unwrap();
            store.flush().unwrap();
            drop(store);
            disk.kill();
            disk.flip_bit(&checkpoint_path(parity), 300, 1);
            match open(disk.clone(), dir(), small()) {
                Ok((_, recovered, seen)) => {
                    assert_eq!((recovered.last, seen), (next.id(), vec![next]), "step {nth}");
                }
                // Cut short between the two files, and the newer one rots: that is said.
                Err(LogError::Corrupt(_) | LogError::MissingSegment { .. }) if !is_done => {}
                Err(error) => panic!("step {nth}: {error}"),
            }
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}
