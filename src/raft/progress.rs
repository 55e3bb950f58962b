//! What a leader knows of one peer.
//!
//! ```text
//!            Accepted reaching next - 1
//!   Probe ───────────────────────────────▶ Replicate
//!   one empty Append at a time;            entries stream, up to the window;
//!   next moves back on a rejection         next moves on with every send
//!     ▲                                        │
//!     └────────────────────────────────────────┘
//!       rejection of something in flight; a heartbeat round in which nothing of it arrived; connection lost
//! ```
//!
//! A probe carries no entries, so finding the place to go on from costs one round trip and no bandwidth, and a probe
//! too many costs nothing.

use super::log_view::{LogView, TermRuns};
use crate::base::ids::{EntryId, LogIndex, NodeId};
use std::collections::VecDeque;

/// How a peer is being sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgressState {
    /// Looking for the last entry both have.
    Probe,
    /// Streaming.
    Replicate,
}

/// One Append on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct InFlight {
    prev: LogIndex,
    last: LogIndex,
    bytes: u64,
}

/// Taken when a heartbeat round may begin: a reply to a *later* round shows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Mark {
    round: u64,
    appended: LogIndex,
    sent_last: LogIndex,
}

/// One peer, as the leader of this term sees it.
///
/// Invariants: `stable <= appended < next <= last index of the leader + 1`; in `Probe` nothing is in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    peer: NodeId,
    state: ProgressState,
    next: LogIndex,
    appended: LogIndex,
    stable: LogIndex,
    commit_sent: LogIndex,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
    /// Round in which the outstanding probe left.
    probe_round: Option<u64>,
    round_acked: u64,
    mark: Mark,
    /// It lacks what retention has removed here, and has not been sent a checkpoint since that was found.
    needs_checkpoint: bool,
    /// Heard from since the last check-quorum.
    pub(super) heard: bool,
    /// Checks in a row in which it was not heard from.
    pub(super) silent_checks: u8,
}

impl Progress {
    pub(super) fn new(peer: NodeId, next: LogIndex) -> Self {
        Self {
            peer,
            state: ProgressState::Probe,
            next,
            appended: LogIndex::ZERO,
            stable: LogIndex::ZERO,
            commit_sent: LogIndex::ZERO,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            probe_round: None,
            round_acked: 0,
            mark: Mark::default(),
            needs_checkpoint: false,
            heard: false,
            silent_checks: 0,
        }
    }

    /// Whose progress this is.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// Probing or streaming.
    #[must_use]
    pub fn state(&self) -> ProgressState {
        self.state
    }

    /// Next index to send (the paper's next_index).
    #[must_use]
    pub fn next(&self) -> LogIndex {
        self.next
    }

    /// Last index that the peer said it verified in this term.
    #[must_use]
    pub fn appended(&self) -> LogIndex {
        self.appended
    }

    /// Last index that the peer said is stable there: what counts towards commit (the paper's match_index).
    #[must_use]
    pub fn stable(&self) -> LogIndex {
        self.stable
    }

    /// Entries sent and not yet known to have arrived.
    #[must_use]
    pub fn in_flight_entries(&self) -> u64 {
        match self.in_flight.front() {
            Some(first) => self.next.prev().since(first.prev),
            None => 0,
        }
    }

    /// Their bytes.
    #[must_use]
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Newest heartbeat round that the peer answered.
    #[must_use]
    pub fn round_acked(&self) -> u64 {
        self.round_acked
    }

    pub(super) fn commit_sent(&self) -> LogIndex {
        self.commit_sent
    }

    pub(super) fn probe_is_out(&self) -> bool {
        self.probe_round.is_some()
    }

    /// The commit index `commit` has been put on the way, for entries up to `covered`.
    pub(super) fn note_commit_sent(&mut self, commit: LogIndex, covered: LogIndex) {
        self.commit_sent = self.commit_sent.max(commit.min(covered));
    }

    /// Entries up to `last` have been put on the way in heartbeat round `round` (none where `last < next`).
    pub(super) fn note_sent(&mut self, last: LogIndex, bytes: u64, round: u64) {
        if self.state == ProgressState::Probe {
            self.probe_round = Some(round);
        }
        if last < self.next {
            return;
        }
        // Entries sent while probing are not promised to be in place; the answer decides what is sent next.
        if self.state == ProgressState::Replicate {
            self.in_flight.push_back(InFlight { prev: self.next.prev(), last, bytes });
            self.in_flight_bytes += bytes;
            self.next = last.next();
        }
    }

    /// The peer verified up to `appended` and has `stable` durable. True where that is news.
    pub(super) fn note_accepted(&mut self, appended: LogIndex, stable: LogIndex) -> bool {
        let news = appended > self.appended || stable > self.stable;
        self.needs_checkpoint &= appended.next() < self.next;
        self.appended = self.appended.max(appended);
        self.stable = self.stable.max(stable.min(appended));
        while let Some(first) = self.in_flight.front().filter(|first| first.last <= self.appended) {
            self.in_flight_bytes -= first.bytes;
            self.in_flight.pop_front();
        }
        match self.state {
            ProgressState::Replicate => self.next = self.next.max(self.appended.next()),
            // An acknowledgement from before the probe says nothing about it.
            ProgressState::Probe if appended.next() >= self.next => {
                self.state = ProgressState::Replicate;
                self.probe_round = None;
                self.next = self.appended.next();
            }
            ProgressState::Probe => {}
        }
        news
    }

