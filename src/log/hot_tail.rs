//! The newest entries in memory. Owned by the replication batcher; no locks.
//!
//! Entries are reference-counted, so handing one to a sender or a subscriber copies nothing, and dropping it here frees
//! nothing that is still in use.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::iter::{Skip, Take};

use crate::base::ids::LogIndex;
use crate::entry::Entry;

/// A dense run of entries up to the end of the log.
#[derive(Clone, Debug)]
pub struct HotTail {
    entries: VecDeque<Entry>,
    /// Index of the first entry here, or of the next one when empty.
    first: LogIndex,
    bytes: u64,
    bytes_limit: u64,
}

impl HotTail {
    /// Empty, to go on after `last` (the end of the recovered log). Trimming keeps it near `bytes_limit`.
    #[must_use]
    pub fn new(last: LogIndex, bytes_limit: u64) -> Self {
        Self { entries: VecDeque::new(), first: last.next(), bytes: 0, bytes_limit }
    }

    /// Appends the next entry.
    ///
    /// # Panics
    /// When it does not follow by index, chain and offset.
    pub fn push(&mut self, entry: Entry) {
        assert!(entry.index() == self.last_index().next(), "{} follows {}", entry.index(), self.last_index());
        if let Some(last) = self.entries.back() {
            assert!(entry.header().prev_chain == last.chain(), "the chain goes on at {}", entry.index());
            assert!(entry.header().base_offset == last.header().next_offset(), "offsets are dense");
        }
        self.bytes += entry.len_bytes() as u64;
        self.entries.push_back(entry);
    }

    /// The entry at `index`, if it is here.
    #[must_use]
    pub fn get(&self, index: LogIndex) -> Option<&Entry> {
        let at = index.get().checked_sub(self.first.get())?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Entries `first..=last`, as far as they are here.
    pub fn range(&self, first: LogIndex, last: LogIndex) -> Take<Skip<Iter<'_, Entry>>> {
        let from = first.max(self.first);
        let skip = usize::try_from(from.since(self.first)).unwrap_or(usize::MAX);
        let count = usize::try_from(last.next().since(from)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip).take(count)
    }

    /// Drops everything from `first_removed` on (truncate_suffix). What is not here any more cannot be dropped: then the
    /// tail is empty and goes on at `first_removed`.
    pub fn truncate_from(&mut self, first_removed: LogIndex) {
        while self.last_index() >= first_removed {
            let Some(entry) = self.entries.pop_back() else {
                self.first = first_removed;
                return;
            };
            self.bytes -= entry.len_bytes() as u64;
        }
    }

    /// Drops the oldest entries while there are more bytes than the limit, but none at or above `keep_from` (what is not
    /// yet written to the log, say).
    pub fn trim(&mut self, keep_from: LogIndex) {
        while self.bytes > self.bytes_limit && self.first < keep_from {
            let Some(entry) = self.entries.pop_front() else { return };
            self.bytes -= entry.len_bytes() as u64;
            self.first = self.first.next();
        }
    }

    /// Index of the first entry here; one past [`HotTail::last_index`] when empty.
    #[must_use]
    pub const fn first_index(&self) -> LogIndex {
        self.first
    }

    /// Index of the last entry of the log.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.first.get() + self.entries.len() as u64 - 1)
    }

    /// Bytes held.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
