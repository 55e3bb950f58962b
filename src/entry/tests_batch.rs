//! The accumulator: when a batch is due, what fits, and that events cost no allocation.

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::tests::{context, encoded, event, producer};
use super::{BatchAccumulator, BatchLimits, EntryError, EventParts, ProducerRef, parse_event};
use crate::base::ids::{Epoch, ProducerId};
use crate::base::limits::{ENTRY_BYTES_MAX, EVENT_BYTES_MAX};

const MS: u64 = 1_000_000;

fn with_one_event(now_ns: u64) -> BatchAccumulator {
    let mut batch = BatchAccumulator::new(BatchLimits::default());
    batch.push(now_ns, producer(1, "p"), &encoded(&event(1))).unwrap();
    batch
}

#[test]
fn an_empty_batch_is_never_due() {
    let batch = BatchAccumulator::new(BatchLimits::default());
    assert!(batch.is_empty());
    assert!(!batch.is_due(u64::MAX, false));
    assert!(!batch.is_due(u64::MAX, true));
    assert!(!batch.is_full());
    assert_eq!((batch.deadline_ns(), batch.event_count(), batch.entry_bytes()), (None, 0, 0));
}

#[test]
fn a_batch_is_due_at_once_while_nothing_is_in_flight_and_else_after_the_delay() {
    let mut batch = with_one_event(5 * MS);
    assert!(batch.is_due(5 * MS, false));
    assert!(!batch.is_due(5 * MS, true));
    assert!(!batch.is_due(6 * MS - 1, true));
    assert!(batch.is_due(6 * MS, true));
    assert_eq!(batch.deadline_ns(), Some(6 * MS));
    // Later events do not move the deadline: the first one's wait is what counts.
    batch.push(5 * MS + 900_000, producer(1, "p"), &encoded(&event(2))).unwrap();
    assert_eq!(batch.deadline_ns(), Some(6 * MS));
    // After a seal the next first event sets it anew.
    batch.seal(&context());
    assert_eq!(batch.deadline_ns(), None);
    batch.push(9 * MS, producer(1, "p"), &encoded(&event(3))).unwrap();
    assert_eq!(batch.deadline_ns(), Some(10 * MS));
    assert_eq!(with_one_event(u64::MAX).deadline_ns(), Some(u64::MAX));
}

#[test]
fn a_full_batch_is_due_whatever_is_in_flight() {
    let mut batch = BatchAccumulator::new(BatchLimits::default());
    for sequence in 1..=64 {
        assert!(!batch.is_due(0, true), "before event {sequence}");
        batch.push(0, producer(1, "p"), &encoded(&event(sequence))).unwrap();
    }
    assert!(batch.is_full() && batch.is_due(0, true));
    assert!(!batch.fits(40, None));
    assert_eq!(batch.push(0, producer(1, "p"), &encoded(&event(65))), Err(EntryError::BatchFull));
    assert_eq!(batch.event_count(), 64);
    assert_eq!(batch.seal(&context()).header().event_count, 64);
    assert!(batch.is_empty() && !batch.has_producer(ProducerId(1), Epoch(1)));
}

#[test]
fn the_byte_limit_fills_a_batch_too_and_an_event_above_it_travels_alone() {
    let mut batch = BatchAccumulator::new(BatchLimits { bytes_max: 1024, ..BatchLimits::default() });
    let body = [0u8; 4096];
    let large = encoded(&EventParts { body: &body, ..event(1) });
    assert!(batch.fits(large.len(), Some(1)));
    batch.push(0, producer(1, "p"), &large).unwrap();
    assert!(batch.is_full() && batch.is_due(0, true));
    assert_eq!(batch.seal(&context()).header().event_count, 1);

    let half = encoded(&EventParts { body: &body[..400], ..event(1) });
    batch.push(0, producer(1, "p"), &half).unwrap();
    assert!(!batch.is_full());
    assert!(!batch.fits(half.len(), None));
    assert_eq!(batch.push(0, producer(1, "p"), &half), Err(EntryError::BatchFull));
    assert!(batch.seal(&context()).len_bytes() <= 1024);
}

#[test]
fn a_new_producer_counts_with_its_name() {
    let mut batch = with_one_event(0);
    let bytes = encoded(&event(1)).len();
    let before = batch.entry_bytes();
    batch.limits.bytes_max = before + bytes + 32;
    assert!(batch.fits(bytes, None));
    assert!(batch.fits(bytes, Some(16)));
    assert!(!batch.fits(bytes, Some(17)));
    assert!(!batch.fits(bytes, Some(256)));
    assert!(batch.fits_from(&producer(1, "p"), bytes));
    assert!(!batch.fits_from(&producer(2, "a name of nineteen b"), bytes));
    batch.push(0, producer(2, "sixteen letters."), &encoded(&event(1))).unwrap();
    assert_eq!(batch.entry_bytes(), batch.limits.bytes_max);
}

