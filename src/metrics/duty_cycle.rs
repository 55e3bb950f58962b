//! How long an agent's loop takes from one turn to the next.

use super::counters::{Counter, Counters};

/// Measures the time between turns of a duty cycle. An agent that blocks, or that is starved of its core, shows here
/// before it shows as latency.
///
/// Once a turn, the runner calls [`turn`](Self::turn) with the time it has read anyway. After a sleep in the poll it
/// calls [`woke`](Self::woke) instead, since time asleep is not time at work.
#[derive(Debug)]
pub struct DutyCycleTracker {
    limit_ns: u64,
    last_ns: Option<u64>,
    longest_ns: Counter,
    over_limit_count: Counter,
}

impl DutyCycleTracker {
    /// A tracker that counts turns longer than `limit_ns`; its counters are `<longest>` and `<over_limit>`.
    #[must_use]
    pub fn new(limit_ns: u64, counters: &Counters, longest: &'static str, over_limit: &'static str) -> Self {
        Self::over(limit_ns, counters.register(longest), counters.register(over_limit))
    }

    /// A tracker over counters that the caller made, for example those of one instance.
    #[must_use]
    pub fn over(limit_ns: u64, longest_ns: Counter, over_limit_count: Counter) -> Self {
        Self { limit_ns, last_ns: None, longest_ns, over_limit_count }
    }

    /// A turn begins at `now_ns`: measures the one that ended. The first call measures nothing.
    pub fn turn(&mut self, now_ns: u64) {
        if let Some(last_ns) = self.last_ns.replace(now_ns) {
            let took_ns = now_ns.saturating_sub(last_ns);
            self.longest_ns.raise_to(took_ns);
            if took_ns > self.limit_ns {
                self.over_limit_count.increment();
            }
        }
    }

    /// The thread slept and goes on at `now_ns`: what lies before is not measured.
    pub fn woke(&mut self, now_ns: u64) {
        self.last_ns = Some(now_ns);
    }

    /// The longest turn so far.
    #[must_use]
    pub fn longest_ns(&self) -> u64 {
        self.longest_ns.get()
    }

    /// How many turns took longer than the limit.
    #[must_use]
    pub fn over_limit_count(&self) -> u64 {
        self.over_limit_count.get()
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, DutyCycleTracker};

    #[test]
    fn counts_turns_over_the_limit_and_never_the_sleep_between() {
        let counters = Counters::new();
        let mut tracker =
            DutyCycleTracker::new(100, &counters, "batcher_turn_longest_ns", "batcher_turns_over");
        for now_ns in [1_000_000, 1_000_100, 1_000_201, 1_000_210] {
            tracker.turn(now_ns);
        }
        assert_eq!(
            (tracker.longest_ns(), tracker.over_limit_count()),
            (101, 1),
            "the limit itself is allowed"
        );
        tracker.woke(9_000_000);
        tracker.turn(9_000_050);
        assert_eq!((tracker.longest_ns(), tracker.over_limit_count()), (101, 1));
        tracker.turn(9_000_300);
        assert_eq!((tracker.longest_ns(), tracker.over_limit_count()), (250, 2));
        tracker.turn(9_000_200);
        assert_eq!(tracker.over_limit_count(), 2, "a clock that steps back measures as zero");
        assert_eq!(counters.value("batcher_turns_over"), Some(2));
    }
}
