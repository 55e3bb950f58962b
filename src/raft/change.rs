//! Changes of membership (Raft thesis, chapter 4: one voter at a time).
//!
//! ```text
//!   may_change ─▶ propose_membership ─▶ in force at once, here and wherever the entry is appended ─▶ committed
//!                                           │ truncated: the one before it is in force again
//! ```
//!
//! Two memberships that follow each other differ by at most one voter, so their quorums share a node; and the next
//! change waits for the last one's commit, and for an entry of the leader's own term (Ongaro 2015; PITFALLS 30, 32).
//! Whoever asks for a vote counts by its own membership: who is asked answers whatever it knows of either (PITFALLS 33),
//! unless its membership says that not it is meant but another formatting of its disk.

use super::leader::Leading;
use super::log_view::LogView;
use super::membership::{Membership, MembershipLog};
use super::message::Message;
use super::node::Raft;
use super::progress::{Progress, ProgressState};
use super::ready::Role;
use super::timer::TimerKind;
use crate::base::ids::{EntryId, LogIndex, NodeId};

/// Entries by which a learner's stable log may end before the leader's when it becomes a voter: as many as are in flight
/// to a peer under load. The cluster can do without its vote while it makes them up.
pub const PROMOTION_LAG_MAX: u64 = 1024;

/// Why the membership is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChangeError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader,
    /// Nothing of this leader's term is committed yet, or it hands leadership over: try again.
    #[error("the leader cannot take proposals yet")]
    NotReady,
    /// The last change is not committed yet.
    #[error("the last change of membership is not committed yet")]
    InProgress,
    /// More than one voter would come or go, or the members were others.
    #[error("more than one voter would change")]
    TooMuch,
    /// The voter that is to come has not got the log yet.
    #[error("the new voter has not caught up")]
    NotCaughtUp,
    /// Too few of the voters that would remain have been heard lately: nothing could be committed any more.
    #[error("the remaining voters that are reachable are no quorum")]
    NoQuorum,
}

