//! What lies on disks and is decoded by itself: entries, events, heads of segments, hard state, identity.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use tercet::base::checksum::crc32;
use tercet::base::ids::{
    COUNTER_MAX, ClusterId, EntryId, GroupId, Incarnation, LogIndex, NodeId, Offset, Term,
};
use tercet::base::limits::{ENTRY_BYTES_MAX, NODES_MAX};
use tercet::entry::{
    BatchAccumulator, BatchLimits, ENTRY_BYTES_MIN, Entry, EntryHeader, EntryKind, EntryView, EventParts,
    EventView, Probe, SealContext, TRAILER_BYTES, encode_configuration, encode_event, encode_noop,
    encode_open_producer, encode_trim, parse_event, probe,
};
use tercet::log::hard_state::{HARD_STATE_VERSION, SlotFound, choose_slot};
use tercet::log::layout::{HeaderFound, IDENTITY_NAME, SegmentHeader, Slot};
use tercet::log::table::{decide_header, decide_slots};
use tercet::log::{Checkpoint, Disk, Identity, StoredCheckpoint, StoredHardState, format};
use tercet::sim::disk::SimDisk;
use tercet::stream::Producers;

use crate::alloc::within;
use crate::checksums::{self, FORMS, Form, long, sum, word};
use crate::fixture;

/// Seven members and a name.
const CONFIGURATION_BYTES_MAX: usize = 1024;
/// A list of seven pins.
const HARD_STATE_BYTES_MAX: usize = 1024;

/// What lies at a position of a segment, or comes behind a frame's fixed part.
pub fn entry(bytes: &[u8]) {
    for form in FORMS {
        let mut bytes = bytes.to_vec();
        checksums::entries(&mut bytes, form);
        one_entry(&bytes);
    }
}

fn one_entry(bytes: &[u8]) {
    let header = within("an entry's header", 0, || EntryHeader::decode(bytes));
    let found = within("a probe", 0, || probe(bytes));
    match found {
        Probe::Whole(view) => assert_eq!(header.as_ref(), Ok(view.header())),
        Probe::Partial(read) | Probe::DamagedBody(read, _) => assert_eq!(header, Ok(read)),
        Probe::DamagedHeader(_) | Probe::Unsupported(_) => assert!(header.is_err()),
        Probe::Zero => assert!(bytes.iter().take(8).all(|&byte| byte == 0)),
    }
    let Probe::Whole(view) = found else {
        assert!(EntryView::parse(bytes).is_err());
        return;
    };
    let len = view.bytes().len();
    assert!((ENTRY_BYTES_MIN..=ENTRY_BYTES_MAX).contains(&len) && view.bytes() == &bytes[..len]);
    let limit = len + CONFIGURATION_BYTES_MAX;
    match within("an entry", limit, || Entry::decode(view.bytes())) {
        Ok(entry) => {
            assert_eq!((entry.bytes(), entry.header()), (view.bytes(), view.header()));
            encode_again(&view);
        }
        Err(error) => assert_eq!(view.check_contents(), Err(error)),
    }
}

/// Encodes the contents of an undamaged entry anew: the same bytes must come out.
pub fn encode_again(view: &EntryView<'_>) {
    if view.check_contents().is_err() {
        return;
    }
    let header = view.header();
    let context = SealContext {
        term: header.term,
        index: header.index,
        prev_chain: header.prev_chain,
        base_offset: header.base_offset,
        log_time_ns: header.log_time_ns,
        timestamp_unix_ns: header.timestamp_unix_ns,
    };
    let again = match header.kind {
        EntryKind::Noop => encode_noop(&context),
        EntryKind::Configuration => encode_configuration(&context, &view.configuration().unwrap()).unwrap(),
        EntryKind::OpenProducer => {
            encode_open_producer(&context, view.open_producer().unwrap().name).unwrap()
        }
        EntryKind::Trim => encode_trim(&context, view.trim().unwrap()),
        EntryKind::Events => match seal_again(view, &context) {
            Some(entry) => entry,
            None => return,
        },
    };
    assert!(again.bytes() == view.bytes(), "{:?} has one encoding", header.id());
}

