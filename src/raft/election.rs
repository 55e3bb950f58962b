//! Elections: pre-vote, vote, and when a vote counts (Raft paper, sections 5.2 and 5.4.1; thesis, section 9.6).
//!
//! ```text
//!   Election fires, or a hint          pre-votes of a quorum              votes of a quorum, own one durable
//!   Follower ──────▶ PreCandidate ───────────────────────▶ Candidate ───────────────────────────▶ Leader
//!      ▲                 │ term as it was, nothing durable     │ term + 1 and own vote: hard state first
//!      └─────────────────┴─────────────────────────────────────┘ word from a leader, or a higher term
//! ```

use std::hash::{Hash, Hasher};

use super::canvass::PreVoteAsked;
use super::hard_state::HardState;
use super::message::Message;
use super::node::Raft;
use super::ready::Role;
use super::timer::TimerKind;
use crate::base::ids::{EntryId, NodeId, Term};
use crate::base::planted::{Bug, is_planted};

/// Votes, or pre-votes, of this campaign. The own vote is not among them: it counts once it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) granted: Vec<NodeId>,
    /// Version of the hard state that holds the own vote; 0 for a pre-vote, which needs no disk.
    own_version: u64,
}

/// Not by the version's number, see [`HardStateCell`](super::hard_state::HardStateCell).
impl Hash for Tally {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.granted.hash(hasher);
    }
}

impl Raft {
    /// The election timer ran out: ask around, or settle the claimed tail first (rule 11).
    pub(super) fn election_fired(&mut self) {
        if self.leading.is_some() || !self.is_voter() {
            return;
        }
        // The timer is never shorter than the minimum election timeout.
        self.leader_quiet = true;
        self.leader = None;
        self.become_passive();
        self.timers.set(TimerKind::Election);
        if self.disk_stalled || !self.knows_the_voters() {
            return;
        }
        if let Some(claimed) = self.claimed_tail().filter(|_| !is_planted(Bug::ClaimDoesNotBind)) {
            self.ask_about_claim(claimed);
        } else if self.memberships.newest().quorum() == 1 {
            self.campaign();
        } else {
            self.begin_canvass(0);
        }
    }

    /// Nothing from a leader for the minimum election timeout.
    pub(super) fn leader_quiet_fired(&mut self) {
        if self.leading.is_some() {
            return;
        }
        self.leader_quiet = true;
        if self.role == Role::Learner {
            self.leader = None;
        }
    }

    pub(super) fn check_claim_binds(&self) {
        let is_bound = self.claimed_tail().is_some() && !is_planted(Bug::ClaimDoesNotBind);
        assert!(!is_bound, "claim invariant: no campaign with a claimed tail");
    }

    /// Enters a new term as its candidate.
    pub(super) fn campaign(&mut self) {
        self.check_claim_binds();
        assert!(
            self.knows_the_voters(),
            "identity invariant: no campaign among voters that nobody has named"
        );
        self.become_passive();
        let id = self.config.id;
        self.enter_term(self.term().next(), Some(id));
        self.role = Role::Candidate;
        self.tally = Tally { granted: Vec::new(), own_version: self.hard.version() };
        self.timers.set(TimerKind::Election);
        // Held until the vote for ourselves is durable (PITFALLS 4).
        self.send_voters(&Message::Vote { term: self.term(), last: self.last_id() });
    }

    /// Whether a candidate whose log ends at `last` is one this node could vote for.
    fn would_support(&self, last: EntryId) -> bool {
        if is_planted(Bug::VoteWithoutLogCheck) {
            return true;
        }
        let longer = (last.index, last.term) >= (self.last_id().index, self.last_id().term);
        // `EntryId` compares (term, index) in that order (PITFALLS 6).
        (last >= self.last_id() || (is_planted(Bug::LongerLogWins) && longer))
            && (self.claimed_tail().is_none_or(|claimed| last >= claimed)
                || is_planted(Bug::ClaimDoesNotBind))
            // A log that goes further names the voters, and its owner counts by these names.
            && (self.knows_the_voters() || last.index > self.memberships.index())
    }

