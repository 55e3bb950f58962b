//! Layouts, chain, names, configuration: single cases. Also the helpers that the room's other tests use.

use super::{
    BatchAccumulator, BatchLimits, Configuration, Durability, ENTRY_MAGIC, Entry, EntryError, EntryHeader,
    EntryKind, EventParts, Member, ProducerRef, SealContext, TRAILER_MAGIC, chain64, encode_configuration,
    encode_event, encode_noop, encode_open_producer, encoded_event_bytes, parse_event,
    validate_producer_name, validate_topic,
};
use crate::base::checksum::crc32;
use crate::base::ids::{
    COUNTER_MAX, ClusterId, EntryId, Epoch, Incarnation, LogIndex, NodeId, Offset, ProducerId, Sequence, Term,
};
use crate::base::limits::{
    ATTRIBUTES_BYTES_MAX, ENTRY_BYTES_MAX, EVENT_BODY_BYTES_MAX, EVENT_BYTES_MAX, TOPIC_BYTES_MAX,
};

pub(super) fn context() -> SealContext {
    SealContext {
        term: Term(3),
        index: LogIndex(7),
        prev_chain: 0x0123_4567_89ab_cdef,
        base_offset: Offset(100),
        log_time_ns: 5_000_000_000,
        timestamp_unix_ns: 1_700_000_000_000_000_000,
    }
}

pub(super) fn event(sequence: u64) -> EventParts<'static> {
    EventParts {
        sequence: Sequence(sequence),
        timestamp_unix_ns: 1_700_000_000_000_000_001,
        priority: 2,
        topic: "quakes",
        attributes: &[("region", b"alaska"), ("empty", b"")],
        body: b"{\"mag\":4.5}",
    }
}

pub(super) fn encoded(parts: &EventParts<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_event(&mut out, parts).unwrap();
    out
}

pub(super) fn producer(id: u64, name: &str) -> ProducerRef<'_> {
    ProducerRef { id: ProducerId(id), epoch: Epoch(1), name }
}

pub(super) fn batch() -> Entry {
    let mut batch = BatchAccumulator::new(BatchLimits::default());
    batch.push(0, producer(2, "usgs"), &encoded(&event(1))).unwrap();
    batch.push(0, producer(5, "emsc-csem"), &encoded(&event(1))).unwrap();
    batch.push(0, producer(2, "usgs"), &encoded(&EventParts { body: b"", ..event(2) })).unwrap();
    batch.seal(&context())
}

pub(super) fn configuration() -> Configuration {
    let member = |id: u16| Member { node_id: NodeId(id), incarnation: Incarnation(u128::from(id) << 64) };
    Configuration {
        cluster_id: ClusterId(0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00),
        cluster_version: 1,
        cluster_name: "demo".to_owned(),
        durability: Durability::Disk,
        producers_window_ns: 86_400_000_000_000,
        producers_max: 100_000,
        voters: vec![member(1), member(2), member(3)],
        learners: vec![member(9)],
    }
}

/// One entry of each kind.
pub(super) fn samples() -> Vec<Entry> {
    vec![
        encode_noop(&context()),
        batch(),
        encode_configuration(&context(), &configuration()).unwrap(),
        encode_open_producer(&context(), "usgs").unwrap(),
    ]
}

/// Makes all checks of an entry hold again after its header or body was changed. Works on raw offsets, as the
/// documentation has them.
pub(super) fn reseal(bytes: &mut [u8]) {
    let trailer_at = bytes.len() - 16;
    let body_crc = crc32(&bytes[80..trailer_at]);
    bytes[72..76].copy_from_slice(&body_crc.to_le_bytes());
    let header_crc = crc32(&bytes[..76]);
    bytes[76..80].copy_from_slice(&header_crc.to_le_bytes());
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let chain = chain64(word(32), Term(word(16)), LogIndex(word(24)), header_crc, body_crc);
    bytes[trailer_at..trailer_at + 8].copy_from_slice(&chain.to_le_bytes());
}