/// A batch, sealed anew. `None` where its producers do not stand in the order in which they first write: this build
/// never writes that, but it is a legal batch.
fn seal_again(view: &EntryView<'_>, context: &SealContext) -> Option<Entry> {
    let events = view.events().unwrap();
    let limits = BatchLimits { bytes_max: ENTRY_BYTES_MAX, ..BatchLimits::default() };
    let mut batch = BatchAccumulator::new(limits);
    let (mut known, mut offset) = (0, events.base_offset());
    for (at, event) in &events {
        assert_eq!(at, offset);
        offset = offset.next();
        event_again(&event);
        if event.producer_slot > known {
            return None;
        }
        known = known.max(event.producer_slot + 1);
        let producer = events.producers().get(event.producer_slot).unwrap();
        batch.push(0, producer, event.encoded).unwrap();
    }
    assert_eq!(usize::from(known), events.producers().len());
    Some(batch.seal(context))
}

fn event_again(event: &EventView<'_>) {
    let attributes: Vec<_> = event.attributes.iter().collect();
    let parts = EventParts {
        sequence: event.sequence,
        timestamp_unix_ns: event.timestamp_unix_ns,
        priority: event.priority,
        topic: event.topic,
        attributes: &attributes,
        body: event.body,
    };
    let mut again = Vec::new();
    encode_event(&mut again, &parts).unwrap();
    // The slot is the batch's to fill.
    again[24..26].copy_from_slice(&event.producer_slot.to_le_bytes());
    assert!(again == event.encoded, "{parts:?} has one encoding");
}

