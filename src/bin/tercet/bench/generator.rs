//! One publishing connection under load.
//!
//! Open loop: event `n` is due at a time that follows from the schedule alone, and its latency counts from then, so
//! that a stall is felt by every event that was due during it. Nothing is kept for each event: sequence and schedule
//! give the due time back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tercet::client::{Ack, ClientError, Event, Publisher};
use tercet::entry::Durability;
use tercet::metrics::LatencyRecorder;

use crate::interrupt::Interrupt;
use crate::pace::Pace;

/// Events taken before acknowledgements are looked at again.
const BURST: usize = 256;
/// While more is due sooner than this, events gather for so long: waking for each would load the very processors
/// that are measured. It is part of the measured latency.
const GATHER: Duration = Duration::from_micros(200);
/// Longest wait; signals end it early.
const WAIT: Duration = Duration::from_millis(100);

/// When to load and when to measure, from a common start.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The start of the load.
    pub start: Instant,
    /// Measuring begins so long after the start.
    pub warmup: Duration,
    /// And lasts so long.
    pub duration: Duration,
    /// How long acknowledgements are waited for at the end.
    pub drain: Duration,
    /// This connection's schedule; none: as fast as the window allows.
    pub pace: Option<Pace>,
}

impl Plan {
    fn end(&self) -> Duration {
        self.warmup + self.duration
    }

    fn is_measured(&self, elapsed: Duration) -> bool {
        (self.warmup..self.end()).contains(&elapsed)
    }
}

/// What one connection saw.
pub struct Measured {
    /// From the intended send time to the acknowledgement, of the events due while measuring.
    pub latency: LatencyRecorder,
    /// From the intended send time to the hand-over, of those that the window did not hold back.
    pub lateness: LatencyRecorder,
    /// Events due while measuring.
    pub scheduled: u64,
    /// Of them, handed over while measuring.
    pub sent: u64,
    /// Events that were handed over and never acknowledged.
    pub unacknowledged: u64,
    /// Acknowledgements that came while measuring.
    pub acknowledged: u64,
    /// What the cluster promised with them.
    pub durability: Option<Durability>,
    /// What ended the connection, if something did.
    pub failure: Option<ClientError>,
}

/// One connection.
pub struct Generator<'a> {
    publisher: Publisher,
    body: Vec<u8>,
    plan: Plan,
    interrupt: &'a Interrupt,
    /// Events handed over, from the first on.
    handed: u64,
    /// The window held events back; until those are gone, lateness is not the generator's.
    held_back: bool,
    /// Closed loop: up to which event (exclusive) something was handed over, and when.
    bursts: VecDeque<(u64, Duration)>,
    seen: Measured,
}

/// The topic of all load.
pub const TOPIC: &str = "bench";

impl<'a> Generator<'a> {
    /// `publisher` is newly opened under a name of its own.
    pub fn new(publisher: Publisher, body: Vec<u8>, plan: Plan, interrupt: &'a Interrupt) -> Self {
        let seen = Measured {
            latency: LatencyRecorder::new(),
            lateness: LatencyRecorder::new(),
            scheduled: 0,
            sent: 0,
            unacknowledged: 0,
            acknowledged: 0,
            durability: None,
            failure: None,
        };
        let bursts = VecDeque::new();
        Self { publisher, body, plan, interrupt, handed: 0, held_back: false, bursts, seen }
    }

    /// Loads, measures, and waits for the last acknowledgements.
    pub fn run(mut self) -> Measured {
        if let Err(error) = self.load() {
            self.seen.failure = Some(error);
        }
        if let Some(pace) = self.plan.pace {
            let due = |at: Duration| pace.due_before(at.as_nanos() as u64);
            self.seen.scheduled = due(self.plan.end()) - due(self.plan.warmup);
        } else {
            self.seen.scheduled = self.seen.sent;
        }
        self.seen.unacknowledged = self.publisher.outstanding() as u64;
        self.seen
    }

