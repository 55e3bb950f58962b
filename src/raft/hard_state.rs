//! The state that must be durable before words that depend on it leave (Raft paper, figure 2: 'persistent state').

use std::hash::{Hash, Hasher};

use crate::base::ids::{EntryId, NodeId, Term};

/// What a node must not forget. Always fsynced, whatever the durability of the log (rule 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct HardState {
    /// Latest term this node has seen. Never falls.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
    /// Last entry that a valid header says was here, though it is damaged now (rule 11), or an
    /// [unknown one](super::claim::unknown_claim). Kept until settled.
    pub claimed_tail: Option<EntryId>,
}

/// The hard state with its versions: `flushed <= emitted <= version`. Version 0 is what was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HardStateCell {
    state: HardState,
    version: u64,
    emitted: u64,
    flushed: u64,
}

/// Not by the numbers: how many versions there were says nothing of what may happen, only which of them wait. A model
/// checker need not tell apart what differs in that alone.
impl Hash for HardStateCell {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.state.hash(hasher);
        (self.version - self.emitted, self.version - self.flushed.min(self.version)).hash(hasher);
    }
}

impl HardStateCell {
    pub(super) fn restored(state: HardState) -> Self {
        Self { state, version: 0, emitted: 0, flushed: 0 }
    }

    pub(super) fn get(&self) -> &HardState {
        &self.state
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether everything said so far is on disk.
    pub(super) fn is_durable(&self) -> bool {
        self.flushed == self.version
    }

    /// Whether version `version` is on disk.
    pub(super) fn has_flushed(&self, version: u64) -> bool {
        self.flushed >= version
    }

    /// Replaces the state; a change makes a new version.
    pub(super) fn put(&mut self, state: HardState) {
        assert!(
            state.term >= self.state.term,
            "hard state invariant: the term never falls (from {} to {})",
            self.state.term,
            state.term
        );
        assert!(
            state.term > self.state.term
                || self.state.voted_for.is_none()
                || state.voted_for == self.state.voted_for,
            "hard state invariant: one vote a term (term {})",
            state.term
        );
        if state != self.state {
            self.state = state;
            self.version += 1;
        }
    }

    /// Makes a new version of the same state, so that it is written even if the disk may have it.
    pub(super) fn touch(&mut self) {
        self.version += 1;
    }

    pub(super) fn has_unsaid(&self) -> bool {
        self.emitted < self.version
    }

    pub(super) fn emit(&mut self) -> Option<(u64, HardState)> {
        if self.emitted == self.version {
            return None;
        }
        self.emitted = self.version;
        Some((self.version, self.state))
    }

    /// Version `version` is on disk. One that was never handed out counts for nothing.
    pub(super) fn flush(&mut self, version: u64) -> u64 {
        if version <= self.emitted {
            self.flushed = self.flushed.max(version);
        }
        self.flushed
    }
}
