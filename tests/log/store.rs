//! The ordinary ways of writer and reader, over the operating system's disk and with single faults.

use tercet::agent::boot::{BootError, boot};
use tercet::base::checksum::crc32;
use tercet::base::ids::{EntryId, GroupId, Incarnation, LogIndex, NodeId, Offset, Term};
use tercet::entry::{Entry, EntryView};
use tercet::log::layout::{ENTRIES_POSITION, Slot};
use tercet::log::{
    CatalogChange, Disk, DiskErrorKind, FormatError, HotTail, IDLE_WATERMARK_NS, Identity, IdentityError,
    LogError, LogOptions, LogReader, LogStore, ReadError, RealDisk, RecoveryVisitor, StoredCheckpoint,
    StoredHardState, format, verify,
};
use tercet::raft::TermRuns;
use tercet::sim::disk::{Fault, SimDisk};

use crate::fixture::{
    dir, entry_after, feed, first_entry, format_here, identity, open, options, reader_of, run_after,
    segment_path,
};

fn append_all<D: Disk>(store: &mut LogStore<D>, entries: &[Entry]) {
    for entry in entries {
        store.append(entry.clone()).unwrap();
    }
}

#[test]
fn real_disk_everything_comes_back_after_close_and_after_a_kill() {
    let temp = tempfile::tempdir().unwrap();
    let data_dir = temp.path().join("node");
    let options = options(ENTRIES_POSITION + (64 << 10));
    format_here(&RealDisk, &data_dir, &options);
    let mut log = vec![first_entry()];
    for round in 0..3 {
        let (mut store, recovered, seen) = open(RealDisk, &data_dir, options).unwrap();
        assert_eq!(seen, log);
        assert_eq!(recovered.identity, identity());
        assert_eq!(recovered.next_offset, log.last().unwrap().header().next_offset());
        assert_eq!(recovered.report.cut, None);
        let more = run_after(log.last().unwrap(), round + 1, 100, 1000);
        for (n, entry) in more.iter().enumerate() {
            store.append(entry.clone()).unwrap();
            if n % 7 == 0 {
                store.flush().unwrap();
                store.prepare_slice().unwrap();
            }
        }
        assert_eq!(store.flush().unwrap().last, more.last().unwrap().index());
        log.extend(more);
        let mut reader = reader_of(&mut store);
        let all = reader.read_from_index(LogIndex(1), LogIndex(u64::MAX / 2), u64::MAX).unwrap();
        assert_eq!(all, log);
        let (cold, warm) = reader.read_counts();
        assert!(cold > 0 && warm > 0, "cold {cold}, warm {warm}");
        if round == 1 {
            store.close().unwrap();
        }
    }
    let report = verify(&RealDisk, &data_dir, &options, &mut |_, _| ()).unwrap();
    assert_eq!((report.last, report.recovery.cut), (log.last().unwrap().id(), None));
}

#[test]
fn a_directory_is_locked_formatted_once_and_refused_unformatted() {
    let temp = tempfile::tempdir().unwrap();
    let data_dir = temp.path().join("node");
    let options = options(64 << 10);
    let not_formatted = open(RealDisk, &data_dir, options).map(|_| ()).unwrap_err();
    assert!(
        matches!(not_formatted, LogError::Identity(IdentityError::NotFormatted { .. })),
        "{not_formatted}"
    );
    assert!(!data_dir.exists(), "a refused start leaves nothing behind");
    format_here(&RealDisk, &data_dir, &options);
    let again = format(&RealDisk, &data_dir, identity(), &first_entry(), &options).unwrap_err();
    assert!(matches!(again, FormatError::NotEmpty { .. }), "{again}");
    let (store, ..) = open(RealDisk, &data_dir, options).unwrap();
    match open(RealDisk, &data_dir, options).map(|_| ()).unwrap_err() {
        LogError::Disk(error) => assert_eq!(error.kind(), DiskErrorKind::Locked),
        other => panic!("{other}"),
    }
    drop(store);
    open(RealDisk, &data_dir, options).map(|_| ()).unwrap();
    let mut bytes = std::fs::read(data_dir.join("identity")).unwrap();
    bytes[8] = 9;
    std::fs::write(data_dir.join("identity"), &bytes).unwrap();
    let rotten = Identity::read(&RealDisk, &data_dir);
    assert!(matches!(rotten, Err(IdentityError::Corrupt { .. })), "{rotten:?}");
    let crc = crc32(&bytes[..60]).to_le_bytes();
    bytes[60..].copy_from_slice(&crc);
    std::fs::write(data_dir.join("identity"), &bytes).unwrap();
    assert!(matches!(
        Identity::read(&RealDisk, &data_dir),
        Err(IdentityError::UnknownVersion { version: 9, .. })
    ));
    bytes[8] = 1;
    bytes[20] ^= 1;
    std::fs::write(data_dir.join("identity"), &bytes).unwrap();
    assert!(matches!(Identity::read(&RealDisk, &data_dir), Err(IdentityError::Corrupt { .. })));
}

