//! What nodes say to each other.

use crate::base::ids::{COUNTER_MAX, EntryId, LogIndex, Term};

/// A message between two members. The sender's id travels beside it.
///
/// Any of them may be lost, doubled, delayed or overtaken; the core stays safe. The codec bounds the length of
/// `Append::entries` by the frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// 'Would you vote for me in `term`?' Changes no term anywhere (Raft thesis, section 9.6).
    PreVote {
        /// The sender's term plus one.
        term: Term,
        /// The sender's last entry.
        last: EntryId,
    },
    /// Answer to [`Message::PreVote`].
    PreVoteReply {
        /// The asked-for term when granted, the sender's own term when not.
        term: Term,
        /// Whether the sender would vote so.
        granted: bool,
        /// The sender's last entry (shown, never counted).
        last: EntryId,
    },
    /// RequestVote (Raft paper, section 5.2).
    Vote {
        /// The candidate's term.
        term: Term,
        /// The candidate's last entry.
        last: EntryId,
    },
    /// Answer to [`Message::Vote`].
    VoteReply {
        /// The sender's term.
        term: Term,
        /// Whether the sender voted so; durable there.
        granted: bool,
        /// The sender's last entry (shown, never counted).
        last: EntryId,
    },
    /// AppendEntries (Raft paper, section 5.3).
    Append {
        /// The leader's term.
        term: Term,
        /// The entry before the first one sent.
        prev: EntryId,
        /// Terms of the entries `prev.index + 1 ..`; their bytes travel beside the message, in this order.
        entries: Vec<Term>,
        /// The leader's commit index, not clamped: the receiver clamps to what it verified.
        commit: LogIndex,
        /// Answer at once (a probe); otherwise the advance of the stable index answers.
        wants_reply: bool,
    },
    /// Answer to [`Message::Append`], also sent alone when the stable index advances.
    AppendReply {
        /// The follower's term.
        term: Term,
        /// What became of it.
        outcome: AppendOutcome,
    },
    /// 'I lead.' Numbered, for check-quorum and for reads.
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// The leader's commit index, clamped to what this peer is known to hold.
        commit: LogIndex,
        /// Counts from 1 in each term; 0 is never sent.
        round: u64,
    },
    /// Answer to [`Message::Heartbeat`]. With round 0: a notice of a higher term to a leader of an older one.
    HeartbeatReply {
        /// The follower's term.
        term: Term,
        /// The round answered.
        round: u64,
        /// As in [`AppendOutcome::Accepted`].
        appended: LogIndex,
        /// As in [`AppendOutcome::Accepted`].
        stable: LogIndex,
    },
    /// 'My disk once held up to `claimed`. How far do you reach?' (rule 11)
    ClaimQuery {
        /// A term above that of the claim, in which the answer binds.
        term: Term,
        /// The claimed tail.
        claimed: EntryId,
    },
    /// Answer to [`Message::ClaimQuery`].
    ClaimReply {
        /// The sender's term; counts only above that of the claim.
        term: Term,
        /// How far the *sender* reaches: the later of its last entry and its own claimed tail.
        claimed: EntryId,
        /// The sender's last entry, whole and its own; at most as far as `claimed`.
        last: EntryId,
    },
    /// 'Campaign now': a transfer of leadership (Raft thesis, section 3.10).
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
}

/// What a follower did with an Append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendOutcome {
    /// The logs agree up to `appended`.
    Accepted {
        /// Last index that the follower has verified against the leader of this term.
        appended: LogIndex,
        /// Stable up to here; at most `appended`.
        stable: LogIndex,
    },
    /// The follower lacks `prev`.
    Rejected {
        /// Index of the `prev` refused, which tells a stale rejection.
        prev_index: LogIndex,
        /// The follower's last entry at or before it whose term is not above that of `prev`.
        hint: EntryId,
    },
}

/// Slots for 'only the newest of a kind matters'. A refusal never displaces a grant, nor a rejection an
/// acknowledgement.
pub(super) const MESSAGE_SLOTS: u8 = 14;

fn sane(index: LogIndex) -> bool {
    index.get() <= COUNTER_MAX
}

fn sane_id(id: EntryId) -> bool {
    id.term.get() <= COUNTER_MAX && sane(id.index) && (id.index > LogIndex::ZERO || id.term == Term::ZERO)
}

impl Message {
    /// Whether the message could come from a correct node: counters within [`COUNTER_MAX`], so that no arithmetic
    /// on them wraps, ids whole, terms of entries never falling nor above the leader's. Anything else is dropped.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let term = self.term();
        // A node that has just been formatted answers in term 0; nobody asks in it.
        let answers =
            matches!(self, Self::PreVoteReply { .. } | Self::VoteReply { .. } | Self::ClaimReply { .. });
        if term.get() > COUNTER_MAX || (term == Term::ZERO && !answers) {
            return false;
        }
        match self {
            Self::PreVote { last, .. }
            | Self::PreVoteReply { last, .. }
            | Self::Vote { last, .. }
            | Self::VoteReply { last, .. } => sane_id(*last),
            Self::Append { prev, entries, commit, .. } => {
                sane_id(*prev)
                    && sane(*commit)
                    && entries.len() as u64 <= COUNTER_MAX - prev.index.get()
                    && entries.first().is_none_or(|&first| first >= prev.term)
                    && entries.is_sorted()
                    && *entries.last().unwrap_or(&prev.term) <= term
            }
            Self::AppendReply { outcome, .. } => match *outcome {
                AppendOutcome::Accepted { appended, stable } => sane(appended) && stable <= appended,
                AppendOutcome::Rejected { prev_index, hint } => sane(prev_index) && sane_id(hint),
            },
            Self::Heartbeat { commit, round, .. } => sane(*commit) && *round > 0,
            Self::HeartbeatReply { appended, stable, .. } => sane(*appended) && stable <= appended,
            Self::ClaimQuery { claimed, .. } => sane_id(*claimed) && term > claimed.term,
            Self::ClaimReply { claimed, last, .. } => sane_id(*claimed) && sane_id(*last) && last <= claimed,
            Self::TimeoutNow { .. } => true,
        }
    }

    /// The term it carries.
    #[must_use]
    pub fn term(&self) -> Term {
        match *self {
            Self::PreVote { term, .. }
            | Self::PreVoteReply { term, .. }
            | Self::Vote { term, .. }
            | Self::VoteReply { term, .. }
            | Self::Append { term, .. }
            | Self::AppendReply { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::HeartbeatReply { term, .. }
            | Self::ClaimQuery { term, .. }
            | Self::ClaimReply { term, .. }
            | Self::TimeoutNow { term } => term,
        }
    }

    /// Its slot, below [`MESSAGE_SLOTS`].
    pub(super) fn slot(&self) -> u8 {
        match self {
            Self::PreVote { .. } => 0,
            Self::PreVoteReply { granted, .. } => 1 + u8::from(*granted),
            Self::Vote { .. } => 3,
            Self::VoteReply { granted, .. } => 4 + u8::from(*granted),
            Self::Append { .. } => 6,
            Self::AppendReply { outcome: AppendOutcome::Accepted { .. }, .. } => 7,
            Self::AppendReply { outcome: AppendOutcome::Rejected { .. }, .. } => 8,
            Self::Heartbeat { .. } => 9,
            Self::HeartbeatReply { .. } => 10,
            Self::ClaimQuery { .. } => 11,
            Self::ClaimReply { .. } => 12,
            Self::TimeoutNow { .. } => 13,
        }
    }
}
