//! The queue of unacknowledged events against a simple model, under random losses of connections.

use std::collections::VecDeque;

use super::outbox::Outbox;
use crate::base::ids::{Offset, ProducerId, Sequence};
use crate::base::prng::Prng;
use crate::client::Ack;
use crate::client::links::Credit;
use crate::entry::{Durability, EntryError, EventParts, parse_event};
use crate::protocol::client::{AckKind, AckRun};

const CREDIT: Credit = Credit { events: 40, bytes: 20_000, event_bytes_max: usize::MAX };

fn event(body: &[u8]) -> EventParts<'_> {
    EventParts { sequence: Sequence(1), timestamp_unix_ns: 1, priority: 0, topic: "t", attributes: &[], body }
}

fn run(first: u64, count: u32) -> AckRun {
    AckRun {
        producer_id: ProducerId(1),
        first_sequence: Sequence(first),
        first_offset: Offset(first + 1000),
        count,
        kind: AckKind::Written,
    }
}

/// Sequences in a frame, and that each body is what belongs to its sequence.
fn sequences(count: usize, mut bytes: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    for _ in 0..count {
        let (event, used) = parse_event(bytes).unwrap();
        let expected = event.sequence.0.to_le_bytes();
        assert!(event.body.iter().zip(expected.iter().cycle()).all(|(a, b)| a == b));
        found.push(event.sequence.0);
        bytes = &bytes[used..];
    }
    assert!(bytes.is_empty());
    found
}

#[test]
fn random_sends_losses_and_acknowledgements_keep_order_and_lose_nothing() {
    for seed in 1..=20 {
        let mut prng = Prng::new(seed);
        let mut outbox = Outbox::new(Sequence(1));
        let (mut acks, mut handed) = (VecDeque::new(), 0u64);
        let mut pushed = 0u64;
        // Sent on the present connection, unacknowledged, in order.
        let mut in_flight: VecDeque<u64> = VecDeque::new();
        let mut next_to_send = 1;
        for _ in 0..3000 {
            match prng.below(100) {
                0..45 => {
                    pushed += 1;
                    let size_limit = if prng.chance(20_000) { 60_000 } else { 900 };
                    let size = prng.below(size_limit) as usize;
                    let body: Vec<u8> = pushed.to_le_bytes().iter().copied().cycle().take(size).collect();
                    assert_eq!(outbox.push(&event(&body), usize::MAX), Ok(Sequence(pushed)));
                }
                45..70 => {
                    if let Some((count, bytes)) = outbox.take_frame(&CREDIT) {
                        for sequence in sequences(count, bytes) {
                            assert_eq!(sequence, next_to_send, "seed {seed}: sent in order");
                            next_to_send += 1;
                            in_flight.push_back(sequence);
                        }
                        assert!(in_flight.len() <= CREDIT.events);
                    }
                }
                70..97 if !in_flight.is_empty() => {
                    let count = prng.between(1, in_flight.len() as u64);
                    outbox.note(&run(in_flight[0], count as u32), Durability::Disk).unwrap();
                    in_flight.drain(..count as usize);
                    outbox.release(&mut acks);
                }
                97..100 => {
                    outbox.rewind();
                    in_flight.clear();
                    next_to_send = outbox.first().0;
                }
                _ => {}
            }
            assert_eq!(outbox.in_flight(), in_flight.len(), "seed {seed}");
            for ack in acks.drain(..) {
                let ack: Ack = ack;
                assert_eq!(ack.first_sequence.0, handed + 1, "seed {seed}: handed out in order");
                assert_eq!(ack.first_offset.0, handed + 1001);
                handed += u64::from(ack.count);
            }
            assert_eq!(outbox.len() as u64, pushed - handed);
        }
        assert!(handed > 500, "seed {seed}: {handed}");
    }
}

#[test]
fn acknowledgements_out_of_order_wait_for_the_front_and_repeats_change_nothing() {
    let mut outbox = Outbox::new(Sequence(1));
    for _ in 0..6 {
        outbox.push(&event(b""), usize::MAX).unwrap();
    }
    assert_eq!(outbox.take_frame(&CREDIT).map(|(count, _)| count), Some(6));
    let mut acks = VecDeque::new();
    outbox.note(&run(4, 2), Durability::Disk).unwrap();
    outbox.note(&run(4, 2), Durability::Disk).unwrap();
    outbox.release(&mut acks);
    assert!(acks.is_empty());
    assert_eq!(outbox.in_flight(), 4);
    outbox.note(&run(1, 3), Durability::Disk).unwrap();
    outbox.release(&mut acks);
    assert_eq!(acks.len(), 1, "one run, since sequences and offsets continue");
    assert_eq!((acks[0].first_sequence, acks[0].count), (Sequence(1), 5));
    // Old news, and what was never sent.
    outbox.note(&run(1, 5), Durability::Disk).unwrap();
    assert!(outbox.note(&run(6, 2), Durability::Disk).is_err());
    assert!(outbox.note(&run(u64::MAX >> 2, u32::MAX), Durability::Disk).is_err());
}

#[test]
fn runs_are_split_where_only_some_were_sent_again() {
    let mut outbox = Outbox::new(Sequence(1));
    outbox.push(&event(b""), usize::MAX).unwrap();
    outbox.take_frame(&CREDIT).unwrap();
    outbox.push(&event(b""), usize::MAX).unwrap();
    outbox.rewind();
    outbox.take_frame(&CREDIT).unwrap();
    outbox.note(&run(1, 2), Durability::Memory).unwrap();
    let mut acks = VecDeque::new();
    outbox.release(&mut acks);
    assert_eq!(acks.iter().map(|ack| (ack.count, ack.resent)).collect::<Vec<_>>(), [(1, true), (1, false)]);
}

#[test]
fn an_event_over_the_nodes_limit_leaves_the_queue_as_it_was() {
    let mut outbox = Outbox::new(Sequence(5));
    assert!(matches!(outbox.push(&event(&[0; 2000]), 1000), Err(EntryError::TooLarge { limit: 1000, .. })));
    assert!(outbox.is_empty());
    assert_eq!((outbox.len_bytes(), outbox.next_sequence()), (0, Sequence(5)));
}

#[test]
fn one_event_larger_than_the_credit_goes_alone() {
    let mut outbox = Outbox::new(Sequence(1));
    outbox.push(&event(b"small"), usize::MAX).unwrap();
    outbox.push(&event(&2u64.to_le_bytes().repeat(10_000)), usize::MAX).unwrap();
    assert_eq!(outbox.take_frame(&CREDIT).map(|(count, _)| count), Some(1));
    assert!(outbox.take_frame(&CREDIT).is_none(), "no credit while the small one is in flight");
    outbox.note(&run(1, 1), Durability::Disk).unwrap();
    assert_eq!(outbox.take_frame(&CREDIT).map(|(count, _)| count), Some(1));
}
