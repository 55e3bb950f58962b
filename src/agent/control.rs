//! What the process tells its agents, and what an agent tells the process when it cannot go on. The flags
//! and pairs are checked by `tests/threads.rs`.

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

use crate::base::sync::{Arc, AtomicBool, AtomicU64, Ordering};

/// Why a node cannot go on. The process prints one line and exits with [`Fatal::exit_code`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// The disk failed in a way that must not be retried (PITFALLS 55).
    Disk(String),
    /// Logs differ where they must not: this node must not take part.
    Divergence(String),
    /// Something this binary does not know stands in the log (rule 16).
    Unknown(String),
}

impl Fatal {
    /// The process' exit code for this reason.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Disk(_) => 6,
            Self::Divergence(_) => 4,
            Self::Unknown(_) => 2,
        }
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> &str {
        match self {
            Self::Disk(text) | Self::Divergence(text) | Self::Unknown(text) => text,
        }
    }
}

#[derive(Default)]
struct State {
    draining: AtomicBool,
    drained: AtomicBool,
    stopped: AtomicBool,
    ready: AtomicBool,
    fatal: Mutex<Option<Fatal>>,
    damage: Mutex<Option<String>>,
}

/// Shared switches of one node. Read once a duty cycle; nothing on an event's way waits for them.
#[derive(Clone, Default)]
pub struct Control(Arc<State>);

impl Control {
    /// All switches off.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the node to refuse new events, finish what is in flight, and report with [`Control::is_drained`].
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// True once a drain was asked for.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Said by the batcher: nothing is in flight any more.
    pub fn set_drained(&self) {
        self.0.drained.store(true, Ordering::Release);
    }

    /// True once nothing is in flight after a drain.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.0.drained.load(Ordering::Acquire)
    }

    /// Tells every thread to end after its current turn.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
    }

    /// True once threads should end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    /// Said by the conductor when both listeners accept.
    pub fn set_ready(&self) {
        self.0.ready.store(true, Ordering::Release);
    }

    /// True once the node accepts connections.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }

    /// Said by an agent that cannot go on. The first reason stays; all threads stop.
    pub fn fail(&self, fatal: Fatal) {
        let mut slot = self.0.fatal.lock();
        if slot.is_none() {
            *slot = Some(fatal);
        }
        drop(slot);
        self.stop();
    }

    /// Said by the reader: something in this node's log cannot be read any more. The first report stays.
    pub fn found_damage(&self, what: String) {
        self.0.damage.lock().get_or_insert(what);
    }

    /// What was found to be damaged while the node took part.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.0.damage.lock().clone()
    }

    /// The reason for which an agent gave up, if one did.
    #[must_use]
    pub fn fatal(&self) -> Option<Fatal> {
        self.0.fatal.lock().clone()
    }
}

/// How far this node has committed, published by the batcher for agents that only need the newest value.
///
/// Single writer. `commit_index` is stored last with release order, so who reads an index with acquire order sees an
/// offset at least as new.
#[derive(Clone, Default)]
pub struct CommitTail(Arc<CommitTailState>);

#[derive(Default)]
struct CommitTailState {
    commit_index: CachePadded<AtomicU64>,
    last_offset: AtomicU64,
    commit_hint: AtomicU64,
    readable_index: CachePadded<AtomicU64>,
    readable_offset: AtomicU64,
    floor_offset: AtomicU64,
}

impl CommitTail {
    /// Publishes a commit index and the last committed offset.
    pub fn publish(&self, commit_index: u64, last_offset: u64) {
        debug_assert!(
            commit_index >= self.0.commit_index.load(Ordering::Relaxed),
            "commit index never falls"
        );
        self.0.last_offset.store(last_offset, Ordering::Release);
        self.0.commit_index.store(commit_index, Ordering::Release);
    }

    /// Publishes how far this node's own flushed log is known to be committed.
    ///
    /// Not simply the commit index: what is committed may not have reached this disk yet, where an older suffix that
    /// lost an election may still lie at the same indexes. Trusting that after a crash would be fatal.
    pub fn publish_hint(&self, commit_index: u64, flushed_index: u64) {
        self.0.commit_hint.store(commit_index.min(flushed_index), Ordering::Release);
    }

    /// A commit index that a restart may trust: everything up to it is flushed on this node.
    #[must_use]
    pub fn commit_hint(&self) -> u64 {
        self.0.commit_hint.load(Ordering::Acquire)
    }

    /// Publishes where the log begins: the offset of the first event that is kept.
    pub fn publish_floor(&self, first_offset: u64) {
        self.0.floor_offset.store(first_offset, Ordering::Release);
    }

    /// The first offset that is kept.
    #[must_use]
    pub fn floor_offset(&self) -> u64 {
        self.0.floor_offset.load(Ordering::Acquire)
    }

    /// Publishes how much of the committed log can be read from this node's files: the last index, and the last event
    /// up to there.
    ///
    /// Not simply the commit index, for the same reason: where the log writer has not yet carried out a truncation,
    /// the files still hold what lost an election at indexes that are committed otherwise by now (PITFALLS 29).
    pub fn publish_readable(&self, index: u64, last_offset: u64) {
        self.0.readable_offset.store(last_offset, Ordering::Release);
        self.0.readable_index.store(index, Ordering::Release);
    }

    /// Up to here the files hold the committed log.
    #[must_use]
    pub fn readable_index(&self) -> u64 {
        self.0.readable_index.load(Ordering::Acquire)
    }

    /// The last event there, at least as new as a readable index read before.
    #[must_use]
    pub fn readable_offset(&self) -> u64 {
        self.0.readable_offset.load(Ordering::Acquire)
    }

    /// The commit index.
    #[must_use]
    pub fn commit_index(&self) -> u64 {
        self.0.commit_index.load(Ordering::Acquire)
    }

    /// The offset of the last committed event, at least as new as a commit index read before.
    #[must_use]
    pub fn last_offset(&self) -> u64 {
        self.0.last_offset.load(Ordering::Acquire)
    }
}
