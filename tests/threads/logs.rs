//! What the log's writer publishes and readers take: `log/published.rs`, `log/hold.rs`, the pairs of `agent/control.rs`,
//! and the order in which news of segments, reports and requests cross the rings.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use crate::control::CommitTail;
use crate::hold::is_alone;
use crate::ids::{LogIndex, Offset};
use crate::lab::{Model, check};
use crate::metrics::Counter;
use crate::published::{POINT_STRIDE_BYTES, Point, Published, PublishedTail, SparseIndex};
use crate::ring::{RingReceiver, RingSender, WakeHandle, ring};
use crate::sync_model;

/// Entries in a modelled segment, each as long as the distance of two points, so that each is noted.
const ENTRIES: u64 = 2;
/// Where the first one starts.
const START: u64 = 4096;
/// Events in each.
const EVENTS: u64 = 10;

fn entry_start(index: u64) -> u64 {
    START + (index - 1) * POINT_STRIDE_BYTES
}

fn tail_after(index: u64) -> Published {
    Published {
        last_index: LogIndex(index),
        next_offset: Offset(index * EVENTS + 1),
        end_position: entry_start(index + 1),
    }
}

fn point_of(index: u64) -> Point {
    let base_offset = Offset((index - 1) * EVENTS + 1);
    Point { index: LogIndex(index), base_offset, position: entry_start(index), prev_chain: index * 1_000 }
}

/// A segment with its bytes as plain memory, so that a read beside a write is a race that the checker finds.
struct Segment {
    tail: PublishedTail,
    points: SparseIndex,
    bytes: [UnsafeCell<u64>; ENTRIES as usize],
}

// SAFETY: the bytes are read below the published end alone, and written above it; the checker fails a model where not.
unsafe impl Sync for Segment {}

impl Segment {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            tail: PublishedTail::new(tail_after(0)),
            points: SparseIndex::new(ENTRIES * POINT_STRIDE_BYTES),
            bytes: [(); ENTRIES as usize].map(|()| UnsafeCell::new(0)),
        })
    }

    /// As `LogStore::write_staged`: the bytes, the note, the tail.
    fn append(&self, index: u64) {
        // SAFETY: above the published end nobody reads.
        self.bytes[index as usize - 1].with_mut(|entry| unsafe { *entry = index });
        self.points.note(point_of(index));
        self.tail.publish(tail_after(index));
    }

    /// As `LogReader`: bounds, a place to start, the bytes.
    fn read(&self) -> u64 {
        let seen = self.tail.get();
        let last = seen.last_index.0;
        assert!(
            seen.next_offset >= tail_after(last).next_offset,
            "an index shows before its offset: {seen:?}"
        );
        let entries_of_offset = (seen.next_offset.0 - 1) / EVENTS;
        assert!(seen.end_position >= tail_after(entries_of_offset).end_position, "a short end: {seen:?}");
        for index in (1..=ENTRIES).take_while(|index| entry_start(*index) < seen.end_position) {
            // SAFETY: below the published end nobody writes.
            let found = self.bytes[index as usize - 1].with(|entry| unsafe { *entry });
            assert_eq!(found, index, "bytes below the published end are there");
        }
        let point = self.points.last_point(|point| point.index.0 <= last);
        assert_eq!(point, (last > 0).then(|| point_of(last)), "a published entry is noted, and noted whole");
        last
    }
}

fn published_tail() {
    let segment = Segment::new();
    let read = Arc::clone(&segment);
    let reader = thread::spawn(move || {
        let first = read.read();
        assert!(read.read() >= first, "a tail never moves back");
    });
    (1..=ENTRIES).for_each(|index| segment.append(index));
    reader.join().unwrap();
}

/// A lookup by offset meets points that are noted and not published yet.
fn sparse_index() {
    let segment = Segment::new();
    let read = Arc::clone(&segment);
    let reader = thread::spawn(move || {
        let point = read.points.last_point(|point| point.base_offset <= Offset(u64::MAX));
        if let Some(point) = point {
            assert_eq!(point, point_of(point.index.0), "a point is seen whole");
        }
    });
    (1..=ENTRIES).for_each(|index| segment.points.note(point_of(index)));
    reader.join().unwrap();
}

fn commit_tail() {
    let tail = CommitTail::default();
    let read = tail.clone();
    let reader = thread::spawn(move || {
        let (commit, last) = (read.commit_index(), read.last_offset());
        assert!(last >= commit * EVENTS, "the offset is at least as new as the index: {commit}, {last}");
        let (readable, last) = (read.readable_index(), read.readable_offset());
        assert!(last >= readable * EVENTS, "the same of what is readable: {readable}, {last}");
    });
    for index in 1..=2 {
        tail.publish(index, index * EVENTS);
        tail.publish_readable(index, index * EVENTS);
    }
    reader.join().unwrap();
}

