//! An open-loop publisher on a thread of its own, and the history of what was acknowledged to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tercet::base::ids::Offset;
use tercet::base::prng::Prng;
use tercet::client::{Ack, AckKind, ClientError, ClientOptions, Event, Publisher, Waker};

use super::error::{LabError, LabResult};
use super::pace::Pace;

/// Longest wait of the loop; a new event or an acknowledgement ends it early.
const WAIT: Duration = Duration::from_millis(20);
/// Shortest wait for the next event that is due: at high rates a few leave together.
const GATHER: Duration = Duration::from_micros(100);

/// What to publish.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Where.
    pub servers: Vec<SocketAddr>,
    /// Under which name; a new one.
    pub producer: String,
    /// To which topic.
    pub topic: String,
    /// Events a second.
    pub rate: f64,
    /// Bytes of each body.
    pub size: usize,
}

/// Acknowledgements that came together: sequences and offsets count up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckRun {
    /// Sequence of the first.
    pub first_sequence: u64,
    /// How many.
    pub count: u32,
    /// Offset of the first; zero: already written, unknown.
    pub first_offset: u64,
    /// When, in nanoseconds after the start.
    pub at_ns: u64,
}

/// What happened, compactly: event `n` (sequence `n`, from 1) was due at `pace.due_ns(n - 1)`.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order in which they came.
    pub runs: Vec<AckRun>,
    /// Acknowledged as duplicates although this publisher had not sent them again.
    pub duplicates_unexplained: u64,
    /// Events that were sent more than once.
    pub resent: u64,
}

impl History {
    /// The largest time from when an event was due to its acknowledgement, among those due in `from..=to` (nanoseconds
    /// after the start) that are acknowledged.
    #[must_use]
    pub fn slowest_ns(&self, pace: &Pace, from_ns: u64, to_ns: u64) -> u64 {
        let (first, end) = (pace.due_before(from_ns) + 1, pace.due_before(to_ns) + 1);
        let begin = self.runs.partition_point(|run| run.first_sequence + u64::from(run.count) <= first);
        let within = self.runs[begin..].iter().take_while(|run| run.first_sequence < end);
        // Of those that were acknowledged together, the first has waited longest.
        let waited = |run: &AckRun| {
            let earliest = run.first_sequence.max(first);
            run.at_ns.saturating_sub(pace.due_ns(earliest - 1))
        };
        within.map(waited).max().unwrap_or(0)
    }

    /// The last sequence that was acknowledged; acknowledgements come in order.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.runs.iter().map(|run| run.first_sequence + u64::from(run.count) - 1).max().unwrap_or(0)
    }

    /// The offset of each sequence, from 1 (zero: unknown), for the first `events`; and how many of those have not
    /// exactly one acknowledgement.
    #[must_use]
    pub fn offsets(&self, events: u64) -> (Vec<Option<Offset>>, u64) {
        let mut offsets = vec![None; events as usize];
        let mut wrong = 0;
        for run in &self.runs {
            for n in 0..u64::from(run.count) {
                let offset = if run.first_offset == 0 { Offset::ZERO } else { Offset(run.first_offset + n) };
                let place = (run.first_sequence + n) as usize;
                match offsets.get_mut(place.wrapping_sub(1)) {
                    Some(known @ None) => *known = Some(offset),
                    _ => wrong += 1,
                }
            }
        }
        wrong += offsets.iter().filter(|offset| offset.is_none()).count() as u64;
        (offsets, wrong)
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Nobody waits for what is not acknowledged yet.
    abandoned: AtomicBool,
    /// Events handed to the publisher.
    sent: AtomicU64,
    /// All up to this sequence are acknowledged.
    acked: AtomicU64,
    history: Mutex<History>,
    failure: Mutex<Option<ClientError>>,
}

/// A load under way. Dropping it stops it without waiting for acknowledgements.
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    waker: Waker,
    start: Instant,
    pace: Pace,
}

/// What is left of a load.
pub struct Concluded {
    /// What was acknowledged.
    pub history: History,
    /// Events that were handed to the publisher.
    pub sent: u64,
    /// Why not all of them are acknowledged, where they should be.
    pub failure: Option<LabError>,
}

/// The body of an event follows from its sequence, so that every reader can check it.
pub fn body(sequence: u64, size: usize, out: &mut Vec<u8>) {
    out.resize(size, 0);
    Prng::new(sequence).fill(out);
}

