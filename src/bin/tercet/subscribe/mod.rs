//! `tercet subscribe`.

mod end;
mod print;

use std::io::{self, BufWriter, StdoutLock, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tercet::base::ids::Offset;
use tercet::client::{From, SubscribeOptions as Wish, Subscriber};

use self::end::End;
use self::print::Printer;
use crate::args::SubscribeOptions;
use crate::connect;
use crate::exit::{Failure, INTERRUPTED, Outcome, UNAVAILABLE};
use crate::interrupt::{GRACE, Interrupt};
use crate::output::is_broken_pipe;

/// Without a connection, or on the way to the end without progress, for this long: give up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait; signals end it early.
const WAIT: Duration = Duration::from_millis(500);
const STDOUT_BYTES: usize = 256 << 10;

/// Prints committed events until told to stop.
pub fn run(options: &SubscribeOptions) -> Outcome {
    let servers = connect::servers(&options.servers)?;
    let wish = Wish { filter: options.topic.clone(), ..Wish::new(parse_from(&options.from)?) };
    let client = connect::options(&options.servers, "tercet subscribe", PATIENCE)?;
    let interrupt = Interrupt::install(GRACE)?;
    if options.count == Some(0) {
        return Ok(ExitCode::SUCCESS);
    }
    // Asked before the subscription begins: 'as of now' is the moment of the command.
    let end = if options.until_end { Some(End::find(&servers, PATIENCE)?) } else { None };
    interrupt.check()?;
    let mut subscriber = Subscriber::open(client, wish)?;
    interrupt.wakes(subscriber.waker());
    let out = BufWriter::with_capacity(STDOUT_BYTES, io::stdout().lock());
    let printer = if options.json { Printer::Json } else { Printer::Raw };
    let mut reading =
        Reading { out, printer, left: options.count, end, failure: None, moved: Instant::now() };
    let outcome = reading.run(&mut subscriber, &interrupt);
    let flushed = reading.out.flush();
    let written = match reading.failure.take() {
        Some(error) => Err(error),
        None => flushed,
    };
    match written {
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::new(crate::exit::FAILED, format!("cannot write to stdout: {error}"))),
        Ok(()) => outcome.map(|()| ExitCode::SUCCESS),
    }
}

fn parse_from(text: &str) -> Result<From, Failure> {
    match text {
        "earliest" => Ok(From::Earliest),
        "latest" => Ok(From::Latest),
        _ => match text.parse() {
            Ok(offset) if (1..=tercet::base::ids::COUNTER_MAX).contains(&offset) => {
                Ok(From::Offset(Offset(offset)))
            }
            _ => Err(Failure::usage(format!(
                "bad --from '{}': use earliest, latest, or an offset from 1",
                text.escape_debug()
            ))),
        },
    }
}

/// A subscription on its way to stdout.
struct Reading<'a> {
    out: BufWriter<StdoutLock<'a>>,
    printer: Printer,
    /// Events still wanted.
    left: Option<u64>,
    end: Option<End>,
    /// Why stdout takes no more.
    failure: Option<io::Error>,
    /// When the position moved last.
    moved: Instant,
}

impl Reading<'_> {
    /// Until the wanted events are printed, the end is reached, stdout is gone, or somebody interrupts.
    fn run(&mut self, subscriber: &mut Subscriber, interrupt: &Interrupt) -> Result<(), Failure> {
        loop {
            if self.failure.is_some() || self.left == Some(0) || self.at_end(subscriber) {
                return Ok(());
            }
            if interrupt.is_set() {
                return Err(Failure::new(INTERRUPTED, "interrupted"));
            }
            let position = subscriber.position();
            // What is printed must be seen before this waits.
            if self.poll(subscriber, Duration::ZERO)? == 0 && subscriber.position() == position {
                if let Err(error) = self.out.flush() {
                    self.failure = Some(error);
                    continue;
                }
                self.poll(subscriber, WAIT)?;
            }
            if subscriber.position() != position {
                self.moved = Instant::now();
            } else if let Some(end) = self.end
                && self.moved.elapsed() > PATIENCE
            {
                let line = format!(
                    "no progress within {PATIENCE:?}: the node has committed offset {} of {}; check that it reaches \
                     the leader",
                    subscriber.progress().1,
                    end.offset
                );
                return Err(Failure::new(UNAVAILABLE, line));
            }
        }
    }

    fn at_end(&self, subscriber: &Subscriber) -> bool {
        self.end.is_some_and(|end| subscriber.position() > end.offset)
    }

    fn poll(&mut self, subscriber: &mut Subscriber, wait: Duration) -> Result<usize, Failure> {
        let (out, left, failure) = (&mut self.out, &mut self.left, &mut self.failure);
        let (printer, end) = (self.printer, self.end);
        let polled = subscriber.poll(wait, |event| {
            if end.is_some_and(|end| event.offset > end.offset) {
                return ControlFlow::Break(());
            }
            if let Err(error) = printer.print(out, &event) {
                *failure = Some(error);
                return ControlFlow::Break(());
            }
            match left {
                Some(left) => {
                    *left -= 1;
                    if *left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                }
                None => ControlFlow::Continue(()),
            }
        });
        Ok(polled?)
    }
}

#[cfg(test)]
mod tests {
    use super::{From, Offset, parse_from};

    #[test]
    fn from_is_a_word_or_an_offset_from_1() {
        assert_eq!(parse_from("earliest").unwrap(), From::Earliest);
        assert_eq!(parse_from("latest").unwrap(), From::Latest);
        assert_eq!(parse_from("17").unwrap(), From::Offset(Offset(17)));
        for bad in ["", "0", "-1", "first", "1.5", "18446744073709551615", "99999999999999999999", "a\nb"] {
            let failure = parse_from(bad).unwrap_err();
            assert_eq!(failure.code, 2, "{bad}");
            assert!(!failure.line.contains('\n'), "{bad}");
        }
    }
}
