//! Who waits for which entry: acknowledgements and answers that leave when an index commits.

use std::collections::VecDeque;

use crate::agent::commands::ConnectionId;
use crate::base::ids::{LogIndex, Offset, ProducerId, Sequence};

/// One run of events of one connection inside one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckPart {
    /// Whom to tell.
    pub connection: ConnectionId,
    /// Whose events.
    pub producer_id: ProducerId,
    /// First sequence of the run.
    pub first_sequence: Sequence,
    /// How many.
    pub count: u32,
    /// Offset of the first.
    pub first_offset: Offset,
    /// It was sent again while the original was still uncommitted.
    pub duplicate: bool,
}

/// What waits for one index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// Acknowledge these events.
    Ack(AckPart),
    /// Answer an open.
    Open {
        /// Whom to tell.
        connection: ConnectionId,
        /// Echo.
        request_id: u64,
    },
    /// Answer a change of a member.
    Change {
        /// Whom to tell.
        connection: ConnectionId,
        /// Echo.
        request_id: u64,
    },
}

impl Waiter {
    /// The connection that waits.
    #[must_use]
    pub const fn connection(&self) -> ConnectionId {
        match self {
            Self::Ack(part) => part.connection,
            Self::Open { connection, .. } | Self::Change { connection, .. } => *connection,
        }
    }
}

/// Waiters by index, for the contiguous range of uncommitted entries that this leader appended.
///
/// Invariant: `slots[i]` belongs to index `base + i`; `base` is the first index that is not yet committed.
#[derive(Debug)]
pub struct Pending {
    base: LogIndex,
    slots: VecDeque<Vec<Waiter>>,
    pool: Vec<Vec<Waiter>>,
    count: usize,
}

impl Pending {
    /// Nobody waits; everything up to `committed` is committed.
    #[must_use]
    pub const fn new(committed: LogIndex) -> Self {
        Self { base: committed.next(), slots: VecDeque::new(), pool: Vec::new(), count: 0 }
    }

    /// Adds a waiter for an uncommitted index.
    ///
    /// # Panics
    /// When `index` is committed already: its answer would never leave.
    pub fn add(&mut self, index: LogIndex, waiter: Waiter) {
        assert!(
            index >= self.base,
            "waiter for index {index}, but {} is the first uncommitted one",
            self.base
        );
        let place = index.since(self.base) as usize;
        while self.slots.len() <= place {
            self.slots.push_back(self.pool.pop().unwrap_or_default());
        }
        self.slots[place].push(waiter);
        self.count += 1;
    }

    /// Hands every waiter of every index up to `commit` to `tell`, in log order.
    pub fn complete(&mut self, commit: LogIndex, mut tell: impl FnMut(LogIndex, Waiter)) {
        while self.base <= commit {
            let Some(mut waiters) = self.slots.pop_front() else {
                self.base = commit.next();
                return;
            };
            self.count -= waiters.len();
            for waiter in waiters.drain(..) {
                tell(self.base, waiter);
            }
            if self.pool.len() < 64 {
                self.pool.push(waiters);
            }
            self.base = self.base.next();
        }
    }

    /// Leadership is lost: hands over everything that waited; the outcome of those entries is unknown.
    pub fn abandon(&mut self, mut tell: impl FnMut(Waiter)) {
        for mut waiters in self.slots.drain(..) {
            for waiter in waiters.drain(..) {
                tell(waiter);
            }
        }
        self.count = 0;
    }

    /// How many wait.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Pending, Waiter};
    use crate::agent::commands::ConnectionId;
    use crate::base::ids::LogIndex;

    fn open(request_id: u64) -> Waiter {
        Waiter::Open { connection: ConnectionId { slot: 0, generation: 0 }, request_id }
    }

    #[test]
    fn waiters_leave_in_log_order_and_only_when_committed() {
        let mut pending = Pending::new(LogIndex(6));
        for (index, id) in [(7, 70), (9, 90), (7, 71), (12, 120)] {
            pending.add(LogIndex(index), open(id));
        }
        let mut told = Vec::new();
        pending.complete(LogIndex(9), |index, waiter| told.push((index.0, waiter)));
        assert_eq!(told, vec![(7, open(70)), (7, open(71)), (9, open(90))]);
        assert!(!pending.is_empty());
        pending.add(LogIndex(10), open(100));
        told.clear();
        pending.complete(LogIndex(20), |index, waiter| told.push((index.0, waiter)));
        assert_eq!(told, vec![(10, open(100)), (12, open(120))]);
        assert!(pending.is_empty());
        pending.add(LogIndex(40), open(1));
        let mut abandoned = 0;
        pending.abandon(|_| abandoned += 1);
        assert_eq!(abandoned, 1);
        assert!(pending.is_empty());
    }
}
