//! The claimed tail (rule 11): a valid header says that an entry was here, above the durable watermark, but its bytes
//! are damaged. It may have been acknowledged, so the node still answers for it:
//!
//! - it votes only for candidates that reach at least as far ([`election`](super::election));
//! - it does not campaign;
//! - the claim is hard state, so a restart does not forget it.
//!
//! Two things settle it:
//!
//! 1. **A leader.** Once this node's log, verified against a leader's, is stable up to the claimed index, nothing is
//!    missing any more: the entry is back, or another stands in its place. (Not merely appended: a crash would then
//!    lose the entry again, and the claim with it.)
//! 2. **The others.** An entry that was committed with this node's help is held by every
//!    [blocking set](super::quorum::blocking_others) of other voters, for good. So the node asks how far they reach,
//!    and the claim falls to the furthest of the nearest-reaching blocking set; where that is not past its own log,
//!    the claim is gone. An answer counts only from a term above the claim's: its sender will never again help the
//!    leader to whom this node acknowledged the entry, so what it lacks now stays uncommitted.
//!
//! The query carries such a term. As with pre-vote, a node that hears from a leader does not take it up, so asking
//! deposes nobody; that leader will settle the claim by itself.

use super::hard_state::HardState;
use super::message::Message;
use super::node::Raft;
use super::quorum::blocking_others;
use crate::base::ids::{EntryId, LogIndex, NodeId, Term};

/// How far the other voters reach, as far as they have answered in a binding term.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct ClaimReplies {
    reach: Vec<(NodeId, EntryId)>,
}

impl Raft {
    pub(super) fn ask_about_claim(&mut self, claimed: EntryId) {
        let term = self.term().max(claimed.term.next());
        self.send_members(&Message::ClaimQuery { term, claimed });
    }

    /// How far this node answers for.
    fn reach(&self) -> EntryId {
        self.claimed_tail().map_or(self.last_id(), |claimed| claimed.max(self.last_id()))
    }

    pub(super) fn on_claim_query(&mut self, from: NodeId, term: Term, claimed: EntryId) {
        if self.is_denied() {
            return;
        }
        let reach = self.reach();
        let has_it = reach >= claimed;
        if !has_it && self.term() <= claimed.term {
            if self.leading.is_some() || !self.leader_quiet {
                return;
            }
            self.adopt_term(term);
        }
        self.send(from, Message::ClaimReply { term: self.term(), claimed: reach, has_it });
    }

    pub(super) fn on_claim_reply(&mut self, from: NodeId, term: Term, reach: EntryId) {
        if term > self.term() {
            self.adopt_term(term);
        }
        let Some(claimed) = self.claimed_tail() else { return };
        if term <= claimed.term {
            return;
        }
        let needed = self.claim_answers_needed();
        let replies = &mut self.claim_replies.reach;
        match replies.iter_mut().find(|(node, _)| *node == from) {
            Some((_, known)) => *known = reach,
            None => replies.push((from, reach)),
        }
        if replies.len() < needed {
            return;
        }
        replies.sort_unstable_by_key(|&(_, reach)| reach);
        let furthest = replies[needed - 1].1;
        if furthest <= self.last_id() {
            self.put_claim(None);
        } else if furthest < claimed {
            self.put_claim(Some(furthest));
        }
    }

    /// Answers after which the claim is settled. While there are learners, every other member must have spoken: the log
    /// behind this node's end may hold their promotion, and what was committed with their help.
    fn claim_answers_needed(&self) -> usize {
        let membership = self.memberships.newest();
        match membership.learners().len() {
            0 => blocking_others(membership.voters().len()),
            learners => membership.voters().len() + learners - 1,
        }
    }

    /// The log is stable and the same as the leader's up to `stable`.
    pub(super) fn settle_claim_by_log(&mut self, stable: LogIndex) {
        if self.claimed_tail().is_some_and(|claimed| stable >= claimed.index) {
            self.put_claim(None);
        }
    }

    fn put_claim(&mut self, claimed_tail: Option<EntryId>) {
        let hard = *self.hard.get();
        self.hard.put(HardState { claimed_tail, ..hard });
        if claimed_tail.is_none() {
            self.claim_replies = ClaimReplies::default();
        }
    }
}