/// What stands alone: no partner to be torn from, but it never goes back.
fn commit_hint_and_floor() {
    let tail = CommitTail::default();
    let read = tail.clone();
    let reader = thread::spawn(move || {
        let before = (read.commit_hint(), read.floor_offset());
        let after = (read.commit_hint(), read.floor_offset());
        assert!(after.0 >= before.0 && after.1 >= before.1 && after.0 <= 1);
    });
    tail.publish_hint(2, 1);
    tail.publish_floor(3);
    reader.join().unwrap();
}

fn plain_ring<T>() -> (RingSender<T>, RingReceiver<T>) {
    ring(2, WakeHandle::none(), Counter::default())
}

/// The writer publishes a tail and reports; the batcher hears of it and publishes how far the files may be read; whoever
/// sees that finds the tail there, without having heard of the writer.
fn readable_means_published() {
    let (segment, tail) = (Segment::new(), CommitTail::default());
    let (mut to_batcher, mut from_writer) = plain_ring::<u64>();
    let written = Arc::clone(&segment);
    let writer = thread::spawn(move || {
        written.append(1);
        to_batcher.push(1).expect("room");
    });
    let readable = tail.clone();
    let batcher = thread::spawn(move || {
        if let Some(index) = from_writer.pop() {
            readable.publish_readable(index, index * EVENTS);
        }
    });
    let upto = tail.readable_index();
    assert!(segment.read() >= upto, "what is readable is published");
    writer.join().unwrap();
    batcher.join().unwrap();
}

/// As `agent/log_writer.rs` and `agent/reader.rs` do it: news of a segment to the reader, then the report to the batcher,
/// which asks the reader for what was reported. `again`: the reader looks at the news once more behind each request.
fn news_before_requests(again: bool) {
    let (mut news_out, mut news) = plain_ring::<u64>();
    let (mut report_out, mut reports) = plain_ring::<u64>();
    let (mut request_out, mut requests) = plain_ring::<u64>();
    let writer = thread::spawn(move || {
        news_out.push(7).expect("room");
        report_out.push(7).expect("room");
    });
    let batcher = thread::spawn(move || {
        if let Some(segment) = reports.pop() {
            request_out.push(segment).expect("room");
        }
    });
    let mut known = news.pop();
    if let Some(wanted) = requests.pop() {
        if again {
            known = known.or_else(|| news.pop());
        }
        assert_eq!(known, Some(wanted), "whoever is asked knows what the asker knew");
    }
    writer.join().unwrap();
    batcher.join().unwrap();
}

/// A segment's file, as far as writing it again goes.
struct File(UnsafeCell<u64>);

// SAFETY: it is written where nobody else holds it alone; the checker fails a model where that is not so.
unsafe impl Sync for File {}

/// A reader reads and lets go; the writer writes the file again once nobody else holds it.
fn written_again(alone: fn(&mut sync_model::Arc<File>) -> bool) {
    sync_model::count_holders();
    let mut file = sync_model::Arc::new(File(UnsafeCell::new(1)));
    let held = file.clone();
    let reader = thread::spawn(move || {
        // SAFETY: held, so nobody writes.
        assert_eq!(held.0.with(|bytes| unsafe { *bytes }), 1);
    });
    if alone(&mut file) {
        // SAFETY: nobody else holds it.
        file.0.with_mut(|bytes| unsafe { *bytes = 2 });
    }
    reader.join().unwrap();
}

const fn model(name: &'static str, preemptions: Option<usize>, run: fn()) -> Model {
    Model { name, preemptions, run }
}

pub const TAIL: Model = model("published tail", Some(3), published_tail);
pub const POINTS: Model = model("sparse index", None, sparse_index);
pub const PAIRS: Model = model("commit tail", None, commit_tail);
pub const SINGLES: Model = model("commit hint and floor", None, commit_hint_and_floor);
pub const READABLE: Model = model("readable means published", None, readable_means_published);
pub const NEWS: Model = model("news before requests", None, || news_before_requests(true));
pub const NEWS_ONCE: Model = model("planted: news looked at once", None, || news_before_requests(false));
pub const ALONE: Model = model("a file written again", None, || written_again(is_alone));
pub const COUNTED: Model = model("planted: holders counted", None, || {
    written_again(|file| sync_model::Arc::strong_count(file) == 1);
});

pub const ALL: &[Model] = &[POINTS, PAIRS, TAIL, SINGLES, READABLE, NEWS, ALONE];

#[test]
fn a_reader_that_sees_an_index_may_read_all_that_it_covers() {
    check(TAIL);
}

#[test]
fn no_point_is_seen_half_written() {
    check(POINTS);
}

#[test]
fn an_offset_is_at_least_as_new_as_its_index() {
    check(PAIRS);
    check(SINGLES);
}

#[test]
fn what_is_readable_is_published() {
    check(READABLE);
}

#[test]
fn whoever_is_asked_knows_what_the_asker_knew() {
    check(NEWS);
}

#[test]
fn a_file_is_written_again_only_behind_its_last_reader() {
    check(ALONE);
}
