//! Falling asleep and waking: `agent/wake.rs` and `agent/ring.rs`, the stop flag of `agent/control.rs`.

use std::sync::Arc;

use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::control::{Control, Fatal};
use crate::lab::{Model, check};
use crate::metrics::Counter;
use crate::ring::{RingReceiver, RingSender, ring};
use crate::wake::{Sleeper, WakeHandle, sleep};

/// What a thread waits in: an eventfd in its poll. A ring before the wait ends the wait; several count as one; whoever is
/// woken sees what the waker did before.
pub struct Bell(Mutex<bool>, Condvar);

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(false), Condvar::new()))
    }

    fn ring(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.0.lock().unwrap();
        while !*rung {
            rung = self.1.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// A thread as `runtime/runner.rs` runs it, without time: it would sleep for ever, were it not woken.
pub struct Consumer {
    wake: WakeHandle,
    bell: Arc<Bell>,
    rings: Vec<RingReceiver<u32>>,
    control: Option<Control>,
    taken: Vec<u32>,
}

impl Consumer {
    fn new() -> Self {
        let bell = Bell::new();
        let rung = Arc::clone(&bell);
        let wake = WakeHandle::new(move || rung.ring());
        Self { wake, bell, rings: Vec::new(), control: None, taken: Vec::new() }
    }

    /// A ring into this thread.
    fn ring(&mut self, capacity: usize) -> RingSender<u32> {
        let (sender, receiver) = ring(capacity, self.wake.clone(), Counter::default());
        self.rings.push(receiver);
        sender
    }

    /// The agents' turn: takes what is there.
    fn turn(&mut self) -> usize {
        let before = self.taken.len();
        for ring in &mut self.rings {
            while let Some(item) = ring.pop() {
                self.taken.push(item);
            }
        }
        self.taken.len() - before
    }

    fn is_stopped(&self) -> bool {
        self.control.as_ref().is_some_and(Control::is_stopped)
    }

    /// The runner's loop, until so many items were taken or the node stops.
    fn work_until(&mut self, items: usize) {
        while self.taken.len() < items && !self.is_stopped() {
            if self.turn() == 0 {
                sleep(self);
            }
        }
    }
}

impl Sleeper for Consumer {
    type Waited = ();

    fn wake(&self) -> &WakeHandle {
        &self.wake
    }

    fn look(&mut self) -> bool {
        self.turn() > 0 || self.is_stopped()
    }

    fn wait(&mut self) {
        self.bell.wait();
    }
}

fn push(sender: &mut RingSender<u32>, items: std::ops::Range<u32>) {
    for item in items {
        sender.push(item).expect("the ring has room");
    }
}

fn one_item() {
    let mut consumer = Consumer::new();
    let mut sender = consumer.ring(1);
    let producer = thread::spawn(move || push(&mut sender, 0..1));
    consumer.work_until(1);
    producer.join().unwrap();
    assert_eq!(consumer.taken, [0]);
}

fn two_items() {
    let mut consumer = Consumer::new();
    let mut sender = consumer.ring(2);
    let producer = thread::spawn(move || push(&mut sender, 0..2));
    consumer.work_until(2);
    producer.join().unwrap();
    assert_eq!(consumer.taken, [0, 1]);
}

fn two_producers() {
    let mut consumer = Consumer::new();
    let producers = [0, 1].map(|item| {
        let mut sender = consumer.ring(1);
        thread::spawn(move || push(&mut sender, item..item + 1))
    });
    consumer.work_until(2);
    for producer in producers {
        producer.join().unwrap();
    }
    consumer.taken.sort_unstable();
    assert_eq!(consumer.taken, [0, 1]);
}

/// Somebody else ends a wait: a socket's event, or a wake-up that was owed since the sleep before.
fn spurious() {
    let mut consumer = Consumer::new();
    let bell = Arc::clone(&consumer.bell);
    let mut sender = consumer.ring(1);
    let producer = thread::spawn(move || push(&mut sender, 0..1));
    let stranger = thread::spawn(move || bell.ring());
    consumer.work_until(1);
    producer.join().unwrap();
    stranger.join().unwrap();
    assert_eq!(consumer.taken, [0]);
}

/// A question and its answer between two threads that both sleep.
fn question_and_answer() {
    let [mut asker, mut answerer] = [(); 2].map(|()| Consumer::new());
    let (mut questions, mut answers) = (answerer.ring(1), asker.ring(1));
    let other = thread::spawn(move || {
        answerer.work_until(1);
        push(&mut answers, 7..8);
        assert_eq!(answerer.taken, [3]);
    });
    push(&mut questions, 3..4);
    asker.work_until(1);
    other.join().unwrap();
    assert_eq!(asker.taken, [7]);
}

/// `ReplicationManager::stop`: a switch instead of an item.
fn stop() {
    let mut consumer = Consumer::new();
    let control = Control::new();
    consumer.control = Some(control.clone());
    let wake = consumer.wake.clone();
    let stopper = thread::spawn(move || {
        control.stop();
        wake.notify();
    });
    consumer.work_until(1);
    stopper.join().unwrap();
    assert!(consumer.is_stopped());
}

/// A thread whose agent gives up, beside one that sleeps while another hands it an item: nobody sleeps through it.
fn failure_beside_an_item() {
    let mut consumer = Consumer::new();
    let control = Control::new();
    consumer.control = Some(control.clone());
    let (mut sender, wake) = (consumer.ring(1), consumer.wake.clone());
    let producer = thread::spawn(move || push(&mut sender, 0..1));
    let failing = thread::spawn(move || {
        control.fail(Fatal::Disk("disk error".to_owned()));
        wake.notify();
    });
    consumer.work_until(usize::MAX);
    producer.join().unwrap();
    failing.join().unwrap();
    assert!(consumer.control.is_some_and(|control| control.fatal().is_some()));
}

/// A ring of one place that is filled twice: a slot is written again.
fn ring_goes_round() {
    let mut consumer = Consumer::new();
    let mut sender = consumer.ring(1);
    let producer = thread::spawn(move || {
        push(&mut sender, 0..1);
        // Full: as an agent that keeps its item for the next turn. Here it has but one more.
        let _ = sender.push(1);
    });
    consumer.work_until(1);
    producer.join().unwrap();
    consumer.turn();
    assert_eq!(consumer.taken[0], 0);
}

/// Planted: a sleeper that looks, then says that it sleeps.
fn looks_first() {
    let mut consumer = Consumer::new();
    let mut sender = consumer.ring(1);
    let producer = thread::spawn(move || push(&mut sender, 0..1));
    while consumer.turn() == 0 {
        consumer.wake.announce_sleep();
        consumer.bell.wait();
        consumer.wake.announce_awake();
    }
    producer.join().unwrap();
}

/// Planted: a producer that wakes, then publishes.
fn notifies_first() {
    let mut consumer = Consumer::new();
    let (mut sender, receiver) = ring(1, WakeHandle::none(), Counter::default());
    consumer.rings.push(receiver);
    let wake = consumer.wake.clone();
    let producer = thread::spawn(move || {
        wake.notify();
        push(&mut sender, 0..1);
    });
    consumer.work_until(1);
    producer.join().unwrap();
}

const fn model(name: &'static str, preemptions: Option<usize>, run: fn()) -> Model {
    Model { name, preemptions, run }
}

pub const ONE_ITEM: Model = model("one producer, one item", None, one_item);
pub const TWO_ITEMS: Model = model("one producer, two items", Some(4), two_items);
pub const TWO_PRODUCERS: Model = model("two producers", Some(3), two_producers);
pub const SPURIOUS: Model = model("a spurious wake-up", Some(3), spurious);
pub const QUESTION_AND_ANSWER: Model = model("a question and its answer", None, question_and_answer);
pub const STOP: Model = model("a stop", None, stop);
pub const FAILURE: Model = model("a failure beside an item", Some(3), failure_beside_an_item);

pub const RING_GOES_ROUND: Model = model("a ring goes round", None, ring_goes_round);
pub const LOOKS_FIRST: Model = model("planted: looks, then says that it sleeps", None, looks_first);
pub const NOTIFIES_FIRST: Model = model("planted: wakes, then publishes", None, notifies_first);

pub const ALL: &[Model] = &[ONE_ITEM, STOP, TWO_ITEMS, QUESTION_AND_ANSWER, TWO_PRODUCERS, SPURIOUS, FAILURE];

#[test]
fn one_producer_one_item() {
    check(ONE_ITEM);
}

#[test]
fn a_slot_is_written_again_behind_its_reader() {
    check(RING_GOES_ROUND);
}

#[test]
fn one_producer_two_items_and_a_sleeper_that_may_sleep_twice() {
    check(TWO_ITEMS);
}

#[test]
fn two_producers_through_clones_of_one_handle() {
    check(TWO_PRODUCERS);
}

#[test]
fn a_spurious_wake_up_loses_no_other() {
    check(SPURIOUS);
}

#[test]
fn a_question_and_its_answer_between_two_sleepers() {
    check(QUESTION_AND_ANSWER);
}

#[test]
fn a_stop_is_not_slept_through() {
    check(STOP);
}

#[test]
fn a_failure_is_not_slept_through() {
    check(FAILURE);
}