#[test]
fn what_no_decoder_would_take_is_not_pushed() {
    let mut batch = BatchAccumulator::new(BatchLimits::default());
    let good = encoded(&event(1));
    let mut two = good.clone();
    two.extend_from_slice(&good);
    for bytes in [&[][..], &good[..good.len() - 8], &two] {
        assert!(matches!(batch.push(0, producer(1, "p"), bytes), Err(EntryError::Malformed(_))));
    }
    let too_large = vec![0; EVENT_BYTES_MAX + 8];
    assert!(matches!(batch.push(0, producer(1, "p"), &too_large), Err(EntryError::TooLarge { .. })));
    for bad in [producer(0, "p"), producer(u64::MAX, "p"), producer(1, ""), producer(1, "\n")] {
        assert!(batch.push(0, bad, &good).is_err());
    }
    assert!(batch.push(0, ProducerRef { epoch: Epoch(0), ..producer(1, "p") }, &good).is_err());
    assert!(batch.is_empty());
    assert_eq!(batch.deadline_ns(), None);
}

#[test]
fn clear_forgets_all() {
    let mut batch = with_one_event(3);
    batch.clear();
    assert!(batch.is_empty() && !batch.has_producer(ProducerId(1), Epoch(1)));
    batch.push(9, producer(4, "other"), &encoded(&event(8))).unwrap();
    let entry = batch.seal(&context());
    let events = entry.events().unwrap();
    assert_eq!(events.producers().iter().collect::<Vec<_>>(), [producer(4, "other")]);
    assert_eq!(events.event_count(), 1);
}

#[test]
fn in_the_steady_state_events_cost_no_allocation() {
    let mut batch = BatchAccumulator::new(BatchLimits::default());
    let body = [3u8; 512];
    let bytes = encoded(&EventParts { body: &body, ..event(1) });
    let names = ["a", "b", "c"];
    for round in 0..3 {
        let mut capacities = None;
        for at in 0..64 {
            batch.push(0, producer(1 + at % 3, names[at as usize % 3]), &bytes).unwrap();
            let now = (batch.buffer.capacity(), batch.slots.capacity());
            let before = *capacities.get_or_insert(now);
            assert!(round == 0 || before == now, "round {round}, event {at}: {before:?} became {now:?}");
        }
        let entry = batch.seal(&context());
        assert_eq!(entry.events().unwrap().producers().len(), 3);
    }
}

proptest! {
    #[test]
    fn fits_foretells_push_and_no_entry_passes_its_limits(
        bytes_max in 200usize..ENTRY_BYTES_MAX,
        events_max in 1usize..=64,
        pushes in prop::collection::vec((any::<u8>(), 0u64..6, 1usize..=255), 1..100),
    ) {
        let limits = BatchLimits { events_max, bytes_max, delay_max_ns: 0 };
        let mut batch = BatchAccumulator::new(limits);
        let body = vec![0u8; 1 << 20];
        let long = "n".repeat(255);
        for (size, id, name_bytes) in pushes {
            // Sizes from nothing to the limit, all magnitudes alike.
            let size = ((1u64 << (size % 21)) + u64::from(size)) as usize;
            let bytes = encoded(&EventParts { body: &body[..size.min(body.len())], ..event(1) });
            let producer = producer(1 + id, &long[..name_bytes]);
            let fits = batch.fits_from(&producer, bytes.len());
            let known = batch.has_producer(producer.id, producer.epoch);
            prop_assert_eq!(fits, batch.fits(bytes.len(), if known { None } else { Some(name_bytes) }));
            prop_assert!(fits || !batch.is_empty(), "an empty batch takes every event");
            let before = batch.entry_bytes();
            match batch.push(0, producer, &bytes) {
                Ok(()) => prop_assert!(fits),
                Err(error) => {
                    prop_assert_eq!(error, EntryError::BatchFull);
                    prop_assert!(!fits);
                    prop_assert_eq!(batch.entry_bytes(), before);
                }
            }
            let (foretold, count) = (batch.entry_bytes(), batch.event_count());
            prop_assert!(count <= events_max);
            prop_assert!(foretold <= ENTRY_BYTES_MAX);
            prop_assert!(foretold <= bytes_max || count == 1);
            if !fits {
                let entry = batch.seal(&context());
                prop_assert_eq!((entry.len_bytes(), entry.header().event_count as usize), (foretold, count));
            }
        }
    }
}

#[test]
#[should_panic(expected = "only a batch with events is sealed")]
fn sealing_an_empty_batch_is_a_bug() {
    BatchAccumulator::new(BatchLimits::default()).seal(&context());
}

#[test]
fn the_slot_is_written_into_the_batch_and_not_into_the_input() {
    let mut batch = with_one_event(0);
    let bytes = encoded(&event(1));
    batch.push(0, producer(2, "q"), &bytes).unwrap();
    assert_eq!(parse_event(&bytes).unwrap().0.producer_slot, 0);
    let entry = batch.seal(&context());
    let slots: Vec<u16> = entry.events().unwrap().iter().map(|(_, event)| event.producer_slot).collect();
    assert_eq!(slots, [0, 1]);
}
