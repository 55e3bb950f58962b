//! Room `stream`: what the log means beyond its bytes. Pure and deterministic: no clock, no randomness, no I/O, ordered
//! collections only; the same entries in the same order give the same state, value for value, on every node.
//!
//! ```text
//!                  classify, stage            note_appended                 apply
//! client's event ───────────────▶ staged ───────────────▶ overlay ───────────────▶ table
//!                                (the batch being filled) (appended, uncommitted)   (committed)
//!                                      └── drop_overlay ──┘
//! ```
//!
//! - [`Producers`]: who may append what, so that each event stands in the log exactly once (rule 14). The *table*
//!   changes at commit alone; the *overlay* is the leader's view of the suffix that is not committed yet.
//! - [`TopicFilter`]: which topics a subscriber wants.
//! - [`Cursor`]: where a subscriber stands in the committed events, and which entries it can skip.
//!
//! This room imports `base` and `entry`.

mod cursor;
mod groups;
mod marks;
mod overlay;
mod producers;
mod runs;
mod state;
mod table;
mod topics;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_cursor;
#[cfg(test)]
mod tests_kit;
#[cfg(test)]
mod tests_model;
#[cfg(test)]
mod tests_state;

pub use cursor::{Cursor, Matches};
pub use producers::{Admit, Applied, ApplyError, BrokenRule, OpenError, OpenPlan, Opened, Producers};
pub use state::StateError;
pub use table::EXPIRED_PER_ENTRY_MAX;
pub use topics::{FilterError, TopicFilter};