    pub(super) fn on_pre_vote(&mut self, from: NodeId, term: Term, last: EntryId) {
        // Not by this node's membership: the one that asks counts by its own, which may be newer (PITFALLS 33).
        if self.is_denied() {
            return;
        }
        let own = self.term();
        let quiet = self.leading.is_none() && self.leader_quiet;
        let granted = term > own && quiet && self.would_support(last) && !self.goes_first(from, last);
        if granted {
            self.let_go_first(from);
        } else if term > own && quiet && last < self.last_id() {
            self.hasten_canvass();
        } else if term > own && self.leading.is_none() && !quiet && self.would_support(last) {
            self.refused_for_leader = Some(PreVoteAsked { from, term, last });
        }
        let term = if granted { term } else { own };
        self.send(from, Message::PreVoteReply { term, granted, last: self.last_id() });
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: NodeId, term: Term, granted: bool) {
        if !granted {
            // A node restarted with a lower term learns the others' here (PITFALLS 9), and asks again in it.
            if term > self.term() {
                let canvass = self.canvass;
                self.adopt_term(term);
                self.resume_canvass(canvass);
            }
            return;
        }
        if self.role == Role::PreCandidate && term == self.term().next() {
            self.note_vote(from);
            if self.tally.granted.len() + 1 >= self.memberships.newest().quorum() {
                self.campaign();
            }
        }
    }

    pub(super) fn on_vote(&mut self, from: NodeId, term: Term, last: EntryId) {
        if self.is_denied() {
            return;
        }
        if term > self.term() {
            self.adopt_term(term);
        }
        let hard = *self.hard.get();
        let free = hard.voted_for == Some(from) || (hard.voted_for.is_none() && self.leader.is_none());
        let granted = term == hard.term && free && self.leading.is_none() && self.would_support(last);
        if granted {
            self.become_passive();
            self.hard.put(HardState { voted_for: Some(from), ..hard });
            self.timers.set(TimerKind::Election);
        }
        let reply = Message::VoteReply { term: hard.term, granted, last: self.last_id() };
        if is_planted(Bug::VoteReplyBeforeDurable) {
            self.out.push(from, reply);
            return;
        }
        // Held until term and vote are durable (PITFALLS 2).
        self.send(from, reply);
    }

    pub(super) fn on_vote_reply(&mut self, from: NodeId, term: Term, granted: bool) {
        if term > self.term() {
            self.adopt_term(term);
            return;
        }
        let counts = term == self.term() || is_planted(Bug::StaleVoteCounted);
        if granted && counts && self.role == Role::Candidate {
            self.note_vote(from);
            self.count_votes();
        }
    }

    /// Leads once a quorum voted so and the own term and vote are durable: even where the others alone are a
    /// quorum, nothing of the new term may leave before that.
    pub(super) fn count_votes(&mut self) {
        if !self.hard.has_flushed(self.tally.own_version) || !self.hard.is_durable() {
            return;
        }
        if self.tally.granted.len() + 1 >= self.memberships.newest().quorum() {
            self.become_leader();
        }
    }

    fn note_vote(&mut self, from: NodeId) {
        if self.memberships.newest().is_voter(from) && !self.tally.granted.contains(&from) {
            self.tally.granted.push(from);
        }
    }

    /// A transfer of leadership: campaign at once and without pre-vote, if this comes from the leader of this very
    /// term (a stale one does nothing, PITFALLS 35).
    pub(super) fn on_timeout_now(&mut self, from: NodeId, term: Term) {
        let current = term == self.term() && self.leader == Some(from) && self.role == Role::Follower;
        if current && self.claimed_tail().is_none() && !self.disk_stalled && self.knows_the_voters() {
            self.campaign();
        }
    }
}
