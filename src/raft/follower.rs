//! The follower's side of replication (Raft paper, section 5.3): verify, cut conflicts, append, acknowledge.
//!
//! ```text
//!   Append ─▶ prev there? ─no─▶ Rejected{hint}                     at once
//!                │yes
//!                ▼
//!             entries already there? skip;  conflict? TruncateFrom;  rest: AppendReceived
//!                │
//!                ▼
//!             verified = prev + entries ──▶ commit = min(leader's, verified)
//!                                       ──▶ Accepted{verified, min(stable, verified)}   when that minimum rises,
//!   log_stable ─────────────────────────────────────────────────────────────────────▶   or the leader asked
//! ```

use super::log_view::{LogView, TermRuns};
use super::membership::MembershipLog;
use super::message::{AppendOutcome, Message};
use super::node::Raft;
use super::ready::{LogOp, Role};
use super::timer::TimerKind;
use crate::base::ids::{EntryId, LogIndex, NodeId, Term};
use crate::base::planted::{Bug, is_planted};

/// What was verified against the log of this term's leader. Starts anew in each term, so that nothing acknowledged to
/// an older leader is credited to a newer one (PITFALLS 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Verified {
    /// Up to here the logs agree.
    pub(super) up_to: LogIndex,
    /// Highest stable index acknowledged.
    acknowledged: LogIndex,
}