    /// The peer has no entry like ours at `prev_index`. Moves `next` back by a whole term at least, unless the
    /// rejection is stale: not about the outstanding probe, nor about anything in flight.
    ///
    /// Terminates in O(terms): the next `prev` has a lower term than the refused one, or the index at which the
    /// follower's log ends (Raft paper, end of section 5.3).
    pub(super) fn note_rejected(&mut self, prev_index: LogIndex, hint: EntryId, log: &TermRuns) {
        let current = match self.state {
            ProgressState::Probe => prev_index.next() == self.next,
            ProgressState::Replicate => {
                prev_index > self.appended
                    && (prev_index.next() == self.next || self.in_flight.iter().any(|f| f.prev == prev_index))
            }
        };
        if !current || prev_index <= self.stable {
            return;
        }
        let limit = hint.index.min(prev_index.prev());
        // Same index as refused: the terms differ there, so ours must be looked for below it.
        let guess = log.last_at_or_below(limit, hint.term).index.max(self.stable);
        if self.state == ProgressState::Probe && guess.next() >= self.next {
            // Only where retention has removed what the peer lacks.
            self.needs_checkpoint = true;
            return;
        }
        self.probe_from(guess);
    }

    /// Back to probing, with `prev` as the first guess.
    fn probe_from(&mut self, prev: LogIndex) {
        self.state = ProgressState::Probe;
        self.next = prev.next();
        self.appended = self.appended.min(prev).max(self.stable);
        self.commit_sent = LogIndex::ZERO;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.probe_round = None;
    }

    /// The connection is gone or new: what was in flight may be lost, and the peer may have restarted. Where it
    /// stood is asked again, also its stable index (with durability `memory` a reboot loses that).
    pub(super) fn note_reconnected(&mut self) {
        let guess = match self.state {
            ProgressState::Replicate => self.stable,
            ProgressState::Probe => self.next.prev(),
        };
        self.stable = LogIndex::ZERO;
        self.appended = LogIndex::ZERO;
        self.needs_checkpoint = false;
        self.probe_from(guess);
        self.appended = LogIndex::ZERO;
        self.mark = Mark { round: self.mark.round, appended: LogIndex::ZERO, sent_last: LogIndex::ZERO };
    }

    /// The peer answered heartbeat round `round`, having verified up to `appended`; `current` is the newest round
    /// that left. Call before [`Self::note_accepted`]. False where the answer is old or doubled.
    pub(super) fn note_round(&mut self, round: u64, appended: LogIndex, current: u64) -> bool {
        if round <= self.round_acked || round > current {
            return false;
        }
        self.round_acked = round;
        self.heard = true;
        if round <= self.mark.round {
            return true;
        }
        // This heartbeat left after the mark was taken. A peer that knew more then has restarted; one that got
        // nothing at all of what was on the way then has lost it. (Rule of thumb for speed, never for safety.)
        let forgot = appended < self.mark.appended;
        let stuck = appended <= self.mark.appended && appended < self.mark.sent_last;
        if forgot {
            self.note_reconnected();
        } else if stuck && self.state == ProgressState::Replicate {
            self.probe_from(self.stable);
        } else if self.probe_round.is_some_and(|sent| round > sent) {
            self.probe_round = None;
        }
        self.mark =
            Mark { round: current, appended: self.appended.max(appended), sent_last: self.next.prev() };
        if self.state == ProgressState::Probe {
            self.mark.sent_last = LogIndex::ZERO;
        }
        true
    }

    /// The term of the entry before `next`, where the log still has it.
    pub(super) fn prev_id(&self, log: &TermRuns) -> Option<EntryId> {
        let index = self.next.prev();
        log.term_at(index).map(|term| EntryId::new(term, index))
    }

    /// Whether it can only go on from a checkpoint.
    #[must_use]
    pub fn needs_checkpoint(&self) -> bool {
        self.needs_checkpoint
    }

    /// A checkpoint up to `index` is on its way: that is probed for next, when a heartbeat shows that it got there or
    /// that it did not.
    pub(super) fn note_checkpoint_sent(&mut self, index: LogIndex, round: u64) {
        self.needs_checkpoint = false;
        self.probe_from(index);
        self.probe_round = Some(round);
    }

    /// Never below what the log still holds (a peer that needs less needs a snapshot).
    pub(super) fn raise_to_base(&mut self, base: LogIndex) {
        if self.next <= base {
            self.next = base.next();
        }
    }

    pub(super) fn check(&self, last: LogIndex) {
        debug_assert!(self.stable <= self.appended, "{self:?}");
        debug_assert!(self.next <= last.next(), "{self:?} beyond {last}");
        debug_assert!(self.state == ProgressState::Replicate || self.in_flight.is_empty(), "{self:?}");
    }
}
