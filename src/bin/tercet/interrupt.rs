//! Ctrl-C on a client command: what was reached is still reported, then exit code 5.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tercet::client::Waker;

use crate::exit::{Failure, INTERRUPTED};

/// How long a command may take to report after the signal.
pub const GRACE: Duration = Duration::from_secs(2);

/// Whether SIGINT or SIGTERM came. Clones share the answer.
#[derive(Clone)]
pub struct Interrupt {
    set: Arc<AtomicBool>,
    wakers: Arc<Mutex<Vec<Waker>>>,
}

impl Interrupt {
    /// From here on signals no longer end the process at once. A second signal does, and so does the end of `grace`
    /// after the first one: a command that is stuck stays stoppable.
    pub fn install(grace: Duration) -> io::Result<Self> {
        let interrupt = Self { set: Arc::default(), wakers: Arc::default() };
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let (set, wakers) = (Arc::clone(&interrupt.set), Arc::clone(&interrupt.wakers));
        std::thread::spawn(move || {
            let leave = || std::process::exit(i32::from(INTERRUPTED));
            if signals.forever().next().is_none() {
                return;
            }
            set.store(true, Ordering::SeqCst);
            for waker in wakers.lock().iter() {
                // A poll that is not interrupted ends at its own timeout.
                let _ = waker.wake();
            }
            std::thread::spawn(move || {
                std::thread::sleep(grace);
                crate::output::note("tercet: interrupted while waiting for a node or a leader");
                crate::output::last_words();
                leave();
            });
            if signals.forever().next().is_some() {
                leave();
            }
        });
        Ok(interrupt)
    }

    /// Has a signal come?
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// A signal interrupts this poll too.
    pub fn wakes(&self, waker: Waker) {
        self.wakers.lock().push(waker);
    }

    /// An error once a signal has come.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_set() { Err(Failure::new(INTERRUPTED, "interrupted")) } else { Ok(()) }
    }
}
