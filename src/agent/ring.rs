//! SPSC rings (`rtrb`) with wake-up: the only way in which agents speak to each other.
//!
//! Wake-up protocol (rule 5): a thread about to wait sets its `sleeping` flag, looks at its rings once more, and only
//! then waits in its poll. A producer publishes its item, then reads the flag; only when it is set does it pay for a
//! wake-up. Both sides put a sequentially consistent fence between their write and their read, so at least one of
//! them sees the other: no wake-up is lost, and an awake thread costs its producers one load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam::utils::CachePadded;

use crate::metrics::Counter;

struct WakeState {
    sleeping: CachePadded<AtomicBool>,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// Wakes one thread, if it sleeps. Cheap to clone; `none()` where nobody sleeps (tests, simulator).
#[derive(Clone)]
pub struct WakeHandle(Option<Arc<WakeState>>);

impl WakeHandle {
    /// A handle for a consumer that never sleeps.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// A handle whose consumer is woken by `wake` (which must be callable from any thread and never block).
    #[must_use]
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(WakeState {
            sleeping: CachePadded::new(AtomicBool::new(false)),
            wake: Box::new(wake),
        })))
    }

    /// Producer side: call after the item is visible.
    pub fn notify(&self) {
        if let Some(state) = &self.0 {
            fence(Ordering::SeqCst);
            if state.sleeping.load(Ordering::Relaxed) && state.sleeping.swap(false, Ordering::AcqRel) {
                (state.wake)();
            }
        }
    }

    /// Consumer side: from now on producers will wake this thread. It must look at its rings once more before it
    /// waits.
    pub fn announce_sleep(&self) {
        if let Some(state) = &self.0 {
            state.sleeping.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
    }

    /// Consumer side: awake again.
    pub fn announce_awake(&self) {
        if let Some(state) = &self.0 {
            state.sleeping.store(false, Ordering::Relaxed);
        }
    }
}

/// Sending end of a ring.
pub struct RingSender<T> {
    ring: rtrb::Producer<T>,
    wake: WakeHandle,
    /// How often the ring was found full: a stall, never a loss.
    stalls: Counter,
}

impl<T> RingSender<T> {
    /// Hands `item` on, or gives it back when the ring is full (counted; the caller keeps it and tries again).
    ///
    /// # Errors
    /// The item itself.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        match self.ring.push(item) {
            Ok(()) => {
                self.wake.notify();
                Ok(())
            }
            Err(rtrb::PushError::Full(item)) => {
                self.stalls.increment();
                Err(item)
            }
        }
    }

    /// Free places as seen now; never fewer than this at the next push.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.ring.slots()
    }

    /// How often this ring was found full.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.get()
    }
}

/// Receiving end of a ring.
pub struct RingReceiver<T> {
    ring: rtrb::Consumer<T>,
}

impl<T> RingReceiver<T> {
    /// The next item, if one is there.
    pub fn pop(&mut self) -> Option<T> {
        self.ring.pop().ok()
    }

    /// The next item without taking it.
    #[must_use]
    pub fn peek(&self) -> Option<&T> {
        self.ring.peek().ok()
    }

    /// Nothing is there now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
}

/// Makes a ring of `capacity` items whose consumer is woken by `wake`; a push that finds it full raises `stalls`.
/// Only [`super::rings`] calls this.
#[must_use]
pub fn ring<T>(capacity: usize, wake: WakeHandle, stalls: Counter) -> (RingSender<T>, RingReceiver<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    (RingSender { ring: producer, wake, stalls }, RingReceiver { ring: consumer })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{WakeHandle, ring};
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
        let (mut sender, mut receiver) = {
            let thread = std::thread::current();
            ring::<u64>(4, WakeHandle::new(move || thread.unpark()), Counter::detached())
        };
        let wake = sender.wake.clone();
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
}
