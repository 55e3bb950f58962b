//! Asking for pre-votes, again and again for a short while: after the election timer, or at once after a hint.
//!
//! ```text
//!   leader's connections closed, redial refused           election timer
//!                    │ stagger by rank                          │
//!                    ▼                                          ▼
//!   Follower ──▶ waiting rounds ──▶ PreCandidate: ask every few milliseconds those who have not granted
//!                    ▲                  │ granted another: let it go first for some rounds
//!                    └──────────────────┘ word from a leader, a new term, no tries left: over
//! ```
//!
//! A node whose connection to the leader was closed, and whose dial to it is refused, knows that the leader's process
//! is gone. That voids its own promise to that leader and nothing else: others who still hear a leader refuse their
//! pre-votes, so a living leader is never deposed by it (PITFALLS 10b). They may learn of the loss a moment later, and
//! the timers of nodes that miss heartbeats run out some milliseconds apart; hence the repetition. A refused pre-vote
//! costs nobody anything: no term changes and nothing is written.
//!
//! Two survivors that ask at once would grant each other, campaign both, and split the vote. So while it asks, a node
//! grants a pre-vote only to who goes before it: a longer log, or with equal logs the lower id. This is bounded to the
//! first tries, and a node is let go first only once, since a node that can win nothing (one that speaks and hears
//! nothing, say) must not stand in another's way for ever (PITFALLS 10c).

use super::message::Message;
use super::node::Raft;
use super::ready::Role;
use super::timer::TimerKind;
use crate::base::ids::{EntryId, NodeId, Term};

/// How often pre-votes are asked for in one canvass: about until the election timer, for where processors are scarce the
/// others may take long to answer.
const TRIES: u8 = 40;
/// In so many of them, the first ones, the one that asks may go before another that asks.
const TRIES_AHEAD: u8 = 16;
/// Rounds between the first attempts of two nodes that learn of the same loss.
const STAGGER_ROUNDS: u8 = 2;
/// Rounds for which a node lets another go first that it has granted a pre-vote to.
const DEFER_ROUNDS: u8 = 12;

/// A pre-vote that a node was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PreVoteAsked {
    pub(super) from: NodeId,
    pub(super) term: Term,
    pub(super) last: EntryId,
}

/// A node's canvass; nothing is left of it in `default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Canvass {
    /// Rounds in which it will still ask.
    tries_left: u8,
    /// Rounds that pass before it asks (again).
    wait: u8,
}

impl Raft {
    /// The process of `peer` is gone: its connections were closed and its address refuses another. Where it was the
    /// leader, this node's promise to it is void: it grants pre-votes and, after a stagger, asks for them. For another
    /// peer nothing happens. A caller that is not sure must not call it.
    pub fn suspect_leader(&mut self, peer: NodeId) {
        if self.role != Role::Follower || self.leader != Some(peer) {
            return;
        }
        self.leader_quiet = true;
        self.leader = None;
        self.timers.set(TimerKind::Election);
        let refused = self.refused_for_leader.take();
        if !self.disk_stalled && self.claimed_tail().is_none() && self.knows_the_voters() {
            let rivals = self
                .memberships
                .newest()
                .voters()
                .iter()
                .filter(|&&voter| voter != peer && voter < self.config.id);
            self.begin_canvass(rivals.count() as u8 * STAGGER_ROUNDS);
        }
        // Who learnt of the loss a moment earlier has asked already, and need not ask again.
        if let Some(PreVoteAsked { from, term, last }) = refused
            && !self.goes_first(from, last)
        {
            self.on_pre_vote(from, term, last);
        }
    }

    /// Asks for pre-votes after `wait` rounds.
    pub(super) fn begin_canvass(&mut self, wait: u8) {
        self.canvass = Canvass { tries_left: TRIES, wait };
        if wait == 0 {
            self.ask_for_pre_votes();
        } else {
            self.timers.set(TimerKind::PreVoteRetry);
        }
    }

    pub(super) fn end_canvass(&mut self) {
        self.deferred_to.clear();
        self.refused_for_leader = None;
        if self.canvass != Canvass::default() {
            self.canvass = Canvass::default();
            self.timers.cancel(TimerKind::PreVoteRetry);
        }
    }

    /// Goes on in a new term with the tries that are left.
    pub(super) fn resume_canvass(&mut self, canvass: Canvass) {
        if canvass.tries_left > 0 {
            self.canvass = canvass;
            self.timers.set(TimerKind::PreVoteRetry);
        }
    }

    /// A pre-vote was granted to `from`: it gets a chance to finish (PITFALLS 10c), but only once. A node that speaks
    /// and hears nothing asks for ever, and would keep all others from campaigning.
    pub(super) fn let_go_first(&mut self, from: NodeId) {
        if self.deferred_to.contains(&from) {
            return;
        }
        self.deferred_to.push(from);
        self.become_passive();
        self.timers.set(TimerKind::Election);
        if self.canvass.tries_left > 0 {
            self.canvass.wait = DEFER_ROUNDS;
        }
    }

    /// Somebody asks who cannot win, since this node's log is longer: it need not wait for its turn.
    pub(super) fn hasten_canvass(&mut self) {
        if self.role == Role::Follower && self.canvass.tries_left > 0 {
            self.canvass.wait = 0;
        }
    }

    /// Whether this node asks for pre-votes itself and goes before `from`, whose log ends at `last`.
    pub(super) fn goes_first(&self, from: NodeId, last: EntryId) -> bool {
        let asks = self.role == Role::PreCandidate && self.canvass.tries_left > TRIES - TRIES_AHEAD;
        asks && last == self.last_id() && self.config.id < from
    }

    pub(super) fn pre_vote_retry_fired(&mut self) {
        let waits = matches!(self.role, Role::Follower | Role::PreCandidate);
        let may = !self.disk_stalled && self.knows_the_voters();
        if !waits || self.leader.is_some() || self.canvass.tries_left == 0 || !may {
            self.canvass = Canvass::default();
            return;
        }
        if self.canvass.wait > 0 {
            self.canvass.wait -= 1;
            self.timers.set(TimerKind::PreVoteRetry);
        } else {
            self.ask_for_pre_votes();
        }
    }

    /// Asks every voter that has not granted yet.
    fn ask_for_pre_votes(&mut self) {
        self.check_claim_binds();
        if self.role != Role::PreCandidate {
            self.become_passive();
            self.role = Role::PreCandidate;
        }
        let ask = Message::PreVote { term: self.term().next(), last: self.last_id() };
        for at in 0..self.memberships.newest().voters().len() {
            let peer = self.memberships.newest().voters()[at];
            if peer != self.config.id && !self.tally.granted.contains(&peer) {
                self.send(peer, ask.clone());
            }
        }
        self.canvass.tries_left -= 1;
        if self.canvass.tries_left > 0 {
            self.timers.set(TimerKind::PreVoteRetry);
        }
    }
}
