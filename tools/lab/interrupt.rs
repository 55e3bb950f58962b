//! Ctrl-C: nodes are stopped and what was found is reported; a second one ends the tool at once (and its nodes with it).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use super::error::{LabError, LabResult};

/// Whether SIGINT or SIGTERM came. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    set: Arc<AtomicBool>,
}

impl Interrupt {
    /// From here on the first signal only sets the flag.
    ///
    /// # Errors
    /// As the system says.
    pub fn install() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset.
            signal_hook::flag::register_conditional_shutdown(signal, 5, Arc::clone(&interrupt.set))?;
            signal_hook::flag::register(signal, Arc::clone(&interrupt.set))?;
        }
        Ok(interrupt)
    }

    /// Has one come?
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// An error once one has come.
    ///
    /// # Errors
    /// [`LabError::Interrupted`].
    pub fn check(&self) -> LabResult<()> {
        if self.is_set() { Err(LabError::Interrupted) } else { Ok(()) }
    }
}
