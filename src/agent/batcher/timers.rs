//! The thin layer that holds the core's deadlines: the core names a timer, this draws its jitter and tells it when it
//! fires (rule 2).

use crate::base::prng::Prng;
use crate::raft::{TimerKind, TimerRequest};

/// How long each of the core's timers runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerSettings {
    /// Between heartbeats of a leader.
    pub heartbeat_interval_ns: u64,
    /// Heartbeats that may be missed before a follower suspects its leader.
    pub missed_heartbeats: u32,
}

impl TimerSettings {
    /// The unjittered election timeout.
    #[must_use]
    pub const fn election_timeout_ns(&self) -> u64 {
        self.heartbeat_interval_ns * self.missed_heartbeats as u64
    }
}

const KINDS: [TimerKind; TimerKind::COUNT] = TimerKind::ALL;
/// Pre-votes are asked for again so many times in a heartbeat interval (every 3 ms with the default of 50 ms).
const RETRIES_PER_INTERVAL: u64 = 16;

/// Deadlines of the core's timers.
#[derive(Clone, Debug)]
pub struct Timers {
    settings: TimerSettings,
    deadlines_ns: [Option<u64>; KINDS.len()],
    prng: Prng,
}

impl Timers {
    /// No timer runs yet. `seed` must differ between nodes, or elections split.
    #[must_use]
    pub fn new(settings: TimerSettings, seed: u64) -> Self {
        Self { settings, deadlines_ns: [None; KINDS.len()], prng: Prng::new(seed) }
    }

    /// Carries out one request of the core.
    pub fn apply(&mut self, request: TimerRequest, now_ns: u64) {
        match request {
            TimerRequest::Set(kind) => {
                let after_ns = self.length_ns(kind);
                self.deadlines_ns[slot(kind)] = Some(now_ns + after_ns);
            }
            TimerRequest::Cancel(kind) => self.deadlines_ns[slot(kind)] = None,
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.deadlines_ns.iter().flatten().min().copied()
    }

    /// Takes one timer that is due, earliest first.
    pub fn take_due(&mut self, now_ns: u64) -> Option<TimerKind> {
        let (slot, deadline_ns) = self
            .deadlines_ns
            .iter()
            .enumerate()
            .filter_map(|(slot, deadline)| deadline.map(|ns| (slot, ns)))
            .min_by_key(|(_, ns)| *ns)?;
        if deadline_ns > now_ns {
            return None;
        }
        self.deadlines_ns[slot] = None;
        Some(KINDS[slot])
    }

    /// Starts the follower's timers afresh: this node itself was late, so its suspicion proves nothing about others.
    pub fn restart_suspicion(&mut self, now_ns: u64) {
        for kind in [TimerKind::Election, TimerKind::LeaderQuiet, TimerKind::CheckQuorum] {
            if self.deadlines_ns[slot(kind)].is_some() {
                self.apply(TimerRequest::Set(kind), now_ns);
            }
        }
    }

    fn length_ns(&mut self, kind: TimerKind) -> u64 {
        let base_ns = self.settings.election_timeout_ns();
        match kind {
            // 'three missed, then pre-vote, plus a random part of one interval' (INTERFACE, [election]).
            TimerKind::Election => base_ns + self.prng.below(self.settings.heartbeat_interval_ns),
            TimerKind::LeaderQuiet | TimerKind::Transfer => base_ns,
            TimerKind::CheckQuorum => base_ns / u64::from(TimerKind::CHECKS_PER_TIMEOUT),
            TimerKind::Heartbeat => self.settings.heartbeat_interval_ns,
            TimerKind::PreVoteRetry => {
                let retry_ns = self.settings.heartbeat_interval_ns / RETRIES_PER_INTERVAL;
                retry_ns + self.prng.below(retry_ns / 2 + 1)
            }
        }
    }
}

const fn slot(kind: TimerKind) -> usize {
    match kind {
        TimerKind::Election => 0,
        TimerKind::LeaderQuiet => 1,
        TimerKind::Heartbeat => 2,
        TimerKind::CheckQuorum => 3,
        TimerKind::PreVoteRetry => 4,
        TimerKind::Transfer => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::{TimerSettings, Timers};
    use crate::raft::{TimerKind, TimerRequest};

    #[test]
    fn timers_fire_in_order_and_once() {
        let settings = TimerSettings { heartbeat_interval_ns: 50, missed_heartbeats: 3 };
        let mut timers = Timers::new(settings, 1);
        timers.apply(TimerRequest::Set(TimerKind::Election), 0);
        timers.apply(TimerRequest::Set(TimerKind::Heartbeat), 0);
        timers.apply(TimerRequest::Set(TimerKind::CheckQuorum), 0);
        timers.apply(TimerRequest::Cancel(TimerKind::CheckQuorum), 0);
        assert_eq!(timers.next_deadline_ns(), Some(50));
        assert_eq!(timers.take_due(49), None);
        assert_eq!(timers.take_due(50), Some(TimerKind::Heartbeat));
        assert_eq!(timers.take_due(149), None);
        assert_eq!(timers.take_due(200), Some(TimerKind::Election));
        assert_eq!(timers.take_due(1_000), None);
        assert_eq!(timers.next_deadline_ns(), None);
    }

    #[test]
    fn election_timeouts_lie_within_one_interval_of_jitter() {
        let settings = TimerSettings { heartbeat_interval_ns: 50, missed_heartbeats: 3 };
        let mut timers = Timers::new(settings, 7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            timers.apply(TimerRequest::Set(TimerKind::Election), 0);
            let deadline = timers.next_deadline_ns().expect("set");
            assert!((150..200).contains(&deadline), "{deadline}");
            seen.insert(deadline);
        }
        assert!(seen.len() > 20, "jitter is drawn, not fixed");
    }
}