impl Raft {
    /// Word from `from` as leader of `term`, voter or not by this node's membership, which may be older than that leader's.
    /// False where that term is over; the sender is told.
    fn hear_leader(&mut self, from: NodeId, term: Term) -> bool {
        if term < self.term() {
            // Round 0 acknowledges nothing, also where `from` leads again in the newer term by now.
            let (round, none) = (0, LogIndex::ZERO);
            let notice = Message::HeartbeatReply { term: self.term(), round, appended: none, stable: none };
            self.send(from, notice);
            return false;
        }
        if term > self.term() {
            self.adopt_term(term);
        }
        assert!(
            self.leader.is_none_or(|leader| leader == from),
            "election safety: one leader a term (Raft paper, figure 3), but term {term} has {:?} and {from:?}",
            self.leader
        );
        if self.leader.is_none() {
            self.become_passive();
            self.leader = Some(from);
        }
        self.leader_quiet = false;
        self.end_canvass();
        self.timers.set(TimerKind::LeaderQuiet);
        if self.role == Role::Follower {
            self.timers.set(TimerKind::Election);
        }
        true
    }

    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        term: Term,
        prev: EntryId,
        entries: &[Term],
        commit: LogIndex,
        wants_reply: bool,
    ) {
        if !self.hear_leader(from, term) {
            return;
        }
        let base = self.log.base();
        // Entries that retention has removed were committed, so they match (PITFALLS 24).
        let is_removed = prev.index <= base.index && base.index > LogIndex::ZERO;
        let conflicts = is_removed && is_planted(Bug::PurgedPrevConflicts);
        if conflicts || (prev.index >= base.index && !self.log.contains(prev)) {
            self.reject(from, prev);
            return;
        }
        let match_end = self.store(prev, entries);
        self.verified.up_to = self.verified.up_to.max(match_end);
        self.commit_to(commit.min(self.verified.up_to).max(self.commit));
        self.acknowledge(wants_reply);
    }

    /// A whole checkpoint of the leader of `term` is at hand; it was checked, and `memberships` is what it says. `id` is the
    /// entry behind which this node's log is to begin, at most the last one that the checkpoint contains: what lies between
    /// the two follows as entries (decision 0007), and `memberships` may be of such an entry. Where this node's log does
    /// not reach `id`, or has another entry there, it begins anew behind it ([`LogOp::Install`], Raft paper, figure 13);
    /// else it keeps what it has (PITFALLS 36).
    pub fn checkpoint_received(&mut self, from: NodeId, term: Term, id: EntryId, memberships: MembershipLog) {
        if self.is_halted()
            || !self.memberships.newest().contains(from)
            || id.term > term
            || !self.hear_leader(from, term)
        {
            return;
        }
        // Committed, so a log that is committed as far, or has that entry, agrees with the leader's up to there.
        let is_news = id.index > self.commit && !self.log.contains(id);
        if is_news && !(is_planted(Bug::ConflictKeptAtInstall) && id.index <= self.log.last_index()) {
            self.log = TermRuns::after(id);
            self.begin_memberships(memberships);
            self.stable = LogIndex::ZERO;
            self.generation += 1;
            self.log_ops.push(LogOp::Install { id, generation: self.generation });
            self.become_passive();
            self.leader = Some(from);
        }
        self.verified.up_to = self.verified.up_to.max(id.index);
        self.commit_to(id.index.max(self.commit));
        self.acknowledge(true);
        self.check();
    }

    /// The first committed entry of this node that an Append of a leader of this term, or of a later one, has otherwise:
    /// state machine safety is broken, here or there. Stepping such a message panics. It happens where a majority has
    /// lost entries and goes on without them (decision 0008), so whoever steps messages of others asks first.
    #[must_use]
    pub fn contradicted_by(&self, message: &Message) -> Option<LogIndex> {
        let Message::Append { term, prev, entries, .. } = message else { return None };
        let base = self.log.base().index;
        if *term < self.term() || prev.index > self.commit {
            return None;
        }
        if prev.index >= base && !self.log.contains(*prev) {
            return Some(prev.index);
        }
        let places = (prev.index.next().0..=self.commit.0).map(LogIndex);
        let differs =
            |(index, term): &(LogIndex, &Term)| *index > base && self.log.term_at(*index) != Some(**term);
        places.zip(entries).find(differs).map(|(index, _)| index)
    }

    fn reject(&mut self, from: NodeId, prev: EntryId) {
        assert!(
            prev.index > self.commit,
            "leader completeness: committed up to {}, but the leader has {prev:?} there",
            self.commit
        );
        let hint = self.log.last_at_or_below(prev.index, prev.term);
        let outcome = AppendOutcome::Rejected { prev_index: prev.index, hint };
        self.send(from, Message::AppendReply { term: self.term(), outcome });
    }

    /// Puts the entries after `prev` into the log and returns the last index that now agrees with the leader's.
    fn store(&mut self, prev: EntryId, entries: &[Term]) -> LogIndex {
        let end = prev.index.plus(entries.len() as u64);
        let last = self.log.last_index();
        let skip = if prev.index == last { 0 } else { self.count_known(prev.index, entries) };
        if skip == entries.len() {
            // Nothing new: a delayed, shorter Append never deletes what follows (PITFALLS 18).
            if is_planted(Bug::ShorterAppendCuts) && end < last {
                self.truncate_from(end.next());
            }
            return end;
        }
        let first = prev.index.plus(skip as u64).next();
        if first <= last {
            self.truncate_from(first);
        }
        for &term in &entries[skip..] {
            self.log.push(term);
        }
        self.log_ops.push(LogOp::AppendReceived { first, last: end, skip });
        end
    }

    /// How many leading entries are in the log already (or were, before retention removed them).
    fn count_known(&self, prev: LogIndex, entries: &[Term]) -> usize {
        let base = self.log.base().index;
        let mut index = prev;
        entries
            .iter()
            .take_while(|&&term| {
                index = index.next();
                index <= base || self.log.term_at(index) == Some(term)
            })
            .count()
    }

    /// A conflict deletes everything from it on (PITFALLS 19).
    fn truncate_from(&mut self, first_removed: LogIndex) {
        assert!(
            first_removed > self.commit,
            "state machine safety: entry {first_removed} is committed (up to {}) and never truncated",
            self.commit
        );
        assert!(
            first_removed > self.verified.up_to,
            "leader append-only: entry {first_removed} was verified in this term (up to {})",
            self.verified.up_to
        );
        self.log.truncate_from(first_removed);
        if !is_planted(Bug::StaleFlushCounts) {
            self.stable = self.stable.min(first_removed.prev());
        }
        self.take_membership_back(first_removed);
        self.generation += 1;
        self.log_ops.push(LogOp::TruncateFrom { first_removed, generation: self.generation });
    }

    /// Tells the leader of this term how far this node is, if that rose or `asked`; settles the claimed tail.
    pub(super) fn acknowledge(&mut self, asked: bool) {
        let Some(leader) = self.leader.filter(|_| self.leading.is_none()) else { return };
        let appended = self.verified.up_to;
        let stable =
            if is_planted(Bug::FollowerAcksUnflushed) { appended } else { self.stable.min(appended) };
        self.settle_claim_by_log(stable);
        if !asked && stable <= self.verified.acknowledged {
            return;
        }
        self.verified.acknowledged = stable;
        let outcome = AppendOutcome::Accepted { appended, stable };
        self.send(leader, Message::AppendReply { term: self.term(), outcome });
    }

    pub(super) fn on_heartbeat(&mut self, from: NodeId, term: Term, commit: LogIndex, round: u64) {
        if !self.hear_leader(from, term) {
            return;
        }
        let all = is_planted(Bug::HeartbeatClaimsAll);
        let appended = if all { self.log.last_index() } else { self.verified.up_to };
        let known = if is_planted(Bug::CommitBeyondVerified) { self.log.last_index() } else { appended };
        // A node that restarted in this term has verified nothing yet, whatever the leader remembers (PITFALLS 20).
        self.commit_to(commit.min(known).max(self.commit));
        let unflushed = is_planted(Bug::HeartbeatAcksUnflushed);
        let stable = if unflushed { appended } else { self.stable.min(appended) };
        self.verified.acknowledged = self.verified.acknowledged.max(stable);
        self.send(from, Message::HeartbeatReply { term: self.term(), round, appended, stable });
        self.ask_leader_about_doubt(from);
    }
}
