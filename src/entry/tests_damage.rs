//! Damage: every byte of an entry is under some check, and recovery can tell what it met.

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::seal::{finish, start};
use super::tests::{batch, context, encoded, event, producer, reseal, samples};
use super::{
    BatchAccumulator, BatchLimits, Entry, EntryError, EntryHeader, EntryKind, EntryView, EventParts, Probe,
    SealContext, encode_noop, parse_event, probe,
};
use crate::base::ids::{LogIndex, Term};

#[test]
fn every_change_of_a_single_byte_is_detected_and_told_apart() {
    for entry in samples() {
        let header = *entry.header();
        let mut bytes = entry.bytes().to_vec();
        for at in 0..bytes.len() {
            for flip in 1..=255u8 {
                bytes[at] ^= flip;
                let found = probe(&bytes);
                if at < EntryHeader::BYTES {
                    assert!(matches!(found, Probe::DamagedHeader(_)), "byte {at} ^ {flip:#x}: {found:?}");
                } else {
                    assert!(
                        matches!(found, Probe::DamagedBody(claimed, _) if claimed == header),
                        "byte {at} ^ {flip:#x}: {found:?}"
                    );
                }
                bytes[at] ^= flip;
            }
            bytes[at] ^= 1;
            assert!(EntryView::parse(&bytes).is_err());
            assert!(Entry::decode(&bytes).is_err());
            bytes[at] ^= 1;
        }
        assert!(Entry::decode(&bytes).is_ok());
    }
}

