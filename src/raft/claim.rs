//! The claimed tail (rule 11): a valid header says that an entry was here, above the durable watermark, but its bytes
//! are damaged. It may have been acknowledged, so the node still answers for it:
//!
//! - it votes only for candidates that reach at least as far ([`election`](super::election));
//! - it does not campaign;
//! - the claim is hard state, so a restart does not forget it.
//!
//! Three things settle it:
//!
//! 1. **A leader.** Once this node's log, verified against a leader's, is stable up to the claimed index, nothing is
//!    missing any more: the entry is back, or another stands in its place. (Not merely appended: a crash would then
//!    lose the entry again, and the claim with it.)
//! 2. **The others.** An entry that was committed with this node's help is held by every
//!    [blocking set](super::quorum::blocking_others) of other voters, for good. So the node asks how far they reach,
//!    and the claim falls to the furthest of the nearest-reaching blocking set; where its own stable log reaches that,
//!    the claim is gone. An answer counts only from a term above the claim's: its sender will never again help the
//!    leader to whom this node acknowledged the entry, so what it lacks now stays uncommitted.
//!
//! 3. **That nobody has it.** Copies of one entry may be torn on several disks, as when power fails everywhere. Each of
//!    those nodes claims the entry, and none of them will ever have it. So an answer also tells the sender's last *whole*
//!    entry; once all other voters have answered, the claim falls to the furthest of those: what no disk holds whole
//!    cannot be brought back by waiting. (Not while one of them is in doubt, see below.) Fewer answers would not do:
//!    where those that claim and those that are silent are a quorum, the entry may have been acknowledged, and a silent
//!    one may hold it whole; where they are none, rule 2 has settled it before.
//!
//! A claim may be **unknown** ([`unknown_claim`]): in a `memory` cluster the machine went down without a clean stop, and
//! with its page cache went entries of which nothing is left, not even a header. It is a claim beyond every entry of the
//! terms in which this node may have acknowledged something, so only a candidate that has an entry of a later term gets
//! its vote, and others that are in the same doubt settle nothing, since they answer with theirs: where a quorum is in
//! doubt, nobody leads until an operator says so. Above all a leader settles it: asked by this node, it answers how far
//! its own log reaches, and that is the claim from then on. No entry that this node acknowledged before is missing in
//! it: one of an earlier term that was committed is in the log of every leader elected without nodes in doubt, and one
//! of this leader's own term was in its log before it came here. The answer is to a question of this life of the node,
//! or was sent before anything that this node acknowledged later: streams are in order and end with a life.
//!
//! The query carries such a term. As with pre-vote, a node that hears from a leader does not take it up, so asking
//! deposes nobody; that leader will settle the claim by itself.

use super::hard_state::HardState;
use super::log_view::LogView;
use super::message::Message;
use super::node::Raft;
use super::quorum::blocking_others;
use crate::base::ids::{COUNTER_MAX, EntryId, LogIndex, NodeId, Term};

/// How far the other voters reach, as far as they have answered in a binding term.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct ClaimReplies {
    answers: Vec<Answer>,
}

/// One voter's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Answer {
    /// Its last entry or its own claim, whichever is later.
    reach: EntryId,
    /// Its last whole entry.
    last: EntryId,
    node: NodeId,
}

/// The claim of a node that does not know what it has lost, in terms up to this one.
#[must_use]
pub const fn unknown_claim(term: Term) -> EntryId {
    EntryId { term, index: LogIndex(COUNTER_MAX) }
}

/// Whether it is one of those.
#[must_use]
pub const fn is_unknown_claim(claimed: EntryId) -> bool {
    claimed.index.0 == COUNTER_MAX
}

impl Raft {
    pub(super) fn ask_about_claim(&mut self, claimed: EntryId) {
        let term = self.term().max(claimed.term.next());
        self.send_members(&Message::ClaimQuery { term, claimed });
    }

    /// A leader is there: it knows how far a node in doubt must come.
    pub(super) fn ask_leader_about_doubt(&mut self, leader: NodeId) {
        if let Some(claimed) = self.claimed_tail().filter(|claimed| is_unknown_claim(*claimed)) {
            let term = self.term().max(claimed.term.next());
            self.send(leader, Message::ClaimQuery { term, claimed });
        }
    }

    /// How far this node answers for.
    fn reach(&self) -> EntryId {
        self.claimed_tail().map_or(self.last_id(), |claimed| claimed.max(self.last_id()))
    }

    pub(super) fn on_claim_query(&mut self, from: NodeId, term: Term, claimed: EntryId) {
        if self.is_denied() {
            return;
        }
        let (reach, last) = (self.reach(), self.last_id());
        let leader_settles = self.leading.is_some() && is_unknown_claim(claimed);
        if last < claimed && self.term() <= claimed.term && !leader_settles {
            if self.leading.is_some() || !self.leader_quiet {
                return;
            }
            self.adopt_term(term);
        }
        self.send(from, Message::ClaimReply { term: self.term(), claimed: reach, last });
    }

    pub(super) fn on_claim_reply(&mut self, from: NodeId, term: Term, reach: EntryId, last: EntryId) {
        if term > self.term() {
            self.adopt_term(term);
        }
        let Some(claimed) = self.claimed_tail() else { return };
        if is_unknown_claim(claimed) && self.leader == Some(from) && term == self.term() {
            self.claim_replies = ClaimReplies::default();
            self.put_claim(Some(reach));
            self.settle_claim_by_log(self.stable.min(self.verified.up_to));
            return;
        }
        if term <= claimed.term || !self.memberships.newest().contains(from) {
            return;
        }
        let id = self.config.id;
        let others = self.memberships.newest().members().filter(|&member| member != id).count();
        let needed = self.claim_answers_needed();
        let answers = &mut self.claim_replies.answers;
        let answer = Answer { reach, last, node: from };
        match answers.iter_mut().find(|known| known.node == from) {
            Some(known) => *known = answer,
            None => answers.push(answer),
        }
        if answers.len() < needed {
            return;
        }
        answers.sort_unstable_by_key(|answer| answer.reach);
        let mut furthest = answers[needed - 1].reach;
        if answers.len() >= others
            && !is_unknown_claim(claimed)
            && !answers.iter().any(|one| is_unknown_claim(one.reach))
        {
            let whole = answers.iter().map(|answer| answer.last).max();
            furthest = whole.map_or(furthest, |whole| whole.min(furthest));
        }
        // What is merely appended does not count: a crash would lose it again, and the claim with it.
        let stable = self.log.term_at(self.stable).map(|term| EntryId::new(term, self.stable));
        if stable.is_some_and(|stable| furthest <= stable) {
            self.put_claim(None);
        } else if furthest < claimed {
            self.put_claim(Some(furthest));
        }
    }

    /// Answers after which the claim is settled. While there are learners, every other member must have spoken: the log
    /// behind this node's end may hold their promotion, and what was committed with their help. (Changes of membership
    /// in what was lost are not provided for where there are no learners to warn of them: two promotions, or one removal
    /// from an even number of voters whose old disk turns up. The answers would have to tell of them.)
    fn claim_answers_needed(&self) -> usize {
        let membership = self.memberships.newest();
        match membership.learners().len() {
            0 => blocking_others(membership.voters().len()),
            _ => membership.members().filter(|&member| member != self.config.id).count(),
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
