//! Recovery, checking and mending of whole data directories that somebody has been at.

use std::path::PathBuf;
use std::sync::OnceLock;

use tercet::agent::boot::{BootError, boot};
use tercet::base::ids::{Epoch, GroupId, LogIndex, ProducerId, Sequence, Term};
use tercet::entry::{
    BatchAccumulator, BatchLimits, Entry, EntryHeader, EntryView, EventParts, LogFloor, ProducerRef,
    SealContext, encode_event, encode_open_producer,
};
use tercet::log::layout::{BLOCK_BYTES, ENTRIES_POSITION, HeaderFound, SegmentHeader, Slot};
use tercet::log::{
    Checkpoint, IDLE_WATERMARK_NS, LogError, LogOptions, LogStore, Mender, Recovered, StoredCheckpoint,
    StoredHardState, check_copy, lost_runs, verify,
};
use tercet::raft::TermRuns;
use tercet::sim::disk::SimDisk;
use tercet::stream::Producers;

use crate::alloc::within;
use crate::checksums::{self, FORMS, Form, sum};
use crate::fixture::{dir, first_entry, format_here, identity, options, segment_path};

const SEGMENT_BYTES: u64 = 24 << 10;
/// Recovery reads a piece of a segment at a time and keeps an index of it.
const OPEN_BYTES_MAX: usize = 1 << 20;

/// A killed node's directory: three segments, the last entries above the watermark.
struct Base {
    disk: SimDisk,
    options: LogOptions,
    log: Vec<Entry>,
    files: Vec<PathBuf>,
    /// Covered by both slots of the last segment, and so kept even when one of them is damaged.
    certain: usize,
}

fn context_after(last: &Entry, term: u64) -> SealContext {
    SealContext {
        term: Term(term),
        index: last.index().next(),
        prev_chain: last.chain(),
        base_offset: last.header().next_offset(),
        log_time_ns: last.header().log_time_ns + 1000,
        timestamp_unix_ns: 1_700_000_000_000_000_000,
    }
}

/// Events of the one producer, going on after `last`.
fn entry_after(last: &Entry, term: u64, events: u64, body_bytes: usize) -> Entry {
    let mut batch = BatchAccumulator::new(BatchLimits::default());
    for n in 0..events {
        let sequence = Sequence(last.header().next_offset().0 + n);
        let body: Vec<u8> = (0..body_bytes).map(|at| (at as u64 * 31 + sequence.0) as u8).collect();
        let attributes: &[(&str, &[u8])] = &[("a", b"value")];
        let parts =
            EventParts { sequence, timestamp_unix_ns: 5, priority: 0, topic: "t", attributes, body: &body };
        let mut encoded = Vec::new();
        encode_event(&mut encoded, &parts).unwrap();
        // Opened by entry 2.
        let producer = ProducerRef { id: ProducerId(2), epoch: Epoch(1), name: "p" };
        batch.push(0, producer, &encoded).unwrap();
    }
    batch.seal(&context_after(last, term))
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let options = options(SEGMENT_BYTES);
        let disk = SimDisk::new(1);
        format_here(&disk, dir(), &options);
        let mut store = open(&disk, options).unwrap().0;
        store.write_hard_state(&StoredHardState { term: Term(2), ..StoredHardState::default() }).unwrap();
        let first = first_entry();
        let second = encode_open_producer(&context_after(&first, 1), "p").unwrap();
        let mut log = vec![first, second.clone()];
        store.append(second).unwrap();
        for _ in 0..19 {
            log.push(entry_after(log.last().unwrap(), 1, 2, 500));
            store.append(log.last().unwrap().clone()).unwrap();
        }
        store.flush().unwrap();
        store.set_commit_hint(LogIndex(20));
        let mut flushed = Vec::new();
        for round in 1..=3 {
            for _ in 0..2 {
                log.push(entry_after(log.last().unwrap(), 2, 3, 100));
                store.append(log.last().unwrap().clone()).unwrap();
            }
            store.flush().unwrap();
            flushed.push(log.len());
            if round < 3 {
                let _ = store.idle(round * 1_000_000_000).unwrap();
                let done = store.idle(round * 1_000_000_000 + IDLE_WATERMARK_NS).unwrap();
                assert!(done.watermark_flushed);
            }
        }
        assert_eq!(store.segment_count(), 3, "the layout of the seeds");
        drop(store);
        disk.kill();
        boot(disk.snapshot(2), dir(), options).unwrap();
        Base { files: disk.files(), disk, options, log, certain: flushed[0] }
    })
}