#[test]
fn pitfall_51_every_truncation_is_an_error_or_a_partial_entry() {
    for entry in samples() {
        let bytes = entry.bytes();
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            let error = EntryView::parse(cut).unwrap_err();
            assert!(
                matches!(error, EntryError::Truncated { needed, left } if needed > left && left == length)
            );
            match probe(cut) {
                Probe::Zero => assert_eq!(length, 0),
                Probe::DamagedHeader(_) => assert!((1..EntryHeader::BYTES).contains(&length)),
                Probe::Partial(header) => {
                    assert!(length >= EntryHeader::BYTES);
                    assert_eq!(&header, entry.header());
                }
                other => panic!("{length} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn probe_knows_the_rows_of_recovery() {
    let entry = batch();
    let mut bytes = entry.bytes().to_vec();
    bytes.extend_from_slice(&[0; 64]);
    let Probe::Whole(view) = probe(&bytes) else { panic!("a whole entry") };
    assert_eq!(view.bytes(), entry.bytes());
    assert_eq!(probe(&bytes[entry.len_bytes()..]), Probe::Zero);
    assert_eq!(probe(&[]), Probe::Zero);
    assert_eq!(probe(&[0; 3]), Probe::Zero);
    assert_eq!(probe(&[0, 0, 0, 0, 0, 0, 0, 0, 9]), Probe::Zero);
    assert!(matches!(probe(&[0, 0, 0, 0, 0, 0, 0, 9]), Probe::DamagedHeader(_)));

    // Torn: the header reached the disk, the rest did not.
    let mut torn = bytes.clone();
    torn[EntryHeader::BYTES..].fill(0);
    assert!(
        matches!(probe(&torn), Probe::DamagedBody(header, EntryError::BodyCrc { .. }) if &header == entry.header())
    );
    // Torn the other way about.
    let mut torn = bytes.clone();
    torn[..EntryHeader::BYTES].fill(0);
    assert_eq!(probe(&torn), Probe::Zero);

    let mut newer = entry.bytes().to_vec();
    newer[4] = 2;
    assert!(
        matches!(probe(&newer), Probe::DamagedHeader(EntryError::HeaderCrc { .. })),
        "a flip is no new version"
    );
    reseal(&mut newer);
    assert_eq!(probe(&newer), Probe::Unsupported(EntryError::UnknownVersion(2)));
    newer[4] = 1;
    newer[5] = 7;
    reseal(&mut newer);
    assert_eq!(probe(&newer), Probe::Unsupported(EntryError::ReservedKind(7)));
}

#[test]
fn a_body_under_a_foreign_header_is_detected() {
    // Two entries of one size at one place: header of one, the rest of the other, as a torn overwrite leaves them.
    let one = encode_noop(&context());
    let other = encode_noop(&SealContext { index: LogIndex(8), ..context() });
    let mut mixed = one.bytes().to_vec();
    mixed[EntryHeader::BYTES..].copy_from_slice(&other.bytes()[EntryHeader::BYTES..]);
    assert!(matches!(probe(&mixed), Probe::DamagedBody(_, EntryError::Trailer("chain"))));
}

#[test]
fn a_batch_that_breaks_a_rule_under_right_checksums_is_refused() {
    let entry = batch();
    let events_bytes = u32::from_le_bytes(entry.bytes()[84..88].try_into().unwrap()) as usize;
    let producers_at = 88 + events_bytes;
    let second_at = producers_at + 24;
    let with = |at: usize, value: &[u8]| {
        let mut bytes = entry.bytes().to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        reseal(&mut bytes);
        Entry::from_vec(bytes).unwrap_err()
    };
    assert_eq!(with(80, &[0]), EntryError::OutOfRange("producer_count"));
    assert_eq!(with(80, &[65]), EntryError::OutOfRange("producer_count"));
    assert!(matches!(with(80, &[1]), EntryError::Malformed(_)));
    assert!(matches!(with(80, &[3]), EntryError::Malformed(_)));
    assert!(matches!(with(82, &[1]), EntryError::Malformed(_)));
    assert!(matches!(with(84, &u32::MAX.to_le_bytes()), EntryError::Malformed(_)));
    assert!(!matches!(with(84, &0u32.to_le_bytes()), EntryError::Truncated { .. }));
    assert_eq!(with(88 + 24, &[2]), EntryError::OutOfRange("producer_slot"));
    assert_eq!(with(88 + 24, &[0xff, 0xff]), EntryError::OutOfRange("producer_slot"));
    assert!(matches!(with(88 + 8, &[0; 8]), EntryError::OutOfRange("sequence")));
    // Header's count against the events that there are.
    assert!(matches!(with(64, &[2]), EntryError::Malformed(_)));
    assert!(matches!(with(64, &[4]), EntryError::Malformed(_)));
    assert_eq!(with(producers_at, &[0; 8]), EntryError::OutOfRange("producer id"));
    assert_eq!(with(producers_at, &[0xff; 8]), EntryError::OutOfRange("producer id"));
    assert_eq!(with(producers_at + 8, &[0; 4]), EntryError::OutOfRange("producer epoch"));
    assert_eq!(with(producers_at + 12, &[0]), EntryError::Name("is empty"));
    assert_eq!(with(producers_at + 12, &[3]), EntryError::Malformed("the padding of a producer is not zero"));
    assert!(matches!(with(producers_at + 13, &[1]), EntryError::Malformed(_)));
    assert!(matches!(with(producers_at + 20, &[1]), EntryError::Malformed(_)));
    assert_eq!(with(producers_at + 16, &[0xff]), EntryError::Name("is not UTF-8"));
    assert_eq!(with(second_at, &[2]), EntryError::Malformed("a producer stands twice in a batch"));
    assert!(matches!(with(second_at + 12, &[255]), EntryError::Malformed(_)));
    // The second event, alone of its producer, is given to the first: the second producer has none left.
    let second_event = 88 + u32::from_le_bytes(entry.bytes()[88..92].try_into().unwrap()) as usize;
    assert_eq!(
        with(second_event + 24, &[0]),
        EntryError::Malformed("a producer of a batch wrote none of its events")
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = EntryHeader::decode(&bytes);
        let _ = EntryView::parse(&bytes);
        let _ = Entry::decode(&bytes);
        let _ = parse_event(&bytes);
        let _ = probe(&bytes);
    }

    #[test]
    fn arbitrary_bodies_under_right_checksums_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..300),
        event_count in 1u32..=64,
    ) {
        for kind in [EntryKind::Events, EntryKind::Configuration, EntryKind::OpenProducer] {
            let mut buffer = start(body.len());
            buffer.extend_from_slice(&body);
            let count = if kind == EntryKind::Events { event_count } else { 0 };
            let entry = finish(buffer, kind, count, &context());
            prop_assert_eq!(entry.view().body(), body.as_slice());
            let _ = entry.view().check_contents();
            let _ = Entry::decode(entry.bytes());
        }
    }

    #[test]
    fn damaged_contents_under_right_checksums_never_panic_and_what_passes_can_be_walked(
        which in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = samples()[which].bytes().to_vec();
        let end = bytes.len() - 16;
        for (at, value) in changes {
            let at = at.index(end);
            bytes[at] = value;
        }
        reseal(&mut bytes);
        if let Ok(entry) = Entry::from_vec(bytes)
            && entry.header().kind == EntryKind::Events
        {
            let events = entry.events().unwrap();
            prop_assert_eq!(events.iter().count(), events.event_count() as usize);
            for (_, event) in &events {
                prop_assert!(events.producers().get(event.producer_slot).is_some());
                prop_assert!(!event.topic.is_empty());
            }
        }
    }

    #[test]
    fn damaged_events_never_panic(at in 0usize..80, value: u8, length in 0usize..80) {
        let mut bytes = encoded(&event(1));
        let last = bytes.len() - 1;
        bytes[at.min(last)] = value;
        let _ = parse_event(&bytes);
        let _ = parse_event(&bytes[..length.min(last)]);
    }

    #[test]
    fn large_entries_detect_a_changed_byte_anywhere(at: prop::sample::Index, flip in 1u8..) {
        let body = vec![0x5a; 1 << 16];
        let mut batch = BatchAccumulator::new(BatchLimits::default());
        let parts = EventParts { body: &body, ..event(1) };
        batch.push(0, producer(1, "p"), &encoded(&parts)).unwrap();
        let mut bytes = batch.seal(&SealContext { term: Term(1), ..context() }).bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Entry::decode(&bytes).is_err());
    }
}
