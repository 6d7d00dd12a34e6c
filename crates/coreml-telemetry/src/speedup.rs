//! Speed-ups, which are never reported without their confidence interval.
//!
//! A ratio of two single runs says little: few published ones could be repeated. Here each run gives one figure (a
//! median, a p99), runs of both sides are interleaved, and the ratio of the medians comes with a 95 % interval from
//! resampling the runs (percentile bootstrap).

use std::fmt;

use crate::percentile::{self, Insufficient};
use crate::random::Random;

/// The fewest runs of each side for which a speed-up is reported.
pub const MINIMUM_RUNS: usize = 10;
const RESAMPLES: usize = 2_000;

/// How many times faster one thing is than another.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Speedup {
    /// Median time of the slower side's runs over that of the faster side's.
    pub ratio: f64,
    /// The 95 % interval's lower end.
    pub low: f64,
    /// The 95 % interval's upper end.
    pub high: f64,
    /// Runs of each side.
    pub runs: usize,
}

/// Why no speed-up can be reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NoSpeedup {
    /// There were too few runs.
    TooFewRuns {
        /// The runs of the side that has fewer.
        found: usize,
    },
    /// There were too few times for the quantile asked for.
    TooFewTimes(Insufficient),
    /// A run took no time, or its time is not a number.
    NotATime,
}

impl fmt::Display for NoSpeedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewRuns { found } => {
                write!(f, "a speed-up needs at least {MINIMUM_RUNS} runs of each side, there are {found}")
            }
            Self::TooFewTimes(insufficient) => insufficient.fmt(f),
            Self::NotATime => f.write_str("a run's time is zero or not a number"),
        }
    }
}

impl std::error::Error for NoSpeedup {}

/// `2.95x (95 % 2.81..3.10, 10 runs)`.
impl fmt::Display for Speedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ratio, low, high, runs } = self;
        write!(f, "{ratio:.2}x (95 % {low:.2}..{high:.2}, {runs} runs)")
    }
}

impl Speedup {
    /// How many times the runs `of` something are faster than those of a `baseline`; one time for each run, in any unit,
    /// with runs of both sides taking turns.
    ///
    /// # Errors
    /// Below [`MINIMUM_RUNS`] runs of either side, or if a time is not a positive number.
    pub fn of(of: &[f64], baseline: &[f64]) -> Result<Self, NoSpeedup> {
        let runs = |times: &[f64]| times.chunks(1).map(<[f64]>::to_vec).collect::<Vec<_>>();
        Self::resampled(&runs(of), &runs(baseline), median)
    }

    /// The same for a `quantile` of all times, of which each run gives many. Runs are resampled, not single times.
    ///
    /// # Errors
    /// As [`Speedup::of`]; also if all runs of a side together have too few times for this quantile.
    pub fn of_quantile(of: &[Vec<f64>], baseline: &[Vec<f64>], quantile: f64) -> Result<Self, NoSpeedup> {
        for side in [of, baseline] {
            let times = side.iter().map(|run| run.len() as u64).sum();
            percentile::sufficient(quantile, times).map_err(NoSpeedup::TooFewTimes)?;
        }
        Self::resampled(of, baseline, |times| {
            let rank = percentile::rank(quantile, times.len() as u64) as usize - 1;
            *times.select_nth_unstable_by(rank, f64::total_cmp).1
        })
    }

    /// `statistic` is given at least one time; it may reorder them.
    fn resampled(
        of: &[Vec<f64>],
        baseline: &[Vec<f64>],
        statistic: impl Fn(&mut [f64]) -> f64,
    ) -> Result<Self, NoSpeedup> {
        let runs = of.len().min(baseline.len());
        if runs < MINIMUM_RUNS || of.iter().chain(baseline).any(Vec::is_empty) {
            return Err(NoSpeedup::TooFewRuns { found: runs });
        }
        if of.iter().chain(baseline).flatten().any(|&time| !(time > 0.0 && time.is_finite())) {
            return Err(NoSpeedup::NotATime);
        }
        let mut random = Random::new(1);
        let mut drawn = |side: &[Vec<f64>]| {
            let mut times: Vec<f64> = (0..side.len()).flat_map(|_| side[random.below(side.len())].clone()).collect();
            statistic(&mut times)
        };
        let mut ratios: Vec<f64> = (0..RESAMPLES).map(|_| drawn(baseline) / drawn(of)).collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = statistic(&mut baseline.concat()) / statistic(&mut of.concat());
        Ok(Self { ratio, low: ratios[RESAMPLES / 40], high: ratios[RESAMPLES - 1 - RESAMPLES / 40], runs })
    }

    /// Whether the whole interval is above `bound`: only then may this be claimed.
    pub fn exceeds(&self, bound: f64) -> bool {
        self.low > bound
    }
}

/// The median; of an even number of values, of which there must be one at least, the mean of the two in the middle.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    let (half, even) = (values.len() / 2, values.len().is_multiple_of(2));
    let (below, &mut upper, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    let lower = if even { below.iter().copied().fold(f64::NEG_INFINITY, f64::max) } else { upper };
    (lower + upper) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noisy(centre: f64, runs: usize, seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        (0..runs).map(|_| centre * (0.95 + 0.1 * random.below(1000) as f64 / 1000.0)).collect()
    }

    #[test]
    fn the_interval_holds_the_truth_about_as_often_as_it_says() {
        let trials = 400;
        let holds = (0..trials).filter(|&seed| {
            let speedup = Speedup::of(&noisy(1.0, 12, 2 * seed), &noisy(3.0, 12, 2 * seed + 1)).unwrap();
            (speedup.low..=speedup.high).contains(&3.0)
        });
        let share = holds.count() as f64 / trials as f64;
        assert!(share > 0.9, "{share}");
    }

    #[test]
    fn a_bare_ratio_cannot_be_had() {
        assert_eq!(Speedup::of(&[1.0; 9], &[3.0; 50]), Err(NoSpeedup::TooFewRuns { found: 9 }));
        assert_eq!(Speedup::of(&[0.0; 10], &[3.0; 10]), Err(NoSpeedup::NotATime));
        let speedup = Speedup::of(&[1.0; 10], &[3.0; 10]).unwrap();
        assert_eq!(speedup.to_string(), "3.00x (95 % 3.00..3.00, 10 runs)");
        assert!(speedup.exceeds(2.8) && !speedup.exceeds(3.0));
    }

    #[test]
    fn a_quantile_needs_its_samples() {
        let side = |centre: f64, times: usize| (0..10).map(|seed| noisy(centre, times, seed)).collect::<Vec<_>>();
        let speedup = Speedup::of_quantile(&side(1.0, 70), &side(3.0, 70), 0.99).unwrap();
        assert!(speedup.exceeds(2.8) && speedup.high < 3.2, "{speedup}");
        let refused = Speedup::of_quantile(&side(1.0, 70), &side(3.0, 66), 0.99).unwrap_err();
        assert_eq!(refused.to_string(), "p99 needs at least 662 samples, there are 660");
    }

    #[test]
    fn a_win_by_chance_is_not_claimed() {
        let even = (0..200).filter(|&seed| {
            let speedup = Speedup::of(&noisy(1.0, 10, 2 * seed), &noisy(1.0, 10, 2 * seed + 1)).unwrap();
            speedup.exceeds(1.0)
        });
        let claims = even.count();
        assert!(claims <= 16, "{claims} of 200 claims between equals");
    }
}
