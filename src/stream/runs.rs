//! Recent runs of one producer: which offsets its sequences got.

use std::collections::VecDeque;

use crate::base::checksum::fold64;
use crate::base::ids::{Offset, Sequence};
use crate::base::limits::PRODUCER_RUNS_MAX;

/// `count` events with consecutive sequences that stand at consecutive offsets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Run {
    pub(super) first_sequence: Sequence,
    pub(super) first_offset: Offset,
    /// At least 1.
    pub(super) count: u64,
}

impl Run {
    /// The sequence behind the last one.
    pub(super) fn end_sequence(&self) -> Sequence {
        self.first_sequence.plus(self.count)
    }

    /// Offset of `sequence`, if the run holds it.
    pub(super) fn offset_of(&self, sequence: Sequence) -> Option<Offset> {
        let holds = sequence >= self.first_sequence && sequence < self.end_sequence();
        holds.then(|| self.first_offset.plus(sequence.since(self.first_sequence)))
    }

    fn hash(&self) -> u64 {
        fold64(fold64(fold64(1, self.first_sequence.0), self.first_offset.0), self.count)
    }
}

/// The newest runs, oldest first, at most [`PRODUCER_RUNS_MAX`]. Sequences are contiguous from run to run; offsets are
/// not, or the two runs would be one.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Runs {
    runs: VecDeque<Run>,
    /// XOR of all runs' hashes, so that a checksum need not walk them.
    hash: u64,
}

impl Runs {
    /// Adds a run behind the newest, merging where sequence and offset both continue; drops the oldest beyond the
    /// bound.
    pub(super) fn push(&mut self, run: Run) {
        if let Some(newest) = self.runs.back_mut() {
            assert_eq!(newest.end_sequence(), run.first_sequence, "a producer's sequences are contiguous");
            if newest.first_offset.plus(newest.count) == run.first_offset {
                self.hash ^= newest.hash();
                newest.count += run.count;
                self.hash ^= newest.hash();
                return;
            }
        }
        self.hash ^= run.hash();
        self.runs.push_back(run);
        if self.runs.len() > PRODUCER_RUNS_MAX
            && let Some(oldest) = self.runs.pop_front()
        {
            self.hash ^= oldest.hash();
        }
    }

    /// Offset of `sequence`; `None` when it is older than what is remembered (or not there yet).
    pub(super) fn offset_of(&self, sequence: Sequence) -> Option<Offset> {
        let at = self.runs.partition_point(|run| run.end_sequence() <= sequence);
        self.runs.get(at)?.offset_of(sequence)
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    /// The incremental hash.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// The same value, computed from scratch.
    pub(super) fn recompute_hash(&self) -> u64 {
        self.runs.iter().fold(0, |hash, run| hash ^ run.hash())
    }

    #[cfg(test)]
    pub(super) fn as_vec(&self) -> Vec<Run> {
        self.runs.iter().copied().collect()
    }
}
