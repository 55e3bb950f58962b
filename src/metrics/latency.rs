//! Latency by HDR histogram.

use hdrhistogram::Histogram;

use crate::base::clock::NS_PER_S;

/// Longest latency that is told apart; a longer one counts as this (and its exact value as the maximum).
pub const LATENCY_NS_MAX: u64 = 3_600 * NS_PER_S;

/// Significant decimal figures kept by [`LatencyRecorder::new`]: a value is off by less than one part in a thousand.
pub const SIGNIFICANT_FIGURES: u8 = 3;

/// Records nanoseconds, from 1 to [`LATENCY_NS_MAX`], in fixed memory (about 270 KiB at three figures). Owned by one
/// thread; recorders of several threads are merged afterwards.
///
/// What is recorded must be measured from the *intended* send time, or a stalled generator hides the very latencies
/// it caused (coordinated omission); this type does not correct for it.
#[derive(Clone, Debug)]
pub struct LatencyRecorder {
    histogram: Histogram<u64>,
    max_ns: u64,
}

/// The usual quantiles of a recorder, in nanoseconds; all zero when nothing was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LatencySummary {
    /// How many values were recorded.
    pub count: u64,
    /// Half of the values are at most this.
    pub p50_ns: u64,
    /// 90 %.
    pub p90_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// 99.99 %.
    pub p9999_ns: u64,
    /// The largest one, exactly.
    pub max_ns: u64,
}

impl LatencyRecorder {
    /// A recorder with [`SIGNIFICANT_FIGURES`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_figures(SIGNIFICANT_FIGURES)
    }

    /// A recorder with `figures` significant figures, brought into 1..=4 (each more costs about ten times the memory).
    #[must_use]
    pub fn with_figures(figures: u8) -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, figures.clamp(1, 4))
            .expect("constant bounds within what the histogram takes");
        Self { histogram, max_ns: 0 }
    }

    /// Records one latency. Zero counts as one nanosecond.
    pub fn record_ns(&mut self, latency_ns: u64) {
        self.histogram.saturating_record(latency_ns.max(1));
        self.max_ns = self.max_ns.max(latency_ns);
    }

    /// Takes over everything that `other` recorded. Different figures are allowed: the coarser ones decide.
    pub fn merge(&mut self, other: &Self) {
        for step in other.histogram.iter_recorded() {
            let count = step.count_at_value();
            self.histogram.saturating_record_n(step.value_iterated_to(), count);
        }
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Forgets everything, for example when the warm-up ends.
    pub fn clear(&mut self) {
        self.histogram.reset();
        self.max_ns = 0;
    }

    /// How many values were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The value that the part `quantile` (0 to 1) of all values does not exceed, within the figures kept; never above
    /// the maximum. Zero when nothing was recorded.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        if self.histogram.is_empty() {
            return 0;
        }
        self.histogram.value_at_quantile(quantile).min(self.max_ns)
    }

    /// The largest value, exactly. Zero when nothing was recorded.
    #[must_use]
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The mean, within the figures kept. Zero when nothing was recorded.
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        self.histogram.mean()
    }

    /// The quantiles that reports show.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        LatencySummary {
            count: self.count(),
            p50_ns: self.quantile_ns(0.5),
            p90_ns: self.quantile_ns(0.9),
            p99_ns: self.quantile_ns(0.99),
            p999_ns: self.quantile_ns(0.999),
            p9999_ns: self.quantile_ns(0.9999),
            max_ns: self.max_ns,
        }
    }
}

impl Default for LatencyRecorder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{LATENCY_NS_MAX, LatencyRecorder, LatencySummary};
    use crate::base::prng::Prng;

    /// Within one part in a thousand, the promise of three figures.
    fn close(value: u64, exact: u64) -> bool {
        value.abs_diff(exact) * 1000 <= exact
    }

    #[test]
    fn quantiles_agree_with_a_sorted_list() {
        let (mut recorder, mut prng) = (LatencyRecorder::new(), Prng::new(11));
        let mut exact: Vec<u64> = (0..20_000).map(|_| prng.between(1, 50_000_000)).collect();
        exact.iter().for_each(|ns| recorder.record_ns(*ns));
        exact.sort_unstable();
        for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = ((quantile * exact.len() as f64).ceil() as usize).max(1) - 1;
            let value = recorder.quantile_ns(quantile);
            assert!(close(value, exact[rank]), "p{quantile}: {value} and {}", exact[rank]);
        }
        assert_eq!(recorder.max_ns(), *exact.last().unwrap());
        assert_eq!(recorder.count(), 20_000);
    }

    #[test]
    fn merging_two_is_recording_all_in_one() {
        let (mut left, mut right, mut both) = Default::default();
        let mut prng = Prng::new(5);
        for turn in 0..5_000 {
            let ns = prng.below(10_000_000_000);
            let half: &mut LatencyRecorder = if turn % 3 == 0 { &mut left } else { &mut right };
            half.record_ns(ns);
            LatencyRecorder::record_ns(&mut both, ns);
        }
        left.merge(&right);
        assert_eq!(left.summary(), both.summary());
    }

    #[test]
    fn a_value_beyond_the_range_is_counted_and_kept_as_the_maximum() {
        let mut recorder = LatencyRecorder::with_figures(9);
        recorder.record_ns(0);
        recorder.record_ns(u64::MAX);
        assert_eq!(recorder.count(), 2);
        assert_eq!(recorder.max_ns(), u64::MAX);
        assert!(recorder.quantile_ns(1.0) >= LATENCY_NS_MAX);
        let mut coarse = LatencyRecorder::with_figures(1);
        coarse.merge(&recorder);
        assert_eq!((coarse.count(), coarse.max_ns()), (2, u64::MAX));
    }

    #[test]
    fn nothing_recorded_shows_zeros() {
        let mut recorder = LatencyRecorder::new();
        assert_eq!(recorder.summary(), LatencySummary::default());
        recorder.record_ns(5);
        recorder.clear();
        assert_eq!(recorder.summary(), LatencySummary::default());
    }
}
