//! What a node holds in memory stays within its limits, whatever the others and the disk do (PITFALLS 53).
//!
//! Each limit stops intake once it is reached, and is looked at before each message and each publish frame: so the
//! bound is the limit and what one more of those may bring.

use super::{Invariant, View};
use crate::agent::batcher::{BatcherLimits, Holdings};

/// Entry bytes that one publish frame may become, and what a leader appends on its own (a configuration, a trim).
const ONE_MORE_BYTES: u64 = 64 << 10;
/// Answers that may come to wait in the turn in which their limit is reached.
const ONE_MORE_COUNT: usize = 128;
/// Answers to the requests and messages of one turn.
const TURN_COUNT: usize = 4096;

pub(super) struct BoundedMemory {
    limits: BatcherLimits,
    /// What a start may find behind its commit hint, besides what is in flight. In a `memory` cluster the hint on the disk
    /// is as old as the roll before the last at worst: nothing else is flushed while there is something to write.
    recovered_bytes: u64,
}

impl BoundedMemory {
    pub(super) fn new(limits: BatcherLimits, recovered_bytes: u64) -> Self {
        Self { limits, recovered_bytes }
    }
}

impl Invariant for BoundedMemory {
    fn name(&self) -> &'static str {
        "bounded memory"
    }

    fn observe(&mut self, view: &View<'_>) -> Result<(), String> {
        let Holdings { unsettled_bytes, unwritten_bytes, hot_bytes, waiters_count, .. } = view.holdings;
        let in_flight = self.limits.unsettled_bytes_limit
            + (self.limits.append_bytes_limit as u64).max(ONE_MORE_BYTES)
            + ONE_MORE_BYTES;
        let unapplied = 2 * in_flight + self.recovered_bytes;
        // Openings, and the runs of the batch that is sealed next.
        let waiters = (self.limits.waiters_limit + ONE_MORE_COUNT) as u64;
        let bounds = [
            ("bytes not yet written", unwritten_bytes, in_flight),
            // A follower learns of commits with what follows, so it may hold what the leader did, and what it had.
            ("bytes not yet applied", unsettled_bytes, unapplied),
            ("bytes in the hot tail", hot_bytes, self.limits.hot_tail_bytes_limit + unapplied),
            ("answers that wait for a commit", waiters_count as u64, waiters),
            ("commands for the log writer", view.holdings.log_backlog_count as u64, TURN_COUNT as u64),
            ("answers for clients", view.holdings.reply_backlog_count as u64, TURN_COUNT as u64),
            ("messages behind the hard state", view.holdings.messages_count as u64, TURN_COUNT as u64),
        ];
        match bounds.iter().find(|(_, held, bound)| held > bound) {
            None => Ok(()),
            Some((what, held, bound)) => {
                Err(format!("node {} holds {held} {what}, and may hold {bound}", view.node))
            }
        }
    }
}
