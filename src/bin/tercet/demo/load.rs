//! The demo's load: an open loop that remembers every acknowledgement, and how long there was none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tercet::base::prng::Prng;
use tercet::client::{Ack, ClientError, Event, Publisher};
use tercet::metrics::LatencyRecorder;

use crate::interrupt::Interrupt;
use crate::pace::Pace;

/// The topic of the load.
pub const TOPIC: &str = "load";
/// Its producer.
pub const PRODUCER: &str = "demo-load";
/// Longest wait; signals end it early.
const WAIT: Duration = Duration::from_millis(50);
/// Shorter times without an acknowledgement are ordinary.
const GAP_MIN: Duration = Duration::from_millis(5);
/// How long the last acknowledgements are waited for.
const DRAIN: Duration = Duration::from_secs(15);

/// What to load with.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Events a second.
    pub rate: f64,
    /// Bytes of each body.
    pub size: usize,
    /// For how long.
    pub duration: Duration,
}

/// A time without acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the acknowledgement came that ended it, after the start.
    pub end: Duration,
    /// How long it was.
    pub length: Duration,
}

/// What the client saw.
pub struct Seen {
    /// The acknowledged offset of each sequence, from 1; zero: none.
    pub offsets: Vec<u64>,
    /// Latency from the intended send time, of acknowledgements before the kill.
    pub before: LatencyRecorder,
    /// The same of all of them.
    pub all: LatencyRecorder,
    /// Long times without acknowledgements.
    pub gaps: Vec<Gap>,
    /// Events that had to be sent again and whose first answer was lost.
    pub resent: u64,
    /// What ended the load early.
    pub failure: Option<ClientError>,
}

impl Seen {
    /// Acknowledged events.
    pub fn acknowledged(&self) -> u64 {
        self.offsets.iter().filter(|offset| **offset > 0).count() as u64
    }

    /// The longest gap that ended at or after `from`.
    pub fn longest_gap(&self, from: Duration) -> Option<Gap> {
        self.gaps.iter().copied().filter(|gap| gap.end >= from).max_by_key(|gap| gap.length)
    }
}

/// The body of an event follows from its sequence, so that every reader can check it.
pub fn body(sequence: u64, size: usize, out: &mut Vec<u8>) {
    out.resize(size, 0);
    Prng::new(sequence).fill(out);
}

/// Publishes the whole plan from `start` on and waits for every acknowledgement. `killed` is set by whoever kills the
/// leader.
pub fn run(
    publisher: &mut Publisher,
    plan: &Plan,
    start: Instant,
    killed: &AtomicBool,
    interrupt: &Interrupt,
) -> Seen {
    let pace = Pace::new(plan.rate);
    let total = pace.due_before(plan.duration.as_nanos() as u64);
    let mut seen = Seen {
        offsets: vec![0; total as usize],
        before: LatencyRecorder::new(),
        all: LatencyRecorder::new(),
        gaps: Vec::new(),
        resent: 0,
        failure: None,
    };
    std::thread::sleep(start.saturating_duration_since(Instant::now()));
    let mut last_ack = Duration::ZERO;
    let mut scratch = Vec::new();
    let mut handed = 0;
    while !interrupt.is_set() && start.elapsed() < plan.duration + DRAIN {
        let due = pace.due_before(start.elapsed().as_nanos() as u64).min(total);
        let sent = send(publisher, plan, &mut handed, due, &mut scratch);
        let wait = if handed < due { WAIT } else { pace.until(handed, start.elapsed()).min(WAIT) };
        let polled = sent.and_then(|()| {
            publisher.poll(wait, |ack: Ack| {
                let now = start.elapsed();
                if let Some(length) = now.checked_sub(last_ack).filter(|length| *length >= GAP_MIN) {
                    seen.gaps.push(Gap { end: now, length });
                }
                last_ack = now;
                note(&mut seen, &ack, &pace, now, killed.load(Ordering::SeqCst));
            })
        });
        if let Err(error) = polled {
            seen.failure = Some(error);
            break;
        }
        if handed == total && publisher.outstanding() == 0 {
            break;
        }
    }
    seen
}

fn send(
    publisher: &mut Publisher,
    plan: &Plan,
    handed: &mut u64,
    due: u64,
    scratch: &mut Vec<u8>,
) -> Result<(), ClientError> {
    while *handed < due {
        body(*handed + 1, plan.size, scratch);
        if publisher.try_publish(&Event::new(TOPIC, scratch))?.is_none() {
            break;
        }
        *handed += 1;
    }
    Ok(())
}

fn note(seen: &mut Seen, ack: &Ack, pace: &Pace, now: Duration, killed: bool) {
    if ack.resent {
        seen.resent += u64::from(ack.count);
    }
    for (sequence, offset) in ack.iter() {
        let place = (sequence.0 - 1) as usize;
        if let Some(known) = seen.offsets.get_mut(place) {
            *known = offset.0;
        }
        let latency = now.saturating_sub(Duration::from_nanos(pace.due_ns(sequence.0 - 1)));
        let latency_ns = latency.as_nanos() as u64;
        seen.all.record_ns(latency_ns);
        if !killed {
            seen.before.record_ns(latency_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Gap, LatencyRecorder, Seen, body};

    #[test]
    fn the_outage_is_the_longest_gap_after_the_kill() {
        let gap =
            |end, length| Gap { end: Duration::from_millis(end), length: Duration::from_millis(length) };
        let seen = Seen {
            offsets: vec![1, 0, 2],
            before: LatencyRecorder::new(),
            all: LatencyRecorder::new(),
            gaps: vec![gap(100, 90), gap(400, 50), gap(500, 60), gap(900, 10)],
            resent: 0,
            failure: None,
        };
        assert_eq!(seen.longest_gap(Duration::from_millis(350)), Some(gap(500, 60)));
        assert_eq!(seen.longest_gap(Duration::from_secs(1)), None);
        assert_eq!(seen.acknowledged(), 2);
    }

    #[test]
    fn bodies_differ_and_come_out_the_same_again() {
        let (mut one, mut two, mut again) = (Vec::new(), Vec::new(), Vec::new());
        body(1, 256, &mut one);
        body(2, 256, &mut two);
        body(1, 256, &mut again);
        assert_eq!((one.len(), &one), (256, &again));
        assert_ne!(one, two);
    }
}
