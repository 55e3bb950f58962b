//! Time as the rest of the house sees it. The core knows none of it; agents are told `now_ns` once a duty cycle.

/// Nanoseconds in a millisecond.
pub const NS_PER_MS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const NS_PER_S: u64 = 1_000_000_000;

/// A source of time. Implemented by the operating system's clocks and by the simulator's.
pub trait Clock {
    /// Monotonic nanoseconds from an arbitrary start; never goes back within a process.
    fn now_ns(&self) -> u64;
    /// Wall-clock nanoseconds since the Unix epoch; may jump, and is only ever shown.
    fn unix_ns(&self) -> u64;
}