type Opened = (LogStore<SimDisk>, Recovered, Vec<Seen>);

/// What recovery showed of an entry. Its checksums hold; nobody has looked at its contents.
struct Seen {
    bytes: Vec<u8>,
    index: LogIndex,
    prev_chain: u64,
    chain: u64,
}

fn open(disk: &SimDisk, options: LogOptions) -> Result<Opened, LogError> {
    let mut seen = Vec::new();
    let visitor = &mut |view: &EntryView<'_>, _: LogIndex| {
        let header = view.header();
        seen.push(Seen {
            bytes: view.bytes().to_vec(),
            index: header.index,
            prev_chain: header.prev_chain,
            chain: view.chain(),
        });
    };
    let (store, recovered) = LogStore::open(disk.clone(), dir(), options, visitor)?;
    Ok((store, recovered, seen))
}

/// Edits of a directory, eight bytes each: file, what, position (two bytes), value (four bytes). In the first byte of
/// the input: whether checksums are made right afterwards. Without that, nothing that was durable may be lost in
/// silence.
pub fn directory(bytes: &[u8]) {
    let Some((&first, edits)) = bytes.split_first() else { return };
    let base = base();
    let disk = base.disk.snapshot(7);
    let forged = first & 1 == 1;
    for edit in edits.chunks_exact(8).take(16) {
        apply(&disk, edit, forged);
    }
    if forged {
        let form = if first & 2 == 0 { Form::Summed } else { Form::Linked };
        make_right(&disk, form);
    }
    let truth = if forged { None } else { Some(base) };
    judge(&disk, base.options, truth);
}

fn apply(disk: &SimDisk, edit: &[u8], forged: bool) {
    let files = &base().files;
    let path = &files[usize::from(edit[0]) % files.len()];
    let mut bytes = disk.bytes(path);
    if bytes.is_empty() {
        return;
    }
    let wide = usize::from(u16::from_le_bytes([edit[2], edit[3]]));
    // Half of all edits go to the first fields of a block.
    let at = if edit[1] & 0x80 == 0 { wide } else { (wide % 3) * BLOCK_BYTES as usize + (wide / 3) % 96 };
    let at = at % bytes.len();
    let len = bytes.len();
    let end = |count: usize| (at + count).min(len);
    match edit[1] & 7 {
        0..=2 => bytes[at] ^= edit[4].max(1),
        3 => bytes[at..end(usize::from(u16::from_le_bytes([edit[4], edit[5]])))].fill(0),
        4 => bytes[at..end(usize::from(edit[4]))].fill(edit[5]),
        5 if forged => {
            let from = usize::from(u16::from_le_bytes([edit[4], edit[5]])) % bytes.len();
            let count = usize::from(edit[6]).min(bytes.len() - from).min(bytes.len() - at);
            bytes.copy_within(from..from + count, at);
        }
        6 => {
            let value = (u64::from(edit[4]) << (8 * (edit[5] % 8))).wrapping_sub(u64::from(edit[6] & 1));
            let count = end(8) - at;
            let at = at.min(bytes.len() - count);
            bytes[at..at + count].copy_from_slice(&value.to_le_bytes()[..count]);
        }
        7 if edit[4] > 0xe0 => return disk.vanish(path),
        _ => return,
    }
    disk.poke(path, 0, &bytes);
}

/// Makes every checksum of a directory right.
fn make_right(disk: &SimDisk, form: Form) {
    for path in disk.files() {
        let mut bytes = disk.bytes(&path);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("seg-") && bytes.len() as u64 > ENTRIES_POSITION {
            segment_right(&mut bytes, form);
        } else if name == "hard_state" && bytes.len() == 8192 {
            sum(&mut bytes[..512], 508);
            sum(&mut bytes[4096..4608], 508);
        } else if name == "identity" && bytes.len() == 64 {
            sum(&mut bytes, 60);
        } else {
            continue;
        }
        disk.poke(&path, 0, &bytes);
    }
}

fn segment_right(bytes: &mut [u8], form: Form) {
    sum(&mut bytes[..96], 92);
    for number in 0..2 {
        let at = Slot::position_of(number) as usize;
        sum(&mut bytes[at..at + 64], 60);
    }
    checksums::entries(&mut bytes[ENTRIES_POSITION as usize..], form);
}

