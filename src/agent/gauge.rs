//! The count of open client connections, kept across threads. Checked by `tests/threads.rs`.

use crate::base::sync::{Arc, AtomicUsize, Ordering};

/// Open client connections, for the limit: raised by the conductor, lowered by who closes one.
#[derive(Clone, Default)]
pub struct ConnectionGauge(Arc<AtomicUsize>);

impl ConnectionGauge {
    /// Takes a place if fewer than `limit` are taken.
    #[must_use]
    pub fn try_enter(&self, limit: usize) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < limit).then_some(open + 1))
            .is_ok()
    }

    /// Gives a place back.
    pub fn leave(&self) {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a connection leaves once");
    }

    /// Places taken.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}
