//! What the core hands out: work for the log, the disk, the network and the timers.

use super::hard_state::HardState;
use super::message::Message;
use super::timer::TimerRequest;
use crate::base::ids::{EntryId, LogIndex, NodeId, Term};
use thiserror::Error;

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Receives the log; never votes, never campaigns, is never counted.
    Learner,
    /// Asks whether it would be elected, without touching its term.
    PreCandidate,
    /// Asks for votes in a new term.
    Candidate,
    /// Leads.
    Leader,
}

/// Work for the log, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogOp {
    /// Remove this entry and all after it. From now on stable reports carry this generation.
    TruncateFrom {
        /// First index removed; above the commit index.
        first_removed: LogIndex,
        /// Counts truncations since the node started.
        generation: u64,
    },
    /// Append entries of the `Append` that was just stepped.
    AppendReceived {
        /// Index of the first one to append.
        first: LogIndex,
        /// Index of the last one.
        last: LogIndex,
        /// How many leading entries of the message were there already.
        skip: usize,
    },
    /// Begin the log anew behind the checkpoint that was just received: whatever stood here goes. From now on stable
    /// reports carry this generation.
    Install {
        /// The entry behind which it begins: the last one that the checkpoint contains, or one before that.
        id: EntryId,
        /// Counts truncations since the node started.
        generation: u64,
    },
    /// Encode and append the no-op that opens a leader's term (Raft paper, section 8).
    AppendNoop {
        /// Its place.
        id: EntryId,
    },
}

/// The newest change of role, term or known leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RoleChange {
    /// Role now.
    pub role: Role,
    /// Term now.
    pub term: Term,
    /// Leader of that term, as far as known.
    pub leader: Option<NodeId>,
}

/// Why a read barrier will not be passed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum ReadAborted {
    /// This node does not lead, or ceased to before a quorum confirmed it. Ask the leader.
    #[error("not the leader")]
    NotLeader {
        /// The leader, as far as known.
        leader: Option<NodeId>,
    },
    /// [`READS_PENDING_MAX`] reads wait already.
    #[error("too many reads wait for confirmation")]
    TooMany,
}

/// Most read barriers that wait at a time.
pub const READS_PENDING_MAX: usize = 1024;

/// This node cannot take a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[error("not the leader")]
pub struct NotLeader {
    /// The leader, as far as known.
    pub leader: Option<NodeId>,
}

/// What may be sent to a peer now. Empty where `last < first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SendPlan {
    /// The leader's term.
    pub term: Term,
    /// The entry before `first`.
    pub prev: EntryId,
    /// First index to send.
    pub first: LogIndex,
    /// Last index that may be sent; a prefix will do (then call `next_send` again after `sent`).
    pub last: LogIndex,
    /// The leader's commit index.
    pub commit: LogIndex,
    /// Ask for an immediate answer.
    pub wants_reply: bool,
}

/// All that came out of the calls since the last one was taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Ready {
    /// To be made durable, with its version; then `hard_state_flushed(version)`. A newer one replaces an older one.
    pub hard_state: Option<(u64, HardState)>,
    /// For the log, in order.
    pub log_ops: Vec<LogOp>,
    /// May leave now: whatever they depend on is durable.
    pub messages: Vec<(NodeId, Message)>,
    /// At most one of each kind.
    pub timers: Vec<TimerRequest>,
    /// The commit index, where it advanced.
    pub commit_index: Option<LogIndex>,
    /// The newest role, where it changed.
    pub role_changed: Option<RoleChange>,
    /// Read barriers passed (at this index) or aborted.
    pub reads: Vec<(u64, Result<LogIndex, ReadAborted>)>,
}

impl Ready {
    /// Empties it and keeps its buffers.
    pub fn clear(&mut self) {
        self.hard_state = None;
        self.log_ops.clear();
        self.messages.clear();
        self.timers.clear();
        self.commit_index = None;
        self.role_changed = None;
        self.reads.clear();
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hard_state.is_none()
            && self.log_ops.is_empty()
            && self.messages.is_empty()
            && self.timers.is_empty()
            && self.commit_index.is_none()
            && self.role_changed.is_none()
            && self.reads.is_empty()
    }
}
