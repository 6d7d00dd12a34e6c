//! Estimates from samples, with their uncertainty.

use coreml_anywhere::telemetry::percentile;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 400;

/// The 95 % confidence interval of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The ratio of one run's quantile to another's: 1 is no change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    pub(crate) ratio: f64,
    pub(crate) interval: Interval,
}

/// Numbers that look random and are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// `quantile` of resamples of `samples`: blocks of neighbours are drawn, as neighbours in time resemble each other.
fn resampled(samples: &[f64], quantile: f64, dice: &mut Dice) -> Vec<f64> {
    let count = samples.len();
    let block = ((count as f64).sqrt() as usize).clamp(1, count);
    let rank = percentile::rank(quantile, count as u64) as usize - 1;
    let mut drawn = Vec::with_capacity(count + block);
    let mut one = || {
        drawn.clear();
        while drawn.len() < count {
            let start = dice.below(count - block + 1);
            drawn.extend_from_slice(&samples[start..start + block]);
        }
        drawn.truncate(count);
        *drawn.select_nth_unstable_by(rank, f64::total_cmp).1
    };
    (0..RESAMPLES).map(|_| one()).collect()
}

fn interval_of(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    let at = |quantile: f64| values[((values.len() - 1) as f64 * quantile).round() as usize];
    Interval { low: at(0.025), high: at(0.975) }
}

/// The confidence interval of `quantile`; `None` if there are too few samples for it.
pub(crate) fn interval(samples: &[f64], quantile: f64) -> Option<Interval> {
    percentile::of(samples, quantile).ok()?;
    Some(interval_of(resampled(samples, quantile, &mut Dice(0x9E37_79B9_7F4A_7C15))))
}

/// How `quantile` changed from `before` to `now`; `None` if there are too few samples for it.
pub(crate) fn change(now: &[f64], before: &[f64], quantile: f64) -> Option<Change> {
    let ratio = percentile::of(now, quantile).ok()? / percentile::of(before, quantile).ok()?;
    let ours = resampled(now, quantile, &mut Dice(0x9E37_79B9_7F4A_7C15));
    let theirs = resampled(before, quantile, &mut Dice(0xD1B5_4A32_D192_ED03));
    let ratios = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
    Some(Change { ratio, interval: interval_of(ratios) })
}

/// Warnings about noisy samples; empty for quiet ones.
pub(crate) fn warnings(samples: &[f64]) -> Vec<String> {
    let Ok(median) = percentile::of(samples, 0.5) else { return Vec::new() };
    let mut found = Vec::new();
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |quantile: f64| sorted[percentile::rank(quantile, sorted.len() as u64) as usize - 1];
    let far = at(0.75) + 3.0 * (at(0.75) - at(0.25));
    let outliers = samples.iter().filter(|&&sample| sample > far).count();
    if outliers * 100 > samples.len() {
        let share = 100.0 * outliers as f64 / samples.len() as f64;
        found.push(format!("{share:.1} % of the samples are far above the others: something else used the processor"));
    }
    let (first, second) = samples.split_at(samples.len() / 2);
    if let (Ok(first), Ok(second)) = (percentile::of(first, 0.5), percentile::of(second, 0.5))
        && (second / first - 1.0).abs() > 0.05
    {
        let words = if second > first { "slower" } else { "faster" };
        let percent = 100.0 * (second / first - 1.0).abs();
        found.push(format!(
            "the second half is {percent:.0} % {words} than the first: warm up longer, or measure again"
        ));
    }
    if let Some(Interval { low, high }) = interval(samples, 0.5)
        && (high - low) / median > 0.05
    {
        let percent = 100.0 * (high - low) / median;
        found.push(format!("the interval of the median is {percent:.0} % wide: take more samples"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, scale: f64, seed: u64) -> Vec<f64> {
        let mut dice = Dice(seed);
        (0..count).map(|_| scale * (1.0 + dice.below(1000) as f64 / 1e4)).collect()
    }

    #[test]
    fn intervals_hold_the_quantile_and_shrink_with_samples() {
        let (few, many) = (noise(100, 10.0, 5), noise(5000, 10.0, 5));
        let width = |samples: &[f64]| {
            let found = interval(samples, 0.5).unwrap();
            let median = percentile::of(samples, 0.5).unwrap();
            assert!(found.low <= median && median <= found.high);
            found.high - found.low
        };
        assert!(width(&many) < width(&few));
        assert_eq!(interval(&few, 0.99), None, "too few for a p99");
    }

    #[test]
    fn a_change_is_seen_and_none_is_not() {
        let before = noise(400, 10.0, 7);
        let same = change(&noise(400, 10.0, 11), &before, 0.5).unwrap();
        assert!(same.interval.low < 1.0 && 1.0 < same.interval.high, "{same:?}");
        let slower = change(&noise(400, 12.0, 11), &before, 0.5).unwrap();
        assert!(slower.interval.low > 1.15 && slower.interval.high < 1.25, "{slower:?}");
    }

    #[test]
    fn noise_is_told() {
        assert!(warnings(&noise(400, 10.0, 7)).is_empty());
        let mut spiky = noise(400, 10.0, 7);
        spiky.iter_mut().step_by(20).for_each(|sample| *sample *= 10.0);
        assert!(warnings(&spiky)[0].contains("far above"));
        let drifting: Vec<f64> = (0..400).map(|i| 10.0 + f64::from(i) / 40.0).collect();
        assert!(warnings(&drifting).iter().any(|warning| warning.contains("slower than the first")));
    }
}
