//! Recovery as a decision table: every row is brought about on the simulated disk and opened.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tercet::base::checksum::crc32;
use tercet::base::ids::{ClusterId, EntryId, LogIndex, Term};
use tercet::entry::Entry;
use tercet::log::layout::{ENTRIES_POSITION, SegmentHeader, Slot};
use tercet::log::table::{Found, Standing, Verdict, decide_entry};
use tercet::log::{Disk, IDLE_WATERMARK_NS, LogError, LogOptions, LogStore, StoredHardState, verify};
use tercet::raft::TermRuns;
use tercet::sim::disk::{Fault, SimDisk};

use crate::fixture::{
    dir, entry_after, first_entry, format_here, open, options, run_after, segment_path, with_unknown_version,
};

/// Index that the durable watermark covers in the lab; everything above is unproven.
const WATERMARK: u64 = 5;
const LAST: u64 = 8;

/// A killed node's disk: entries 1 to 8 in one segment, the watermark at 5.
struct Lab {
    disk: SimDisk,
    options: LogOptions,
    log: Vec<Entry>,
}

impl Lab {
    fn new(seed: u64) -> Self {
        // Exactly full, but for less than a header: so that the place after the last entry has no room.
        let log = run_after(&first_entry(), 1, LAST as usize - 1, 700);
        let log: Vec<Entry> = std::iter::once(first_entry()).chain(log).collect();
        let used: u64 = log.iter().map(|entry| entry.len_bytes() as u64).sum();
        let options = options(ENTRIES_POSITION + used + 2048);
        let disk = SimDisk::new(seed);
        format_here(&disk, dir(), &options);
        let (mut store, ..) = open(disk.clone(), dir(), options).unwrap();
        append_all(&mut store, &log[1..WATERMARK as usize]);
        store.flush().unwrap();
        let _ = store.idle(1).unwrap();
        assert!(store.idle(1 + IDLE_WATERMARK_NS).unwrap().watermark_flushed);
        append_all(&mut store, &log[WATERMARK as usize..]);
        store.flush().unwrap();
        drop(store);
        disk.kill();
        Self { disk, options, log }
    }

    fn position(&self, index: u64) -> u64 {
        let before = self.log.iter().take(index as usize - 1).map(|entry| entry.len_bytes() as u64);
        ENTRIES_POSITION + before.sum::<u64>()
    }

    fn entry(&self, index: u64) -> &Entry {
        &self.log[index as usize - 1]
    }

    fn zero_from(&self, position: u64) {
        let zeros = vec![0; (self.options.segment_bytes() - position) as usize];
        self.disk.poke(&segment_path(1), position, &zeros);
    }

    /// Brings about that recovery finds `found` at the place of entry `index`.
    fn bring_about(&self, found: Found, index: u64) {
        let (path, position) = (segment_path(1), self.position(index));
        let entry = self.entry(index);
        match found {
            Found::Whole => {}
            Found::Stale => {
                // The same index and size, but it continues another log.
                let other = entry_after(&first_entry(), 1, 2, 700);
                let mut log = vec![other];
                while log.last().unwrap().index() < entry.index() {
                    log.push(entry_after(log.last().unwrap(), 1, 2, 690));
                }
                self.disk.poke(&path, position, log.last().unwrap().bytes());
            }
            Found::DamagedBody => self.disk.flip_bit(&path, position + 200, 3),
            Found::DamagedHeader => self.disk.flip_bit(&path, position + 30, 3),
            Found::Hole => self.disk.poke(&path, position, &vec![0; entry.len_bytes()]),
            Found::Blank => self.zero_from(position),
            Found::NoRoom | Found::Leftover => unreachable!("has a test of its own"),
            Found::Unreadable => self.disk.fail_reads(&path, position + 8..position + 9),
            Found::Unsupported => self.disk.poke(&path, position, &with_unknown_version(entry)),
        }
    }

    fn last_id(&self, index: u64) -> EntryId {
        self.entry(index).id()
    }
}

