//! What files of trimmed segments are worth when they are used again: `cargo bench --bench log_recycle`. The log store
//! alone, written by its one thread as a node writes it: appends, a flush for each MiB, the next segment prepared in
//! slices, a checkpoint and a trim at each roll. With recycling and without take turns, so that a machine that drifts
//! drifts for both; compare the rows of one run only.
//!
//! `TERCET_MEASURE_DIR` names the disk. `MEASURE_SECONDS` (8) is the time of each turn; what is counted begins when
//! the first files have been trimmed: the segments before that are new in either way.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use tercet::base::ids::{ClusterId, GroupId, Incarnation, LogIndex, NodeId, Offset, Term};
use tercet::entry::{
    BatchAccumulator, BatchLimits, Configuration, Durability, Entry, EntryError, EventParts, LogFloor,
    Member, ProducerRef, SealContext, encode_configuration, encode_event,
};
use tercet::log::{Checkpoint, CheckpointOrder, Identity, LogOptions, LogStore, RealDisk, format};
use tercet::raft::TermRuns;

type Failure = Box<dyn std::error::Error>;

const SEGMENT_BYTES: u64 = 64 << 20;
/// Segments that are kept behind the checkpoint, as `log.retention_bytes` of 128 MiB keeps them.
const KEPT_SEGMENTS: usize = 2;
const FLUSH_BYTES: usize = 1 << 20;
const BODY_BYTES: usize = 4096;
const TURNS: usize = 6;
/// Rolls after which trimmed files come back.
const WARM_UP_ROLLS: usize = 8;
/// Entries that wait for the log writer, at most.
const SEALED_AHEAD: usize = 64;

fn main() -> Result<(), Failure> {
    let parent = std::env::var_os("TERCET_MEASURE_DIR").unwrap_or_else(|| ".".into());
    let seconds = std::env::var("MEASURE_SECONDS").ok().map_or(Ok(8), |text| text.parse())?;
    let ways = [(true, "recycled"), (false, "unlinked")];
    let mut rates: [Vec<f64>; 2] = Default::default();
    for turn in 0..TURNS {
        let dir = tempfile::tempdir_in(&parent)?;
        let (recycle, name) = ways[turn % 2];
        let (rate, rolls) = measure(&dir.path().join("node"), recycle, Duration::from_secs(seconds))?;
        println!("{name}: {rate:.0} MB/s, {rolls} rolls");
        rates[turn % 2].push(rate);
    }
    for rates in &mut rates {
        rates.sort_unstable_by(f64::total_cmp);
    }
    let [recycled, unlinked] = rates.map(|rates| rates[rates.len() / 2]);
    println!(
        "medians: {recycled:.0} MB/s recycled, {unlinked:.0} MB/s not; ratio {:.2}",
        recycled / unlinked
    );
    Ok(())
}

fn context_after(last: Option<&Entry>) -> SealContext {
    SealContext {
        term: Term(1),
        index: last.map_or(LogIndex(1), |last| last.index().next()),
        prev_chain: last.map_or(0, Entry::chain),
        base_offset: last.map_or(Offset(1), |last| last.header().next_offset()),
        log_time_ns: last.map_or(0, |last| last.header().log_time_ns + 1000),
        timestamp_unix_ns: 7,
    }
}

fn first_entry() -> Result<Entry, Failure> {
    let configuration = Configuration {
        cluster_id: ClusterId(1),
        cluster_version: 1,
        cluster_name: "measure".to_owned(),
        durability: Durability::Disk,
        producers_window_ns: 1,
        producers_max: 1,
        voters: vec![Member { node_id: NodeId(1), incarnation: Incarnation(0) }],
        learners: Vec::new(),
    };
    Ok(encode_configuration(&context_after(None), &configuration)?)
}

/// Batches of 64 events, sealed anew for their place: the checksums are part of what a log writer's bytes cost.
struct Source {
    events: Vec<Vec<u8>>,
    batch: BatchAccumulator,
}

