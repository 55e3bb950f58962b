//! What the demo proves, by reading everything back.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tercet::base::ids::Offset;
use tercet::client::{
    ClientOptions, Delivered, From, NodeStatus, SubscribeOptions, Subscriber, query_status_all,
};

use super::load;
use crate::exit::{Failure, UNAVAILABLE};
use crate::interrupt::Interrupt;

/// Nodes that should agree and do not are waited for so long.
pub const AGREE_LIMIT: Duration = Duration::from_secs(20);
const READ_WAIT: Duration = Duration::from_millis(100);

/// Reads one node's events of a topic up to an offset, inclusive, from that node alone.
pub fn read(
    server: SocketAddr,
    topic: &str,
    end: Offset,
    interrupt: &Interrupt,
    mut on_event: impl FnMut(&Delivered<'_>),
) -> Result<(), Failure> {
    let mut options = ClientOptions::new(vec![server]);
    options.no_progress_timeout = AGREE_LIMIT;
    let wish = SubscribeOptions { filter: topic.to_owned(), ..SubscribeOptions::new(From::Earliest) };
    let mut subscriber = Subscriber::open(options, wish)?;
    let mut moved = (Instant::now(), subscriber.position());
    while subscriber.position() <= end {
        interrupt.check()?;
        subscriber.poll(READ_WAIT, |event| {
            if event.offset > end {
                return ControlFlow::Break(());
            }
            on_event(&event);
            ControlFlow::Continue(())
        })?;
        if subscriber.position() != moved.1 {
            moved = (Instant::now(), subscriber.position());
        } else if moved.0.elapsed() > AGREE_LIMIT {
            let line = format!("{server} does not get past offset {} of {end}", moved.1);
            return Err(Failure::new(UNAVAILABLE, line));
        }
    }
    Ok(())
}

/// Waits until all nodes have committed the same, and at least `at_least` events; gives their statuses. Whether what
/// they committed *is* the same is for the caller to compare.
pub fn agreed(
    servers: &[SocketAddr],
    at_least: Offset,
    interrupt: &Interrupt,
) -> Result<Vec<NodeStatus>, Failure> {
    let begun = Instant::now();
    loop {
        interrupt.check()?;
        let rows = query_status_all(servers, Duration::from_secs(1))?;
        let statuses: Vec<NodeStatus> = rows.into_iter().filter_map(|(_, row)| row.ok()).collect();
        let settled = |status: &NodeStatus| {
            status.last_index == statuses[0].last_index
                && status.commit_index == status.last_index
                && status.log_checksum_index == status.last_index
                && status.last_offset >= at_least
        };
        if statuses.len() == servers.len() && statuses.iter().all(settled) {
            return Ok(statuses);
        }
        if begun.elapsed() > AGREE_LIMIT {
            let shown: Vec<String> = statuses
                .iter()
                .map(|status| {
                    format!("node {}: {} of {}", status.node_id, status.commit_index, status.last_index)
                })
                .collect();
            let line = format!("the nodes did not catch up within {AGREE_LIMIT:?} ({})", shown.join(", "));
            return Err(Failure::new(UNAVAILABLE, line));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What one node's copy of the load looks like against what was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Acknowledged, but not there.
    pub lost: u64,
    /// There more than once.
    pub doubled: u64,
    /// After an event with a higher sequence, or not at the acknowledged offset.
    pub misplaced: u64,
    /// With another body.
    pub damaged: u64,
}

impl Faults {
    /// Everything added up.
    pub const fn sum(&self) -> u64 {
        self.lost + self.doubled + self.misplaced + self.damaged
    }
}

/// Compares the load's events, in the order in which a node delivers them, with the acknowledgements.
pub struct Comparison<'a> {
    /// Acknowledged offsets by sequence, from 1; zero: not acknowledged.
    acknowledged: &'a [u64],
    times_seen: Vec<u8>,
    last_sequence: u64,
    size: usize,
    scratch: Vec<u8>,
    faults: Faults,
}

impl<'a> Comparison<'a> {
    /// Nothing seen yet.
    pub fn new(acknowledged: &'a [u64], size: usize) -> Self {
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

    /// The next event of the load's producer.
    pub fn see(&mut self, offset: u64, sequence: u64, body: &[u8]) {
        let place = (sequence as usize).wrapping_sub(1);
        let Some(times) = self.times_seen.get_mut(place) else {
            // A sequence that was never sent.
            self.faults.damaged += 1;
            return;
        };
        *times = times.saturating_add(1);
        if *times > 1 {
            self.faults.doubled += 1;
            return;
        }
        let expected = self.acknowledged[place];
        if sequence < self.last_sequence || (expected != 0 && expected != offset) {
            self.faults.misplaced += 1;
        }
        self.last_sequence = self.last_sequence.max(sequence);
        load::body(sequence, self.size, &mut self.scratch);
        if self.scratch != body {
            self.faults.damaged += 1;
        }
    }

    /// After the last event.
    pub fn finish(mut self) -> Faults {
        let both = self.acknowledged.iter().zip(&self.times_seen);
        self.faults.lost = both.filter(|(offset, times)| **offset != 0 && **times == 0).count() as u64;
        self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::{Comparison, Faults, load};

    /// Sequences at offsets, with right bodies, against what was acknowledged.
    fn compare(acknowledged: &[u64], seen: &[(u64, u64)]) -> Faults {
        let mut comparison = Comparison::new(acknowledged, 16);
        for (sequence, offset) in seen {
            let mut body = Vec::new();
            load::body(*sequence, 16, &mut body);
            comparison.see(*offset, *sequence, &body);
        }
        comparison.finish()
    }

    #[test]
    fn a_whole_log_has_no_faults_and_unacknowledged_events_may_or_may_not_stand() {
        assert_eq!(compare(&[5, 6, 7], &[(1, 5), (2, 6), (3, 7)]), Faults::default());
        assert_eq!(compare(&[5, 6, 0], &[(1, 5), (2, 6), (3, 9)]), Faults::default());
        assert_eq!(compare(&[5, 6, 0], &[(1, 5), (2, 6)]), Faults::default());
    }

    #[test]
    fn each_fault_is_seen_and_told_apart() {
        let faults = |lost, doubled, misplaced, damaged| Faults { lost, doubled, misplaced, damaged };
        assert_eq!(compare(&[5, 6, 7], &[(1, 5), (3, 7)]), faults(1, 0, 0, 0));
        assert_eq!(compare(&[5, 6], &[(1, 5), (2, 6), (1, 7)]), faults(0, 1, 0, 0));
        assert_eq!(compare(&[5, 6], &[(2, 6), (1, 5)]), faults(0, 0, 1, 0));
        assert_eq!(compare(&[5, 6], &[(1, 5), (2, 8)]), faults(0, 0, 1, 0));
        assert_eq!(compare(&[5], &[(1, 5), (9, 6)]), faults(0, 0, 0, 1));
        let mut comparison = Comparison::new(&[5], 16);
        comparison.see(5, 1, b"something else");
        assert_eq!(comparison.finish(), faults(0, 0, 0, 1));
    }
}
