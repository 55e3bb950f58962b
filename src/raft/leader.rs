//! The leader: streams its log, counts what is stable, and makes sure that it still leads (Raft paper, sections 5.3
//! and 5.4.2; thesis, section 6.2 for check-quorum).
//!
//! Entries are pulled: the caller asks [`Raft::next_send`], sends what it can, and reports it by [`Raft::sent`], so
//! that a slow peer holds up nobody and no entry is queued twice.

use super::log_view::LogView;
use super::message::{AppendOutcome, Message};
use super::node::Raft;
use super::progress::{Progress, ProgressState};
use super::quorum::Values;
use super::read_index::Reads;
use super::ready::{LogOp, Role, SendPlan};
use super::timer::TimerKind;
use super::transfer::Transfer;
use crate::base::ids::{LogIndex, NodeId, Term};
use crate::base::planted::{Bug, is_planted};

/// State of a leader, made anew in each term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leading {
    /// Every other member, learners too.
    pub(super) peers: Vec<Progress>,
    /// Newest heartbeat round that left; counts from 1.
    pub(super) round: u64,
    /// The no-op that opened the term: once it is committed, everything before it is.
    pub(super) term_start: LogIndex,
    pub(super) reads: Reads,
    /// Leadership is being handed over.
    pub(super) transfer: Option<Transfer>,
}

impl Leading {
    pub(super) fn peer_mut(&mut self, peer: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|progress| progress.peer() == peer)
    }
}

impl Raft {
    pub(super) fn become_leader(&mut self) {
        assert!(self.role == Role::Candidate, "election invariant: only a candidate becomes leader");
        assert!(self.hard.is_durable(), "hard state invariant: a leader's term and vote are durable");
        let id = self.config.id;
        let next = self.log.last_index().next();
        let peers: Vec<Progress> = self
            .memberships
            .newest()
            .members()
            .filter(|&peer| peer != id)
            .map(|peer| Progress::new(peer, next))
            .collect();
        let noop = self.log.push(self.term());
        self.log_ops.push(LogOp::AppendNoop { id: noop });
        self.tally = super::election::Tally::default();
        self.role = Role::Leader;
        self.leader = Some(id);
        self.timers.cancel(TimerKind::Election);
        self.timers.cancel(TimerKind::LeaderQuiet);
        if self.memberships.newest().voters().len() > 1 {
            self.timers.set(TimerKind::CheckQuorum);
        }
        let alone = peers.is_empty();
        let reads = Reads::default();
        self.leading = Some(Leading { peers, round: 0, term_start: noop.index, reads, transfer: None });
        if !alone {
            self.timers.set(TimerKind::Heartbeat);
            self.start_round();
        }
    }

    pub(super) fn heartbeat_fired(&mut self) {
        if self.leading.is_some() {
            self.timers.set(TimerKind::Heartbeat);
            self.start_round();
        }
    }

    /// Sends the next heartbeat round.
    pub(super) fn start_round(&mut self) {
        let (term, commit) = (self.term(), self.commit);
        let Some(leading) = &mut self.leading else { return };
        leading.round += 1;
        leading.reads.round_started(leading.round);
        for peer in &mut leading.peers {
            let all = is_planted(Bug::CommitBeyondVerified);
            let known = if all { commit } else { commit.min(peer.appended()) };
            peer.note_commit_sent(commit, known);
            let heartbeat = Message::Heartbeat { term, commit: known, round: leading.round };
            // A leader's hard state is durable, so nothing needs to be held.
            self.out.push(peer.peer(), heartbeat);
        }
    }