/// Everything that opens a directory. `truth`: what the log was, where nothing was forged.
fn judge(disk: &SimDisk, options: LogOptions, truth: Option<&Base>) {
    let before = disk.operations();
    let verified = within("verify", OPEN_BYTES_MAX, || verify(disk, dir(), &options, &mut |_, _| ()));
    let lost = within("lost_runs", OPEN_BYTES_MAX, || lost_runs(disk, dir(), &options));
    assert_eq!(disk.operations(), before, "looking changes nothing");
    mend(&disk.snapshot(8), options, truth);
    // As a node does it: contents of entries, producers, configuration, hard state.
    let booted = within("boot", OPEN_BYTES_MAX, || boot(disk.snapshot(9), dir(), options).map(|_| ()));
    let mut count = 0;
    let opened = within("open", OPEN_BYTES_MAX, || {
        LogStore::open(disk.clone(), dir(), options, &mut |_, _| count += 1).map(|(store, _)| drop(store))
    });
    match opened {
        Ok(()) => {
            if truth.is_some() {
                assert_eq!(lost.unwrap(), [], "what opens has lost nothing");
            }
            let report = verified.unwrap();
            assert_eq!(count, report.recovery.entries);
            if let Err(error) = booted {
                // Entries are whole; an older hard state may be too old for them. Forged ones may say anything.
                assert!(truth.is_none() || matches!(error, BootError::Damaged(_)), "{error}");
            }
            disk.kill();
            reopen(disk, options, truth);
        }
        Err(_) => assert!(verified.is_err() && booted.is_err()),
    }
}

/// A directory that could be opened can be opened again, holds a chained log, and takes what comes next.
fn reopen(disk: &SimDisk, options: LogOptions, truth: Option<&Base>) {
    let (mut store, recovered, seen) = open(disk, options).unwrap();
    let follows =
        |pair: &[Seen]| pair[1].prev_chain == pair[0].chain && pair[1].index == pair[0].index.next();
    assert!(seen.windows(2).all(follows), "a log is a chain");
    assert_eq!(seen.last().map_or(LogIndex::ZERO, |last| last.index), store.last().index);
    let Some(base) = truth else { return };
    assert_eq!(recovered.report.cut, None, "a cut is made once");
    let same = seen.iter().zip(&base.log).all(|(seen, entry)| seen.bytes == entry.bytes());
    assert!(same && seen.len() <= base.log.len(), "nothing is invented");
    assert!(seen.len() >= base.certain, "{} of {} entries are left", seen.len(), base.certain);
    let next = entry_after(&base.log[seen.len() - 1], 9, 1, 10);
    store.append(next.clone()).unwrap();
    store.flush().unwrap();
    drop(store);
    disk.kill();
    let (_, _, after) = open(disk, options).unwrap();
    assert_eq!(after.len(), seen.len() + 1);
    assert!(after.last().unwrap().bytes == next.bytes());
}

/// Mending: with copies from the true log, everything that was certain comes back.
fn mend(disk: &SimDisk, options: LogOptions, truth: Option<&Base>) {
    let opened = within("mender", OPEN_BYTES_MAX, || Mender::open(disk.clone(), dir(), options));
    let Ok(mut mender) = opened else { return };
    let _ = mender.read(LogIndex(1), LogIndex(3), 4096);
    let _ = mender.read(mender.last_index(), mender.last_index(), 4096);
    let Some(base) = truth else {
        for at in (0..mender.runs().len()).rev() {
            if mender.may_widen(at) {
                assert!(mender.widen(at));
            }
        }
        return;
    };
    for _ in 0..100 {
        let Some(run) = mender.runs().first().cloned() else { break };
        let copy = base.log.get(run.first.0 as usize - 1..run.last.0 as usize);
        let copy = copy.unwrap_or_else(|| panic!("{run} was never there")).to_vec();
        match check_copy(&run, &copy) {
            Ok(()) => drop(mender.mend(&[copy]).unwrap()),
            Err(mismatch) => assert!(mender.widen(0), "the true copies do not fit {run}: {mismatch}"),
        }
    }
    assert_eq!(mender.runs(), [], "mending ends");
    drop(mender);
    match LogStore::open(disk.clone(), dir(), options, &mut |_, _| ()).map(drop) {
        Ok(()) => {
            disk.kill();
            reopen(disk, options, truth);
        }
        Err(LogError::Corrupt(corruption)) => panic!("still damaged after mending: {corruption}"),
        Err(_) => {}
    }
}