#[test]
fn format_is_durable_or_not_at_all() {
    let options = options(32 << 10);
    for nth in 1.. {
        let disk = SimDisk::new(nth);
        disk.plan(nth, Fault::Crash);
        let done = format(&disk, dir(), identity(), &first_entry(), &options).is_ok();
        disk.restart();
        disk.heal();
        match open(disk.clone(), dir(), options) {
            Ok((_, recovered, seen)) => {
                assert_eq!((recovered.last.index, seen), (LogIndex(1), vec![first_entry()]), "step {nth}");
            }
            Err(LogError::Identity(IdentityError::NotFormatted { .. })) => assert!(!done, "step {nth}"),
            Err(other) => panic!("step {nth}: {other}"),
        }
        if done {
            break;
        }
    }
}

/// Opens a fresh log on a simulated disk.
fn fresh(options: LogOptions) -> (SimDisk, LogStore<SimDisk>, Vec<Entry>) {
    let disk = SimDisk::new(42);
    format_here(&disk, dir(), &options);
    let (store, _, log) = open(disk.clone(), dir(), options).unwrap();
    (disk, store, log)
}

#[test]
fn a_flush_is_one_write_one_watermark_and_one_sync() {
    let (disk, mut store, mut log) = fresh(options(1 << 20));
    log.extend(run_after(&log[0], 1, 64, 300));
    append_all(&mut store, &log[1..33]);
    store.flush().unwrap();
    append_all(&mut store, &log[33..]);
    let (operations, syncs) = (disk.operations(), disk.syncs());
    store.flush().unwrap();
    assert_eq!((disk.operations() - operations, disk.syncs() - syncs), (3, 1));
    store.flush().unwrap();
    assert_eq!(disk.operations() - operations, 3, "with nothing new a flush does nothing");
}

#[test]
fn the_watermark_never_vouches_for_its_own_flush() {
    let (disk, mut store, log) = fresh(options(1 << 20));
    let more = run_after(&log[0], 1, 2, 300);
    let watermark = |disk: &SimDisk| {
        let disk = disk.snapshot(0);
        disk.kill();
        verify(&disk, dir(), &options(1 << 20), &mut |_, _| ()).unwrap().recovery.watermark
    };
    for entry in &more {
        store.append(entry.clone()).unwrap();
        store.flush().unwrap();
        assert_eq!(watermark(&disk), entry.index().prev());
    }
    assert!(!store.idle(0).unwrap().watermark_flushed);
    let work = store.idle(IDLE_WATERMARK_NS - 1).unwrap();
    assert_eq!((work.watermark_flushed, work.deadline_ns), (false, Some(IDLE_WATERMARK_NS)));
    assert!(store.idle(IDLE_WATERMARK_NS).unwrap().watermark_flushed);
    assert_eq!(watermark(&disk), LogIndex(3));
    // The commit index arrives later and gets into a watermark of its own.
    store.set_commit_hint(LogIndex(3));
    store.idle(2 * IDLE_WATERMARK_NS).unwrap();
    assert!(store.idle(3 * IDLE_WATERMARK_NS).unwrap().watermark_flushed);
    drop(store);
    disk.restart();
    let (_, recovered, _) = open(disk, dir(), options(1 << 20)).unwrap();
    assert_eq!(recovered.commit_hint, LogIndex(3));
}

