//! Messages on their way out. Those that depend on hard state not yet durable wait here, apart from the others.
//!
//! ```text
//!   step(Vote t5) ── hard state v7 {t5, voted} ──▶ Ready.hard_state ──▶ disk ─┐
//!        └── VoteReply t5, held for v7 ··· waits ··· hard_state_flushed(7) ◀──┘ ──▶ Ready.messages
//! ```
//!
//! Bounded: at most one message a peer and slot, in each of the two lists.

use std::hash::{Hash, Hasher};

use super::message::{MESSAGE_SLOTS, Message};
use crate::base::ids::NodeId;
use crate::base::limits::NODES_MAX;

/// Most messages in either list.
pub(super) const OUTBOX_MAX: usize = NODES_MAX * MESSAGE_SLOTS as usize;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    version: u64,
    to: NodeId,
    message: Message,
}

/// Not by the version's number, see [`HardStateCell`](super::hard_state::HardStateCell).
impl Hash for Held {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.to, &self.message).hash(hasher);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Outbox {
    free: Vec<(NodeId, Message)>,
    held: Vec<Held>,
}

impl Outbox {
    /// May leave now.
    pub(super) fn push(&mut self, to: NodeId, message: Message) {
        let slot = message.slot();
        match self.free.iter_mut().find(|(node, old)| *node == to && old.slot() == slot) {
            Some((_, old)) => *old = message,
            None => self.free.push((to, message)),
        }
        debug_assert!(self.free.len() <= OUTBOX_MAX);
    }

    /// May leave once hard state `version` is durable.
    pub(super) fn hold(&mut self, version: u64, to: NodeId, message: Message) {
        let slot = message.slot();
        match self.held.iter_mut().find(|held| held.to == to && held.message.slot() == slot) {
            Some(held) => (held.version, held.message) = (version, message),
            None => self.held.push(Held { version, to, message }),
        }
        debug_assert!(self.held.len() <= OUTBOX_MAX);
    }

    /// Frees what waited for a version up to `flushed`.
    pub(super) fn release(&mut self, flushed: u64) {
        let mut at = 0;
        while at < self.held.len() {
            if self.held[at].version <= flushed {
                let held = self.held.remove(at);
                self.push(held.to, held.message);
            } else {
                at += 1;
            }
        }
    }

    /// The term has moved on: what still waits belongs to an older one, and nobody needs it.
    pub(super) fn drop_held(&mut self) {
        self.held.clear();
    }

    /// The campaign is over: its requests must not leave any more.
    pub(super) fn drop_held_requests(&mut self) {
        self.held.retain(|held| !matches!(held.message, Message::Vote { .. } | Message::PreVote { .. }));
    }

    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn held_count(&self) -> usize {
        self.held.len()
    }

    pub(super) fn take_into(&mut self, out: &mut Vec<(NodeId, Message)>) {
        out.append(&mut self.free);
    }
}
