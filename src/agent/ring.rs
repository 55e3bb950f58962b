//! SPSC rings (`rtrb`) with wake-up (see [`super::wake`]): the only way in which agents speak to each other. Checked by
//! `tests/threads.rs`, over a ring of its own in the place of `rtrb`.

pub use super::wake::WakeHandle;
use crate::metrics::Counter;

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
