//! Floor 1: moves bytes over TCP by way of mio, and knows no message.
//!
//! - [`MioNet`] is the operating system's network behind [`crate::base::net::Net`]; the simulator has its own;
//! - [`bind_listener`] opens a listening port, with an error that names it;
//! - [`InBuffer`] gathers what a stream delivers; [`OutQueue`] holds what it still has to take.
//!
//! Nothing here blocks, spawns or waits; the runner of a thread owns the poll and passes readiness in.

mod in_buffer;
mod listener;
mod mio_net;
mod out_queue;

pub use in_buffer::{InBuffer, OverLimit, ReadOutcome, ReadUntil};
pub use listener::{BindError, bind_listener};
pub use mio_net::{MioNet, MioStream};
pub use out_queue::{FlushOutcome, OutQueue};

#[cfg(test)]
mod tests;