/// A node that goes on without what others lost (decision 0008) must not take for committed, at a later start, what it
/// has given up.
#[test]
fn commits_that_were_given_up_stay_given_up_whichever_block_is_read() {
    let options = options(ENTRIES_POSITION + 8192);
    let (disk, mut store, log) = fresh(options);
    let more = run_after(&log[0], 1, 20, 700);
    for entry in &more {
        store.append(entry.clone()).unwrap();
        store.set_commit_hint(entry.index());
    }
    assert!(store.segment_count() >= 4);
    store.close().unwrap();
    drop(store);
    let hint = |disk: &SimDisk| {
        let report = verify(disk, dir(), &options, &mut |_, _| ()).unwrap();
        report.commit_hint
    };
    assert_eq!(hint(&disk), more[19].index());
    struct Hints(Vec<LogIndex>);
    impl RecoveryVisitor for Hints {
        fn checkpoint(&mut self, _: &StoredCheckpoint) {}
        fn entry(&mut self, _: &EntryView<'_>, commit_hint: LogIndex) {
            self.0.push(commit_hint);
        }
    }
    let mut seen = Hints(Vec::new());
    let (mut store, recovered) =
        LogStore::open_without_commits(disk.clone(), dir(), options, &mut seen).unwrap();
    assert_eq!((recovered.commit_hint, recovered.last), (LogIndex::ZERO, more[19].id()));
    assert_eq!(seen.0, vec![LogIndex::ZERO; 21], "nothing is shown as committed");
    store.lower_commit_hints().unwrap();
    // A crash at once.
    disk.kill();
    drop(store);
    disk.restart();
    assert_eq!(hint(&disk), LogIndex::ZERO);
    for seq in 1..=disk.files().iter().filter(|path| path.to_string_lossy().contains("seg-")).count() as u64 {
        for block in [0, 1] {
            let damaged = disk.snapshot(9);
            damaged.flip_bit(&segment_path(seq), Slot::position_of(block) + 20, 1);
            assert_eq!(hint(&damaged), LogIndex::ZERO, "segment {seq}, block {block}");
        }
    }
}

#[test]
fn pitfall_57_the_old_segment_and_the_new_header_are_durable_before_the_new_one_takes_entries() {
    let options = options(ENTRIES_POSITION + 8192);
    let (disk, mut store, log) = fresh(options);
    let more = run_after(&log[0], 1, 4, 1000);
    append_all(&mut store, &more[..2]);
    // The third and fourth do not fit: the roll happens inside `append`, before anything is flushed by hand.
    append_all(&mut store, &more[2..]);
    assert_eq!(store.segment_count(), 2);
    assert!(store.flushed_index() >= LogIndex(3));
    for seed in 0..20 {
        let copy = disk.snapshot(seed);
        copy.restart();
        let (_, recovered, _) = open(copy, dir(), options).unwrap();
        assert!(recovered.last.index >= store.flushed_index());
    }
}

