//! Normalisation: by the statistics of each row, and by given statistics per channel.

use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, Simd};

/// For each of the rows of `len` values: `out = (x - mean) / sqrt(variance + epsilon) * gamma + beta`, with the
/// variance divided by `len`. `gamma` and `beta` hold `len` values; without them they are 1 and 0.
///
/// # Panics
/// If the lengths do not fit.
#[allow(clippy::too_many_arguments, reason = "input, output and three parameters")]
pub fn layer_norm(
    isa: Isa,
    pool: &ThreadPool,
    len: usize,
    gamma: Option<&[f32]>,
    beta: Option<&[f32]>,
    epsilon: f32,
    x: &[f32],
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    assert!(gamma.is_none_or(|g| g.len() == len) && beta.is_none_or(|b| b.len() == len), "parameters do not fit");
    if x.is_empty() {
        return;
    }
    assert!(x.len().is_multiple_of(len), "input is not a whole number of rows");
    let rows = (8192 / len).max(1);
    for_rows(pool, x.len() / len, len, rows, out, &|first, out| {
        isa.dispatch(LayerNorm { len, gamma, beta, epsilon, x: &x[first * len..][..out.len()], out });
    });
}

/// For each of the rows of `scale.len()` values: `out = x * scale + shift`, which is what a batch normalisation with
/// known statistics does on a channels-last image.
///
/// # Panics
/// If the lengths do not fit.
pub fn scale_shift(isa: Isa, pool: &ThreadPool, scale: &[f32], shift: &[f32], x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    assert_eq!(scale.len(), shift.len(), "scale and shift differ in length");
    if x.is_empty() {
        return;
    }
    let len = scale.len();
    assert!(x.len().is_multiple_of(len), "input is not a whole number of rows");
    for_rows(pool, x.len() / len, len, (8192 / len).max(1), out, &|first, out| {
        isa.dispatch(ScaleShift { scale, shift, x: &x[first * len..][..out.len()], out });
    });
}

/// Calls `f(first row, rows)` for parts of up to `per_task` rows of `out`.
fn for_rows(
    pool: &ThreadPool,
    rows: usize,
    len: usize,
    per_task: usize,
    out: &mut [f32],
    f: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    struct Out(*mut f32);
    // SAFETY: tasks use disjoint parts.
    unsafe impl Sync for Out {}
    let out = Out(out.as_mut_ptr());
    pool.run(rows.div_ceil(per_task), &|task| {
        let out = &out;
        let first = task * per_task;
        let count = per_task.min(rows - first);
        // SAFETY: these rows are this task's alone.
        f(first, unsafe { std::slice::from_raw_parts_mut(out.0.add(first * len), count * len) });
    });
}

struct LayerNorm<'a> {
    len: usize,
    gamma: Option<&'a [f32]>,
    beta: Option<&'a [f32]>,
    epsilon: f32,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let LayerNorm { len, gamma, beta, epsilon, x, out } = self;
        for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
            let mean = sum(s, x, 0.0, false) / len as f32;
            // In a second pass, so that a large mean does not drown the variance.
            let variance = sum(s, x, mean, true) / len as f32;
            let factor = s.splat(1.0 / (variance + epsilon).sqrt());
            let mut i = 0;
            while i < len {
                let n = (len - i).min(S::LANES);
                // SAFETY: all slices hold `len` values, and n are left from i on.
                unsafe {
                    let mut y = s.mul(s.sub(s.load_partial(x.as_ptr().add(i), n), s.splat(mean)), factor);
                    if let Some(gamma) = gamma {
                        y = s.mul(y, s.load_partial(gamma.as_ptr().add(i), n));
                    }
                    if let Some(beta) = beta {
                        y = s.add(y, s.load_partial(beta.as_ptr().add(i), n));
                    }
                    s.store_partial(out.as_mut_ptr().add(i), n, y);
                }
                i += n;
            }
        }
    }
}

/// The sum of `x - shift`, or of its squares.
#[inline(always)]
fn sum<S: Simd>(s: S, x: &[f32], shift: f32, square: bool) -> f32 {
    let mut sums = [s.splat(0.0); 2];
    let mut chunks = x.chunks_exact(2 * S::LANES);
    for chunk in &mut chunks {
        for (j, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the chunk holds two vectors.
            let d = s.sub(unsafe { s.load(chunk.as_ptr().add(j * S::LANES)) }, s.splat(shift));
            *sum = if square { s.fma(d, d, *sum) } else { s.add(*sum, d) };
        }
    }
    let tail = chunks.remainder().iter().map(|x| x - shift).map(|d| if square { d * d } else { d });
    s.sum(s.add(sums[0], sums[1])) + tail.sum::<f32>()
}

struct ScaleShift<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for ScaleShift<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ScaleShift { scale, shift, x, out } = self;
        let len = scale.len();
        for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
            let mut i = 0;
            while i < len {
                let n = (len - i).min(S::LANES);
                // SAFETY: all slices hold `len` values, and n are left from i on.
                unsafe {
                    let (scale, shift) =
                        (s.load_partial(scale.as_ptr().add(i), n), s.load_partial(shift.as_ptr().add(i), n));
                    let y = s.fma(s.load_partial(x.as_ptr().add(i), n), scale, shift);
                    s.store_partial(out.as_mut_ptr().add(i), n, y);
                }
                i += n;
            }
        }
    }
}