/// `entry` with `value` at `at`, and all checks made to hold.
fn patched(entry: &Entry, at: usize, value: &[u8]) -> Result<Entry, EntryError> {
    let mut bytes = entry.bytes().to_vec();
    bytes[at..at + value.len()].copy_from_slice(value);
    reseal(&mut bytes);
    Entry::from_vec(bytes)
}

#[test]
fn header_and_trailer_lie_where_the_layout_says() {
    let entry = batch();
    let bytes = entry.bytes();
    let u16_at = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let end = bytes.len() - 16;
    assert_eq!(&bytes[..4], b"TCE1");
    assert_eq!(u32_at(0), ENTRY_MAGIC);
    assert_eq!((bytes[4], bytes[5], u16_at(6)), (1, EntryKind::Events.code(), 0));
    assert_eq!(u32_at(8) as usize, bytes.len());
    assert_eq!(u32_at(12) as usize, entry.view().body().len());
    assert_eq!((u64_at(16), u64_at(24), u64_at(32)), (3, 7, 0x0123_4567_89ab_cdef));
    assert_eq!((u64_at(40), u64_at(48), u64_at(56)), (100, 5_000_000_000, 1_700_000_000_000_000_000));
    assert_eq!((u32_at(64), u16_at(68), u16_at(70)), (3, 0, 0));
    assert_eq!(u32_at(72), crc32(&bytes[80..end]));
    assert_eq!(u32_at(76), crc32(&bytes[..76]));
    assert_eq!(u64_at(end), entry.chain());
    assert_eq!(u32_at(end + 8) as usize, bytes.len());
    assert_eq!(u32_at(end + 12), TRAILER_MAGIC);
    assert_eq!(&bytes[end + 12..], b"TCE\0");
    assert_eq!(entry.header().id(), EntryId::new(Term(3), LogIndex(7)));
    assert_eq!(entry.header().next_offset(), Offset(103));
    assert_eq!(encode_noop(&context()).header().next_offset(), Offset(100));
}

#[test]
fn every_kind_comes_back_from_its_bytes() {
    for entry in samples() {
        let again = Entry::decode(entry.bytes()).unwrap();
        assert_eq!(again, entry);
        assert_eq!(again.header(), entry.header());
        assert_eq!(Entry::from_vec(entry.bytes().to_vec()).unwrap(), entry);
        assert!(entry.len_bytes().is_multiple_of(8));
    }
    let [noop, _, config, open] = <[Entry; 4]>::try_from(samples()).unwrap();
    assert_eq!(noop.len_bytes(), 96);
    assert_eq!(config.configuration().unwrap(), configuration());
    assert_eq!(open.open_producer().unwrap().name, "usgs");
    assert_eq!(noop.configuration(), Err(EntryError::WrongKind));
    assert_eq!(noop.open_producer(), Err(EntryError::WrongKind));
    assert_eq!(config.events().map(|_| ()), Err(EntryError::WrongKind));
}

#[test]
fn clones_share_their_bytes_and_cross_threads() {
    fn crosses_threads<T: Send + Sync + 'static>(_: &T) {}
    let entry = batch();
    crosses_threads(&entry);
    assert!(std::ptr::eq(entry.clone().bytes(), entry.bytes()));
}

#[test]
fn exactly_one_entry_is_decoded() {
    let mut bytes = batch().bytes().to_vec();
    let length = bytes.len();
    bytes.extend_from_slice(encode_noop(&context()).bytes());
    assert_eq!(Entry::decode(&bytes), Err(EntryError::TrailingBytes(96)));
    let (view, consumed) = super::EntryView::parse(&bytes).unwrap();
    assert_eq!((consumed, view.bytes().len()), (length, length));
}

#[test]
fn chain_is_fixed_for_ever() {
    // On disks: a change here is a format change.
    let chain = chain64(0x5555_5555_5555_5555, Term(2), LogIndex(3), 0x1111_1111, 0x2222_2222);
    assert_eq!(chain, 0x8279_032c_e151_f1a9);
}

