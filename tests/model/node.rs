//! One node of the model: the core, and the disk under it.

use std::hash::{Hash, Hasher};

use tercet::base::ids::{EntryId, LogIndex, NodeId};
use tercet::raft::{HardState, LogView, MembershipLog, Message, Raft, RaftConfig, Restored, Role, TermRuns};

use super::bounds::{Bounds, Lie};
use super::history::History;

/// What a crash leaves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// As last flushed.
    pub hard: HardState,
    /// As last flushed.
    pub log: TermRuns,
    /// Lower bound of the commit index, as last flushed.
    pub hint: LogIndex,
    /// What a crash cannot tear: what was durable before the last flush. Stands still where nothing tears.
    pub watermark: LogIndex,
}

/// Hard state that was handed out and is not durable. Told by what it says and not by its number, as the core is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The core's number for it.
    pub version: u64,
    /// What it says.
    pub hard: HardState,
}

impl Hash for Pending {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.hard.hash(hasher);
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// The core.
    pub raft: Raft,
    /// Its disk.
    pub disk: Disk,
    /// Hard state that was handed out and is not durable, with its version.
    pub pending: Option<Pending>,
    /// Whether it led when last looked at.
    pub led: bool,
}

/// Which part of a log a crash tears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Torn {
    /// What was flushed last, and perhaps acknowledged.
    Flushed,
    /// What was being written.
    Unflushed,
}

/// The node of a place.
pub const fn id(place: usize) -> NodeId {
    NodeId(place as u16 + 1)
}

impl Node {
    /// As recovery makes it.
    pub fn started(bounds: &Bounds, place: usize, disk: Disk, history: &History) -> Self {
        let mut memberships: MembershipLog = bounds.membership().into();
        for index in disk.log.first_index().get()..=disk.log.last_index().get() {
            let index = LogIndex(index);
            let term = disk.log.term_at(index).unwrap_or_default();
            if let Some(membership) = history.configuration(term, index) {
                memberships.push(index, membership.clone());
            }
        }
        memberships.committed(disk.hint);
        let restored =
            Restored { hard_state: disk.hard, memberships, log: disk.log.clone(), commit_hint: disk.hint };
        let config = RaftConfig { id: id(place), inflight_entries_limit: 8, inflight_bytes_limit: 1 << 20 };
        let mut raft = Raft::new(config, restored);
        raft.start();
        Self { raft, disk, pending: None, led: false }
    }

    /// What only a start would read, where there will be none any more: states that differ in that alone are one.
    pub fn forget_what_no_start_reads(&mut self) {
        (self.disk.hint, self.disk.watermark) = (LogIndex::ZERO, LogIndex::ZERO);
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        self.raft.role() == Role::Leader
    }

    /// Whether a crash makes a difference.
    pub fn has_something_to_lose(&self) -> bool {
        let loses = self.pending.is_some() || self.disk.log != *self.raft.log();
        loses || self.raft.role() != Role::Follower || self.raft.commit_index() > self.disk.hint
    }

    /// The core's newest word on its hard state is durable.
    pub fn flush_hard(&mut self, lie: Lie) {
        let Some(Pending { version, hard }) = self.pending.take() else { return };
        if lie != Lie::HardState {
            self.disk.hard = hard;
        }
        self.raft.hard_state_flushed(version);
    }

    /// The whole log is durable.
    pub fn flush_log(&mut self, bounds: &Bounds, may_crash: bool) {
        if bounds.lie != Lie::Log {
            if may_crash {
                self.disk.hint = self.raft.commit_index();
            }
            if may_crash && bounds.tears > 0 {
                // A truncation and a checkpoint go on in a fresh file; what comes before them is durable then.
                self.disk.watermark = self.disk.log.last_index().min(self.common_end());
                self.disk.hint = self.disk.hint.min(self.disk.watermark);
            }
            self.disk.log = self.raft.log().clone();
        }
        let (generation, last) = (self.raft.log_generation(), self.raft.last_id().index);
        self.raft.log_stable(generation, last);
    }

    /// The last index up to which the log in memory is the one on the disk.
    fn common_end(&self) -> LogIndex {
        let (log, disk) = (self.raft.log(), &self.disk.log);
        let ends = log.last_index().min(disk.last_index()).get();
        let same = |index: &u64| log.term_at(LogIndex(*index)) == disk.term_at(LogIndex(*index));
        LogIndex((1..=ends).rev().find(same).unwrap_or(0))
    }

    /// Removes what is committed, here and on the disk, behind a checkpoint that is durable. False where there is none.
    pub fn trim(&mut self, may_crash: bool) -> bool {
        let last = self.raft.commit_index();
        if last <= self.raft.log().base().index || self.disk.log != *self.raft.log() {
            return false;
        }
        self.raft.log_trimmed(last);
        self.disk.log.trim_prefix(last);
        if may_crash {
            self.disk.hint = self.disk.hint.max(last);
        }
        true
    }

    /// What a crash leaves on the disk that also tears the end of the log; `None` where there is nothing to tear.
    pub fn torn(&self, lie: Lie, torn: Torn) -> Option<Disk> {
        let mut disk = self.disk.clone();
        let claimed = match torn {
            Torn::Flushed => {
                let last = disk.log.last_id();
                if last.index <= disk.watermark || disk.watermark <= disk.log.base().index {
                    return None;
                }
                disk.log.truncate_from(disk.watermark.next());
                last
            }
            // The flushed part remains, and behind it the header of an entry.
            Torn::Unflushed => {
                let next = disk.log.last_index().next();
                let follows = self.common_end() == disk.log.last_index();
                let term = self.raft.term_at(next).filter(|_| follows)?;
                EntryId::new(term, next)
            }
        };
        let claimed = disk.hard.claimed_tail.max(Some(claimed));
        if lie != Lie::Claim {
            disk.hard.claimed_tail = claimed.filter(|claimed| *claimed > disk.log.last_id());
        }
        Some(disk)
    }

    /// Whether answers that are of no use any more do nothing: those of an older term, and orders to campaign of one. The
    /// model lets go of such messages, so it has to be so in every state.
    pub fn ignores_what_is_stale(&self, count: usize) -> bool {
        let mut raft = self.raft.clone();
        let last = raft.last_id();
        for from in (0..count).map(id).filter(|from| *from != self.raft.id()) {
            for term in (1..self.raft.term().get()).map(tercet::base::ids::Term) {
                let (appended, stable) = (last.index, last.index);
                let outcome = tercet::raft::AppendOutcome::Accepted { appended, stable };
                raft.step(from, Message::VoteReply { term, granted: true, last });
                raft.step(from, Message::AppendReply { term, outcome });
                raft.step(from, Message::HeartbeatReply { term, round: 1, appended, stable });
                raft.step(from, Message::TimeoutNow { term });
            }
        }
        raft == self.raft
    }
}