    /// Steps down once a quorum has not been heard for an election timeout (PITFALLS 8, 10). In small steps: a window of
    /// a whole timeout would let a leader that lost its quorum early in one go on for nearly two. And a leader that was
    /// late itself has made one step, not a timeout's worth of them.
    pub(super) fn check_quorum_fired(&mut self) {
        let Some(leading) = &mut self.leading else { return };
        let mut present = 0;
        for peer in &mut leading.peers {
            let heard = std::mem::take(&mut peer.heard);
            peer.silent_checks = if heard { 0 } else { peer.silent_checks.saturating_add(1) };
            // Heard in the last step but this many: at most a timeout ago.
            let recent = peer.silent_checks < TimerKind::CHECKS_PER_TIMEOUT - 1;
            present += usize::from(recent && self.memberships.newest().is_voter(peer.peer()));
        }
        let own = usize::from(self.is_voter());
        if present + own >= self.memberships.newest().quorum() {
            self.timers.set(TimerKind::CheckQuorum);
        } else {
            self.become_passive();
        }
    }

    /// Whether `term`, of a reply, is the one in which this node leads; a higher one is adopted.
    fn leads_in(&mut self, term: Term) -> bool {
        if term > self.term() {
            self.adopt_term(term);
        }
        // Acknowledgements count only in the term in which they were given (PITFALLS 16).
        (term == self.term() || is_planted(Bug::AckOfOtherTermCounts)) && self.leading.is_some()
    }

    pub(super) fn on_append_reply(&mut self, from: NodeId, term: Term, outcome: AppendOutcome) {
        if !self.leads_in(term) {
            return;
        }
        match outcome {
            AppendOutcome::Accepted { appended, stable } => self.note_acknowledged(from, appended, stable),
            AppendOutcome::Rejected { prev_index, hint } => {
                let Some(leading) = &mut self.leading else { return };
                if let Some(peer) = leading.peer_mut(from) {
                    peer.note_rejected(prev_index, hint, &self.log);
                }
            }
        }
    }

    pub(super) fn on_heartbeat_reply(
        &mut self,
        from: NodeId,
        term: Term,
        round: u64,
        appended: LogIndex,
        stable: LogIndex,
    ) {
        if !self.leads_in(term) || appended > self.log.last_index() {
            return;
        }
        let Some(leading) = &mut self.leading else { return };
        let current = leading.round;
        let Some(peer) = leading.peer_mut(from) else { return };
        if peer.note_round(round, appended, current) {
            self.note_acknowledged(from, appended, stable);
            self.confirm_reads();
        }
    }

    fn note_acknowledged(&mut self, from: NodeId, appended: LogIndex, stable: LogIndex) {
        // Nobody can have verified what we do not have; such a reply is not from this cluster's code.
        if appended > self.log.last_index() {
            return;
        }
        let Some(leading) = &mut self.leading else { return };
        let Some(peer) = leading.peer_mut(from) else { return };
        let before = peer.stable();
        if peer.note_accepted(appended, stable) {
            peer.heard = true;
        }
        if peer.stable() > before {
            self.count_commit();
            self.advance_transfer();
        }
    }

    /// Commits what is stable on a quorum, if that is an entry of this term: older ones only along with it (Raft
    /// paper, figure 8). Learners are never counted, this node only by its own stable index (PITFALLS 13, 14, 17).
    pub(super) fn count_commit(&mut self) {
        let Some(leading) = &self.leading else { return };
        let mut stable = Values::new();
        let own = if is_planted(Bug::LeaderCountsUnflushed) { self.log.last_index() } else { self.stable };
        let newest = self.memberships.newest();
        let learners = if is_planted(Bug::LearnersCounted) { newest.learners() } else { &[] };
        for &voter in newest.voters().iter().chain(learners) {
            let of_peer = leading.peers.iter().find(|peer| peer.peer() == voter).map(Progress::stable);
            stable.push(of_peer.unwrap_or(own).get());
        }
        let reached = LogIndex(stable.reached_by_majority());
        let of_this_term =
            self.log.term_at(reached) == Some(self.term()) || is_planted(Bug::OldTermCommitted);
        if reached > self.commit && of_this_term {
            self.commit_to(reached);
            self.reads_may_begin();
            self.leave_if_removed();
        }
    }

