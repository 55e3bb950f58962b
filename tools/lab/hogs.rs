//! Threads that burn processor time: a busy neighbour on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::LabResult;

/// Busy threads, one after the other pinned to the cores there are. Dropping them ends them.
pub struct Hogs {
    stop: Arc<AtomicBool>,
}

impl Hogs {
    /// Begins. `count` may be zero.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(count: u16) -> LabResult<Self> {
        let hogs = Self { stop: Arc::default() };
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        for number in 0..usize::from(count) {
            let core = cores.get(number % cores.len().max(1)).copied();
            let stop = Arc::clone(&hogs.stop);
            let burn = move || {
                // Where pinning is refused, the scheduler spreads them.
                let _ = core.map(core_affinity::set_for_current);
                while !stop.load(Ordering::Relaxed) {
                    std::hint::black_box(number);
                }
            };
            std::thread::Builder::new().name(format!("hog-{number}")).spawn(burn)?;
        }
        Ok(hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