fn append_all<D: Disk>(store: &mut LogStore<D>, entries: &[Entry]) {
    for entry in entries {
        store.append(entry.clone()).unwrap();
    }
}

fn contents(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    disk.files().into_iter().map(|path| (path.clone(), disk.bytes(&path))).collect()
}

const FOUND: [Found; 8] = [
    Found::Whole,
    Found::Stale,
    Found::DamagedBody,
    Found::DamagedHeader,
    Found::Hole,
    Found::Blank,
    Found::Unreadable,
    Found::Unsupported,
];

#[test]
fn the_table_itself_never_cuts_what_was_durable() {
    for found in FOUND.into_iter().chain([Found::NoRoom, Found::Leftover]) {
        let verdict = decide_entry(Standing::Durable, found);
        assert!(!matches!(verdict, Verdict::Cut | Verdict::End), "{found:?}: {verdict:?}");
    }
}

#[test]
fn pitfall_61_damage_below_the_watermark_is_named_and_never_cut() {
    for found in FOUND.into_iter().filter(|found| *found != Found::Whole) {
        let lab = Lab::new(1);
        lab.bring_about(found, 4);
        let before = contents(&lab.disk);
        for attempt in 0..2 {
            match open(lab.disk.clone(), dir(), lab.options).map(|_| ()).unwrap_err() {
                LogError::Corrupt(corruption) => {
                    assert_ne!(found, Found::Unsupported);
                    assert_eq!(corruption.file, segment_path(1), "{found:?}");
                    assert_eq!(corruption.position, lab.position(4), "{found:?}");
                    assert_eq!(corruption.first, LogIndex(4), "{found:?}");
                    assert_eq!(corruption.last, Some(LogIndex(WATERMARK)), "{found:?}");
                }
                LogError::Unknown { file, .. } => {
                    assert_eq!((found, file), (Found::Unsupported, segment_path(1)))
                }
                other => panic!("{found:?}, attempt {attempt}: {other}"),
            }
            assert_eq!(contents(&lab.disk), before, "{found:?}: nothing was touched");
        }
    }
}

#[test]
fn pitfall_60_damage_above_the_watermark_is_a_torn_tail() {
    for found in FOUND {
        let lab = Lab::new(2);
        lab.bring_about(found, 7);
        let opened = open(lab.disk.clone(), dir(), lab.options);
        // Last index that is left, claimed index, number of the segment that goes on.
        let expected = match found {
            Found::Whole => (8, None, 1),
            Found::Stale | Found::DamagedBody | Found::DamagedHeader | Found::Hole => (6, Some(8), 2),
            Found::Blank => (6, None, 1),
            Found::Unreadable => {
                assert!(matches!(opened, Err(LogError::Corrupt(_))), "{found:?}");
                continue;
            }
            Found::Unsupported => {
                assert!(matches!(opened, Err(LogError::Unknown { .. })), "{found:?}");
                continue;
            }
            Found::NoRoom | Found::Leftover => unreachable!(),
        };
        let (store, recovered, seen) = opened.unwrap();
        let (last, claimed, seq) = expected;
        assert_eq!(recovered.last, lab.last_id(last), "{found:?}");
        assert_eq!(seen, lab.log[..last as usize], "{found:?}");
        assert_eq!(recovered.claimed_tail, claimed.map(|index| lab.last_id(index)), "{found:?}");
        assert_eq!(recovered.hard_state.claimed_tail, recovered.claimed_tail);
        assert_eq!(recovered.report.cut.is_some(), seq == 2, "{found:?}");
        assert_eq!(lab.disk.files().contains(&segment_path(2)), seq == 2, "{found:?}");
        assert_eq!(store.flushed_index(), LogIndex(last));
    }
}