    /// What may be sent to `peer` now: a probe, the entries that fit its window, or nothing but a newer commit
    /// index. `None` for a node that does not lead. Cheap; allocates nothing.
    pub fn next_send(&mut self, peer: NodeId) -> Option<SendPlan> {
        let (term, commit) = (self.term(), self.commit);
        let durable = self.hard.is_durable();
        let log = &self.log;
        let progress = self.leading.as_mut()?.peer_mut(peer)?;
        assert!(durable, "hard state invariant: nothing leaves in a term that is not durable");
        if progress.needs_checkpoint() {
            return None;
        }
        progress.raise_to_base(log.base().index);
        let prev = progress.prev_id(log)?;
        let next = progress.next();
        let plan = |last, wants_reply| SendPlan { term, prev, first: next, last, commit, wants_reply };
        if progress.state() == ProgressState::Probe {
            return (!progress.probe_is_out()).then(|| plan(prev.index, true));
        }
        let room = u64::from(self.config.inflight_entries_limit).saturating_sub(progress.in_flight_entries());
        if room == 0 || progress.in_flight_bytes() >= self.config.inflight_bytes_limit {
            return None;
        }
        let last = log.last_index().min(prev.index.plus(room));
        let commit_lags = progress.commit_sent() < commit.min(prev.index);
        (last >= next || commit_lags).then(|| plan(last, false))
    }

    /// Entries up to `last`, of `bytes` in all, are on their way to `peer` (none where `last` is before the plan's
    /// `first`). Call it right after [`Raft::next_send`]; a node that leads no more ignores it.
    ///
    /// # Panics
    /// Where `last` is past the end of the log.
    pub fn sent(&mut self, peer: NodeId, last: LogIndex, bytes: u64) {
        let (commit, log_last) = (self.commit, self.log.last_index());
        let Some(leading) = &mut self.leading else { return };
        let round = leading.round;
        let Some(progress) = leading.peer_mut(peer) else { return };
        assert!(
            last <= log_last,
            "window invariant: entries up to {last} sent, but the log ends at {log_last}"
        );
        progress.note_sent(last, bytes, round);
        if progress.state() == ProgressState::Replicate {
            let covered = progress.next().prev();
            progress.note_commit_sent(commit, covered);
        }
    }

    /// Whether `peer` lacks entries that retention has removed here: it is to be sent a checkpoint at or behind the log's
    /// base, and then [`Raft::checkpoint_sent`] is called. False for a node that does not lead.
    #[must_use]
    pub fn needs_checkpoint(&self, peer: NodeId) -> bool {
        self.progress(peer).is_some_and(Progress::needs_checkpoint)
    }

    /// A checkpoint is on its way to `peer`, and that the peer's log begins behind `index`: the entry before the first one
    /// here, or the last one that the checkpoint contains. A node that leads no more ignores it.
    ///
    /// # Panics
    /// Where `index` is not committed.
    pub fn checkpoint_sent(&mut self, peer: NodeId, index: LogIndex) {
        assert!(index <= self.commit, "state machine safety: only committed entries are in a checkpoint");
        let Some(leading) = &mut self.leading else { return };
        let round = leading.round;
        if let Some(progress) = leading.peer_mut(peer) {
            progress.note_checkpoint_sent(index, round);
        }
    }

    /// A connection to `peer` stands: what it holds is asked anew.
    pub fn peer_connected(&mut self, peer: NodeId) {
        self.forget_progress(peer);
    }

    /// The connection to `peer` is gone, and with it what was in flight.
    pub fn peer_disconnected(&mut self, peer: NodeId) {
        self.forget_progress(peer);
    }

    fn forget_progress(&mut self, peer: NodeId) {
        if let Some(progress) = self.leading.as_mut().and_then(|leading| leading.peer_mut(peer)) {
            progress.note_reconnected();
        }
    }

    /// Whether everything committed before this term is known to be: an entry of this term is (PITFALLS 44).
    pub(super) fn committed_in_term(&self) -> bool {
        self.leading.as_ref().is_some_and(|leading| self.commit >= leading.term_start)
    }
}
