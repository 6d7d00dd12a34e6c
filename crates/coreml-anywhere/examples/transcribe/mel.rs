//! Whisper's mel spectrogram: how loud each band of frequencies is, every hundredth of a second.

use std::f64::consts::TAU;

/// Samples of one look.
const LENGTH: usize = 400;
/// Samples from one look to the next.
pub(crate) const HOP: usize = 160;
const RATE: f64 = crate::wav::RATE as f64;

type Complex = [f32; 2];

/// Makes logarithms of loudness from samples.
pub(crate) struct LogMel {
    window: Vec<f32>,
    /// The `i`th of the roots of one.
    roots: Vec<Complex>,
    /// Of each band, its first frequency and the weights from there on.
    bands: Vec<(usize, Vec<f32>)>,
}

impl LogMel {
    pub(crate) fn new(bands: usize) -> Self {
        let turn = |i: usize| TAU * i as f64 / LENGTH as f64;
        Self {
            window: (0..LENGTH).map(|i| (0.5 - 0.5 * turn(i).cos()) as f32).collect(),
            roots: (0..LENGTH).map(|i| [turn(i).cos() as f32, -turn(i).sin() as f32]).collect(),
            bands: self::bands(bands),
        }
    }

    /// Band after band, each with a number for every 160 samples.
    pub(crate) fn features(&self, samples: &[f32]) -> Vec<f32> {
        let frames = samples.len() / HOP;
        let mut features = vec![0.0; self.bands.len() * frames];
        for frame in 0..frames {
            let power = self.power(samples, frame);
            for (band, (first, weights)) in self.bands.iter().enumerate() {
                let loudness: f32 = power[*first..].iter().zip(weights).map(|(power, weight)| power * weight).sum();
                features[band * frames + frame] = loudness.max(1e-10).log10();
            }
        }
        // Eight decades below the loudest are silence.
        let floor = features.iter().copied().fold(f32::NEG_INFINITY, f32::max) - 8.0;
        for feature in &mut features {
            *feature = (feature.max(floor) + 4.0) / 4.0;
        }
        features
    }

    /// The power of each frequency around the begin of a frame. Samples before the first and behind the last are the
    /// others in a mirror.
    fn power(&self, samples: &[f32], frame: usize) -> Vec<f32> {
        let last = samples.len() as i64 - 1;
        let begin = (frame * HOP) as i64 - LENGTH as i64 / 2;
        let windowed: Vec<Complex> = (begin..)
            .zip(&self.window)
            .map(|(at, weight)| {
                let at = at.abs();
                let at = if at > last { 2 * last - at } else { at };
                [samples.get(at as usize).copied().unwrap_or(0.0) * weight, 0.0]
            })
            .collect();
        let spectrum = fourier(&windowed, &self.roots);
        spectrum[..=LENGTH / 2].iter().map(|[real, imaginary]| real * real + imaginary * imaginary).collect()
    }
}

/// Fourier's transform: an even number of samples in two halves, an odd one by its definition. `roots` are those of one.
fn fourier(samples: &[Complex], roots: &[Complex]) -> Vec<Complex> {
    let length = samples.len();
    let stride = roots.len() / length;
    let times = |[a, b]: Complex, [c, d]: Complex| [a * c - b * d, a * d + b * c];
    if length % 2 == 1 {
        let frequency = |k: usize| {
            samples.iter().enumerate().fold([0.0, 0.0], |[real, imaginary], (i, &sample)| {
                let [a, b] = times(sample, roots[i * k % length * stride]);
                [real + a, imaginary + b]
            })
        };
        return (0..length).map(frequency).collect();
    }
    let half = |from: usize| fourier(&samples.iter().skip(from).step_by(2).copied().collect::<Vec<_>>(), roots);
    let (even, odd) = (half(0), half(1));
    let turned: Vec<Complex> = odd.iter().enumerate().map(|(k, &value)| times(value, roots[k * stride])).collect();
    let sums = even.iter().zip(&turned).map(|([a, b], [c, d])| [a + c, b + d]);
    let differences = even.iter().zip(&turned).map(|([a, b], [c, d])| [a - c, b - d]);
    sums.chain(differences).collect()
}

/// Triangles over the frequencies, as wide as the ear's resolution by Slaney: constant below 1 kHz, a constant ratio above.
fn bands(count: usize) -> Vec<(usize, Vec<f32>)> {
    let step = 6.4f64.ln() / 27.0;
    let hertz = |mel: f64| if mel < 15.0 { mel * 200.0 / 3.0 } else { 1000.0 * (step * (mel - 15.0)).exp() };
    let top = 15.0 + (RATE / 2.0 / 1000.0).ln() / step;
    let edge = |i: usize| hertz(top * i as f64 / (count + 1) as f64);
    let band = |i: usize| {
        let (low, middle, high) = (edge(i), edge(i + 1), edge(i + 2));
        let weight = |frequency: usize| {
            let hertz = frequency as f64 * RATE / LENGTH as f64;
            let height = ((hertz - low) / (middle - low)).min((high - hertz) / (high - middle)).max(0.0);
            // All triangles have the same area.
            (height * 2.0 / (high - low)) as f32
        };
        let all: Vec<f32> = (0..=LENGTH / 2).map(weight).collect();
        let first = all.iter().position(|&weight| weight > 0.0).unwrap_or(0);
        let last = all.iter().rposition(|&weight| weight > 0.0).unwrap_or(0);
        (first, all[first..=last].to_vec())
    };
    (0..count).map(band).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize) -> Vec<f32> {
        let mut state = 7u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn the_fast_transform_is_the_sum_that_defines_it() {
        let mel = LogMel::new(80);
        let samples: Vec<Complex> = noise(2 * LENGTH).chunks(2).map(|pair| [pair[0], pair[1]]).collect();
        for (k, found) in fourier(&samples, &mel.roots).iter().enumerate() {
            let (mut real, mut imaginary) = (0.0f64, 0.0);
            for (i, [a, b]) in samples.iter().enumerate() {
                let angle = -TAU * (i * k % LENGTH) as f64 / LENGTH as f64;
                let (a, b) = (f64::from(*a), f64::from(*b));
                real += a * angle.cos() - b * angle.sin();
                imaginary += a * angle.sin() + b * angle.cos();
            }
            let error = (f64::from(found[0]) - real).hypot(f64::from(found[1]) - imaginary);
            assert!(error < 1e-4, "frequency {k} is off by {error}");
        }
    }

    #[test]
    fn a_tone_is_loudest_in_its_band() {
        let mel = LogMel::new(80);
        for (hertz, band) in [(200.0, 4), (1000.0, 26), (4000.0, 62)] {
            let tone: Vec<f32> = (0..16_000).map(|i| (TAU * hertz * f64::from(i) / RATE).sin() as f32).collect();
            let features = mel.features(&tone);
            let loudness = |band: usize| features[band * 100 + 50];
            let loudest = (0..80).max_by(|&a, &b| loudness(a).total_cmp(&loudness(b))).unwrap();
            assert!(loudest.abs_diff(band) <= 1, "{hertz} Hz is loudest in band {loudest}, not {band}");
            // Eight decades are two units.
            assert!(features.iter().all(|&feature| loudness(loudest) - feature <= 2.0 + 1e-4));
        }
    }
}