/// The body of an entry whose header is right: kind and count of events from the first two bytes.
pub fn entry_body(bytes: &[u8]) {
    let Some((&[kind, events], body)) = bytes.split_first_chunk::<2>() else { return };
    let body_end = EntryHeader::BYTES + body.len().next_multiple_of(8);
    let mut entry = vec![0; body_end + TRAILER_BYTES];
    entry[..4].copy_from_slice(b"TCE1");
    (entry[4], entry[5]) = (1, 1 + kind % 5);
    let total = entry.len() as u32;
    entry[8..12].copy_from_slice(&total.to_le_bytes());
    entry[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    (entry[24], entry[40]) = (9, 100);
    entry[64] = if entry[5] == EntryKind::Events.code() { events } else { 0 };
    entry[EntryHeader::BYTES..EntryHeader::BYTES + body.len()].copy_from_slice(body);
    checksums::entries(&mut entry, Form::Summed);
    one_entry(&entry);
}

/// An event by itself, as publish frames hold it.
pub fn event(bytes: &[u8]) {
    if let Ok((event, consumed)) = within("an event", 0, || parse_event(bytes)) {
        assert!(event.encoded == &bytes[..consumed]);
        event_again(&event);
    }
}

/// The head of a segment file: header (96 bytes) and two watermark slots (64 bytes each).
pub fn segment_head(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    bytes.resize(224, 0);
    values_of_head(&bytes);
    for form in [Form::Raw, Form::Summed] {
        if form == Form::Summed {
            sum(&mut bytes[..96], 92);
            sum(&mut bytes[96..160], 60);
            sum(&mut bytes[160..], 60);
        }
        let (header, slots) = bytes.split_at(96);
        let found = within("a segment's header", 0, || SegmentHeader::decode(header));
        if let HeaderFound::Good(read) = found {
            assert!(read.encode() == header, "{read:?} has one encoding");
            let _ = decide_header(found, read.seq, long(header, 80), read.cluster_id, read.group);
        }
        let slots = [&slots[..64], &slots[64..]].map(|slot| (slot, Slot::decode(slot)));
        for (bytes, read) in slots.iter().filter_map(|(bytes, read)| read.map(|read| (bytes, read))) {
            assert!(read.encode() == **bytes, "{read:?} has one encoding");
        }
        let _ = decide_slots(slots[0].1, slots[1].1);
    }
}

fn counter(bytes: &[u8], at: usize) -> u64 {
    long(bytes, at) % (COUNTER_MAX + 1)
}

/// Whatever can be written is read back.
fn values_of_head(bytes: &[u8]) {
    let header = SegmentHeader {
        cluster_id: ClusterId(u128::from(long(bytes, 16)) << 64 | u128::from(long(bytes, 24))),
        group: GroupId(long(bytes, 12) as u16),
        seq: counter(bytes, 32),
        generation: long(bytes, 40),
        base_index: LogIndex(counter(bytes, 48).max(1)),
        base_offset: Offset(counter(bytes, 56)),
        base_chain: long(bytes, 64),
        base_term: Term(counter(bytes, 72)),
        segment_bytes: long(bytes, 80).max(12_288),
        recycled: bytes[14] & 1 != 0,
    };
    assert_eq!(SegmentHeader::decode(&header.encode()), HeaderFound::Good(header));
    let slot = Slot {
        number: counter(bytes, 104),
        flushed_index: LogIndex(counter(bytes, 112)),
        end_position: long(bytes, 120),
        chain: long(bytes, 128),
        commit_hint: LogIndex(counter(bytes, 136)),
        next_seq: (bytes[100] & 1 != 0).then(|| counter(bytes, 144).max(1)),
        clean: bytes[100] & 2 != 0,
    };
    assert_eq!(Slot::decode(&slot.encode()), Some(slot));
}

/// One slot of the hard state (512 bytes).
pub fn hard_state(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    values_of_hard_state(&bytes);
    for form in [Form::Raw, Form::Summed] {
        if form == Form::Summed {
            bytes.resize(512, 0);
            sum(&mut bytes, 508);
        }
        let found = within("a hard state", HARD_STATE_BYTES_MAX, || StoredHardState::decode(&bytes));
        if let SlotFound::Good(number, state) = &found {
            let is_current = bytes[8..12] == HARD_STATE_VERSION.to_le_bytes();
            assert!(!is_current || state.encode(*number) == bytes[..512], "{state:?} has one encoding");
            assert_eq!(choose_slot(found.clone(), SlotFound::Damaged), Ok((*number, state.clone())));
        }
        let _ = choose_slot(found, SlotFound::Damaged);
    }
}

fn values_of_hard_state(bytes: &[u8]) {
    let claimed = EntryId::new(Term(counter(bytes, 40)), LogIndex(counter(bytes, 48)));
    let pins = bytes.get(64..).unwrap_or_default().chunks_exact(24).take(NODES_MAX);
    let pins = pins.map(|pin| {
        let node = NodeId((long(pin, 0) as u16).max(1));
        (node, Incarnation(u128::from(long(pin, 8)) << 64 | u128::from(long(pin, 16))))
    });
    let state = StoredHardState {
        term: Term(counter(bytes, 24)),
        voted_for: NodeId::from_wire(long(bytes, 32) as u16),
        claimed_tail: Some(claimed).filter(|claimed| claimed.index > LogIndex::ZERO),
        pins: pins.collect::<BTreeMap<_, _>>(),
        boot_id_hash: long(bytes, 56),
        closed: bytes.get(34).is_some_and(|flags| flags & 1 == 1),
    };
    let number = counter(bytes, 16);
    assert_eq!(StoredHardState::decode(&state.encode(number)), SlotFound::Good(number, state));
}

/// The identity file.
pub fn identity(bytes: &[u8]) {
    let dir = Path::new("/data");
    let file = dir.join(IDENTITY_NAME);
    for form in [Form::Raw, Form::Summed] {
        let mut bytes = bytes.to_vec();
        if form == Form::Summed {
            bytes.resize(64, 0);
            sum(&mut bytes, 60);
        }
        let disk = SimDisk::new(1);
        disk.create_dir_all(dir).unwrap();
        disk.create(&file, bytes.len() as u64).unwrap();
        disk.poke(&file, 0, &bytes);
        if let Ok(identity) = Identity::read(&disk, dir) {
            assert!(identity_bytes(identity) == bytes, "{identity:?} has one encoding");
        }
    }
}

/// What `format` writes for an identity.
pub fn identity_bytes(identity: Identity) -> Vec<u8> {
    static FIRST: OnceLock<Entry> = OnceLock::new();
    let disk = SimDisk::new(1);
    let first = FIRST.get_or_init(fixture::first_entry);
    format(&disk, fixture::dir(), identity, first, &fixture::options(16 << 10)).unwrap();
    disk.bytes(&fixture::dir().join(IDENTITY_NAME))
}

/// A checkpoint's image: it comes from a peer, or lies in a file.
pub fn checkpoint(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    for form in [Form::Raw, Form::Summed] {
        if form == Form::Summed {
            bytes.resize(bytes.len().max(IMAGE_BYTES_MIN), 0);
            sum_image(&mut bytes);
        }
        let memory = bytes.len() + CONFIGURATION_BYTES_MAX;
        let Ok(read) = within("a checkpoint", memory, || Checkpoint::decode(&bytes)) else { continue };
        assert!(read.encode() == bytes, "the checkpoint at {} has one encoding", read.id);
        // Each producer is kept in three places, and a list of runs.
        let memory = 64 * read.producers.len() + (64 << 10);
        let state = within("producers", memory, || Producers::decode_state(&read.producers));
        if let Ok(producers) = state {
            let mut again = Vec::new();
            producers.encode_state(&mut again);
            assert!(again == read.producers, "a table has one encoding");
        }
    }
}

const IMAGE_BYTES_MIN: usize = 96;

fn sum_image(image: &mut [u8]) {
    let configuration = (word(image, 72) as usize).min(image.len() - 96);
    let producers = image.len() - 96 - configuration;
    image[72..76].copy_from_slice(&(configuration as u32).to_le_bytes());
    image[80..88].copy_from_slice(&(producers as u64).to_le_bytes());
    checksums::entries(&mut image[96..96 + configuration], Form::Summed);
    let crc = crc32(&image[96..]).to_le_bytes();
    image[88..92].copy_from_slice(&crc);
    sum(image, 92);
}

/// A checkpoint as it lies in a file: with where this node's log begins, and its terms.
pub fn checkpoint_file(bytes: &[u8]) {
    const HEADER: usize = 168;
    let mut bytes = bytes.to_vec();
    for form in [Form::Raw, Form::Summed] {
        if form == Form::Summed {
            bytes.resize(bytes.len().max(HEADER + IMAGE_BYTES_MIN), 0);
            let room = (bytes.len() - HEADER - IMAGE_BYTES_MIN) / 16;
            let runs = (word(&bytes, 12) as usize).min(room);
            let image = HEADER + 16 * runs;
            sum_image(&mut bytes[image..]);
            let image_bytes = (bytes.len() - image) as u64;
            bytes[12..16].copy_from_slice(&(runs as u32).to_le_bytes());
            bytes[48..56].copy_from_slice(&image_bytes.to_le_bytes());
            sum(&mut bytes[56..152], 92);
            let crc = crc32(&bytes[HEADER..image]).to_le_bytes();
            bytes[156..160].copy_from_slice(&crc);
            sum(&mut bytes, 164);
        }
        let memory = 3 * bytes.len() + CONFIGURATION_BYTES_MAX;
        let read = within("a checkpoint's file", memory, || StoredCheckpoint::decode(&bytes));
        let Ok(read) = read else { continue };
        assert!(
            read.encode() == bytes,
            "the file of the checkpoint at {} has one encoding",
            read.checkpoint.id
        );
    }
}
