//! Tests of the core. Those named `pitfall_<n>_…` prove one line of the list of defects that other Raft logs shipped;
//! those whose doc begins with a section of the Raft paper or thesis prove a rule of it (see `paper/`).

mod checkpoints;
mod claims;
mod cluster;
mod elections;
mod failover;
mod harness;
mod log_runs;
mod membership;
mod paper;
mod pitfalls_core;
mod progress;
mod reads;
mod replication;

use super::{
    AppendOutcome, HardState, LogOp, Membership, Message, Raft, RaftConfig, Ready, Restored, TermRuns,
    TimerKind, TimerRequest,
};
use crate::base::ids::{EntryId, LogIndex, NodeId, Term};

pub(super) fn n(id: u16) -> NodeId {
    NodeId(id)
}

pub(super) fn t(term: u64) -> Term {
    Term(term)
}

pub(super) fn i(index: u64) -> LogIndex {
    LogIndex(index)
}

pub(super) fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), LogIndex(index))
}

pub(super) fn terms(raw: &[u64]) -> Vec<Term> {
    raw.iter().copied().map(Term).collect()
}

pub(super) fn members(voters: u16, learners: &[u16]) -> Membership {
    Membership::new((1..=voters).map(NodeId).collect(), learners.iter().copied().map(NodeId).collect())
        .unwrap()
}

pub(super) fn config(node: u16) -> RaftConfig {
    RaftConfig { id: n(node), inflight_entries_limit: 8, inflight_bytes_limit: 1000 }
}

/// A started node with these terms in its log and, on its disk, the term of the last one.
pub(super) fn node(own: u16, membership: Membership, log: &[u64]) -> Raft {
    let hard_state = HardState { term: t(log.last().copied().unwrap_or(0)), ..HardState::default() };
    restored(own, membership, log, hard_state)
}

pub(super) fn restored(own: u16, membership: Membership, log: &[u64], hard_state: HardState) -> Raft {
    let log = TermRuns::from_terms(&terms(log));
    let mut raft = Raft::new(
        config(own),
        Restored { hard_state, memberships: membership.into(), log, commit_hint: LogIndex::ZERO },
    );
    raft.start();
    drain(&mut raft);
    raft
}

/// Takes all that comes out, the disk being instant for hard state and not written at all for the log.
pub(super) fn drain(raft: &mut Raft) -> Ready {
    let mut all = Ready::default();
    while raft.has_ready() {
        let mut ready = raft.ready();
        if let Some((version, _)) = ready.hard_state {
            raft.hard_state_flushed(version);
            all.hard_state = ready.hard_state;
        }
        all.log_ops.append(&mut ready.log_ops);
        all.messages.append(&mut ready.messages);
        all.timers.append(&mut ready.timers);
        all.reads.append(&mut ready.reads);
        all.commit_index = ready.commit_index.or(all.commit_index);
        all.role_changed = ready.role_changed.or(all.role_changed);
    }
    all
}

/// Makes `raft` leader of the next term; every voter but itself votes. The no-op is appended and not stable.
pub(super) fn elect(raft: &mut Raft) {
    raft.timer_fired(TimerKind::Election);
    drain(raft);
    let voters: Vec<NodeId> =
        raft.membership().voters().iter().copied().filter(|&v| v != raft.id()).collect();
    let term = raft.term().next();
    for &voter in &voters {
        raft.step(voter, Message::PreVoteReply { term, granted: true, last: EntryId::ZERO });
        drain(raft);
    }
    for &voter in &voters {
        raft.step(voter, Message::VoteReply { term, granted: true, last: EntryId::ZERO });
    }
    assert_eq!(raft.term(), term);
    assert_eq!(raft.leader(), Some(raft.id()));
    drain(raft);
}

pub(super) fn append(term: u64, prev: EntryId, entries: &[u64], commit: u64) -> Message {
    Message::Append { term: t(term), prev, entries: terms(entries), commit: i(commit), wants_reply: true }
}

pub(super) fn accepted(term: u64, appended: u64, stable: u64) -> Message {
    let outcome = AppendOutcome::Accepted { appended: i(appended), stable: i(stable) };
    Message::AppendReply { term: t(term), outcome }
}

pub(super) fn rejected(term: u64, prev_index: u64, hint: EntryId) -> Message {
    Message::AppendReply {
        term: t(term),
        outcome: AppendOutcome::Rejected { prev_index: i(prev_index), hint },
    }
}

pub(super) fn sets_election(ready: &Ready) -> bool {
    ready.timers.contains(&TimerRequest::Set(TimerKind::Election))
}

/// The log's terms, from index 1.
pub(super) fn log_of(raft: &Raft) -> Vec<u64> {
    (1..=raft.last_id().index.get()).map(|at| raft.term_at(i(at)).unwrap().get()).collect()
}

pub(super) fn truncations(ready: &Ready) -> usize {
    ready.log_ops.iter().filter(|op| matches!(op, LogOp::TruncateFrom { .. })).count()
}