#[test]
fn only_the_damaged_entry_itself_is_claimed_when_nothing_follows() {
    let lab = Lab::new(3);
    lab.disk.flip_bit(&segment_path(1), lab.position(8) + 200, 0);
    let (_, recovered, _) = open(lab.disk.clone(), dir(), lab.options).unwrap();
    assert_eq!((recovered.last, recovered.claimed_tail), (lab.last_id(7), Some(lab.last_id(8))));
    // Without a valid header nothing is known to have been there.
    let lab = Lab::new(3);
    lab.disk.flip_bit(&segment_path(1), lab.position(8) + 20, 0);
    let (_, recovered, _) = open(lab.disk.clone(), dir(), lab.options).unwrap();
    assert_eq!((recovered.last, recovered.claimed_tail), (lab.last_id(7), None));
}

#[test]
fn pitfall_59_a_torn_tail_is_never_resurrected() {
    let lab = Lab::new(4);
    lab.bring_about(Found::DamagedBody, 7);
    let (mut store, ..) = open(lab.disk.clone(), dir(), lab.options).unwrap();
    // The same entry 7 arrives again: with the torn place healed, the old entry 8 behind it would fit once more.
    store.append(lab.entry(7).clone()).unwrap();
    store.flush().unwrap();
    drop(store);
    lab.disk.flip_bit(&segment_path(1), lab.position(7) + 200, 3);
    lab.disk.restart();
    let (_, recovered, seen) = open(lab.disk.clone(), dir(), lab.options).unwrap();
    assert_eq!(recovered.last, lab.last_id(7));
    assert_eq!(seen, lab.log[..7]);
    // The claim outlives the restart until the core clears it.
    assert_eq!(recovered.claimed_tail, Some(lab.last_id(8)));
}

#[test]
fn a_claim_that_the_log_has_reached_is_dropped() {
    let lab = Lab::new(5);
    lab.bring_about(Found::DamagedBody, 7);
    let (mut store, ..) = open(lab.disk.clone(), dir(), lab.options).unwrap();
    append_all(&mut store, &lab.log[6..]);
    store.flush().unwrap();
    drop(store);
    lab.disk.kill();
    let (_, recovered, _) = open(lab.disk.clone(), dir(), lab.options).unwrap();
    assert_eq!((recovered.last, recovered.claimed_tail), (lab.last_id(8), None));
}

#[test]
fn a_full_segment_ends_without_room_and_appending_rolls() {
    for watermark in [LAST, LAST + 1] {
        let lab = Lab::new(6);
        // Fill the segment up to less than a header.
        let room = lab.options.segment_bytes() - lab.position(LAST) - lab.entry(LAST).len_bytes() as u64;
        let mut last = lab.entry(LAST).clone();
        let body = (8..2000).find(|body| {
            let len = entry_after(&last, 1, 1, *body).len_bytes() as u64;
            len <= room && room - len < 80
        });
        let filler = entry_after(&last, 1, 1, body.unwrap());
        let (mut store, ..) = open(lab.disk.clone(), dir(), lab.options).unwrap();
        store.append(filler.clone()).unwrap();
        store.flush().unwrap();
        drop(store);
        last = filler;
        if watermark > LAST {
            // A watermark that speaks for an entry for which there is no room.
            let slot = Slot {
                number: 100,
                flushed_index: LogIndex(LAST + 2),
                end_position: 0,
                chain: 0,
                commit_hint: LogIndex(0),
                next_seq: None,
                clean: false,
            };
            lab.disk.poke(&segment_path(1), Slot::position_of(100), &slot.encode());
            lab.disk.kill();
            assert!(matches!(open(lab.disk.clone(), dir(), lab.options), Err(LogError::Corrupt(_))));
            continue;
        }
        lab.disk.kill();
        let (mut store, recovered, _) = open(lab.disk.clone(), dir(), lab.options).unwrap();
        assert_eq!((recovered.last, recovered.report.cut), (last.id(), None));
        store.append(entry_after(&last, 1, 1, 10)).unwrap();
        assert_eq!(store.segment_count(), 2);
    }
}