    fn load(&mut self) -> Result<(), ClientError> {
        std::thread::sleep(self.plan.start.saturating_duration_since(Instant::now()));
        loop {
            let elapsed = self.plan.start.elapsed();
            let over = elapsed >= self.plan.end();
            let patience = self.plan.end() + self.plan.drain;
            if self.interrupt.is_set() || elapsed >= patience {
                return Ok(());
            }
            let wait = if over && self.all_handed_over() {
                if self.publisher.outstanding() == 0 {
                    return Ok(());
                }
                WAIT.min(patience - elapsed)
            } else {
                self.send(elapsed.min(self.plan.end()))?
            };
            self.poll(wait)?;
        }
    }

    /// Whether everything due before the end is gone. What the window held back until then is missed.
    fn all_handed_over(&self) -> bool {
        let end_ns = self.plan.end().as_nanos() as u64;
        self.held_back || self.plan.pace.is_none_or(|pace| self.handed >= pace.due_before(end_ns))
    }

    /// Hands over what is due; says how long to wait.
    fn send(&mut self, elapsed: Duration) -> Result<Duration, ClientError> {
        let due = match self.plan.pace {
            Some(pace) => pace.due_before(elapsed.as_nanos() as u64),
            None => u64::MAX,
        };
        let until_end = self.plan.end().saturating_sub(elapsed);
        for _ in 0..BURST {
            if self.handed >= due {
                self.held_back = false;
                break;
            }
            if self.publisher.try_publish(&Event::new(TOPIC, &self.body))?.is_none() {
                self.held_back = true;
                return Ok(WAIT.min(until_end));
            }
            self.note_hand_over();
        }
        if self.plan.pace.is_none() {
            self.bursts.push_back((self.handed, self.plan.start.elapsed()));
        }
        let Some(pace) = self.plan.pace.filter(|_| self.handed >= due) else { return Ok(Duration::ZERO) };
        let next = pace.until(self.handed, self.plan.start.elapsed());
        Ok(next.max(GATHER).min(WAIT).min(until_end))
    }

    fn note_hand_over(&mut self) {
        let now = self.plan.start.elapsed();
        if let Some(pace) = self.plan.pace {
            let due = Duration::from_nanos(pace.due_ns(self.handed));
            if self.plan.is_measured(due) {
                self.seen.sent += 1;
                if !self.held_back {
                    self.seen.lateness.record_ns(now.saturating_sub(due).as_nanos() as u64);
                }
            }
        } else if self.plan.is_measured(now) {
            self.seen.sent += 1;
        }
        self.handed += 1;
    }

    fn poll(&mut self, wait: Duration) -> Result<(), ClientError> {
        let (plan, bursts, seen) = (&self.plan, &mut self.bursts, &mut self.seen);
        self.publisher.poll(wait, |ack: Ack| {
            let now = plan.start.elapsed();
            seen.durability = Some(ack.durability);
            if plan.is_measured(now) {
                seen.acknowledged += u64::from(ack.count);
            }
            for (sequence, _) in ack.iter() {
                // A new producer's first sequence is 1.
                let n = sequence.0 - 1;
                let intended = match plan.pace {
                    Some(pace) => Duration::from_nanos(pace.due_ns(n)),
                    None => burst_of(bursts, n),
                };
                if plan.is_measured(intended) {
                    seen.latency.record_ns(now.saturating_sub(intended).as_nanos() as u64);
                }
            }
        })?;
        Ok(())
    }
}

/// When event `n` was handed over; acknowledgements come in order, so older bursts are forgotten.
fn burst_of(bursts: &mut VecDeque<(u64, Duration)>, n: u64) -> Duration {
    while bursts.front().is_some_and(|(end, _)| *end <= n) {
        bursts.pop_front();
    }
    bursts.front().map_or(Duration::ZERO, |(_, at)| *at)
}

#[cfg(test)]
mod tests {
    use super::{Duration, VecDeque, burst_of};

    #[test]
    fn closed_loop_events_find_the_burst_they_left_with() {
        let at = Duration::from_millis;
        let mut bursts = VecDeque::from([(3, at(10)), (5, at(20)), (9, at(30))]);
        let found: Vec<Duration> = [0, 2, 3, 4, 5, 8].map(|n| burst_of(&mut bursts, n)).to_vec();
        assert_eq!(found, [at(10), at(10), at(20), at(20), at(30), at(30)]);
    }
}
