//! A node's own monotonic clock: it began anywhere, and goes faster or slower than the world's.

use std::cell::Cell;
use std::rc::Rc;

const MILLION: i128 = 1_000_000;

/// How one node's time follows from the world's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// A moment of the world, and of this clock.
    since: (u64, u64),
    /// By how much it is too fast, in parts per million; negative: too slow.
    drift_ppm: i64,
}

/// A node's monotonic clock; clones share it. It never goes back.
#[derive(Clone, Debug)]
pub struct LocalClock(Rc<Cell<Rate>>);

impl LocalClock {
    /// A clock that shows `shows_ns` now, and keeps the world's pace.
    #[must_use]
    pub fn new(world_ns: u64, shows_ns: u64) -> Self {
        Self(Rc::new(Cell::new(Rate { since: (world_ns, shows_ns), drift_ppm: 0 })))
    }

    /// Another pace from now on.
    pub fn set_drift(&self, world_ns: u64, drift_ppm: i64) {
        let since = (world_ns, self.at(world_ns));
        self.0.set(Rate { since, drift_ppm });
    }

    /// What it shows at that moment of the world.
    #[must_use]
    pub fn at(&self, world_ns: u64) -> u64 {
        let Rate { since: (world, own), drift_ppm } = self.0.get();
        let passed = i128::from(world_ns.saturating_sub(world));
        let passed = passed * (MILLION + i128::from(drift_ppm)) / MILLION;
        own.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The first moment of the world at which it shows `own_ns` or more; never before it got its present pace.
    #[must_use]
    pub fn world_when(&self, own_ns: u64) -> u64 {
        let Rate { since: (world, own), drift_ppm } = self.0.get();
        let wait = i128::from(own_ns.saturating_sub(own));
        let pace = MILLION + i128::from(drift_ppm);
        let wait = (wait * MILLION + pace - 1) / pace;
        world.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_met_at_the_first_moment_that_shows_it() {
        for drift_ppm in [-300_000, -17, 0, 3, 50_000, 1_000_000] {
            let clock = LocalClock::new(1_000, 5_000_000_000);
            clock.set_drift(2_000, drift_ppm);
            for own_ns in [5_000_001_000, 5_000_001_001, 5_000_777_777, 9_999_999_999] {
                let world_ns = clock.world_when(own_ns);
                assert!(clock.at(world_ns) >= own_ns, "{drift_ppm} ppm: too early for {own_ns}");
                assert!(
                    world_ns == 2_000 || clock.at(world_ns - 1) < own_ns,
                    "{drift_ppm} ppm: too late for {own_ns}"
                );
            }
        }
    }

    #[test]
    fn a_change_of_pace_does_not_make_it_jump() {
        let clock = LocalClock::new(0, 77);
        clock.set_drift(0, 250_000);
        let before = clock.at(1_000_000);
        clock.set_drift(1_000_000, -250_000);
        assert_eq!(clock.at(1_000_000), before);
        assert_eq!(clock.at(1_000_000) - 77, 1_250_000);
    }
}