impl Load {
    /// Opens the producer and begins.
    ///
    /// # Errors
    /// Those of [`Publisher::open`].
    pub fn start(plan: LoadPlan) -> LabResult<Self> {
        let publisher = Publisher::open(ClientOptions::new(plan.servers.clone()), &plan.producer)?;
        let shared = Arc::new(Shared::default());
        let (waker, pace) = (publisher.waker(), Pace::new(plan.rate));
        let start = Instant::now() + Duration::from_millis(5);
        let worker = Worker { publisher, plan, pace, start, shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Some(thread), waker, start, pace })
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// The schedule.
    #[must_use]
    pub const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// All events up to this sequence are acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Acquire)
    }

    /// Events that were handed to the publisher.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Acquire)
    }

    /// For how long the oldest event without acknowledgement has been due; zero when there is none.
    #[must_use]
    pub fn lag(&self) -> Duration {
        Duration::from_nanos(self.now_ns().saturating_sub(self.pace.due_ns(self.acked())))
    }

    /// As [`History::slowest_ns`].
    #[must_use]
    pub fn slowest_ns(&self, from_ns: u64, to_ns: u64) -> u64 {
        self.shared.history.lock().slowest_ns(&self.pace, from_ns, to_ns)
    }

    /// An error once the publisher has failed.
    ///
    /// # Errors
    /// Its own.
    pub fn check(&self) -> LabResult<()> {
        self.shared.failure.lock().clone().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Sends nothing new, waits until everything is acknowledged, and gives the history and how many events were sent.
    ///
    /// # Errors
    /// The publisher's, or that it is not done within `limit`.
    pub fn finish(mut self, limit: Duration) -> LabResult<(History, u64)> {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
        let deadline = Instant::now() + limit;
        loop {
            self.check()?;
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                break;
            }
            if Instant::now() >= deadline {
                let left = self.sent() - self.acked();
                return Err(LabError::Failed(format!("{left} events are not acknowledged within {limit:?}")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let broke = self.thread.take().is_some_and(|thread| thread.join().is_err());
        if broke {
            return Err(LabError::Failed("the load broke down".to_owned()));
        }
        self.check()?;
        let history = std::mem::take(&mut *self.shared.history.lock());
        Ok((history, self.sent()))
    }

    /// As [`Load::finish`], but gives what was acknowledged in every case, with why the rest was not. With no `limit`
    /// ends at once, and that is no failure.
    ///
    /// # Errors
    /// When its thread broke down.
    pub fn conclude(mut self, limit: Option<Duration>) -> LabResult<Concluded> {
        self.shared.abandoned.store(limit.is_none(), Ordering::Release);
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut failure = None;
        while failure.is_none() && self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let left = self.sent() - self.acked();
                failure = Some(LabError::Failed(format!("{left} events are not acknowledged in time")));
                self.shared.abandoned.store(true, Ordering::Release);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            return Err(LabError::Failed("the load broke down".to_owned()));
        }
        let history = std::mem::take(&mut *self.shared.history.lock());
        if limit.is_some() {
            failure = self.check().err().or(failure);
        }
        Ok(Concluded { history, sent: self.sent(), failure })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}

struct Worker {
    publisher: Publisher,
    plan: LoadPlan,
    pace: Pace,
    start: Instant,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(mut self) {
        if let Err(error) = self.turn_until_done() {
            *self.shared.failure.lock() = Some(error);
        }
    }

    fn turn_until_done(&mut self) -> Result<(), ClientError> {
        let mut sent = 0;
        let mut scratch = Vec::new();
        std::thread::sleep(self.start.saturating_duration_since(Instant::now()));
        loop {
            // Nobody waits for an owner that is gone.
            let stopping = self.shared.stop.load(Ordering::Acquire);
            let over = stopping && (self.publisher.outstanding() == 0 || self.is_abandoned());
            if over {
                return Ok(());
            }
            let due = self.pace.due_before(self.start.elapsed().as_nanos() as u64);
            while sent < due && !stopping && self.publisher.has_room() {
                body(sent + 1, self.plan.size, &mut scratch);
                self.publisher.try_publish(&Event::new(&self.plan.topic, &scratch))?;
                sent += 1;
                self.shared.sent.store(sent, Ordering::Release);
            }
            let full = sent < due || stopping;
            let wait =
                if full { WAIT } else { self.pace.until(sent, self.start.elapsed()).clamp(GATHER, WAIT) };
            self.poll(wait)?;
        }
    }

    fn is_abandoned(&self) -> bool {
        self.shared.abandoned.load(Ordering::Acquire) || Arc::strong_count(&self.shared) == 1
    }

    fn poll(&mut self, wait: Duration) -> Result<(), ClientError> {
        let (start, shared) = (self.start, &self.shared);
        self.publisher.poll(wait, |ack: Ack| {
            let at_ns = start.elapsed().as_nanos() as u64;
            let mut history = shared.history.lock();
            if ack.kind != AckKind::Written && !ack.resent {
                history.duplicates_unexplained += u64::from(ack.count);
            }
            if ack.resent {
                history.resent += u64::from(ack.count);
            }
            history.runs.push(AckRun {
                first_sequence: ack.first_sequence.0,
                count: ack.count,
                first_offset: ack.first_offset.0,
                at_ns,
            });
            drop(history);
            shared.acked.store(ack.last_sequence().0, Ordering::Release);
        })?;
        Ok(())
    }
}
