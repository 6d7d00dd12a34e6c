//! Whether memory grows with the calls made: a leak, or only a cache that fills.
//!
//! The slope is Theil and Sen's: the median of the slopes between all pairs of readings, which a few jumps do not move.
//! The first readings are cut off, because every program grows while it warms up. The interval comes from resampling
//! blocks of neighbouring readings, as those depend on each other.

use std::fmt;

use crate::random::Random;
use crate::speedup::median;

/// The share of the readings that is cut off at the start.
const WARM_UP: f64 = 0.25;
/// Readings that must be left.
const MINIMUM: usize = 20;
const RESAMPLES: usize = 200;
/// Readings are thinned to this many before pairs are made.
const MOST: usize = 120;

/// How fast memory grows.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Growth {
    /// Bytes for each call.
    pub bytes_per_call: f64,
    /// The 95 % interval's lower end.
    pub low: f64,
    /// The 95 % interval's upper end.
    pub high: f64,
    /// The number of readings it is based on.
    pub readings: usize,
}

impl Growth {
    /// From readings of memory, as pairs of a number of calls and bytes. `None` if there are too few, or they do not
    /// span any calls.
    pub fn of(readings: &[(u64, u64)]) -> Option<Self> {
        let warm = &readings[(readings.len() as f64 * WARM_UP) as usize..];
        let step = warm.len().div_ceil(MOST).max(1);
        let kept: Vec<(f64, f64)> =
            warm.iter().step_by(step).map(|&(calls, bytes)| (calls as f64, bytes as f64)).collect();
        if kept.len() < MINIMUM {
            return None;
        }
        let bytes_per_call = slope(&kept)?;
        let block = (kept.len() / 10).max(2);
        let mut random = Random::new(1);
        let mut slopes: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                let blocks = kept.len().div_ceil(block);
                let starts = (0..blocks).map(|_| random.below(kept.len() - block + 1));
                let drawn: Vec<(f64, f64)> = starts.flat_map(|start| kept[start..start + block].to_vec()).collect();
                slope(&drawn)
            })
            .collect();
        slopes.sort_by(f64::total_cmp);
        let n = slopes.len();
        let (low, high) = (*slopes.get(n / 40)?, *slopes.get(n - 1 - n / 40)?);
        Some(Self { bytes_per_call, low, high, readings: kept.len() })
    }

    /// Whether memory grows by more than `floor` bytes for each call: the whole interval is above it. Growth below a few
    /// bytes cannot be distinguished from the pages an allocator takes now and then.
    pub fn exceeds(&self, floor: f64) -> bool {
        self.low > floor
    }

    /// Whether the interval includes no growth at all.
    pub fn includes_zero(&self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }
}

/// `64.0 bytes a call (95 % 63.1..65.2, 90 readings)`.
impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes_per_call, low, high, readings } = self;
        write!(f, "{bytes_per_call:.2} bytes a call (95 % {low:.2}..{high:.2}, {readings} readings)")
    }
}

fn slope(readings: &[(f64, f64)]) -> Option<f64> {
    let pairs = readings.iter().enumerate().flat_map(|(i, a)| readings[i + 1..].iter().map(move |b| (a, b)));
    let mut slopes: Vec<f64> = pairs.filter(|(a, b)| a.0 != b.0).map(|(a, b)| (b.1 - a.1) / (b.0 - a.0)).collect();
    if slopes.is_empty() { None } else { Some(median(&mut slopes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 200 readings over 20,000 calls: `leak` bytes a call on a noisy heap that comes in pages and warms up.
    fn readings(leak: u64, seed: u64) -> Vec<(u64, u64)> {
        let mut random = Random::new(seed);
        (0..200u64)
            .map(|i| {
                let warming = 3_000_000.min(i * 100_000);
                let noise = random.below(40) as u64 * 4096;
                (i * 100, (50_000_000 + warming + noise + leak * i * 100) / 4096 * 4096)
            })
            .collect()
    }

    #[test]
    fn a_seeded_leak_is_found_and_measured() {
        for seed in 0..20 {
            let growth = Growth::of(&readings(64, seed)).unwrap();
            assert!(growth.exceeds(8.0), "{growth}");
            assert!((growth.bytes_per_call - 64.0).abs() < 8.0, "{growth}");
        }
    }

    #[test]
    fn no_leak_is_found_where_there_is_none() {
        let clean: Vec<Growth> = (0..50).map(|seed| Growth::of(&readings(0, seed)).unwrap()).collect();
        for (seed, growth) in clean.iter().enumerate() {
            assert!(!growth.exceeds(8.0), "seed {seed}: {growth}");
        }
        // One in twenty may miss the truth, by what the interval says of itself.
        let misses = clean.iter().filter(|growth| !growth.includes_zero()).count();
        assert!(misses <= 5, "{misses} of 50 intervals without zero");
    }

    #[test]
    fn one_jump_is_not_a_leak() {
        let jump =
            |at: u64| (0..200u64).map(|i| (i * 100, 50_000_000 + u64::from(i > at) * 1_000_000)).collect::<Vec<_>>();
        for at in [60, 120, 180] {
            let growth = Growth::of(&jump(at)).unwrap();
            assert!(!growth.exceeds(8.0), "at {at}: {growth}");
        }
    }

    #[test]
    fn too_few_readings_tell_nothing() {
        assert_eq!(Growth::of(&readings(64, 0)[..20]), None);
        assert_eq!(Growth::of(&[(5, 5); 100]), None, "no calls in between");
    }
}
