//! Handing leadership over: before a planned stop, or because an operator asks for it.

use super::Batcher;
use crate::base::clock::{Clock, NS_PER_S};
use crate::base::ids::NodeId;
use crate::raft::ProgressState;

/// Entries by which the successor may be behind when proposals stop: little enough to be made up within milliseconds.
const LAG_MAX: u64 = 64;
/// How long a handover may take from the wish to the end, attempts included.
const HANDOVER_LIMIT_NS: u64 = 2 * NS_PER_S;

/// A handover that is wished for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    target: NodeId,
    deadline_ns: u64,
}

/// What is under way, and whether the handover before a stop is over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Handover {
    wish: Option<Wish>,
    before_stop: bool,
}

impl<C: Clock> Batcher<C> {
    /// Begins, repeats or ends a handover. Called every turn; costs nothing while there is none.
    pub(super) fn go_on_with_handover(&mut self) {
        if self.control.is_draining() && !self.handover.before_stop {
            self.handover.before_stop = true;
            if let Some(target) = self.raft.best_successor() {
                self.wish_for(target);
            }
        }
        let Some(wish) = self.handover.wish else { return };
        if !self.is_leader() || self.now_ns >= wish.deadline_ns {
            self.handover.wish = None;
            return;
        }
        if self.raft.is_transferring() || !self.is_close(wish.target) {
            return;
        }
        // What has gathered goes first: while leadership is handed over nothing is proposed.
        self.seal_now();
        self.counters.transfers_begun.increment();
        if self.raft.transfer_to(wish.target).is_err() {
            self.handover.wish = None;
        }
    }

    fn wish_for(&mut self, target: NodeId) {
        self.handover.wish = Some(Wish { target, deadline_ns: self.now_ns + HANDOVER_LIMIT_NS });
    }

    /// Streaming, and only a little behind.
    fn is_close(&self, target: NodeId) -> bool {
        self.raft.progress(target).is_some_and(|progress| {
            let lag = self.tail.index.since(progress.stable().min(self.tail.index));
            progress.state() == ProgressState::Replicate && lag <= LAG_MAX
        })
    }

    /// Before a stop: this node leads no more, or cannot hand over.
    pub(super) fn has_handed_over(&self) -> bool {
        self.handover.before_stop && self.handover.wish.is_none()
    }

    pub(super) fn handover_deadline_ns(&self) -> Option<u64> {
        self.handover.wish.map(|wish| wish.deadline_ns)
    }
}
