//! The protocols between threads, in every order of steps: the files of `src/` that keep one are compiled here a second
//! time, as they stand, with atomics that a model checker (loom) drives in the place of `base::sync`. What is proved,
//! within what bounds and what is not: `docs/TESTING_STRATEGY.md`, 'Threads'.
//!
//! Each model must be able to fail: `threads/planted.rs` weakens, moves or takes out one step of a shipped file at a
//! time, and some model has to notice.

#![allow(clippy::unwrap_used)]

#[path = "threads/lab.rs"]
mod lab;
#[path = "threads/litmus.rs"]
mod litmus;
#[path = "threads/logs.rs"]
mod logs;
#[path = "threads/planted.rs"]
mod planted;
#[path = "threads/ring_model.rs"]
mod ring_model;
#[path = "threads/small.rs"]
mod small;
#[path = "threads/sync_model.rs"]
mod sync_model;
#[path = "threads/wakes.rs"]
mod wakes;

// What `src/agent/ring.rs` calls `rtrb` is the model's ring here.
extern crate self as rtrb;
use ring_model::{Consumer, Producer, PushError, RingBuffer};

#[allow(dead_code)]
#[path = "../src/agent/control.rs"]
mod control;
#[path = "../src/agent/gauge.rs"]
mod gauge;
#[path = "../src/log/hold.rs"]
mod hold;
#[allow(dead_code)]
#[path = "../src/base/ids.rs"]
mod ids;
#[allow(dead_code)]
#[path = "../src/log/published.rs"]
mod published;
#[path = "../src/log/pulse.rs"]
mod pulse;
#[allow(dead_code)]
#[path = "../src/agent/ring.rs"]
mod ring;
#[allow(dead_code)]
#[path = "../src/agent/wake.rs"]
mod wake;

/// What the shipped files call `crate::base`.
mod base {
    pub(crate) use crate::ids;
    pub(crate) use crate::sync_model as sync;
}

/// What `ring.rs` calls `crate::metrics`: a count of stalls, which is no part of any protocol.
mod metrics {
    #[derive(Default)]
    pub struct Counter(std::cell::Cell<u64>);

    impl Counter {
        pub fn increment(&self) {
            self.0.set(self.0.get() + 1);
        }

        pub fn get(&self) -> u64 {
            self.0.get()
        }
    }
}
