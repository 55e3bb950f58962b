//! Wake-ups between threads (rule 5). Checked as it stands here in every order of steps by `tests/threads.rs`.
//!
//! A thread about to wait sets its `sleeping` flag, looks at its rings once more, and only then waits in its poll. A
//! producer publishes its item, then reads the flag; only when it is set does it pay for a wake-up. Both sides put a
//! sequentially consistent fence between their write and their read, so at least one of them sees the other: no wake-up
//! is lost, and an awake thread costs its producers one load.

use crossbeam::utils::CachePadded;

use crate::base::sync::{Arc, AtomicBool, Ordering, fence};

struct WakeState {
    sleeping: CachePadded<AtomicBool>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl WakeState {
    /// Whoever takes the flag owes the wake-up; others that find it taken rely on that one. An exchange that writes
    /// nothing where it finds nothing to take: a swap would be as right, but is more than the checker can follow.
    fn take(&self) -> bool {
        self.sleeping.compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// Wakes one thread, if it sleeps. Cheap to clone; `none()` where nobody sleeps (tests, simulator).
#[derive(Clone)]
pub struct WakeHandle(Option<Arc<WakeState>>);

impl WakeHandle {
    /// A handle for a consumer that never sleeps.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// A handle whose consumer is woken by `wake` (which must be callable from any thread and never block).
    #[must_use]
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(WakeState {
            sleeping: CachePadded::new(AtomicBool::new(false)),
            wake: Box::new(wake),
        })))
    }

    /// Producer side: call after the item is visible.
    pub fn notify(&self) {
        if let Some(state) = &self.0 {
            fence(Ordering::SeqCst);
            if state.sleeping.load(Ordering::Relaxed) && state.take() {
                (state.wake)();
            }
        }
    }

    /// Consumer side: from now on producers will wake this thread. It must look at its rings once more before it
    /// waits.
    pub fn announce_sleep(&self) {
        if let Some(state) = &self.0 {
            state.sleeping.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
    }

    /// Consumer side: awake again.
    pub fn announce_awake(&self) {
        if let Some(state) = &self.0 {
            state.sleeping.store(false, Ordering::Relaxed);
        }
    }
}

/// A thread that may sleep, as [`sleep`] needs it.
pub trait Sleeper {
    /// What a wait comes to.
    type Waited;

    /// What producers wake this thread by.
    fn wake(&self) -> &WakeHandle;

    /// Looks at everything that a producer publishes before it calls [`WakeHandle::notify`]. True: do not wait.
    fn look(&mut self) -> bool;

    /// Waits until woken. A wake-up that came before must end this wait too.
    fn wait(&mut self) -> Self::Waited;
}

/// The consumer's side in its only right order: says that it sleeps, looks once more, then waits. `None`: the look found
/// something, so it did not wait.
pub fn sleep<S: Sleeper>(sleeper: &mut S) -> Option<S::Waited> {
    sleeper.wake().announce_sleep();
    let waited = if sleeper.look() { None } else { Some(sleeper.wait()) };
    sleeper.wake().announce_awake();
    waited
}
