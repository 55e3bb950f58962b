//! Room `sim`.

pub mod disk;
