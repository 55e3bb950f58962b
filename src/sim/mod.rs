//! The simulated world: whole nodes on one thread over a simulated network, disk and clock, all from one seed.

pub mod disk;
pub mod net;
