//! The producers' table as bytes.

use super::Producers;
use super::tests_kit::{Desk, SECOND};
use crate::base::ids::ProducerId;
use crate::base::prng::Prng;
use crate::entry::Entry;

/// A log in which producers open, write interleaved, and expire; the names are reopened.
fn busy_log(seed: u64) -> Vec<Entry> {
    const NAMES: [&str; 6] = ["a", "bb", "orders/ü", "d", "e", "f"];
    let mut prng = Prng::new(seed);
    let mut desk = Desk::new(20 * SECOND, 5);
    let mut known: Vec<(ProducerId, u32, &str, u64)> = Vec::new();
    for _ in 0..200 {
        desk.log_time_ns += prng.below(3) * SECOND;
        let name = NAMES[prng.below(6) as usize];
        if prng.below(4) == 0 || known.is_empty() {
            let producers = desk.applied_to(desk.last_index());
            let Ok(plan) = producers.would_open(name) else { continue };
            let entry = desk.open(name);
            let id = plan.existing.unwrap_or(ProducerId(entry.index().0));
            let next = known.iter().find(|known| known.0 == id).map_or(1, |known| known.3);
            known.retain(|known| known.2 != name);
            known.push((id, plan.epoch.0, name, next));
            continue;
        }
        let at = prng.below(known.len() as u64) as usize;
        let (id, epoch, name, next) = known[at];
        let producers = desk.applied_to(desk.last_index());
        let admit = super::tests_kit::ask(&producers, id, epoch, next);
        if admit != super::Admit::Append {
            known.remove(at);
            continue;
        }
        let count = 1 + prng.below(3);
        let events: Vec<_> = (next..next + count).map(|sequence| (id, epoch, name, sequence)).collect();
        desk.batch(&events);
        known[at].3 += count;
    }
    desk.entries
}

fn bytes_of(producers: &Producers) -> Vec<u8> {
    let mut bytes = Vec::new();
    producers.encode_state(&mut bytes);
    bytes
}

#[test]
fn a_stored_table_comes_back_and_goes_on_as_the_first_one_does() {
    for seed in 1..20 {
        let log = busy_log(seed);
        let mut live = Producers::new();
        let mut restored: Option<Producers> = None;
        for (at, entry) in log.iter().enumerate() {
            live.apply(&entry.view()).unwrap();
            if let Some(restored) = &mut restored {
                restored.apply(&entry.view()).unwrap();
            }
            if at % 37 == 20 {
                let back = Producers::decode_state(&bytes_of(&live)).unwrap();
                assert_eq!(back, live, "seed {seed}, entry {at}");
                assert_eq!(back.checksum(), back.recompute_checksum());
                restored = Some(back);
            }
        }
        assert_eq!(restored.as_ref(), Some(&live), "seed {seed}");
        assert!(live.count() > 0, "the log leaves producers behind");
    }
}

#[test]
fn damaged_tables_are_refused_or_mean_what_they_say() {
    let mut live = Producers::new();
    busy_log(3).iter().for_each(|entry| assert!(live.apply(&entry.view()).is_ok()));
    let bytes = bytes_of(&live);
    for len in 0..bytes.len() {
        assert!(Producers::decode_state(&bytes[..len]).is_err(), "cut at {len}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // No checksum here, so some flips give another table; but never one that is written otherwise.
        if let Ok(other) = Producers::decode_state(&flipped) {
            assert_eq!(bytes_of(&other), flipped, "bit {bit}");
        }
    }
}
