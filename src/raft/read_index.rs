//! Linearizable reads without a log entry (Raft thesis, section 6.4).
//!
//! ```text
//!   read_index(token) ─▶ entry of this term committed? ─no─▶ waits for it
//!                                │yes
//!                                ▼
//!                 index = commit index; a heartbeat round that starts from now on
//!                                │ answered by a quorum
//!                                ▼
//!                        Ready.reads (token, Ok(index))
//! ```
//!
//! One round serves every read that waits when it starts, so the rate of reads does not set the rate of heartbeats.

use super::node::Raft;
use super::progress::Progress;
use super::quorum::Values;
use super::ready::{READS_PENDING_MAX, ReadAborted};
use crate::base::ids::{LogIndex, NodeId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PendingRead {
    token: u64,
    /// Commit index when it was asked, or when the term's first entry was committed.
    index: LogIndex,
    /// The round that must be answered; 0 until one has started after the read.
    round: u64,
}

/// Reads that wait, in the order in which they were asked; at most [`READS_PENDING_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Reads {
    pending: Vec<PendingRead>,
}

impl Reads {
    /// Reads without a round take this one, which has just started.
    pub(super) fn round_started(&mut self, round: u64) {
        for read in self.pending.iter_mut().rev().take_while(|read| read.round == 0) {
            read.round = round;
        }
    }

    fn awaits_a_round(&self) -> bool {
        self.pending.first().is_some_and(|read| read.round > 0)
    }

    fn needs_a_round(&self) -> bool {
        self.pending.last().is_some_and(|read| read.round == 0)
    }

    pub(super) fn abort_all(
        &mut self,
        out: &mut Vec<(u64, Result<LogIndex, ReadAborted>)>,
        leader: Option<NodeId>,
    ) {
        out.extend(self.pending.drain(..).map(|read| (read.token, Err(ReadAborted::NotLeader { leader }))));
    }
}

type ReadResult = Result<LogIndex, ReadAborted>;

impl Raft {
    /// Asks for a read barrier: the answer, with this `token`, comes in [`Ready::reads`](super::Ready::reads). An
    /// index means: this node led when the read was asked, and everything acknowledged by then is at or below it.
    pub fn read_index(&mut self, token: u64) {
        let commit = self.commit;
        let Some(leading) = &mut self.leading else {
            self.answer_read(token, Err(ReadAborted::NotLeader { leader: self.leader }));
            return;
        };
        if leading.reads.pending.len() >= READS_PENDING_MAX {
            self.answer_read(token, Err(ReadAborted::TooMany));
            return;
        }
        leading.reads.pending.push(PendingRead { token, index: commit, round: 0 });
        if self.committed_in_term() {
            self.pump_reads();
        }
    }

    /// The term's first entry is committed: what is committed is known now, and waiting reads may begin.
    pub(super) fn reads_may_begin(&mut self) {
        let commit = self.commit;
        let Some(leading) = &mut self.leading else { return };
        if leading.reads.pending.is_empty() || commit < leading.term_start {
            return;
        }
        let term_start = leading.term_start;
        for read in leading.reads.pending.iter_mut().filter(|read| read.index < term_start) {
            read.index = commit;
        }
        self.pump_reads();
    }

    /// A peer has answered a newer round.
    pub(super) fn confirm_reads(&mut self) {
        if self.leading.as_ref().is_some_and(|leading| !leading.reads.pending.is_empty())
            && self.committed_in_term()
        {
            self.pump_reads();
        }
    }

    /// Answers the reads whose round a quorum has answered, and starts a round for those without one, unless an
    /// earlier one is still on its way.
    fn pump_reads(&mut self) {
        self.release_reads();
        let start = self
            .leading
            .as_ref()
            .is_some_and(|leading| leading.reads.needs_a_round() && !leading.reads.awaits_a_round());
        if start {
            self.start_round();
            // A single voter has its quorum at once.
            self.release_reads();
        }
    }

    fn release_reads(&mut self) {
        let Some(leading) = &mut self.leading else { return };
        let mut rounds = Values::new();
        for &voter in self.memberships.newest().voters() {
            let of_peer = leading.peers.iter().find(|peer| peer.peer() == voter).map(Progress::round_acked);
            rounds.push(of_peer.unwrap_or(leading.round));
        }
        let confirmed = rounds.reached_by_majority();
        let done =
            leading.reads.pending.iter().take_while(|read| read.round > 0 && read.round <= confirmed).count();
        self.reads_out.extend(leading.reads.pending.drain(..done).map(|read| (read.token, Ok(read.index))));
    }

    fn answer_read(&mut self, token: u64, answer: ReadResult) {
        self.reads_out.push((token, answer));
    }
}
