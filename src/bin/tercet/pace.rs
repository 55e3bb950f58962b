//! Open-loop schedules: when each event is due, whatever happened to the ones before it.

use std::time::Duration;

/// Events at a fixed rate. Event `n` (from 0) is due `n / rate` seconds after the start, so a pause is caught up with.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    interval_ns: f64,
}

impl Pace {
    /// `rate` events a second; above 0 and finite.
    pub fn new(rate: f64) -> Self {
        debug_assert!(rate > 0.0 && rate.is_finite());
        Self { interval_ns: 1e9 / rate }
    }

    /// When event `n` is due, in nanoseconds after the start. Exact to a microsecond for years.
    pub fn due_ns(&self, n: u64) -> u64 {
        (n as f64 * self.interval_ns) as u64
    }

    /// How many events are due before `elapsed_ns`: the first one that is not.
    pub fn due_before(&self, elapsed_ns: u64) -> u64 {
        let mut n = (elapsed_ns as f64 / self.interval_ns) as u64;
        // Rounding may be off by one either way; the definition is `due_ns`.
        while n > 0 && self.due_ns(n - 1) >= elapsed_ns {
            n -= 1;
        }
        while self.due_ns(n) < elapsed_ns {
            n += 1;
        }
        n
    }

    /// How long until event `n` is due; zero when it is.
    pub fn until(&self, n: u64, elapsed: Duration) -> Duration {
        Duration::from_nanos(self.due_ns(n)).saturating_sub(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn a_schedule_does_not_drift_and_counts_what_is_due() {
        for rate in [0.5, 3.0, 1_000.0, 65_000.0, 1_234_567.0] {
            let pace = Pace::new(rate);
            for seconds in [1, 2, 3_600] {
                let n = (rate * seconds as f64) as u64;
                let exact_ns = n as f64 / rate * 1e9;
                assert!((pace.due_ns(n) as f64 - exact_ns).abs() < 1_000.0, "{rate}");
                assert_eq!(
                    pace.due_before(pace.due_ns(n)),
                    n,
                    "{rate}: due at that moment is not yet before it"
                );
                assert_eq!(pace.due_before(pace.due_ns(n) + 1), n + 1, "{rate}");
            }
        }
        assert_eq!(Pace::new(1_000.0).due_before(0), 0);
    }
}
