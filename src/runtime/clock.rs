//! The operating system's clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::base::clock::{Clock, NS_PER_S};

/// `CLOCK_MONOTONIC` and the wall clock; both are read without a system call on the usual kernels.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsClock;

impl Clock for OsClock {
    fn now_ns(&self) -> u64 {
        let time = clock_gettime(ClockId::Monotonic);
        time.tv_sec as u64 * NS_PER_S + time.tv_nsec as u64
    }

    fn unix_ns(&self) -> u64 {
        // Before 1970 there is nothing to show.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    }
}
