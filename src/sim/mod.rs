//! The simulated world: whole nodes on one thread over a simulated network, disk and clock, all from one seed.
//!
//! ```text
//! seed ─▶ run ─▶ Cluster: nodes (real agents) · SimNet · SimDisk · SimClock · clients ─▶ Report { trace_hash, … }
//!                   ▲ Adversary                       └─▶ Book of invariants
//! ```
//!
//! Nothing here asks the operating system for time or randomness, and nothing depends on the order of a hash map: equal
//! seeds give equal traces. A violation is replayed by its seed.

pub mod cluster;
pub mod coverage;
pub mod disk;
pub mod faults;
pub mod invariants;
pub mod net;
pub mod node;
pub mod report;
mod run;
pub mod workload;

pub use report::{Report, Violation};
pub use run::{Options, run};
