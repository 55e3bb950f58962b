//! Planted bugs: defects that other Raft logs shipped, put in on purpose, so that a simulation can show that it would
//! have found them. Only with the feature `faults`; without it [`is_planted`] is `false` at compile time, and nothing of
//! this is in the program. One bug at a time, for the thread that plants it: a simulation runs on one thread.

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = ($name:literal, $pitfall:literal),)*) => {
        /// A defect that can be planted. The number is that of the line in the list of pitfalls that it breaks.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug),*];

            /// Its name in tables and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }

            /// Which line of the list of pitfalls it is.
            #[must_use]
            pub const fn pitfall(self) -> u8 {
                match self {
                    $(Self::$bug => $pitfall,)*
                }
            }
        }
    };
}

bugs! {
    /// Who steps down in a term forgets its vote in it.
    VoteForgottenOnStepDown = ("vote_forgotten_on_step_down", 1),
    /// The reply to a vote leaves before the vote is durable.
    VoteReplyBeforeDurable = ("vote_reply_before_durable", 2),
    /// A restart forgets whom it voted for.
    VoteForgottenAtRestart = ("vote_forgotten_at_restart", 2),
    /// Hard state is reported as flushed and never written.
    HardStateNotWritten = ("hard_state_not_written", 5),
    /// Votes of an older term count in the present one.
    StaleVoteCounted = ("stale_vote_counted", 3),
    /// A vote is granted whatever the candidate's log lacks.
    VoteWithoutLogCheck = ("vote_without_log_check", 6),
    /// The longer log wins, whatever its last term.
    LongerLogWins = ("longer_log_wins", 6),
    /// An entry of an older term is committed by counting its copies.
    OldTermCommitted = ("old_term_committed_by_counting", 13),
    /// The leader counts itself before its own disk has the entry.
    LeaderCountsUnflushed = ("leader_counts_unflushed", 14),
    /// A follower acknowledges what it has not flushed.
    FollowerAcksUnflushed = ("follower_acks_unflushed", 15),
    /// The same, in the reply to a heartbeat.
    HeartbeatAcksUnflushed = ("heartbeat_acks_unflushed", 15),
    /// The log writer reports a flush once it has written.
    FlushReportedAfterWrite = ("flush_reported_after_write", 15),
    /// An acknowledgement of another term counts, and a follower vouches to a new leader for what an older one verified.
    AckOfOtherTermCounts = ("ack_of_other_term_counts", 16),
    /// Learners count towards a quorum.
    LearnersCounted = ("learners_counted", 17),
    /// A delayed, shorter Append deletes what follows it.
    ShorterAppendCuts = ("shorter_append_cuts", 18),
    /// A follower commits what its leader has, not what was verified.
    CommitBeyondVerified = ("commit_beyond_verified", 20),
    /// The reply to a heartbeat claims the whole log as verified.
    HeartbeatClaimsAll = ("heartbeat_claims_all", 21),
    /// A previous entry that retention has removed counts as a conflict.
    PurgedPrevConflicts = ("purged_prev_conflicts", 24),
    /// Clients are told of what is appended, not of what is committed.
    AckBeforeCommit = ("ack_before_commit", 26),
    /// A report of a flush counts for a log that was cut since, whether it came before the cut or after.
    StaleFlushCounts = ("stale_flush_counts", 28),
    /// Subscribers get entries that are appended and not committed.
    UncommittedDelivered = ("uncommitted_delivered", 29),
    /// A configuration that was cut off stays in force.
    ConfigurationNotRolledBack = ("configuration_not_rolled_back", 31),
    /// A log that reaches as far as a checkpoint is kept, whatever entry it has there.
    ConflictKeptAtInstall = ("conflict_kept_at_install", 36),
    /// What a checkpoint contains is applied again at a start.
    AppliedTwiceAtStart = ("applied_twice_at_start", 38),
    /// What is appended counts as committed after a restart.
    CommitHintTooHigh = ("commit_hint_too_high", 38),
    /// An installed checkpoint leaves the table of producers as it was.
    DedupNotInCheckpoint = ("dedup_not_in_checkpoint", 40),
    /// A duplicate of an event that is not committed is appended again.
    PendingDuplicateAppended = ("pending_duplicate_appended", 40),
    /// A duplicate is acknowledged at the end of the log, not where it stands.
    DuplicateAtWrongOffset = ("duplicate_at_wrong_offset", 40),
    /// What was truncated stays in the table of producers.
    DedupNotRolledBack = ("dedup_not_rolled_back", 42),
    /// A gap in a producer's sequences is taken in.
    GapAccepted = ("gap_accepted", 40),
    /// Votes and acknowledgements count from any formatting of a disk.
    AnyFormattingCounts = ("any_formatting_counts", 48),
    /// A flush that failed is taken for one that did not.
    FailedFlushIgnored = ("failed_flush_ignored", 55),
    /// The directory is not synced after a segment has got its name.
    DirectoryNotSynced = ("directory_not_synced", 56),
    /// A segment is not synced before the next one takes entries.
    RollWithoutSync = ("roll_without_sync", 57),
    /// Behind a cut the log goes on over what was torn: no claim, and the watermark says that it is durable.
    WatermarkBeforeData = ("watermark_before_data", 59),
    /// Any whole entry is the next one: what a recycled file held before is taken for the log.
    LeftoverTaken = ("leftover_taken", 59),
    /// A valid header in a torn tail claims nothing.
    NoClaimedTail = ("no_claimed_tail", 60),
    /// Who has a claimed tail votes and campaigns as if it had none.
    ClaimDoesNotBind = ("claim_does_not_bind", 60),
    /// Damage below the watermark is cut off like a torn tail.
    CorruptionCut = ("corruption_cut", 61),
    /// Damage that a reader has found is looked for only where a start looks anyway.
    DamageNotLookedFor = ("damage_not_looked_for", 61),
    /// In a `memory` cluster a node that lost its page cache votes at once.
    LostCacheForgotten = ("lost_cache_forgotten", 60),
}

impl Bug {
    /// The bug of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

#[cfg(feature = "faults")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// The bug that is planted in all threads that have none of their own: its place in [`Bug::ALL`] and one; 0: none.
#[cfg(feature = "faults")]
static PLANTED_EVERYWHERE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Plants a bug in what this thread does from now on, instead of the one before; `None` takes it out.
#[cfg(feature = "faults")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Plants a bug in what every thread does from now on that has none of its own, for checkers with threads of theirs.
#[cfg(feature = "faults")]
pub fn plant_everywhere(bug: Option<Bug>) {
    let place = bug.and_then(|bug| Bug::ALL.iter().position(|known| *known == bug));
    PLANTED_EVERYWHERE.store(place.map_or(0, |place| place + 1), std::sync::atomic::Ordering::SeqCst);
}

/// Whether this bug is planted in what this thread does.
#[cfg(feature = "faults")]
#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    let everywhere = || {
        let place = PLANTED_EVERYWHERE.load(std::sync::atomic::Ordering::SeqCst);
        place.checked_sub(1).map(|place| Bug::ALL[place])
    };
    PLANTED.get().or_else(everywhere) == Some(bug)
}

/// Whether this bug is planted: never, without the feature `faults`.
#[cfg(not(feature = "faults"))]
#[inline(always)]
#[must_use]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::Bug;

    #[test]
    fn names_differ_and_find_their_bugs() {
        for bug in Bug::ALL {
            assert_eq!(Bug::by_name(bug.name()), Some(*bug));
        }
        assert_eq!(Bug::by_name("none"), None);
    }
}
