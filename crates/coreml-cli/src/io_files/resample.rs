//! Converts sound to another sample rate.

use std::f64::consts::PI;

/// How many zeros of the filter lie on either side.
const ZEROS: usize = 64;

/// How many points the filter is known at between two zeros; those between are on a line, which is off by less than 2e-6.
const POINTS: usize = 512;

/// Where the filter is half way down, as a part of the highest frequency that both rates can hold. It lets all pass below 0.87
/// of that, and nothing from there on.
const MIDDLE: f64 = 0.94;

/// The same sound with `to` samples in the time of `from`, computed with a windowed sinc. Sample 0 stays where it is;
/// before it and after the last sample is silence.
pub(super) fn resample(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
    let filter = filter();
    let (from, to, count) = (u64::from(from), u64::from(to), samples.len() as u64);
    // Zeros of the filter in a sample of what there is.
    let pace = MIDDLE * (to as f64 / from as f64).min(1.0);
    let reach = (ZEROS as f64 / pace).ceil() as u64;
    let at = |index: u64| {
        // Whole numbers, so that long recordings do not drift.
        let (whole, part) = (index * from / to, (index * from % to) as f64 / to as f64);
        let first = whole.saturating_sub(reach);
        let last = (whole + reach + 1).min(count);
        let weigh = |i: u64| {
            let place = (i as f64 - whole as f64 - part).abs() * pace * POINTS as f64;
            let below = place as usize;
            let (Some(low), Some(high)) = (filter.get(below), filter.get(below + 1)) else { return 0.0 };
            f64::from(samples[i as usize]) * (low + (high - low) * (place - below as f64))
        };
        ((first..last).map(weigh).sum::<f64>() * pace) as f32
    };
    (0..(count * to).div_ceil(from)).map(at).collect()
}

/// One side of a sinc under the window of Blackman and Harris.
fn filter() -> Vec<f64> {
    let point = |i: usize| {
        let x = i as f64 / POINTS as f64;
        let sinc = if i == 0 { 1.0 } else { (PI * x).sin() / (PI * x) };
        let turn = PI * x / ZEROS as f64;
        let window = 0.35875 + 0.48829 * turn.cos() + 0.14128 * (2.0 * turn).cos() + 0.01168 * (3.0 * turn).cos();
        sinc * window
    };
    (0..=ZEROS * POINTS).map(point).collect()
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::resample;

    fn tone(hertz: f64, rate: u32) -> Vec<f32> {
        (0..rate / 2).map(|i| (TAU * hertz * f64::from(i) / f64::from(rate)).sin() as f32).collect()
    }

    /// The largest difference away from both ends, where silence begins.
    fn furthest(found: &[f32], expected: &[f32]) -> f32 {
        let middle = found.len() / 4..found.len() * 3 / 4;
        found[middle.clone()].iter().zip(&expected[middle]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn tones_stay_what_and_where_they_are() {
        for (from, to) in [(8_000, 16_000), (16_000, 8_000), (44_100, 16_000), (16_000, 44_100), (22_051, 16_000)] {
            for hertz in [50.0, 1_000.0, 3_400.0] {
                let made = resample(&tone(hertz, from), from, to);
                let expected = tone(hertz, to);
                assert_eq!(made.len(), (from as usize / 2 * to as usize).div_ceil(from as usize));
                let furthest = furthest(&made[..expected.len().min(made.len())], &expected);
                assert!(furthest < 1e-4, "{hertz} Hz from {from} to {to}: {furthest}");
            }
        }
    }

    #[test]
    fn what_the_rate_cannot_hold_is_gone() {
        let made = resample(&tone(5_000.0, 48_000), 48_000, 8_000);
        let silence = vec![0.0; made.len()];
        assert!(furthest(&made, &silence) < 1e-3);
    }

    #[test]
    fn nothing_stays_nothing() {
        assert!(resample(&[], 8_000, 16_000).is_empty());
    }
}
