//! A sign of life from the disk.

use crate::base::sync::{Arc, AtomicU64, Ordering};

/// Counts what the disk has finished. Written by the log writer's thread, read by the batcher: a roll takes several
/// syncs before it has anything to report, and a disk that is only slow is no hanging one.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The disk has finished something that it had to be waited for.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