#[test]
fn what_a_newer_build_wrote_is_unsupported_and_not_damage() {
    let entry = batch();
    assert_eq!(patched(&entry, 4, &[2]), Err(EntryError::UnknownVersion(2)));
    assert_eq!(patched(&entry, 4, &[0]), Err(EntryError::UnknownVersion(0)));
    for reserved in 6..=8 {
        assert_eq!(patched(&entry, 5, &[reserved]), Err(EntryError::ReservedKind(reserved)));
    }
    assert_eq!(patched(&entry, 5, &[0]), Err(EntryError::UnknownKind(0)));
    assert_eq!(patched(&entry, 5, &[9]), Err(EntryError::UnknownKind(9)));
    assert_eq!(patched(&entry, 6, &[0, 1]), Err(EntryError::UnknownFlags(0x100)));
    assert_eq!(patched(&entry, 68, &[1]), Err(EntryError::UnknownGroup(1)));
    assert!(EntryError::UnknownVersion(2).is_unsupported());
    assert!(!EntryError::Malformed("x").is_unsupported());
}

#[test]
fn pitfall_52_header_counters_are_bounded_so_that_no_arithmetic_wraps() {
    let entry = batch();
    for (at, name) in [(16, "term"), (24, "index"), (40, "base_offset"), (48, "log_time_ns")] {
        let mut at_limit = entry.bytes().to_vec();
        at_limit[at..at + 8].copy_from_slice(&COUNTER_MAX.to_le_bytes());
        reseal(&mut at_limit);
        let header = EntryHeader::decode(&at_limit).unwrap();
        assert!(header.next_offset().0 <= COUNTER_MAX + 64);
        assert_eq!(patched(&entry, at, &(COUNTER_MAX + 1).to_le_bytes()), Err(EntryError::OutOfRange(name)));
        assert_eq!(patched(&entry, at, &u64::MAX.to_le_bytes()), Err(EntryError::OutOfRange(name)));
    }
    assert_eq!(patched(&entry, 24, &[0; 8]), Err(EntryError::OutOfRange("index")));
    assert_eq!(patched(&entry, 40, &[0; 8]), Err(EntryError::OutOfRange("base_offset")));
    for count in [0u32, 65, u32::MAX] {
        let error = patched(&entry, 64, &count.to_le_bytes());
        assert_eq!(error, Err(EntryError::OutOfRange("event_count")));
    }
    let noop = encode_noop(&context());
    assert_eq!(patched(&noop, 64, &[1]), Err(EntryError::OutOfRange("event_count")));
}

#[test]
fn pitfall_50_declared_sizes_are_bounded_before_anything_is_read() {
    let entry = batch();
    for total in [0u32, 8, ENTRY_BYTES_MAX as u32 + 8, u32::MAX] {
        let mut bytes = entry.bytes().to_vec();
        bytes[8..12].copy_from_slice(&total.to_le_bytes());
        reseal(&mut bytes);
        let error = EntryHeader::decode(&bytes).unwrap_err();
        assert!(matches!(error, EntryError::TooLarge { .. } | EntryError::Malformed(_)), "{error}");
    }
    assert!(matches!(patched(&entry, 12, &u32::MAX.to_le_bytes()), Err(EntryError::Malformed(_))));
    assert!(matches!(patched(&entry, 12, &0u32.to_le_bytes()), Err(EntryError::Malformed(_))));
    assert!(matches!(patched(&entry, 70, &[1]), Err(EntryError::Malformed(_))));
    // A no-op whose header claims a body, sizes agreeing.
    let mut bytes = encode_open_producer(&context(), "usgs").unwrap().bytes().to_vec();
    bytes[5] = EntryKind::Noop.code();
    reseal(&mut bytes);
    assert_eq!(Entry::from_vec(bytes), Err(EntryError::Malformed("a no-op has a body")));
}

#[test]
fn padding_must_be_zero_even_under_a_right_checksum() {
    let entry = encode_open_producer(&context(), "usgs").unwrap();
    let body_bytes = entry.header().body_bytes as usize;
    assert!(!body_bytes.is_multiple_of(8), "the sample has padding");
    let error = patched(&entry, 80 + body_bytes, &[1]);
    assert_eq!(error, Err(EntryError::Malformed("padding is not zero")));
}

