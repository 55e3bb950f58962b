//! Timers by kind. The core knows no time: it asks for a timer, and is told when it fires.

/// The timers a node may ask for; at most one of each kind runs.
///
/// | kind | length, chosen outside | runs while |
/// |---|---|---|
/// | `Election` | minimum election timeout plus a random part, drawn anew at each `Set` | voter, not leading |
/// | `LeaderQuiet` | exactly the minimum election timeout | after word from a leader |
/// | `Heartbeat` | heartbeat interval | leading, with a peer |
/// | `CheckQuorum` | minimum election timeout | leading, with another voter |
/// | `PreVoteRetry` | a few milliseconds plus a random part | asking for pre-votes, bounded (`canvass`) |
/// | `Transfer` | minimum election timeout | leading, from a transfer's begin to its end |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimerKind {
    /// When it fires, the node may campaign.
    Election,
    /// When it fires, nothing has come from a leader for the minimum election timeout, so pre-votes may be granted.
    LeaderQuiet,
    /// When it fires, the leader starts the next heartbeat round.
    Heartbeat,
    /// A step of the check for a quorum, [`TimerKind::CHECKS_PER_TIMEOUT`] to an election timeout.
    CheckQuorum,
    /// When it fires, pre-votes that were refused or lost are asked for again.
    PreVoteRetry,
    /// When it fires, a transfer of leadership that has not come through is given up.
    Transfer,
}

impl TimerKind {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// Steps of [`TimerKind::CheckQuorum`] in an election timeout. A leader that hears no quorum gives up between one step
    /// before its end and its end.
    pub const CHECKS_PER_TIMEOUT: u8 = 6;
    /// All kinds.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Election,
        Self::LeaderQuiet,
        Self::Heartbeat,
        Self::CheckQuorum,
        Self::PreVoteRetry,
        Self::Transfer,
    ];
}

/// What the holder of the deadlines is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimerRequest {
    /// Start it anew, whether or not it runs.
    Set(TimerKind),
    /// Stop it. One that fires all the same (it was on its way) is harmless.
    Cancel(TimerKind),
}

/// Requests not yet taken: the newest of each kind is enough.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct TimerSlots {
    slots: [Option<TimerRequest>; TimerKind::COUNT],
}

impl TimerSlots {
    pub(super) fn set(&mut self, kind: TimerKind) {
        self.slots[kind as usize] = Some(TimerRequest::Set(kind));
    }

    pub(super) fn cancel(&mut self, kind: TimerKind) {
        self.slots[kind as usize] = Some(TimerRequest::Cancel(kind));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    pub(super) fn take_into(&mut self, out: &mut Vec<TimerRequest>) {
        out.extend(self.slots.iter_mut().filter_map(Option::take));
    }
}