impl Raft {
    /// Whether [`Raft::propose_membership`] would take this one now.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn may_change(&self, next: &Membership) -> Result<(), ChangeError> {
        let Some(leading) = &self.leading else { return Err(ChangeError::NotLeader) };
        if self.commit < self.memberships.index() {
            return Err(ChangeError::InProgress);
        }
        if !self.committed_in_term() || leading.transfer.is_some() {
            return Err(ChangeError::NotReady);
        }
        let now = self.memberships.newest();
        if now.voters_changed(next) > 1 {
            return Err(ChangeError::TooMuch);
        }
        let comes = |voter: &&NodeId| !now.voters().contains(*voter);
        if next.voters().iter().find(comes).is_some_and(|&voter| !self.has_caught_up(voter)) {
            return Err(ChangeError::NotCaughtUp);
        }
        let present = |voter: &&NodeId| **voter == self.config.id || self.was_heard_lately(**voter);
        if next.voters().iter().filter(present).count() < next.quorum() {
            return Err(ChangeError::NoQuorum);
        }
        Ok(())
    }

    /// Takes the next index of the log for a configuration entry, and puts `next` in force. The caller encodes and
    /// appends that entry at once.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed.
    ///
    /// # Panics
    /// As [`Raft::propose`].
    pub fn propose_membership(&mut self, next: Membership) -> Result<EntryId, ChangeError> {
        self.may_change(&next)?;
        let id = self.propose().map_err(|_| ChangeError::NotLeader)?;
        self.put_in_force(id.index, next);
        // A quorum of the remaining voters may have everything already.
        self.count_commit();
        Ok(id)
    }

    /// A configuration entry of a leader has just been appended here: it is in force from now on (PITFALLS 31). To be
    /// told right after the `log_ops` that append it.
    ///
    /// # Panics
    /// Where the log has no such entry, or it is not after the last configuration.
    pub fn membership_appended(&mut self, index: LogIndex, membership: Membership) {
        assert!(index <= self.log.last_index(), "a configuration stands in the log");
        self.put_in_force(index, membership);
    }

    fn put_in_force(&mut self, index: LogIndex, membership: Membership) {
        self.memberships.push(index, membership);
        self.memberships.committed(self.commit);
        self.membership_changed();
    }

    /// Entries from `first_removed` on are gone, and perhaps the membership with them.
    pub(super) fn take_membership_back(&mut self, first_removed: LogIndex) {
        if self.memberships.truncate_from(first_removed) {
            self.membership_changed();
        }
    }

    /// The log begins anew behind a checkpoint, and the memberships with it.
    pub(super) fn begin_memberships(&mut self, memberships: MembershipLog) {
        self.memberships = memberships;
        self.membership_changed();
    }

    /// What follows from another membership for this node's role, and for whom it leads.
    fn membership_changed(&mut self) {
        let is_voter = self.is_voter();
        match self.role {
            Role::Follower | Role::PreCandidate | Role::Candidate if !is_voter => {
                self.end_canvass();
                self.become_passive();
            }
            Role::Learner if is_voter => {
                self.role = Role::Follower;
                self.timers.set(TimerKind::Election);
            }
            _ => {}
        }
        let next = self.log.last_index().next();
        let id = self.config.id;
        let membership = self.memberships.newest();
        let Some(Leading { peers, transfer, .. }) = &mut self.leading else { return };
        peers.retain(|peer| membership.contains(peer.peer()));
        for member in membership.members().filter(|&member| member != id) {
            if peers.iter().all(|peer| peer.peer() != member) {
                peers.push(Progress::new(member, next));
            }
        }
        if transfer.is_some_and(|transfer| !membership.is_voter(transfer.target())) {
            *transfer = None;
        }
        self.timers.set(TimerKind::Heartbeat);
        self.timers.set(TimerKind::CheckQuorum);
    }

    /// A leader that is no voter any more has led until that was committed (Raft thesis, section 4.2.2), and now hands
    /// over.
    pub(super) fn leave_if_removed(&mut self) {
        if self.leading.is_none() || self.is_voter() || self.commit < self.memberships.index() {
            return;
        }
        if let Some(successor) = self.best_successor() {
            self.send(successor, Message::TimeoutNow { term: self.term() });
        }
        self.step_down();
    }

    /// Whether this leader has heard `peer` within the last election timeout.
    #[must_use]
    pub fn was_heard_lately(&self, peer: NodeId) -> bool {
        self.progress(peer)
            .is_some_and(|peer| peer.heard || peer.silent_checks < TimerKind::CHECKS_PER_TIMEOUT - 1)
    }

    /// Whether `peer` may become a voter: it streams, was heard lately, its stable log ends at most
    /// [`PROMOTION_LAG_MAX`] entries before this leader's, and holds the configuration in force. Without that its log may
    /// name the disk that it replaces, so that it would refuse to vote after a restart: a voter that counts and cannot be
    /// counted upon.
    #[must_use]
    pub fn has_caught_up(&self, peer: NodeId) -> bool {
        self.was_heard_lately(peer)
            && self.progress(peer).is_some_and(|progress| {
                progress.state() == ProgressState::Replicate
                    && self.log.last_id().index.since(progress.stable()) <= PROMOTION_LAG_MAX
                    && progress.stable() >= self.memberships.index()
            })
    }

    /// The configuration entry in force.
    #[must_use]
    pub fn membership_index(&self) -> LogIndex {
        self.memberships.index()
    }

    /// This node has now met everybody whom the log does not name; see [`Membership::awaiting_others`].
    pub fn others_met(&mut self) {
        self.memberships.values_mut().for_each(Membership::all_met);
    }

    /// Whether the voters' disks are known, by the log or from meeting them all. Else this node does not campaign.
    #[must_use]
    pub fn knows_the_voters(&self) -> bool {
        !self.memberships.newest().is_awaiting_others()
    }

    /// Whether the membership says of this node's id that another formatting of its disk is meant.
    pub(super) fn is_denied(&self) -> bool {
        self.memberships.newest().denies(self.config.id)
    }
}