#[test]
fn configurations_that_break_a_rule_are_neither_written_nor_read() {
    let member = |id: u16| Member { node_id: NodeId(id), incarnation: Incarnation::default() };
    let good = configuration();
    let bad = [
        Configuration { voters: vec![], ..good.clone() },
        Configuration { voters: vec![member(2), member(1)], ..good.clone() },
        Configuration { voters: vec![member(1), member(1)], ..good.clone() },
        Configuration { voters: vec![member(0)], ..good.clone() },
        Configuration { learners: vec![member(3)], ..good.clone() },
        Configuration { learners: (10..15).map(member).collect(), ..good.clone() },
        Configuration { cluster_name: String::new(), ..good.clone() },
        Configuration { cluster_name: "x".repeat(256), ..good.clone() },
        Configuration { producers_window_ns: COUNTER_MAX + 1, ..good.clone() },
    ];
    for configuration in &bad {
        assert!(encode_configuration(&context(), configuration).is_err(), "{configuration:?}");
    }
    let entry = encode_configuration(&context(), &good).unwrap();
    // Durability; counts; reserved; the second voter's id made the first's, and the learner's made a voter's.
    let bad_bytes: [(usize, &[u8]); 9] = [
        (20, &[0]),
        (20, &[3]),
        (21, &[0, 4]),
        (21, &[8]),
        (23, &[1]),
        (39, &[1]),
        (64, &[1]),
        (112, &[3]),
        (42, &[1]),
    ];
    for (at, value) in bad_bytes {
        assert!(matches!(patched(&entry, 80 + at, value), Err(EntryError::Malformed(_))), "byte {at}");
    }
    // More voters than members: the name is read as a member, and the body ends early.
    assert_eq!(patched(&entry, 80 + 21, &[5]), Err(EntryError::Malformed("a configuration ends early")));
}

#[test]
fn largest_configuration_comes_back() {
    let member = |id: u16| Member { node_id: NodeId(id), incarnation: Incarnation(u128::MAX) };
    let most = Configuration {
        cluster_name: "n".repeat(255),
        durability: Durability::Memory,
        voters: (65_529..=65_535).map(member).collect(),
        learners: vec![],
        ..configuration()
    };
    let entry = encode_configuration(&context(), &most).unwrap();
    assert_eq!(entry.configuration().unwrap(), most);
}

#[test]
fn open_producer_bodies_that_break_a_rule_are_refused() {
    let entry = encode_open_producer(&context(), "usgs").unwrap();
    assert_eq!(patched(&entry, 80, &[5]), Err(EntryError::Malformed("open_producer ends early")));
    assert!(matches!(patched(&entry, 80, &[3]), Err(EntryError::Malformed(_))));
    assert!(matches!(patched(&entry, 84, &[1]), Err(EntryError::Malformed(_))));
    assert_eq!(patched(&entry, 89, &[0xff]), Err(EntryError::Name("is not UTF-8")));
    assert_eq!(encode_open_producer(&context(), ""), Err(EntryError::Name("is empty")));
}

#[test]
fn topics_and_names_follow_their_rules() {
    for good in ["a", "quakes", "a/b.c-d", "erdbeben-München", "地震", &"t".repeat(255)] {
        assert_eq!(validate_topic(good), Ok(()), "{good}");
    }
    for bad in ["", "a b", "a\tb", "quakes*", "*", "a\u{7f}", "a\u{85}", "a\u{2003}b", &"t".repeat(256)] {
        assert!(matches!(validate_topic(bad), Err(EntryError::Topic(_))), "{bad:?}");
    }
    for good in ["p", "two words", "*", "ü", &"p".repeat(255)] {
        assert_eq!(validate_producer_name(good), Ok(()), "{good}");
    }
    for bad in ["", "a\nb", "\u{0}", &"p".repeat(256)] {
        assert!(matches!(validate_producer_name(bad), Err(EntryError::Name(_))), "{bad:?}");
    }
}

