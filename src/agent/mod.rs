//! Floor 3: the agents. Each is a value with a duty cycle; threads are somebody else's business (`runtime/`).
//!
//! ```text
//!            ┌─────────── conductor: listens, dials, shakes hands, hands sockets over ───────────┐
//!            ▼                                    │                                             ▼
//! client ─▶ dispatcher ═ring═▶ replication batcher ═ring═▶ peer sender ─TCP─▶ (peer's) ack receiver ═ring═▶ its batcher
//!            ▲                  ║   ▲   ║   ▲
//!            ╚════ acks ════════╝   ║   ║   ╚═ring═ ack receiver ◀─TCP─ (peer's) sender
//!                                   ║   ╚═ring═▶ delivery ─TCP─▶ subscribers
//!         log writer ◀═══ entries ══╝        reader ═ring═▶ (catch-up, cold subscribers)
//! ```
//!
//! Rules (ARCHITECTURE, rules 1, 3, 4): an agent owns its state alone and speaks to others only over the rings made in
//! [`rings`]; `do_work` never sleeps, spins or spawns and waits for no disk or peer (log writer and reader excepted);
//! every drain is bounded; a full ring pushes back and is counted.

pub mod ack_receiver;
pub mod batcher;
pub mod boot;
pub mod commands;
pub mod conductor;
pub mod connection;
pub mod control;
pub mod delivery;
pub mod dispatcher;
pub mod gauge;
pub mod log_writer;
pub mod mending;
pub mod peer_sender;
pub mod reader;
pub mod reception;
pub mod ring;
pub mod rings;
#[cfg(test)]
mod tests_ring;
pub mod wake;

use crate::base::net::Readiness;

/// What every agent is: a duty cycle that some runner invokes.
pub trait Agent {
    /// Short role name for threads, metrics and messages.
    fn name(&self) -> &'static str;

    /// One bounded turn. `now_ns` is read once by the runner; `readiness` holds this agent's socket events since the
    /// last turn (edge-triggered). Returns how much was done; zero means that the thread may sleep until
    /// [`Agent::next_deadline_ns`], readiness, or a ring's wake-up.
    fn do_work(&mut self, now_ns: u64, readiness: &[Readiness]) -> usize;

    /// The next moment at which this agent wants a turn even if nothing arrives.
    fn next_deadline_ns(&self) -> Option<u64> {
        None
    }

    /// Something waits for room in another agent's ring. Nobody wakes this thread when room appears, so it must look
    /// again soon (the runner caps its sleep).
    fn is_stalled(&self) -> bool {
        false
    }

    /// Last words before the thread ends: flush what must be flushed. Called once.
    fn on_close(&mut self) {}
}
