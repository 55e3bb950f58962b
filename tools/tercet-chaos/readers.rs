//! Readers of everything, through it all.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tercet::base::ids::Offset;
use tercet::client::{ClientError, ClientOptions, Delivered, From, SubscribeOptions, Subscriber};

use super::checker::{Seen, writer_number};
use super::lab::error::{LabError, LabResult};
use super::lab::interrupt::Interrupt;
use super::lab::load;

const WAIT: Duration = Duration::from_millis(50);
/// More of a kind are not told one by one.
const TOLD_MAX: usize = 20;

/// What one reader was given, in order, and what was wrong with it at once.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Event by event: offset `n` is at place `n - 1`, as long as there is no gap.
    pub events: Vec<Seen>,
    /// Gaps, repeats, damaged bodies, errors.
    pub wrong: Vec<String>,
}

impl Given {
    /// The next event.
    pub fn take(&mut self, event: &Delivered<'_>, size: usize, scratch: &mut Vec<u8>) {
        let expected = self.events.len() as u64 + 1;
        if event.offset.0 != expected {
            self.tell(format!("offset {} was delivered where {expected} was next", event.offset));
        }
        load::body(event.sequence.0, size, scratch);
        if scratch != event.body {
            self.tell(format!("the body at offset {} is not what was sent", event.offset));
        }
        let writer = writer_number(event.producer);
        self.events.push(Seen { offset: event.offset.0, writer, sequence: event.sequence.0 });
    }

    fn tell(&mut self, what: String) {
        if self.wrong.len() < TOLD_MAX {
            self.wrong.push(what);
        }
    }
}

/// A reader under way.
pub struct Reader {
    given: Arc<Mutex<Given>>,
    position: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Reader {
    /// Subscribes to everything from the beginning.
    ///
    /// # Errors
    /// Those of [`Subscriber::open`].
    pub fn start(servers: Vec<SocketAddr>, size: usize) -> LabResult<Self> {
        let subscriber =
            Subscriber::open(ClientOptions::new(servers), SubscribeOptions::new(From::Earliest))?;
        let (given, position, stop) = (Arc::default(), Arc::default(), Arc::default());
        let work = Work {
            subscriber,
            size,
            given: Arc::clone(&given),
            position: Arc::clone(&position),
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new().name("reader".to_owned()).spawn(move || work.run())?;
        Ok(Self { given, position, stop, thread })
    }

    /// Waits until it was given everything up to `end`, and gives that.
    ///
    /// # Errors
    /// When it does not get there within `limit`; Ctrl-C.
    pub fn finish(self, end: Offset, limit: Duration, interrupt: &Interrupt) -> LabResult<Given> {
        let deadline = Instant::now() + limit;
        while self.position.load(Ordering::Acquire) <= end.0 && !self.thread.is_finished() {
            interrupt.check()?;
            if Instant::now() >= deadline {
                let at = self.position.load(Ordering::Acquire);
                return Err(LabError::Failed(format!("a reader is at offset {at} of {end} after {limit:?}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stop.store(true, Ordering::Release);
        let broke = self.thread.join().is_err();
        if broke {
            return Err(LabError::Failed("a reader broke down".to_owned()));
        }
        Ok(std::mem::take(&mut *self.given.lock()))
    }
}

struct Work {
    subscriber: Subscriber,
    size: usize,
    given: Arc<Mutex<Given>>,
    position: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(mut self) {
        let mut scratch = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            let (given, size) = (&self.given, self.size);
            let polled = self.subscriber.poll(WAIT, |event| {
                given.lock().take(&event, size, &mut scratch);
                ControlFlow::Continue(())
            });
            self.position.store(self.subscriber.position().0, Ordering::Release);
            match polled {
                // With faults about, that is no fault of anybody.
                Ok(_) | Err(ClientError::NoNodeReachable { .. }) => {}
                Err(error) => {
                    self.given.lock().tell(error.to_string());
                    return;
                }
            }
        }
    }
}
