//! Leadership is tied to disk progress: heartbeats that flow prove nothing about a disk that hangs (PITFALLS 12).
//!
//! The log writer reports each flush, and its disk beats with each step that it has finished (a roll takes several syncs
//! before it can report). While a report is owed, the time since the last report or beat is watched;
//! beyond the limit the node gives up leadership and does not campaign until the next report. A leader watches only
//! while others' disks get on without its own: while entries are committed that are not stable here; or, since nothing is
//! committed while those that are behind wait for what only this disk can give them, while some voter goes on to say that
//! more is stable there than here, or has everything. Disks that share a device hang together; then nobody could be
//! elected, and an election would only be added to the wait.
//!
//! A full disk is told by the log writer, and counts like one that hangs, at once, until there is room again.

use super::Batcher;
use crate::base::clock::Clock;
use crate::base::ids::LogIndex;
use crate::log::Pulse;
use crate::raft::Progress;

/// When the log writer was last known to get on.
#[derive(Debug)]
pub(super) struct DiskWatch {
    pulse: Pulse,
    /// As seen last.
    beats: u64,
    /// Up to where some other voter's disk has got, as a leader knows it.
    others: LogIndex,
    /// When it was last seen that another disk goes on, or owes nothing, while this one owes.
    others_went_on_ns: Option<u64>,
    /// Since when the oldest report has been owed; none: nothing is.
    owed_since_ns: Option<u64>,
    is_stalled: bool,
    /// As the log writer said last. A full disk takes nothing, so it need not be watched for a while first.
    pub(super) is_full: bool,
}

impl DiskWatch {
    /// Nothing is owed.
    pub(super) fn new(pulse: Pulse) -> Self {
        Self {
            beats: pulse.beats(),
            pulse,
            others: LogIndex::ZERO,
            others_went_on_ns: None,
            owed_since_ns: None,
            is_stalled: false,
            is_full: false,
        }
    }

    /// The disk has finished a step since the last look: it is slow, and does not hang.
    fn feel_pulse(&mut self, now_ns: u64) {
        let beats = self.pulse.beats();
        if std::mem::replace(&mut self.beats, beats) != beats {
            self.progressed(now_ns);
        }
    }

    /// The log writer has reported something.
    pub(super) const fn progressed(&mut self, now_ns: u64) {
        if self.owed_since_ns.is_some() {
            self.owed_since_ns = Some(now_ns);
        }
    }
}

impl<C: Clock> Batcher<C> {
    /// Whether the log writer owes a report that matters: of entries that are not stable here, or hard state. For a
    /// leader: whether others' disks have gone on without this one.
    fn owes_report(&mut self) -> bool {
        let stable = self.raft.stable_index();
        if self.is_leader() {
            return stable < self.raft.commit_index() || self.others_go_on();
        }
        stable < self.raft.last_id().index || self.hard_state.has_outstanding()
    }

    /// Whether some voter's disk got on lately while this one did not. What it had got done before both began to hang
    /// proves nothing after a moment.
    fn others_go_on(&mut self) -> bool {
        let voters = self.raft.membership().voters().iter();
        let others = voters.filter_map(|voter| self.raft.progress(*voter)).map(Progress::stable).max();
        let others = others.unwrap_or_default();
        let before = std::mem::replace(&mut self.disk_watch.others, others);
        if others <= self.raft.stable_index() {
            self.disk_watch.others_went_on_ns = None;
        } else if others > before || others >= self.raft.last_id().index {
            self.disk_watch.others_went_on_ns = Some(self.now_ns);
        }
        let recent_ns = self.settings.disk_stall_limit_ns / 4;
        self.disk_watch.others_went_on_ns.is_some_and(|at| self.now_ns.saturating_sub(at) < recent_ns)
    }

    /// Tells the core when the disk hangs, and when it goes on.
    pub(super) fn watch_disk(&mut self) {
        self.disk_watch.feel_pulse(self.now_ns);
        let owes = self.owes_report();
        let since_ns = owes.then(|| self.disk_watch.owed_since_ns.unwrap_or(self.now_ns));
        let limit_ns = self.settings.disk_stall_limit_ns;
        let hangs = since_ns.is_some_and(|since_ns| self.now_ns.saturating_sub(since_ns) >= limit_ns);
        let is_full = self.disk_watch.is_full;
        let is_stalled = hangs || is_full;
        let was_stalled = std::mem::replace(&mut self.disk_watch.is_stalled, is_stalled);
        self.disk_watch.owed_since_ns = since_ns;
        if is_stalled == was_stalled {
            return;
        }
        if is_full {
            tracing::warn!("leading is for nodes whose disks have room");
        } else if is_stalled {
            self.counters.disk_stalls.increment();
            tracing::warn!(
                "the disk has taken nothing for {} ms; leading is for nodes whose disks go on",
                limit_ns / 1_000_000
            );
        } else {
            tracing::info!("the disk goes on");
        }
        self.raft.set_disk_stalled(is_stalled);
    }

    pub(super) fn disk_watch_deadline_ns(&self) -> Option<u64> {
        let watch = &self.disk_watch;
        let since_ns = watch.owed_since_ns.filter(|_| !watch.is_stalled)?;
        Some(since_ns + self.settings.disk_stall_limit_ns)
    }
}
