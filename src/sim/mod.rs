//! Room `sim`.
pub mod net;
