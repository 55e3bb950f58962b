//! Reads everything back, and compares it with what was acknowledged.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tercet::base::ids::Offset;
use tercet::client::{ClientOptions, Delivered, From, SubscribeOptions, Subscriber};

use super::cluster::PATIENCE;
use super::error::{LabError, LabResult};
use super::interrupt::Interrupt;
use super::load;

const WAIT: Duration = Duration::from_millis(100);

/// Reads one node's events of a topic (or with `""` of all) up to an offset, inclusive, from that node alone.
///
/// # Errors
/// The subscriber's; no progress within [`PATIENCE`]; Ctrl-C.
pub fn read(
    server: SocketAddr,
    topic: &str,
    end: Offset,
    interrupt: &Interrupt,
    on_event: impl FnMut(&Delivered<'_>),
) -> LabResult<()> {
    read_from(server, topic, From::Earliest, end, interrupt, on_event)
}

/// The same from somewhere else than the beginning.
///
/// # Errors
/// As of [`read`].
pub fn read_from(
    server: SocketAddr,
    topic: &str,
    from: From,
    end: Offset,
    interrupt: &Interrupt,
    mut on_event: impl FnMut(&Delivered<'_>),
) -> LabResult<()> {
    let mut options = ClientOptions::new(vec![server]);
    options.no_progress_timeout = PATIENCE;
    let wish = SubscribeOptions { filter: topic.to_owned(), ..SubscribeOptions::new(from) };
    let mut subscriber = Subscriber::open(options, wish)?;
    let mut moved = (Instant::now(), subscriber.position());
    while subscriber.position() <= end {
        interrupt.check()?;
        subscriber.poll(WAIT, |event| {
            if event.offset > end {
                return ControlFlow::Break(());
            }
            on_event(&event);
            ControlFlow::Continue(())
        })?;
        if subscriber.position() != moved.1 {
            moved = (Instant::now(), subscriber.position());
        } else if moved.0.elapsed() > PATIENCE {
            return Err(LabError::Failed(format!("{server} does not get past offset {} of {end}", moved.1)));
        }
    }
    Ok(())
}

/// What one node's copy of a load looks like against what was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Acknowledged, but not there.
    pub lost: u64,
    /// There more than once.
    pub doubled: u64,
    /// After an event with a higher sequence, or not at the acknowledged offset.
    pub misplaced: u64,
    /// With another body, or never sent.
    pub damaged: u64,
}

impl Faults {
    /// Everything added up.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.lost + self.doubled + self.misplaced + self.damaged
    }

    /// Both together.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            misplaced: self.misplaced + other.misplaced,
            damaged: self.damaged + other.damaged,
        }
    }
}

/// Compares the events of one producer, in the order in which a node delivers them, with the acknowledgements.
pub struct Comparison<'a> {
    /// By sequence, from 1; none: not acknowledged; zero: acknowledged, offset unknown.
    acknowledged: &'a [Option<Offset>],
    times_seen: Vec<u8>,
    last_sequence: u64,
    size: usize,
    scratch: Vec<u8>,
    faults: Faults,
}

impl<'a> Comparison<'a> {
    /// Nothing seen yet. Bodies are those of [`load::body`] with this size.
    #[must_use]
    pub fn new(acknowledged: &'a [Option<Offset>], size: usize) -> Self {
        let times_seen = vec![0; acknowledged.len()];
        Self {
            acknowledged,
            times_seen,
            last_sequence: 0,
            size,
            scratch: Vec::new(),
            faults: Faults::default(),
        }
    }

    /// The producer's next event.
    pub fn see(&mut self, offset: Offset, sequence: u64, body: &[u8]) {
        let place = (sequence as usize).wrapping_sub(1);
        let Some(times) = self.times_seen.get_mut(place) else {
            self.faults.damaged += 1;
            return;
        };
        *times = times.saturating_add(1);
        if *times > 1 {
            self.faults.doubled += 1;
            return;
        }
        let elsewhere =
            self.acknowledged[place].is_some_and(|known| known != Offset::ZERO && known != offset);
        if sequence < self.last_sequence || elsewhere {
            self.faults.misplaced += 1;
        }
        self.last_sequence = self.last_sequence.max(sequence);
        load::body(sequence, self.size, &mut self.scratch);
        if self.scratch != body {
            self.faults.damaged += 1;
        }
    }

    /// After the last event.
    #[must_use]
    pub fn finish(mut self) -> Faults {
        let both = self.acknowledged.iter().zip(&self.times_seen);
        self.faults.lost = both.filter(|(known, times)| known.is_some() && **times == 0).count() as u64;
        self.faults
    }
}
