//! Rings and wake-ups between real threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ring::{WakeHandle, ring};
use crate::metrics::Counter;

#[test]
fn a_full_ring_gives_the_item_back_and_counts_it() {
    let (mut sender, mut receiver) = ring(2, WakeHandle::none(), Counter::detached());
    assert_eq!(sender.push(1), Ok(()));
    assert_eq!(sender.push(2), Ok(()));
    assert_eq!(sender.push(3), Err(3));
    assert_eq!(sender.stalls(), 1);
    assert_eq!((receiver.pop(), receiver.pop(), receiver.pop()), (Some(1), Some(2), None));
}

#[test]
fn only_a_sleeper_is_woken_and_only_once() {
    let woken = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&woken);
    let wake = WakeHandle::new(move || {
        seen.fetch_add(1, Ordering::SeqCst);
    });
    let (mut sender, _receiver) = ring(8, wake.clone(), Counter::detached());
    let _ = sender.push(1);
    assert_eq!(woken.load(Ordering::SeqCst), 0);
    wake.announce_sleep();
    let _ = sender.push(2);
    let _ = sender.push(3);
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    wake.announce_sleep();
    wake.announce_awake();
    let _ = sender.push(4);
    assert_eq!(woken.load(Ordering::SeqCst), 1);
}

#[test]
fn no_wake_up_is_lost_between_two_threads() {
    // The consumer parks through the protocol; were a wake-up lost, it would park for ever and the count miss.
    let thread = std::thread::current();
    let wake = WakeHandle::new(move || thread.unpark());
    let (mut sender, mut receiver) = ring::<u64>(4, wake.clone(), Counter::detached());
    let producer = std::thread::spawn(move || {
        for n in 0..20_000u64 {
            let mut item = n;
            while let Err(back) = sender.push(item) {
                item = back;
                std::thread::yield_now();
            }
        }
    });
    let mut expected = 0;
    while expected < 20_000 {
        if let Some(n) = receiver.pop() {
            assert_eq!(n, expected);
            expected += 1;
            continue;
        }
        wake.announce_sleep();
        if receiver.is_empty() {
            std::thread::park();
        }
        wake.announce_awake();
    }
    producer.join().expect("producer");
}
