//! The newest committed entries, contiguous by index, bounded by bytes.

use std::collections::VecDeque;

use crate::base::ids::Offset;
use crate::entry::Entry;

/// A contiguous run of committed entries that ends at (or a little before) the commit index.
pub(super) struct Window {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_limit: usize,
}

impl Window {
    pub(super) const fn new(bytes_limit: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_limit }
    }

    /// Adds the next committed entry; one that does not follow (notices were lost to a full ring) starts afresh.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.entries.back().is_some_and(|last| last.index().next() != entry.index()) {
            self.entries.clear();
            self.bytes = 0;
        }
        self.bytes += entry.len_bytes();
        self.entries.push_back(entry);
        while self.bytes > self.bytes_limit && self.entries.len() > 1 {
            if let Some(old) = self.entries.pop_front() {
                self.bytes -= old.len_bytes();
            }
        }
    }

    /// The entries from the one that holds `offset` on; `None` when that one is not here.
    pub(super) fn starting_at(&self, offset: Offset) -> Option<impl Iterator<Item = &Entry>> {
        let first = self.entries.front()?;
        if offset < first.header().base_offset {
            return None;
        }
        let place = self.entries.partition_point(|entry| entry.header().next_offset() <= offset);
        (place < self.entries.len()).then(|| self.entries.range(place..))
    }
}

#[cfg(test)]
mod tests {
    use super::Window;
    use crate::base::ids::{EntryId, LogIndex, Offset, Term};
    use crate::entry::{Entry, SealContext, encode_noop};

    fn noop(index: u64) -> Entry {
        let id = EntryId::new(Term(1), LogIndex(index));
        encode_noop(&SealContext {
            term: id.term,
            index: id.index,
            prev_chain: 0,
            base_offset: Offset(index),
            log_time_ns: 0,
            timestamp_unix_ns: 0,
        })
    }

    #[test]
    fn a_gap_starts_the_window_afresh_and_bytes_are_bounded() {
        let size = noop(1).len_bytes();
        let mut window = Window::new(3 * size);
        for index in 1..=5 {
            window.push(noop(index));
        }
        assert_eq!(window.entries.front().map(Entry::index), Some(LogIndex(3)));
        window.push(noop(9));
        assert_eq!(window.entries.len(), 1);
        assert!(window.starting_at(Offset(8)).is_none());
    }
}