#[test]
fn slots_one_damaged_uses_the_other_both_damaged_is_corruption() {
    for (even, odd) in [(true, false), (false, true), (true, true)] {
        let lab = Lab::new(7);
        for (damage, number) in [(even, 0), (odd, 1)] {
            if damage {
                lab.disk.flip_bit(&segment_path(1), Slot::position_of(number) + 20, 1);
            }
        }
        match open(lab.disk.clone(), dir(), lab.options) {
            Ok((_, recovered, _)) => {
                assert!(!(even && odd));
                assert_eq!((recovered.last, recovered.report.damaged_slots), (lab.last_id(LAST), 1));
            }
            Err(LogError::Corrupt(corruption)) => {
                assert!(even && odd, "{corruption}");
                assert_eq!(corruption.position, 4096);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_watermark_that_disagrees_with_its_entry_is_corruption() {
    let lab = Lab::new(8);
    let slot = Slot {
        number: 100,
        flushed_index: LogIndex(WATERMARK),
        end_position: lab.position(WATERMARK + 1),
        chain: lab.entry(WATERMARK).chain() ^ 1,
        commit_hint: LogIndex(0),
        next_seq: None,
        clean: false,
    };
    lab.disk.poke(&segment_path(1), Slot::position_of(100), &slot.encode());
    assert!(matches!(open(lab.disk.clone(), dir(), lab.options), Err(LogError::Corrupt(_))));
}

fn good_header(lab: &Lab) -> SegmentHeader {
    match SegmentHeader::decode(&lab.disk.bytes(&segment_path(1))) {
        tercet::log::layout::HeaderFound::Good(header) => header,
        other => panic!("{other:?}"),
    }
}

#[test]
fn header_rows() {
    type Damage = fn(&Lab);
    let rows: [(&str, Damage); 6] = [
        ("damaged", |lab| lab.disk.flip_bit(&segment_path(1), 50, 0)),
        ("rotten version", |lab| lab.disk.poke(&segment_path(1), 8, &[2])),
        ("version", |lab| {
            let mut bytes = good_header(lab).encode();
            bytes[8] = 2;
            let crc = crc32(&bytes[..92]).to_le_bytes();
            bytes[92..].copy_from_slice(&crc);
            lab.disk.poke(&segment_path(1), 0, &bytes);
        }),
        ("cluster", |lab| {
            let header = SegmentHeader { cluster_id: ClusterId(9), ..good_header(lab) };
            lab.disk.poke(&segment_path(1), 0, &header.encode());
        }),
        ("number", |lab| {
            let header = SegmentHeader { seq: 7, ..good_header(lab) };
            lab.disk.poke(&segment_path(1), 0, &header.encode());
        }),
        ("short", |lab| {
            let header = SegmentHeader { segment_bytes: 1 << 30, ..good_header(lab) };
            lab.disk.poke(&segment_path(1), 0, &header.encode());
        }),
    ];
    for (row, damage) in rows {
        let lab = Lab::new(9);
        damage(&lab);
        let before = contents(&lab.disk);
        match open(lab.disk.clone(), dir(), lab.options).map(|_| ()).unwrap_err() {
            LogError::Corrupt(corruption) => {
                assert!(["damaged", "rotten version", "number", "short"].contains(&row), "{row}");
                assert_eq!((corruption.position, corruption.file), (0, segment_path(1)));
            }
            LogError::Unknown { .. } => assert_eq!(row, "version"),
            LogError::Foreign { what, .. } => assert_eq!((row, what), ("cluster", "cluster")),
            other => panic!("{row}: {other}"),
        }
        assert_eq!(contents(&lab.disk), before, "{row}: nothing was touched");
    }
}

/// A log over several segments, closed.
fn rolled(seed: u64) -> (SimDisk, LogOptions, Vec<Entry>) {
    let options = options(ENTRIES_POSITION + 8192);
    let disk = SimDisk::new(seed);
    format_here(&disk, dir(), &options);
    let (mut store, ..) = open(disk.clone(), dir(), options).unwrap();
    let mut log = vec![first_entry()];
    log.extend(run_after(&log[0], 1, 20, 700));
    append_all(&mut store, &log[1..]);
    assert!(store.segment_count() >= 4);
    store.close().unwrap();
    drop(store);
    (disk, options, log)
}

#[test]
fn pitfall_62_a_missing_segment_is_refused_wherever_it_was() {
    let count =
        rolled(10).0.files().iter().filter(|path| path.to_string_lossy().contains("seg-")).count() as u64;
    for seq in 1..=count {
        let (disk, options, _) = rolled(10);
        disk.vanish(&segment_path(seq));
        match open(disk.clone(), dir(), options).map(|_| ()).unwrap_err() {
            LogError::MissingSegment { file, .. } => assert_eq!(file, segment_path(seq)),
            other => panic!("{seq}: {other}"),
        }
    }
}

/// The one fault hides nothing of what the other has done (found by fuzzing).
#[test]
fn pitfall_62_a_missing_segment_shows_although_one_block_of_the_seal_that_names_it_is_damaged() {
    let count =
        rolled(10).0.files().iter().filter(|path| path.to_string_lossy().contains("seg-")).count() as u64;
    for seq in 2..=count {
        for block in [0, 1] {
            let (disk, options, _) = rolled(10);
            disk.vanish(&segment_path(seq));
            disk.flip_bit(&segment_path(seq - 1), Slot::position_of(block) + 20, 1);
            match open(disk.clone(), dir(), options).map(|_| ()).unwrap_err() {
                LogError::MissingSegment { file, .. } => assert_eq!(file, segment_path(seq)),
                other => panic!("{seq}: {other}"),
            }
        }
    }
}

#[test]
fn a_seal_that_one_block_has_lost_is_in_both_again_after_the_next_start() {
    for block in [0, 1] {
        let (disk, options, _) = rolled(10);
        disk.flip_bit(&segment_path(2), Slot::position_of(block) + 20, 1);
        drop(open(disk.clone(), dir(), options).unwrap());
        disk.kill();
        let bytes = disk.bytes(&segment_path(2));
        for number in [0, 1] {
            let slot = Slot::decode(&bytes[Slot::position_of(number) as usize..]);
            assert_eq!(slot.and_then(|slot| slot.next_seq), Some(3), "block {number}");
        }
    }
}

#[test]
fn pitfall_62_a_gap_in_the_chain_between_segments_is_corruption() {
    let (disk, options, _) = rolled(11);
    let other = rolled(11).0;
    // The same file of another history: right number, right base index, other chain.
    let tercet::log::layout::HeaderFound::Good(header) =
        SegmentHeader::decode(&other.bytes(&segment_path(3)))
    else {
        panic!("no header")
    };
    disk.poke(&segment_path(3), 0, &SegmentHeader { base_chain: header.base_chain ^ 1, ..header }.encode());
    match open(disk.clone(), dir(), options).map(|_| ()).unwrap_err() {
        LogError::Corrupt(corruption) => assert_eq!(corruption.file, segment_path(3)),
        other => panic!("{other}"),
    }
}

#[test]
fn damage_in_a_complete_segment_is_corruption_wherever_it_lies() {
    for seq in 1..=2 {
        let (disk, options, _) = rolled(12);
        disk.flip_bit(&segment_path(seq), ENTRIES_POSITION + 500, 0);
        match open(disk.clone(), dir(), options).map(|_| ()).unwrap_err() {
            LogError::Corrupt(corruption) => assert_eq!(corruption.file, segment_path(seq)),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn hard_state_both_slots_damaged_is_refused() {
    let lab = Lab::new(13);
    let path = dir().join("hard_state");
    lab.disk.flip_bit(&path, 20, 0);
    drop(open(lab.disk.clone(), dir(), lab.options).unwrap());
    lab.disk.flip_bit(&path, 4096 + 20, 0);
    assert!(matches!(open(lab.disk.clone(), dir(), lab.options), Err(LogError::HardState { .. })));
}

#[test]
fn pitfall_55_what_only_the_cache_holds_after_a_failed_sync_is_not_recovered_as_durable() {
    let lab = Lab::new(14);
    let (mut store, ..) = open(lab.disk.clone(), dir(), lab.options).unwrap();
    let next = entry_after(lab.entry(LAST), 1, 1, 10);
    store.append(next.clone()).unwrap();
    lab.disk.plan(2, Fault::Io);
    assert!(store.flush().is_err());
    // No retry: everything is refused from now on.
    assert!(matches!(store.flush(), Err(LogError::Poisoned(_))));
    assert!(matches!(store.append(entry_after(&next, 1, 1, 10)), Err(LogError::Poisoned(_))));
    assert!(matches!(store.close(), Err(LogError::Poisoned(_))));
    drop(store);
    // Only the process ends. The cache still shows the entry, the device never got it.
    lab.disk.kill();
    let (_, recovered, _) = open(lab.disk.clone(), dir(), lab.options).unwrap();
    assert_eq!(recovered.last, lab.last_id(LAST));
    lab.disk.restart();
    let (_, recovered, _) = open(lab.disk.clone(), dir(), lab.options).unwrap();
    assert_eq!(recovered.last, lab.last_id(LAST));
}

#[test]
fn what_a_killed_process_left_in_the_cache_is_durable_before_anything_vouches_for_it() {
    let lab = Lab::new(18);
    let (mut store, before, _) = open(lab.disk.clone(), dir(), lab.options).unwrap();
    let more = run_after(lab.entry(LAST), 2, 1, 300);
    append_all(&mut store, &more);
    store.write_staged().unwrap();
    // The process dies between the hard state's write and its sync.
    let voted = StoredHardState { term: Term(7), ..before.hard_state };
    lab.disk.plan(2, Fault::Crash);
    assert!(store.write_hard_state(&voted).is_err());
    drop(store);
    lab.disk.kill();
    for nth in 1.. {
        let mut finished = false;
        for seed in 0..20 {
            let copy = lab.disk.snapshot(seed);
            copy.plan(nth, Fault::Crash);
            let first = open(copy.clone(), dir(), lab.options).map(|(_, recovered, _)| recovered);
            copy.restart();
            copy.heal();
            let (_, second, seen) = open(copy, dir(), lab.options).unwrap();
            assert!(seen.len() as u64 >= LAST);
            if let Ok(first) = first {
                // What an opened log has said of itself stays true.
                assert_eq!(
                    (first.last, &first.hard_state),
                    (second.last, &second.hard_state),
                    "step {nth}, seed {seed}"
                );
                assert_eq!(second.hard_state, voted);
                finished = true;
            }
        }
        if finished {
            break;
        }
    }
}

/// A torn tail behind a truncation whose repair was interrupted, so that recovery has every step to do.
fn worst_case(seed: u64) -> (SimDisk, LogOptions, Vec<Entry>) {
    let (disk, options, mut log) = rolled(seed);
    let (mut store, ..) = open(disk.clone(), dir(), options).unwrap();
    let held: Vec<_> = store.catalog_changes().collect();
    store.truncate_from(LogIndex(9), 1).unwrap();
    log.truncate(8);
    let more = run_after(&log[7], 2, 3, 500);
    append_all(&mut store, &more);
    store.flush().unwrap();
    drop((store, held));
    disk.kill();
    let seq =
        disk.files().iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned()).max();
    let path = dir().join("group-0").join(seq.unwrap());
    let position = ENTRIES_POSITION + (more[0].len_bytes() + more[1].len_bytes()) as u64;
    disk.flip_bit(&path, position + 200, 0);
    log.extend_from_slice(&more[..2]);
    (disk, options, log)
}

#[test]
fn a_crash_at_every_step_of_recovery_recovers_to_the_same_state() {
    let (disk, options, log) = worst_case(15);
    let (_, reference, seen) = open(disk.snapshot(1), dir(), options).unwrap();
    assert_eq!(seen, log);
    let terms: Vec<Term> = log.iter().map(Entry::term).collect();
    assert_eq!(reference.runs, TermRuns::from_terms(&terms));
    assert!(reference.claimed_tail.is_some() && reference.report.superseded > 0);
    let mut steps = 0;
    for nth in 1.. {
        let mut finished = false;
        for seed in 0..6 {
            let copy = disk.snapshot(seed);
            copy.plan(nth, Fault::Crash);
            finished = open(copy.clone(), dir(), options).is_ok() && !copy.is_down();
            copy.restart();
            copy.heal();
            let (_, recovered, seen) = open(copy, dir(), options).unwrap();
            assert_eq!(seen, log, "crash at step {nth}, seed {seed}");
            assert_eq!(recovered.last, reference.last, "crash at step {nth}, seed {seed}");
            assert_eq!(recovered.last_chain, reference.last_chain);
            assert_eq!(recovered.runs, reference.runs);
            assert_eq!(recovered.hard_state, reference.hard_state, "crash at step {nth}, seed {seed}");
        }
        if finished {
            break;
        }
        steps = nth;
    }
    assert!(steps >= 10, "recovery had only {steps} steps");
}

#[test]
fn verify_reports_like_recovery_and_changes_nothing() {
    let lab = Lab::new(16);
    lab.bring_about(Found::DamagedBody, 7);
    lab.disk.set_read_only(true);
    let before = contents(&lab.disk);
    let mut count = 0;
    let report = verify(&lab.disk, dir(), &lab.options, &mut |_, _| count += 1).unwrap();
    assert_eq!((count, report.last), (6, lab.last_id(6)));
    let cut = report.recovery.cut.unwrap();
    assert_eq!((cut.position, cut.claimed), (lab.position(7), Some(lab.last_id(8))));
    assert_eq!(contents(&lab.disk), before);
    lab.disk.heal();
    // In use: refused.
    let (store, ..) = open(lab.disk.clone(), dir(), lab.options).unwrap();
    let error = verify(&lab.disk, dir(), &lab.options, &mut |_, _| ()).unwrap_err();
    assert!(matches!(&error, LogError::Disk(e) if e.kind() == tercet::log::DiskErrorKind::Locked), "{error}");
    drop(store);
    // Damage below the watermark: the file and the position.
    let lab = Lab::new(16);
    lab.bring_about(Found::DamagedBody, 3);
    let error = verify(&lab.disk, dir(), &lab.options, &mut |_, _| ()).unwrap_err();
    assert!(error.to_string().contains(&format!("damaged at byte {}", lab.position(3))), "{error}");
}

#[test]
fn pitfall_51_random_damage_is_an_error_or_a_shorter_log_but_never_a_panic_or_another_log() {
    let lab = Lab::new(17);
    let (mut refused, mut shorter) = (0, 0);
    for seed in 0..400 {
        let copy = lab.disk.snapshot(seed);
        let mut prng = tercet::base::prng::Prng::new(seed);
        let files = copy.files();
        let path = &files[prng.below(files.len() as u64) as usize];
        let len = copy.bytes(path).len() as u64;
        if len == 0 {
            continue;
        }
        let position = prng.below(len);
        let mut noise = vec![0; prng.between(1, 600).min(len - position) as usize];
        if prng.chance(700_000) {
            prng.fill(&mut noise);
        }
        copy.poke(path, position, &noise);
        let verified = verify(&copy, dir(), &lab.options, &mut |_, _| ()).map(|report| report.last);
        match open(copy, dir(), lab.options) {
            Ok((_, recovered, seen)) => {
                assert_eq!(seen, lab.log[..seen.len()], "seed {seed}");
                assert_eq!(verified.unwrap(), recovered.last, "seed {seed}");
                shorter += usize::from(seen.len() < lab.log.len());
            }
            Err(error) => {
                assert_eq!(verified.unwrap_err().to_string(), error.to_string(), "seed {seed}");
                refused += 1;
            }
        }
    }
    assert!(refused > 20 && shorter > 10, "{refused} refused, {shorter} shorter");
}
