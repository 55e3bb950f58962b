//! Leadership handed over on purpose (Raft thesis, section 3.10): a planned stop, an operator's wish, a disk that hangs.
//!
//! ```text
//!   transfer_to(target) ─▶ no proposals ─▶ target stable up to the last entry, all committed ─▶ TimeoutNow
//!                              │                                                                  │
//!                              │ Transfer timer: given up, proposals go on                        ▼
//!                              ◀──────────────────────────────────────────────── the target campaigns at once
//! ```
//!
//! Everything is committed before the target is told, so no client's event is in doubt.

use super::leader::Leading;
use super::message::Message;
use super::node::Raft;
use super::progress::Progress;
use super::ready::Role;
use super::timer::TimerKind;
use crate::base::ids::NodeId;

/// A transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    target: NodeId,
    told: bool,
}

impl Transfer {
    /// Who is to lead.
    pub(super) const fn target(&self) -> NodeId {
        self.target
    }
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TransferError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader,
    /// The target is unknown, a learner, or this node itself.
    #[error("the target is no other voter")]
    NotAVoter,
    /// Another transfer is under way.
    #[error("another transfer is under way")]
    InProgress,
}

impl Raft {
    /// Hands leadership to `target`. From now on nothing may be proposed until [`Raft::is_transferring`] says `false`:
    /// either this node leads no more then, or the attempt was given up.
    ///
    /// # Errors
    /// [`TransferError`]; nothing has changed.
    pub fn transfer_to(&mut self, target: NodeId) -> Result<(), TransferError> {
        let is_voter = self.memberships.newest().is_voter(target) && target != self.config.id;
        let Some(leading) = &mut self.leading else { return Err(TransferError::NotLeader) };
        if !is_voter {
            return Err(TransferError::NotAVoter);
        }
        if leading.transfer.is_some() {
            return Err(TransferError::InProgress);
        }
        leading.transfer = Some(Transfer { target, told: false });
        self.timers.set(TimerKind::Transfer);
        self.advance_transfer();
        Ok(())
    }

    /// To whom leadership is being handed over, if it is.
    #[must_use]
    pub fn transfer_target(&self) -> Option<NodeId> {
        self.leading.as_ref()?.transfer.as_ref().map(|transfer| transfer.target)
    }

    /// Leadership is being handed over: nothing may be proposed.
    #[must_use]
    pub fn is_transferring(&self) -> bool {
        self.leading.as_ref().is_some_and(|leading| leading.transfer.is_some())
    }

    /// The voter to hand leadership to: of those heard lately, the one whose log reaches furthest.
    #[must_use]
    pub fn best_successor(&self) -> Option<NodeId> {
        let leading = self.leading.as_ref()?;
        let voters = leading.peers.iter().filter(|peer| self.memberships.newest().is_voter(peer.peer()));
        // Of equals the lowest id, so that the choice follows from the state alone.
        let lately = |peer: &Progress| peer.silent_checks < TimerKind::CHECKS_PER_TIMEOUT - 1;
        let best = voters.max_by_key(|peer| (lately(peer), peer.stable(), std::cmp::Reverse(peer.peer())))?;
        Some(best.peer())
    }

    /// Tells the target, once it has everything and everything is committed.
    pub(super) fn advance_transfer(&mut self) {
        let (last, commit, term) = (self.log.last_index(), self.commit, self.term());
        let Some(Leading { peers, transfer: Some(transfer), .. }) = &mut self.leading else { return };
        let target = transfer.target;
        let caught_up = peers.iter().any(|peer| peer.peer() == target && peer.stable() == last);
        if caught_up && commit == last && !transfer.told {
            transfer.told = true;
            self.send(target, Message::TimeoutNow { term });
        }
    }

    /// The attempt took too long: this node goes on leading. Where the target campaigns all the same, its higher term
    /// ends this one as ever.
    pub(super) fn transfer_fired(&mut self) {
        if let Some(leading) = &mut self.leading {
            leading.transfer = None;
        }
    }

    /// The disk has taken nothing for too long, or takes again. While it hangs this node neither leads nor campaigns,
    /// whatever its heartbeats say (PITFALLS 12): leadership goes to the best successor at once, caught up or not, for
    /// nothing more can become stable here. Entries in doubt are settled by the election. A leader is to be told only
    /// while entries are committed that are not stable here: where nothing is committed either, the disks of a quorum
    /// hang, nobody could be elected, and nobody would do better.
    pub fn set_disk_stalled(&mut self, stalled: bool) {
        self.disk_stalled = stalled;
        if !stalled || self.leading.is_none() || self.memberships.newest().quorum() == 1 {
            return;
        }
        if let Some(successor) = self.best_successor() {
            self.send(successor, Message::TimeoutNow { term: self.term() });
        }
        self.step_down();
        assert!(self.role != Role::Leader, "a node whose disk hangs does not lead");
    }
}