#[test]
fn pitfall_58_a_full_disk_is_an_error_that_passes() {
    let options = options(ENTRIES_POSITION + 8192);
    let (disk, mut store, log) = fresh(options);
    disk.set_capacity(30_000);
    let more = run_after(&log[0], 1, 12, 1000);
    let mut at = 0;
    let error = loop {
        match store.append(more[at].clone()) {
            Ok(()) => at += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_retryable(), "{error}");
    // Still readable, still flushing what it has, and on with it when space returns.
    assert_eq!(store.flush().unwrap().last, store.last().index);
    assert_eq!(store.append(more[at].clone()).unwrap_err().to_string(), error.to_string());
    let mut reader = reader_of(&mut store);
    assert_eq!(reader.read_from_index(LogIndex(1), LogIndex(100), 1 << 20).unwrap().len(), at + 1);
    assert!(!store.idle(0).unwrap().preparing);
    disk.heal();
    append_all(&mut store, &more[at..]);
    assert_eq!(store.flush().unwrap().last, more[11].index());
}

#[test]
fn truncation_goes_on_in_a_fresh_segment_and_readers_keep_what_they_hold() {
    let options = options(ENTRIES_POSITION + 8192);
    let (disk, mut store, mut log) = fresh(options);
    let (mut reader, mut late) = (LogReader::new(), LogReader::new());
    log.extend(run_after(&log[0], 1, 20, 700));
    append_all(&mut store, &log[1..]);
    store.flush().unwrap();
    let everything =
        |reader: &mut LogReader<_>| reader.read_from_index(LogIndex(1), LogIndex(1000), u64::MAX).unwrap();
    let changes: Vec<_> = store.catalog_changes().collect();
    for change in changes {
        if let CatalogChange::Opened(segment) = &change {
            late.apply(CatalogChange::Opened(segment.clone()));
        }
        reader.apply(change);
    }
    store.truncate_from(LogIndex(9), 1).unwrap();
    // A reader that has not heard of it still reads what was published.
    assert_eq!(late.read_from_index(LogIndex(3), LogIndex(21), u64::MAX).unwrap(), log[2..]);
    feed(&mut store, &mut reader);
    log.truncate(8);
    assert_eq!(everything(&mut reader), log);
    let more = run_after(&log[7], 2, 5, 700);
    append_all(&mut store, &more);
    log.extend(more);
    let flushed = store.flush().unwrap();
    assert_eq!((flushed.generation, flushed.last), (1, LogIndex(13)));
    feed(&mut store, &mut reader);
    assert_eq!(everything(&mut reader), log);
    // Superseded files go only when the late reader lets go.
    let files = |disk: &SimDisk| disk.files().iter().filter(|p| p.to_string_lossy().contains("seg-")).count();
    let before = files(&disk);
    assert_eq!(store.idle(0).unwrap().unlinked, 0);
    drop(late);
    assert!(store.idle(0).unwrap().unlinked > 0);
    assert!(files(&disk) < before);
    drop(store);
    disk.restart();
    let (_, recovered, seen) = open(disk, dir(), options).unwrap();
    assert_eq!(seen, log);
    assert_eq!(recovered.runs, TermRuns::from_terms(&log.iter().map(Entry::term).collect::<Vec<_>>()));
}

#[test]
fn truncation_of_staged_entries_touches_no_file() {
    let (disk, mut store, log) = fresh(options(1 << 20));
    let more = run_after(&log[0], 1, 4, 100);
    append_all(&mut store, &more);
    let operations = disk.operations();
    store.truncate_from(LogIndex(3), 1).unwrap();
    assert_eq!((disk.operations(), store.last().index), (operations, LogIndex(2)));
    let other = entry_after(&more[0], 2, 1, 50);
    store.append(other.clone()).unwrap();
    assert_eq!(store.flush().unwrap().last, LogIndex(3));
    assert_eq!(store.last_chain(), other.chain());
}

#[test]
fn reads_by_index_and_offset_meet_every_entry_and_respect_their_bounds() {
    let (_, mut store, mut log) = fresh(options(ENTRIES_POSITION + (300 << 10)));
    log.extend(run_after(&log[0], 1, 300, 1500));
    append_all(&mut store, &log[1..]);
    store.write_staged().unwrap();
    let mut reader = reader_of(&mut store);
    for entry in &log {
        let header = entry.header();
        let got = reader.read_from_index(entry.index(), entry.index(), 1 << 20).unwrap();
        assert_eq!(got.len(), 1);
        assert_eq!(&got[0], entry);
        for offset in header.base_offset.0..header.next_offset().0 {
            assert_eq!(reader.find_index_of_offset(Offset(offset)), Ok(Some(entry.index())));
        }
    }
    let last = log.last().unwrap();
    assert_eq!(reader.find_index_of_offset(last.header().next_offset()), Ok(None));
    assert!(reader.read_from_index(last.index().next(), LogIndex(1 << 40), 10).unwrap().is_empty());
    assert_eq!(reader.read_from_index(LogIndex(5), LogIndex(9), u64::MAX).unwrap(), log[4..9]);
    let few = reader.read_from_index(LogIndex(5), LogIndex(300), 4000).unwrap();
    assert_eq!(few, log[4..4 + few.len()]);
    assert!((1..=3).contains(&few.len()), "{}", few.len());
    assert_eq!(reader.read_from_offset(Offset(7), LogIndex(6), 1 << 20).unwrap(), log[4..6]);
    assert!(matches!(reader.read_from_index(LogIndex(0), LogIndex(5), 1), Err(ReadError::Gone { .. })));
}

#[test]
fn an_unreadable_or_rotten_range_is_a_corruption_error_with_file_and_position() {
    let (disk, mut store, mut log) = fresh(options(1 << 20));
    log.extend(run_after(&log[0], 1, 10, 500));
    append_all(&mut store, &log[1..]);
    store.flush().unwrap();
    let position = ENTRIES_POSITION + log[..4].iter().map(|entry| entry.len_bytes() as u64).sum::<u64>();
    disk.fail_reads(&segment_path(1), position..position + 1);
    let mut reader = reader_of(&mut store);
    let got = reader.read_from_index(LogIndex(1), LogIndex(4), 1 << 20).unwrap();
    assert_eq!(got, log[..4]);
    let Err(ReadError::Corrupt(corruption)) = reader.read_from_index(LogIndex(5), LogIndex(9), 1 << 20)
    else {
        panic!("read a bad sector")
    };
    assert_eq!((corruption.position, corruption.first), (position, LogIndex(5)));
    disk.heal();
    disk.flip_bit(&segment_path(1), position + 300, 1);
    assert!(matches!(reader.read_from_index(LogIndex(5), LogIndex(5), 1), Err(ReadError::Corrupt(_))));
    // What lies behind can still be read.
    assert_eq!(reader.read_from_index(LogIndex(6), LogIndex(11), u64::MAX).unwrap(), log[5..]);
}

#[test]
fn pitfall_2_hard_state_is_durable_on_return_and_never_half_written() {
    let options = options(1 << 20);
    let (disk, mut store, _) = fresh(options);
    let mut state = StoredHardState { term: Term(1), ..StoredHardState::default() };
    for term in 1..40u64 {
        let next = StoredHardState {
            term: Term(term),
            voted_for: NodeId::from_wire((term % 3) as u16),
            claimed_tail: term.is_multiple_of(2).then(|| EntryId::new(Term(term), LogIndex(term + 100))),
            pins: (1..=term as u16 % 8).map(|n| (NodeId(n), Incarnation(term.into()))).collect(),
            boot_id_hash: term,
            closed: term.is_multiple_of(3),
        };
        if term % 4 == 0 {
            disk.plan(1 + term % 2, Fault::Crash);
            assert!(store.write_hard_state(&next).is_err());
            drop(store);
            disk.restart();
            let (reopened, recovered, _) = open(disk.clone(), dir(), options).unwrap();
            assert!(
                [&state, &next].contains(&&recovered.hard_state),
                "term {term}: {:?}",
                recovered.hard_state
            );
            (store, state) = (reopened, recovered.hard_state);
        } else {
            store.write_hard_state(&next).unwrap();
            drop(store);
            disk.restart();
            let (reopened, recovered, _) = open(disk.clone(), dir(), options).unwrap();
            assert_eq!(recovered.hard_state, next);
            (store, state) = (reopened, next);
        }
    }
}

#[test]
fn pitfall_2_a_hard_state_write_torn_by_a_crash_leaves_the_one_before_it() {
    let voted = |term: u64| StoredHardState {
        term: Term(term),
        voted_for: NodeId::from_wire((term % 3) as u16 + 1),
        ..StoredHardState::default()
    };
    for seed in 0..60 {
        for nth in 1..=3 {
            let disk = SimDisk::new(seed);
            format_here(&disk, dir(), &options(1 << 20));
            let (mut store, _, _) = open(disk.clone(), dir(), options(1 << 20)).unwrap();
            // Two in a row without a quiet moment: the copy of the first is not synced when the second begins.
            store.write_hard_state(&voted(7)).unwrap();
            store.write_hard_state(&voted(8)).unwrap();
            disk.plan(nth, Fault::Crash);
            let told = store.write_hard_state(&voted(9)).is_ok();
            drop(store);
            disk.restart();
            disk.heal();
            let (_, recovered, _) = open(disk, dir(), options(1 << 20)).unwrap();
            let term = recovered.hard_state.term.0;
            assert!(term == 9 || (term == 8 && !told), "seed {seed}, step {nth}: term {term}");
            assert_eq!(recovered.hard_state.voted_for, voted(term).voted_for);
        }
    }
}

#[test]
fn a_read_only_disk_is_refused_at_start_and_an_error_at_run_time() {
    let options = options(1 << 20);
    let (disk, mut store, log) = fresh(options);
    disk.set_read_only(true);
    store.append(entry_after(&log[0], 1, 1, 10)).unwrap();
    assert!(matches!(store.flush(), Err(LogError::Disk(e)) if e.kind() == DiskErrorKind::ReadOnly));
    drop(store);
    disk.kill();
    match open(disk, dir(), options).map(|_| ()).unwrap_err() {
        LogError::Disk(error) => assert_eq!(error.kind(), DiskErrorKind::ReadOnly),
        other => panic!("{other}"),
    }
}

#[test]
fn segment_sizes_are_bounded() {
    for bad in [0, 4096, (8 << 20) - 4096, (8 << 20) + 1, (2 << 30) + 4096, u64::MAX] {
        assert!(LogOptions::new(GroupId(0), bad).is_err(), "{bad}");
    }
    assert!(LogOptions::new(GroupId(0), 8 << 20).is_ok() && LogOptions::new(GroupId(0), 2 << 30).is_ok());
}

#[test]
fn hot_tail_holds_a_dense_run_and_trims_only_what_may_go() {
    let first = first_entry();
    let entries = run_after(&first, 1, 10, 100);
    let len = entries[0].len_bytes() as u64;
    let mut tail = HotTail::new(LogIndex(1), 3 * len);
    assert_eq!((tail.first_index(), tail.last_index(), tail.is_empty()), (LogIndex(2), LogIndex(1), true));
    entries.iter().for_each(|entry| tail.push(entry.clone()));
    assert_eq!((tail.last_index(), tail.bytes(), tail.len()), (LogIndex(11), 10 * len, 10));
    tail.trim(LogIndex(4));
    assert_eq!((tail.first_index(), tail.bytes()), (LogIndex(4), 8 * len));
    tail.trim(LogIndex(100));
    assert_eq!((tail.first_index(), tail.bytes()), (LogIndex(9), 3 * len));
    assert_eq!((tail.get(LogIndex(8)), tail.get(LogIndex(9))), (None, Some(&entries[7])));
    let got: Vec<_> = tail.range(LogIndex(1), LogIndex(10)).cloned().collect();
    assert_eq!(got, entries[7..9]);
    assert_eq!(tail.range(LogIndex(12), LogIndex(20)).count(), 0);
    assert_eq!(tail.range(LogIndex(10), LogIndex(9)).count(), 0);
    tail.truncate_from(LogIndex(11));
    assert_eq!((tail.last_index(), tail.bytes()), (LogIndex(10), 2 * len));
    tail.truncate_from(LogIndex(5));
    assert_eq!((tail.first_index(), tail.last_index(), tail.bytes()), (LogIndex(5), LogIndex(4), 0));
}

#[test]
fn a_committed_entry_that_breaks_the_rules_of_producers_stops_the_start_and_its_offset_is_named() {
    let options = options(ENTRIES_POSITION + (64 << 10));
    let disk = SimDisk::new(1);
    format_here(&disk, dir(), &options);
    let (mut store, ..) = open(disk.clone(), dir(), options).unwrap();
    // Whole entries whose checksums hold, of a producer that nobody opened.
    for entry in run_after(&first_entry(), 1, 2, 100) {
        store.append(entry).unwrap();
    }
    store.flush().unwrap();
    store.set_commit_hint(LogIndex(3));
    store.write_hard_state(&StoredHardState { term: Term(1), ..StoredHardState::default() }).unwrap();
    store.close().unwrap();
    drop(store);
    let Err(BootError::Unusable(what)) = boot(disk, dir(), options) else { panic!("it must not start") };
    assert!(what.contains("the entry at") && what.contains("the event at offset 1 of producer"), "{what}");
}
