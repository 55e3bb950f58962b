//! A ring in the place of `rtrb`'s, which knows no checker. Assumed of `rtrb`: what is assumed here, that is one writer of
//! each position; the producer writes the slot, then stores the tail with release; the consumer loads the tail with
//! acquire, reads the slot, then stores the head with release; the producer loads the head with acquire before it writes
//! a slot again; each end remembers the other's position as last seen, and looks again only when that says full or empty.

use std::cell::Cell;
use std::sync::Arc;

use loom::cell::UnsafeCell;

use crate::sync_model::{AtomicUsize, Ordering};

pub struct RingBuffer<T> {
    slots: Box<[UnsafeCell<Option<T>>]>,
    head: AtomicUsize,
    tail: AtomicUsize,
}

// SAFETY: a slot is touched by one end at a time, which the positions tell; the checker fails a model where it is not so.
unsafe impl<T: Send> Sync for RingBuffer<T> {}

pub struct Producer<T> {
    ring: Arc<RingBuffer<T>>,
    tail: Cell<usize>,
    seen_head: Cell<usize>,
}

pub struct Consumer<T> {
    ring: Arc<RingBuffer<T>>,
    head: Cell<usize>,
    seen_tail: Cell<usize>,
}

#[derive(Debug)]
pub enum PushError<T> {
    Full(T),
}

#[derive(Debug)]
pub struct Empty;

impl<T> RingBuffer<T> {
    #[allow(clippy::new_ret_no_self)]
    pub fn new(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let slots = (0..capacity).map(|_| UnsafeCell::new(None)).collect();
        let ring = Arc::new(Self { slots, head: AtomicUsize::new(0), tail: AtomicUsize::new(0) });
        let (tail, seen_head) = (Cell::new(0), Cell::new(0));
        let producer = Producer { ring: Arc::clone(&ring), tail, seen_head };
        (producer, Consumer { ring, head: Cell::new(0), seen_tail: Cell::new(0) })
    }

    fn slot(&self, position: usize) -> &UnsafeCell<Option<T>> {
        &self.slots[position % self.slots.len()]
    }
}

impl<T> Producer<T> {
    pub fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        let tail = self.tail.get();
        if tail - self.seen_head.get() == self.ring.slots.len() && self.slots() == 0 {
            return Err(PushError::Full(item));
        }
        // SAFETY: the head says that the consumer is done with this slot, and the tail does not say yet that it is full.
        self.ring.slot(tail).with_mut(|slot| unsafe { *slot = Some(item) });
        self.ring.tail.store(tail + 1, Ordering::Release);
        self.tail.set(tail + 1);
        Ok(())
    }

    pub fn slots(&self) -> usize {
        self.seen_head.set(self.ring.head.load(Ordering::Acquire));
        self.ring.slots.len() - (self.tail.get() - self.seen_head.get())
    }
}

impl<T> Consumer<T> {
    fn has_next(&self) -> bool {
        if self.head.get() == self.seen_tail.get() {
            self.seen_tail.set(self.ring.tail.load(Ordering::Acquire));
        }
        self.head.get() != self.seen_tail.get()
    }

    pub fn pop(&mut self) -> Result<T, Empty> {
        if !self.has_next() {
            return Err(Empty);
        }
        let head = self.head.get();
        // SAFETY: the tail says that this slot is full, and the head does not say yet that it may be written again.
        let item = self.ring.slot(head).with_mut(|slot| unsafe { (*slot).take() });
        self.ring.head.store(head + 1, Ordering::Release);
        self.head.set(head + 1);
        item.ok_or(Empty)
    }

    pub fn peek(&self) -> Result<&T, Empty> {
        if !self.has_next() {
            return Err(Empty);
        }
        // SAFETY: as in `pop`; the borrow of `self` keeps this end from popping.
        self.ring.slot(self.head.get()).with(|slot| unsafe { (*slot).as_ref() }).ok_or(Empty)
    }

    pub fn is_empty(&self) -> bool {
        !self.has_next()
    }
}
