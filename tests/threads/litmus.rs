//! What the checker itself can see, on programs whose answers are known.

use std::sync::Arc;

use crate::lab::{Model, explore};
use crate::sync_model::{AtomicBool, AtomicU64, Ordering, fence};

/// Two threads, each with one flag: `first` and then `second` on the one, the flags exchanged on the other.
fn both<T: 'static>(first: fn(&AtomicBool, &AtomicBool) -> T) -> (T, T) {
    let flags = Arc::new((AtomicBool::new(false), AtomicBool::new(false)));
    let theirs = Arc::clone(&flags);
    let other = loom::thread::spawn(move || first(&theirs.1, &theirs.0));
    let mine = first(&flags.0, &flags.1);
    (mine, other.join().unwrap())
}

fn fails(run: fn()) -> bool {
    explore(Model { name: "litmus", preemptions: None, run }, None).failure.is_some()
}

/// Store one's flag, then look at the other's: the shape of falling asleep and waking.
#[test]
fn store_buffering_shows_and_only_fences_of_both_sides_prevent_it() {
    fn fenced(mine: &AtomicBool, theirs: &AtomicBool) -> bool {
        mine.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        theirs.load(Ordering::Relaxed)
    }
    fn half(mine: &AtomicBool, theirs: &AtomicBool) -> bool {
        mine.store(true, Ordering::Release);
        fence(Ordering::AcqRel);
        theirs.load(Ordering::Acquire)
    }
    fn bare(mine: &AtomicBool, theirs: &AtomicBool) -> bool {
        mine.store(true, Ordering::Release);
        theirs.load(Ordering::Acquire)
    }
    fn one_sees(outcome: (bool, bool)) {
        assert!(outcome.0 || outcome.1, "neither saw the other");
    }
    assert!(!fails(|| one_sees(both(fenced))));
    assert!(fails(|| one_sees(both(half))));
    assert!(fails(|| one_sees(both(bare))));
}

/// Look first, then store: that both see the other's later store is allowed by the language, and by some machines, but
/// the checker never shows it. No protocol here rests on it: every load whose thread stores something on the strength of
/// it acquires, or stands behind a fence. Should this test fail one day, the checker has learnt it: good.
#[test]
fn load_buffering_is_not_shown() {
    fn look_first(mine: &AtomicBool, theirs: &AtomicBool) -> bool {
        let seen = theirs.load(Ordering::Relaxed);
        mine.store(true, Ordering::Relaxed);
        seen
    }
    assert!(!fails(|| assert_ne!(both(look_first), (true, true))));
}

/// Orders that are asked of single accesses, not of fences, are weaker in the checker than in the language: it may show
/// what cannot happen, never hide what can.
#[test]
fn sequentially_consistent_accesses_count_as_acquire_and_release() {
    fn accesses(mine: &AtomicBool, theirs: &AtomicBool) -> bool {
        mine.store(true, Ordering::SeqCst);
        theirs.load(Ordering::SeqCst)
    }
    assert!(fails(|| {
        let (mine, theirs) = both(accesses);
        assert!(mine || theirs);
    }));
}

/// An exchange stands right behind the value that it read, so what the first thread stores next is newer than it. The
/// checker does not know, and shows the exchange's value to a thread that has seen the newer store: a false alarm. That
/// is why `agent/wake.rs` takes its flag by an exchange that writes nothing where there is nothing to take.
#[test]
fn a_store_is_not_known_to_be_newer_than_an_exchange_of_the_value_before_it() {
    assert!(fails(|| {
        let cells = Arc::new((AtomicU64::new(0), AtomicBool::new(false)));
        let theirs = Arc::clone(&cells);
        let other = loom::thread::spawn(move || {
            theirs.0.store(1, Ordering::Relaxed);
            theirs.0.store(2, Ordering::Relaxed);
            theirs.1.store(true, Ordering::Release);
        });
        let before = cells.0.swap(9, Ordering::Relaxed);
        if before == 1 && cells.1.load(Ordering::Acquire) {
            assert_eq!(cells.0.load(Ordering::Relaxed), 2);
        }
        other.join().unwrap();
    }));
}