#[test]
fn events_at_every_limit_are_encoded_and_one_past_it_refused() {
    let body = vec![7u8; EVENT_BODY_BYTES_MAX + 1];
    let topic = "t".repeat(TOPIC_BYTES_MAX);
    let name = "n".repeat(255);
    let value = vec![1u8; ATTRIBUTES_BYTES_MAX - 258];
    let attributes = [(name.as_str(), value.as_slice())];
    let largest = EventParts {
        topic: &topic,
        attributes: &attributes,
        body: &body[..EVENT_BODY_BYTES_MAX],
        ..event(COUNTER_MAX)
    };
    let bytes = encoded(&largest);
    assert!(bytes.len() <= EVENT_BYTES_MAX);
    assert_eq!(encoded_event_bytes(&largest), Ok(bytes.len()));
    let (view, consumed) = parse_event(&bytes).unwrap();
    assert_eq!(consumed, bytes.len());
    assert_eq!((view.body, view.topic, view.sequence), (largest.body, largest.topic, largest.sequence));
    assert_eq!(view.attributes.get(&name), Some(value.as_slice()));

    let mut out = vec![1, 2, 3];
    let longer = vec![1u8; ATTRIBUTES_BYTES_MAX - 257];
    let many = [("a", &b""[..]); 65];
    let refused = [
        EventParts { body: &body, ..largest },
        EventParts { attributes: &[(name.as_str(), longer.as_slice())], ..largest },
        EventParts { attributes: &many, ..largest },
        EventParts { attributes: &[("", b"")], ..largest },
        EventParts { topic: "a*", ..largest },
        EventParts { sequence: Sequence(0), ..largest },
        EventParts { sequence: Sequence(COUNTER_MAX + 1), ..largest },
    ];
    for parts in &refused {
        assert!(encode_event(&mut out, parts).is_err());
        assert_eq!(out, [1, 2, 3], "nothing is left behind");
    }
    encode_event(&mut out, &EventParts { attributes: &many[..64], ..event(1) }).unwrap();
    assert_eq!(parse_event(&out[3..]).unwrap().0.attributes.iter().count(), 64);
}

#[test]
fn smallest_event_is_what_the_constant_says() {
    let bytes = encoded(&EventParts { topic: "t", attributes: &[], body: b"", ..event(1) });
    assert_eq!(bytes.len(), super::EVENT_BYTES_MIN);
    assert_eq!(parse_event(&bytes).unwrap().0.body, b"");
}

#[test]
fn events_that_break_a_rule_are_refused() {
    let good = encoded(&EventParts { body: b"12", ..event(1) });
    assert!(parse_event(&good).is_ok());
    let last = good.len() - 1;
    let with = |at: usize, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        parse_event(&bytes).map(|_| ()).unwrap_err()
    };
    assert!(matches!(with(0, &u32::MAX.to_le_bytes()), EntryError::TooLarge { .. }));
    assert!(matches!(with(4, &u32::MAX.to_le_bytes()), EntryError::TooLarge { .. }));
    assert!(matches!(with(4, &[100]), EntryError::Malformed(_)));
    assert_eq!(with(8, &[0; 8]), EntryError::OutOfRange("sequence"));
    assert_eq!(with(8, &[0xff; 8]), EntryError::OutOfRange("sequence"));
    assert_eq!(with(30, &[1]), EntryError::Malformed("the flags of an event are not zero"));
    assert_eq!(with(32, b"*"), EntryError::Topic("contains '*'"));
    assert_eq!(with(32, &[0xff]), EntryError::Topic("is not UTF-8"));
    assert_eq!(with(38, &[0]), EntryError::Name("is empty"));
    assert!(
        matches!(with(38, &[200]), EntryError::Malformed(_)),
        "an attribute past the end is no truncation"
    );
    assert_eq!(with(last, &[1]), EntryError::Malformed("the padding of an event is not zero"));
    for length in 0..good.len() {
        let error = parse_event(&good[..length]).unwrap_err();
        assert!(matches!(error, EntryError::Truncated { needed, left } if needed > left && left == length));
    }
}
