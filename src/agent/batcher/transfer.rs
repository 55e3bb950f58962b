//! Handing leadership over: before a planned stop, or because an operator asks for it.

use super::Batcher;
use crate::agent::commands::{BatcherReply, ConnectionId};
use crate::base::clock::{Clock, NS_PER_S};
use crate::base::ids::NodeId;
use crate::protocol::client::TransferCode;
use crate::raft::ProgressState;

/// Entries by which the successor may be behind when proposals stop: little enough to be made up within milliseconds.
const LAG_MAX: u64 = 64;
/// How long a handover may take from the wish to the end.
const HANDOVER_LIMIT_NS: u64 = 2 * NS_PER_S;

/// A handover that is wished for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    target: NodeId,
    deadline_ns: u64,
    /// Who asked, and by which request; none: this node stops.
    waiter: Option<(ConnectionId, u64)>,
    /// The core was asked.
    begun: bool,
}

/// What is under way, and whether the handover before a stop was begun.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Handover {
    wish: Option<Wish>,
    before_stop: bool,
}

impl<C: Clock> Batcher<C> {
    /// Begins a transfer of leadership to `to` for a client, or says why not.
    pub(super) fn transfer(&mut self, connection: ConnectionId, request_id: u64, to: NodeId) {
        let refusal = if !self.is_leader() {
            Some(TransferCode::NotLeader)
        } else if !self.raft.membership().is_voter(to) {
            Some(TransferCode::NotAVoter)
        } else if to == self.settings.node_id {
            Some(TransferCode::Done)
        } else if self.handover.wish.is_some() {
            Some(TransferCode::InProgress)
        } else {
            None
        };
        match refusal {
            Some(outcome) => self.reply(BatcherReply::Transferred { connection, request_id, outcome }),
            None => self.wish_for(to, Some((connection, request_id))),
        }
    }

    fn wish_for(&mut self, target: NodeId, waiter: Option<(ConnectionId, u64)>) {
        let deadline_ns = self.now_ns + HANDOVER_LIMIT_NS;
        self.handover.wish = Some(Wish { target, deadline_ns, waiter, begun: false });
    }

    /// Begins or ends a handover. Called every turn; costs nothing while there is none.
    pub(super) fn go_on_with_handover(&mut self) {
        if self.control.is_draining() && !self.handover.before_stop {
            self.handover.before_stop = true;
            self.finish_handover(TransferCode::TimedOut);
            if let Some(target) = self.raft.best_successor() {
                self.wish_for(target, None);
            }
        }
        let Some(wish) = self.handover.wish else { return };
        if !self.is_leader() {
            match self.raft.leader() {
                Some(leader) if leader == wish.target => self.finish_handover(TransferCode::Done),
                Some(_) => self.finish_handover(TransferCode::NotLeader),
                None if self.now_ns >= wish.deadline_ns => self.finish_handover(TransferCode::NotLeader),
                None => {}
            }
        } else if self.raft.is_transferring() {
            // The core has its own time limit.
        } else if wish.begun || self.now_ns >= wish.deadline_ns {
            self.finish_handover(TransferCode::TimedOut);
        } else if self.is_close(wish.target) {
            self.begin_handover(wish);
        }
    }

    fn begin_handover(&mut self, wish: Wish) {
        // What has gathered goes first: while leadership is handed over nothing is proposed.
        self.seal_now();
        self.counters.transfers_begun.increment();
        tracing::info!("handing leadership to node {}", wish.target);
        match self.raft.transfer_to(wish.target) {
            Ok(()) => self.handover.wish = Some(Wish { begun: true, ..wish }),
            Err(_) => self.finish_handover(TransferCode::TimedOut),
        }
    }

    fn finish_handover(&mut self, outcome: TransferCode) {
        let Some(wish) = self.handover.wish.take() else { return };
        if let Some((connection, request_id)) = wish.waiter {
            self.reply(BatcherReply::Transferred { connection, request_id, outcome });
        }
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
        self.handover.before_stop && (self.handover.wish.is_none() || !self.is_leader())
    }

    /// None while the core hands over: it has a timer of its own, and a deadline that has passed must not keep the
    /// thread awake.
    pub(super) fn handover_deadline_ns(&self) -> Option<u64> {
        self.handover.wish.filter(|_| !self.raft.is_transferring()).map(|wish| wish.deadline_ns)
    }
}
