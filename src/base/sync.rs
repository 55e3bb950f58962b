//! What the protocols between threads are made of, under one name: `tests/threads.rs` compiles the files that keep such a
//! protocol a second time, with a module in the place of this one whose atomics a model checker drives. So such a file
//! takes its atomics from here and imports nothing else that a checker would have to see.

pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
