//! The loop of a publish: lines in, acknowledgements out, neither waiting for the other.

use std::time::{Duration, Instant};

use tercet::client::{Ack, Event, Publisher};

use super::ack_log::AckLog;
use super::input::{Ending, Input, Next};
use super::tally::Tally;
use crate::exit::{Failure, INTERRUPTED};
use crate::interrupt::Interrupt;
use crate::pace::Pace;

/// Lines taken before acknowledgements are looked at again.
const BURST: usize = 1024;
/// Longest wait; input and signals end it early.
const WAIT: Duration = Duration::from_millis(250);

/// What to do.
pub struct Job<'a> {
    /// The topic of every event.
    pub topic: &'a str,
    /// Open loop at this pace; none: as fast as acknowledgements come.
    pub pace: Option<Pace>,
    /// Ends it early.
    pub interrupt: &'a Interrupt,
}

/// One publish.
pub struct Engine<'a> {
    job: Job<'a>,
    publisher: &'a mut Publisher,
    input: Input,
    ack_log: AckLog,
    tally: Tally,
    started: Instant,
}

/// Why no more lines are sent now.
enum Pause {
    /// More may follow at once.
    Burst,
    /// The window is full: acknowledgements come first.
    Full,
    /// The input has nothing yet.
    Empty,
    /// The next line is not due yet.
    Early(Duration),
    /// The input has ended.
    Over(Ending),
}

impl<'a> Engine<'a> {
    /// Ready to run. The publisher is open and stands at its first sequence.
    pub fn new(publisher: &'a mut Publisher, input: Input, ack_log: AckLog, job: Job<'a>) -> Self {
        let tally = Tally::new(publisher.expected_sequence());
        Self { job, publisher, input, ack_log, tally, started: Instant::now() }
    }

    /// Publishes every line and waits for every acknowledgement; `progress` hears of them now and then. The tally
    /// tells what was reached, whether or not it went well.
    pub fn run(mut self, progress: &dyn Fn(&Tally)) -> (Tally, Result<(), Failure>) {
        let outcome = self.publish(progress);
        // Acknowledgements written down are the promise that was given: none may stay in a buffer.
        let flushed = self.ack_log.flush();
        (self.tally, outcome.and(flushed))
    }

    fn publish(&mut self, progress: &dyn Fn(&Tally)) -> Result<(), Failure> {
        self.started = Instant::now();
        loop {
            let pause = self.send()?;
            if let Pause::Over(ending) = &pause
                && self.publisher.outstanding() == 0
            {
                return self.ended(ending);
            }
            if self.job.interrupt.is_set() {
                let left = self.publisher.outstanding();
                let line = format!(
                    "interrupted; {left} events sent are not acknowledged, and may be written or not"
                );
                return Err(Failure::new(INTERRUPTED, line));
            }
            let wait = match pause {
                Pause::Burst => Duration::ZERO,
                Pause::Early(wait) => wait.min(WAIT),
                Pause::Full | Pause::Empty | Pause::Over(_) => WAIT,
            };
            self.poll(wait)?;
            progress(&self.tally);
        }
    }

    /// Hands lines to the publisher for as long as it takes them.
    fn send(&mut self) -> Result<Pause, Failure> {
        for _ in 0..BURST {
            let now = Instant::now();
            if let Some(pace) = self.job.pace {
                let wait = pace.until(self.tally.published, now.duration_since(self.started));
                if !wait.is_zero() {
                    return Ok(Pause::Early(wait));
                }
            }
            let line = match self.input.peek() {
                Next::Line(line) => line,
                Next::Later => return Ok(Pause::Empty),
                Next::Over(ending) => return Ok(Pause::Over(ending.clone())),
            };
            if self.publisher.try_publish(&Event::new(self.job.topic, line))?.is_none() {
                return Ok(Pause::Full);
            }
            self.input.advance();
            self.tally.sent(now);
        }
        Ok(Pause::Burst)
    }

    fn poll(&mut self, wait: Duration) -> Result<(), Failure> {
        let wait = self.ack_log.patience().map_or(wait, |patience| wait.min(patience));
        let (tally, ack_log) = (&mut self.tally, &mut self.ack_log);
        let polled = self.publisher.poll(wait, |ack: Ack| {
            let now = Instant::now();
            tally.take(&ack, now);
            ack_log.take(&ack, now);
        });
        self.ack_log.flush_due()?;
        polled?;
        Ok(())
    }

    /// Everything sent is acknowledged; was that everything?
    fn ended(&self, ending: &Ending) -> Result<(), Failure> {
        let done = self.tally.published;
        match ending {
            Ending::Complete => Ok(()),
            Ending::Unreadable(text) => Err(Failure::usage(format!(
                "cannot read the input: {text}; the {done} lines before that are published"
            ))),
            Ending::TooLong { line } => Err(Failure::usage(format!(
                "line {line} is larger than an event may be ({} bytes); the {done} lines before it are published: \
                 split it, and publish on with --first-sequence",
                tercet::base::limits::EVENT_BODY_BYTES_MAX
            ))),
        }
    }
}
