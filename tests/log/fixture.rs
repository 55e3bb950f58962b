//! Entries, directories and small helpers for the tests of the log.

use std::path::{Path, PathBuf};

use tercet::base::checksum::crc32;
use tercet::base::ids::{
    ClusterId, Epoch, GroupId, Incarnation, LogIndex, NodeId, Offset, ProducerId, Sequence, Term,
};
use tercet::entry::{
    BatchAccumulator, BatchLimits, Configuration, Durability, Entry, EventParts, Member, ProducerRef,
    SealContext, encode_configuration, encode_event,
};
use tercet::log::{
    CatalogChange, Disk, Identity, LogError, LogOptions, LogReader, LogStore, Recovered, format,
};

pub const DIR: &str = "/data";

pub fn dir() -> &'static Path {
    Path::new(DIR)
}

pub fn segment_path(seq: u64) -> PathBuf {
    dir().join("group-0").join(tercet::log::layout::segment_name(seq))
}

pub fn options(segment_bytes: u64) -> LogOptions {
    LogOptions::for_tests(GroupId(0), segment_bytes)
}

pub fn identity() -> Identity {
    Identity { cluster_id: ClusterId(0xc1), node_id: NodeId(1), incarnation: Incarnation(0x1ca4) }
}

fn context_after(last: Option<&Entry>, term: u64) -> SealContext {
    SealContext {
        term: Term(term),
        index: last.map_or(LogIndex(1), |last| last.index().next()),
        prev_chain: last.map_or(0, Entry::chain),
        base_offset: last.map_or(Offset(1), |last| last.header().next_offset()),
        log_time_ns: last.map_or(0, |last| last.header().log_time_ns + 1000),
        timestamp_unix_ns: 1_700_000_000_000_000_000,
    }
}

pub fn first_entry() -> Entry {
    let configuration = Configuration {
        cluster_id: identity().cluster_id,
        cluster_version: 1,
        cluster_name: "test".to_owned(),
        durability: Durability::Disk,
        producers_window_ns: 1,
        producers_max: 10,
        voters: vec![Member { node_id: NodeId(1), incarnation: Incarnation(0) }],
        learners: Vec::new(),
    };
    encode_configuration(&context_after(None, 0), &configuration).unwrap()
}

/// An entry of `events` events with bodies of `body_bytes`, going on after `last`.
pub fn entry_after(last: &Entry, term: u64, events: usize, body_bytes: usize) -> Entry {
    let body = |n: usize| -> Vec<u8> {
        (0..body_bytes).map(|at| (at as u64 * 31 + last.index().0 + n as u64) as u8).collect()
    };
    entry_of_bodies(last, term, &(0..events).map(body).collect::<Vec<_>>())
}

/// An entry of events with these bodies, going on after `last`.
pub fn entry_of_bodies(last: &Entry, term: u64, bodies: &[Vec<u8>]) -> Entry {
    let limits = BatchLimits { events_max: 64, bytes_max: 1 << 20, delay_max_ns: 1 };
    let mut batch = BatchAccumulator::new(limits);
    for (n, body) in bodies.iter().enumerate() {
        let parts = EventParts {
            sequence: Sequence(last.header().next_offset().0 + n as u64),
            timestamp_unix_ns: 5,
            priority: 0,
            topic: "t",
            attributes: &[],
            body,
        };
        let mut encoded = Vec::new();
        encode_event(&mut encoded, &parts).unwrap();
        let producer = ProducerRef { id: ProducerId(1), epoch: Epoch(1), name: "p" };
        batch.push(0, producer, &encoded).unwrap();
    }
    batch.seal(&context_after(Some(last), term))
}

/// `count` entries after `last`.
pub fn run_after(last: &Entry, term: u64, count: usize, body_bytes: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let entry = entry_after(entries.last().unwrap_or(last), term, 2, body_bytes);
        entries.push(entry);
    }
    entries
}

pub type Opened<D> = (LogStore<D>, Recovered, Vec<Entry>);

/// Opens the log and collects what the visitor sees.
pub fn open<D: Disk>(disk: D, dir: &Path, options: LogOptions) -> Result<Opened<D>, LogError> {
    let mut seen = Vec::new();
    let visitor = &mut |view: &tercet::entry::EntryView<'_>, _: tercet::base::ids::LogIndex| {
        seen.push(Entry::decode(view.bytes()).unwrap())
    };
    let (store, recovered) = LogStore::open(disk, dir, options, visitor)?;
    Ok((store, recovered, seen))
}

pub fn format_here<D: Disk>(disk: &D, dir: &Path, options: &LogOptions) {
    format(disk, dir, identity(), &first_entry(), options).unwrap();
}

/// A reader that knows all that the store has told so far.
pub fn reader_of<D: Disk>(store: &mut LogStore<D>) -> LogReader<D::File> {
    let mut reader = LogReader::new();
    feed(store, &mut reader);
    reader
}

pub fn feed<D: Disk>(store: &mut LogStore<D>, reader: &mut LogReader<D::File>) {
    let changes: Vec<CatalogChange<D::File>> = store.catalog_changes().collect();
    for change in changes {
        reader.apply(change);
    }
}

/// An undamaged header of a version that nobody knows yet, made from a real one.
pub fn with_unknown_version(entry: &Entry) -> Vec<u8> {
    let mut bytes = entry.bytes().to_vec();
    bytes[4] = 99;
    let crc = crc32(&bytes[..76]);
    bytes[76..80].copy_from_slice(&crc.to_le_bytes());
    bytes
}