/// One segment: the fields of its watermark slot (32 bytes: flushed index, end position, chain, commit hint), then its
/// entries.
pub fn segment(bytes: &[u8]) {
    let Some((fields, entries)) = bytes.split_at_checked(32) else { return };
    static EMPTY: OnceLock<SimDisk> = OnceLock::new();
    let options = options(SEGMENT_BYTES);
    let empty = EMPTY.get_or_init(|| {
        let disk = SimDisk::new(1);
        format_here(&disk, dir(), &options);
        disk
    });
    for form in FORMS {
        let disk = empty.snapshot(3);
        let mut file = disk.bytes(&segment_path(1));
        let from = ENTRIES_POSITION as usize;
        let count = entries.len().min(file.len() - from);
        file[from..from + count].copy_from_slice(&entries[..count]);
        if form != Form::Raw {
            for number in 0..2 {
                let at = Slot::position_of(number) as usize;
                file[at + 16..at + 48].copy_from_slice(fields);
            }
            segment_right(&mut file, form);
        }
        disk.poke(&segment_path(1), 0, &file);
        judge(&disk, options, None);
    }
}

/// Header and slots of the first and the last segment, for the seeds.
pub fn heads() -> Vec<Vec<u8>> {
    let base = base();
    let segments = base.files.iter().filter(|path| path.to_string_lossy().contains("seg-"));
    let heads = segments.map(|path| {
        let bytes = base.disk.bytes(path);
        let block = |number: usize, count: usize| &bytes[number * 4096..number * 4096 + count];
        [block(0, 96), block(1, 64), block(2, 64)].concat()
    });
    heads.collect()
}

/// Entries of the first segment behind the fields of a slot that covers the first `covered` of them, for the seeds.
pub fn covered(covered: usize) -> Vec<u8> {
    let log = &base().log[..6];
    let end: usize = log[..covered].iter().map(Entry::len_bytes).sum();
    let mut bytes = Vec::new();
    for field in [covered as u64, ENTRIES_POSITION + end as u64, log[covered - 1].chain(), 1] {
        bytes.extend(field.to_le_bytes());
    }
    log.iter().for_each(|entry| bytes.extend_from_slice(entry.bytes()));
    bytes
}

/// A checkpoint behind the first 20 entries, for the seeds.
pub fn checkpoint() -> Vec<u8> {
    let log = &base().log[..20];
    let mut producers = Producers::new();
    for entry in log {
        producers.apply(&entry.view()).unwrap();
    }
    let mut state = Vec::new();
    producers.encode_state(&mut state);
    let last = log.last().unwrap();
    let checkpoint = Checkpoint {
        cluster_id: identity().cluster_id,
        group: GroupId(0),
        id: last.id(),
        chain: last.chain(),
        next_offset: last.header().next_offset(),
        log_time_ns: last.header().log_time_ns,
        configuration: log[0].clone(),
        producers: state,
    };
    checkpoint.encode()
}

/// The same in a file, of a log that begins with its second segment; or ahead of that log, which has no entry yet.
pub fn checkpoint_file(is_ahead: bool) -> Vec<u8> {
    let log = &base().log;
    let checkpoint = Checkpoint::decode(&checkpoint()).unwrap();
    let head = base().disk.bytes(&segment_path(2));
    let HeaderFound::Good(first_segment) = SegmentHeader::decode(&head[..96]) else { panic!("a segment") };
    let base = first_segment.base_id();
    let mut runs = TermRuns::after(base);
    if !is_ahead {
        let held = |entry: &&Entry| base.index < entry.index() && entry.index() <= checkpoint.id.index;
        for entry in log.iter().filter(held) {
            runs.push(entry.header().term);
        }
    }
    let floor = LogFloor { index: base.index.next(), offset: first_segment.base_offset };
    StoredCheckpoint { number: 4, floor, first_segment, runs, is_ahead, checkpoint }.encode()
}

/// Both slots of the hard state, for the seeds.
pub fn hard_states() -> [Vec<u8>; 2] {
    let bytes = base().disk.bytes(&dir().join("hard_state"));
    [bytes[..512].to_vec(), bytes[4096..4608].to_vec()]
}

#[test]
fn boot_stops_at_the_first_entry_that_it_cannot_apply() {
    // It used to go on, and to apply the next entry to a table that had not seen this one: a panic, found by fuzzing.
    let base = base();
    let disk = base.disk.snapshot(1);
    let mut file = disk.bytes(&segment_path(1));
    let before: usize = base.log[..2].iter().map(Entry::len_bytes).sum();
    // The flags of the first event of entry 3, which is committed.
    let flags = ENTRIES_POSITION as usize + before + EntryHeader::BYTES + 8 + 30;
    file[flags] = 1;
    segment_right(&mut file, Form::Linked);
    disk.poke(&segment_path(1), 0, &file);
    assert!(matches!(boot(disk, dir(), base.options), Err(BootError::Log(LogError::Corrupt(_)))));
}
