//! Room `raft`: the consensus core. Pure: no file, socket, clock or random number, and state that is
//! `Clone + Eq + Hash`, so that the simulator and a model checker run exactly this code.
//!
//! # The flow
//!
//! ```text
//!            step(from, message)  timer_fired(kind)  propose()
//!                        │               │              │
//!                        ▼               ▼              ▼
//!   ┌─────────────────────────────── Raft ───────────────────────────────┐
//!   │ election   follower   leader ── progress   claim   read_index       │
//!   └──┬──────────────┬────────────────┬──────────────┬─────────────┬────┘
//!      │ hard_state   │ log_ops        │ messages     │ next_send   │ timers, role, commit, reads
//!      ▼              ▼                ▼              ▼             ▼
//!    disk          log writer       may leave       entries       the layer around
//!      │              │              now            to a peer
//!      ▼              ▼                               │
//!   hard_state_    log_stable(generation, index)    sent(peer, last, bytes)
//!   flushed(v)
//! ```
//!
//! # The order of calls
//!
//! 1. [`Raft::new`] with what recovery found, then [`Raft::start`].
//! 2. Any of [`Raft::step`], [`Raft::timer_fired`], [`Raft::log_stable`], [`Raft::hard_state_flushed`],
//!    [`Raft::peer_connected`], [`Raft::peer_disconnected`], [`Raft::read_index`]. After a `step` of an `Append` that
//!    holds entries, take the ready before the next one: `AppendReceived` speaks of 'the Append just stepped'.
//! 3. [`Raft::ready_into`]. Do its `log_ops` in order and at once (in memory; the writer follows when it can), hand
//!    `hard_state` to the disk, `messages` to the network, `timers` to the layer that holds deadlines. None of these
//!    has to wait for another: whatever depends on the disk is still inside and comes out later.
//! 4. [`Raft::propose`] for new entries, after the `log_ops` of step 3; [`Raft::membership_appended`] for each
//!    configuration among the entries that these appended.
//! 5. For each connected peer: [`Raft::next_send`], send, [`Raft::sent`], until there is no plan.
//!
//! Every call is short: work in proportion to the members and to the entries of one message.
//!
//! # What waits for the disk
//!
//! ```text
//!   term, vote or claim changes ─▶ version v ─▶ Ready.hard_state ─▶ fsync ─▶ hard_state_flushed(v)
//!                                     │                                             │
//!                                     └─ messages from now on: held ───────────────▶ freed
//! ```
//!
//! All messages of a node are held while its newest hard state is not durable, whether they speak of it or not:
//! that is rare and short, and one rule is easier to prove than a list. A term that ends drops what it still held.
//! A candidate's vote for itself counts by the same rule, so a leader's term and vote are always durable.
//!
//! Entries need no such order: an acknowledgement names only what [`Raft::log_stable`] has reported.
//!
//! # What never happens
//!
//! The term falls; the commit index falls; a committed entry is truncated; a node votes twice in a term; an entry
//! of an older term is committed by counting; a learner is counted or campaigns. Where a message shows that
//! such a thing has happened elsewhere, the node panics and names the property.
//!
//! Sources: Ongaro and Ousterhout, 'In Search of an Understandable Consensus Algorithm' (the Raft paper); Ongaro,
//! 'Consensus: Bridging Theory and Practice' (the Raft thesis). 'Rule n' is a rule of `docs/DESIGN.md`.

pub mod canvass;
pub mod change;
pub mod claim;
pub mod election;
pub mod follower;
pub mod hard_state;
pub mod leader;
pub mod log_view;
pub mod membership;
pub mod message;
pub mod node;
mod outbox;
pub mod progress;
pub mod quorum;
pub mod read_index;
pub mod ready;
pub mod timer;
pub mod transfer;

#[cfg(test)]
mod tests;

pub use change::{ChangeError, PROMOTION_LAG_MAX};
pub use hard_state::HardState;
pub use log_view::{LogView, TermRuns, TermRunsError};
pub use membership::{InForce, Membership, MembershipError, MembershipLog};
pub use message::{AppendOutcome, Message};
pub use node::{Raft, RaftConfig, Restored};
pub use progress::{Progress, ProgressState};
pub use ready::{LogOp, NotLeader, READS_PENDING_MAX, ReadAborted, Ready, Role, RoleChange, SendPlan};
pub use timer::{TimerKind, TimerRequest};
pub use transfer::TransferError;
