//! Room `metrics`: what the agents measure about themselves, and how others read it.
//!
//! ```text
//! writer (one thread)                                reader (any thread)
//!   Counter::add ── relaxed load + store ──▶ padded cell ◀── relaxed load ── Counters::snapshot
//! ```
//!
//! - [`Counter`], [`Counters`]: named 64-bit counters, each on its own cache line, each with exactly one writer, so
//!   that counting costs no atomic read-modify-write and no line bounces between cores.
//! - [`LatencyRecorder`]: an HDR histogram of nanoseconds, owned by one thread and merged later.
//! - [`DutyCycleTracker`]: how long an agent's loop takes from one turn to the next.
//!
//! This room imports `base` alone. Nothing here allocates after start-up, except for snapshots.

mod counters;
mod duty_cycle;
mod latency;

pub use counters::{Counter, Counters};
pub use duty_cycle::DutyCycleTracker;
pub use latency::{LATENCY_NS_MAX, LatencyRecorder, LatencySummary, SIGNIFICANT_FIGURES};