impl Source {
    fn new() -> Result<Self, Failure> {
        let mut events = Vec::new();
        for sequence in 1..=64 {
            let parts = EventParts {
                sequence: tercet::base::ids::Sequence(sequence),
                timestamp_unix_ns: 5,
                priority: 0,
                topic: "measure",
                attributes: &[],
                body: &[b'x'; BODY_BYTES],
            };
            let mut event = Vec::new();
            encode_event(&mut event, &parts)?;
            events.push(event);
        }
        let limits = BatchLimits { events_max: 64, bytes_max: 1 << 20, delay_max_ns: 1 };
        Ok(Self { events, batch: BatchAccumulator::new(limits) })
    }

    fn next(&mut self, last: &Entry) -> Result<Entry, EntryError> {
        let producer = ProducerRef {
            id: tercet::base::ids::ProducerId(1),
            epoch: tercet::base::ids::Epoch(1),
            name: "p",
        };
        for event in &self.events {
            self.batch.push(0, producer, event)?;
        }
        Ok(self.batch.seal(&context_after(Some(last))))
    }
}

fn measure(dir: &Path, recycle: bool, time: Duration) -> Result<(f64, usize), Failure> {
    let options = LogOptions::new(GroupId(0), SEGMENT_BYTES)?.with_recycling(recycle);
    let first = first_entry()?;
    let identity = Identity { cluster_id: ClusterId(1), node_id: NodeId(1), incarnation: Incarnation(1) };
    format(&RealDisk, dir, identity, &first, &options)?;
    let (mut store, _) = LogStore::open(RealDisk, dir, options, &mut |_, _| ())?;
    // As the batcher, on another thread.
    let (sealed, entries) = sync_channel(SEALED_AHEAD);
    let sealing = {
        let (mut source, mut last) = (Source::new()?, first.clone());
        std::thread::spawn(move || {
            while let Ok(entry) = source.next(&last) {
                last = entry.clone();
                if sealed.send(entry).is_err() {
                    return;
                }
            }
        })
    };
    let (mut last, mut begun) = (first.clone(), Instant::now());
    let mut counted: Option<Instant> = None;
    let (mut bytes, mut rolls) = (0_u64, 0);
    let mut marks = VecDeque::new();
    let mut runs = TermRuns::new();
    runs.push(first.term());
    while counted.is_none() || begun.elapsed() < time {
        let mut staged = 0;
        while staged < FLUSH_BYTES {
            last = entries.recv()?;
            runs.push(last.term());
            staged += last.len_bytes();
            store.append(last.clone())?;
        }
        store.flush()?;
        if counted.is_some() {
            bytes += staged as u64;
        } else if rolls > WARM_UP_ROLLS {
            counted = Some(Instant::now());
            begun = Instant::now();
        }
        for mark in store.take_marks() {
            marks.push_back(mark.floor);
            rolls += 1;
        }
        while marks.len() > KEPT_SEGMENTS {
            let floor = marks.pop_front().unwrap_or(LogFloor::START);
            store.order_checkpoint(order_at(&first, &last, floor, &runs));
        }
        house_keeping(&mut store)?;
    }
    drop(entries);
    sealing.join().map_err(|_| "the thread that seals panicked")?;
    let seconds = counted.map_or(0.0, |from| from.elapsed().as_secs_f64());
    Ok((bytes as f64 / 1e6 / seconds, rolls))
}

/// What a node's log writer does between two writes.
fn house_keeping(store: &mut LogStore<RealDisk>) -> Result<(), Failure> {
    // The reader's and the delivery's part: they let go of trimmed segments at once.
    drop(store.catalog_changes());
    if store.has_checkpoint_work() {
        store.checkpoint_step()?;
        return Ok(());
    }
    if store.has_doomed() {
        store.unlink_free()?;
    }
    if store.preparation_is_due() {
        store.prepare_slice()?;
    }
    Ok(())
}

fn order_at(first: &Entry, last: &Entry, floor: LogFloor, runs: &TermRuns) -> CheckpointOrder {
    let checkpoint = Checkpoint {
        cluster_id: ClusterId(1),
        group: GroupId(0),
        id: last.id(),
        chain: last.chain(),
        next_offset: last.header().next_offset(),
        log_time_ns: last.header().log_time_ns,
        configuration: first.clone(),
        producers: vec![7; 300],
    };
    CheckpointOrder { image: checkpoint.encode().into(), id: last.id(), floor, runs: runs.clone() }
}
