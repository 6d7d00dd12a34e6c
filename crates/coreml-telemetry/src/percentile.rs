//! Percentiles, and how many samples each needs.
//!
//! The smallest sample counts at which the bound holds with 99 % confidence when the largest sample is set aside, as
//! in MLPerf LoadGen's early stopping: a p99 of a hundred samples rests on the two largest and says nothing.

use std::fmt;

use crate::report::Metric;

/// Percentiles that can be asked for, and the samples each needs.
pub const MINIMUM_SAMPLES: [(f64, u64); 5] = [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662), (0.999, 6_636)];

/// Too few samples for a percentile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Insufficient {
    /// The quantile asked for, from 0 to 1.
    pub quantile: f64,
    /// The samples it needs.
    pub needed: u64,
    /// The samples there are.
    pub found: u64,
}

impl fmt::Display for Insufficient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quantile, needed, found } = self;
        write!(f, "p{} needs at least {needed} samples, there are {found}", (quantile * 1e6).round() / 1e4)
    }
}

impl std::error::Error for Insufficient {}

/// How many samples `quantile` needs: that of the next listed one at or above it.
pub fn minimum_samples(quantile: f64) -> u64 {
    let listed = MINIMUM_SAMPLES.iter().find(|(listed, _)| *listed >= quantile);
    listed.map_or(u64::MAX, |&(_, needed)| needed)
}

/// Whether `found` samples are enough for `quantile`.
///
/// # Errors
/// [`Insufficient`] if they are not.
pub fn sufficient(quantile: f64, found: u64) -> Result<(), Insufficient> {
    let needed = minimum_samples(quantile);
    if found >= needed { Ok(()) } else { Err(Insufficient { quantile, needed, found }) }
}

/// The nearest rank of `quantile` among `count` sorted samples, counted from 1.
pub fn rank(quantile: f64, count: u64) -> u64 {
    ((quantile * count as f64).ceil() as u64).clamp(1, count.max(1))
}

/// The `quantile` of `samples` (nearest rank), or why there are too few.
///
/// # Errors
/// [`Insufficient`] below [`minimum_samples`].
pub fn of(samples: &[f64], quantile: f64) -> Result<f64, Insufficient> {
    sufficient(quantile, samples.len() as u64)?;
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(sorted[rank(quantile, sorted.len() as u64) as usize - 1])
}

/// As [`of`], as a figure of a report in `unit`.
pub fn metric(samples: &[f64], quantile: f64, unit: &str, source: &str) -> Metric {
    match of(samples, quantile) {
        Ok(value) => Metric::measured(value, unit, samples.len() as u64, source),
        Err(insufficient) => Metric::unavailable(insufficient.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest sample set aside, `n` samples bound the quantile with 99 % confidence if the chance that at most
    /// one of them lies above it is at most 1 %.
    #[test]
    fn the_table_is_what_the_rule_gives() {
        for (quantile, needed) in MINIMUM_SAMPLES {
            let at_most_one_above =
                |n: u64| quantile.powi(n as i32) + n as f64 * (1.0 - quantile) * quantile.powi(n as i32 - 1);
            assert!(at_most_one_above(needed) <= 0.01, "p{quantile}");
            assert!(at_most_one_above(needed - 1) > 0.01, "p{quantile}");
        }
    }

    #[test]
    fn ranks_are_nearest() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(of(&samples, 0.5), Ok(100.0));
        assert_eq!(of(&samples, 0.95), Ok(190.0));
        assert_eq!(of(&samples, 0.99), Err(Insufficient { quantile: 0.99, needed: 662, found: 200 }));
        assert_eq!(minimum_samples(0.75), 64);
        assert_eq!(minimum_samples(0.9999), u64::MAX);
    }
}
