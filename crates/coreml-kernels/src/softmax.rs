//! Softmax over the middle axis of `[outer, axis, inner]`, shifted by the largest value so that nothing overflows.
//!
//! Shares below `e^-87` of the largest become 0. Masked elements would otherwise be denormal numbers, which take the
//! processor ten times as long.

use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, Simd, math};

/// `out[o, a, i] = e^(x[o, a, i] - max) / sum over a`.
///
/// # Panics
/// If the lengths do not fit.
pub fn softmax(isa: Isa, pool: &ThreadPool, outer: usize, axis: usize, inner: usize, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), outer * axis * inner, "input does not fit the sizes");
    assert_eq!(out.len(), x.len(), "output does not fit the sizes");
    let block = axis * inner;
    if block == 0 || outer == 0 {
        return;
    }
    struct Out(*mut f32);
    // SAFETY: tasks use disjoint parts.
    unsafe impl Sync for Out {}
    let out = Out(out.as_mut_ptr());
    let rows = (8192 / block).clamp(1, outer);
    pool.run(outer.div_ceil(rows), &|task| {
        let out = &out;
        for o in task * rows..outer.min((task + 1) * rows) {
            // SAFETY: block o is this task's alone.
            let out = unsafe { std::slice::from_raw_parts_mut(out.0.add(o * block), block) };
            isa.dispatch(Block { axis, inner, x: &x[o * block..][..block], out });
        }
    });
}

struct Block<'a> {
    axis: usize,
    inner: usize,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Block { axis, inner, x, out } = self;
        if inner == 1 {
            return row(s, x, out);
        }
        let (from, to) = (x.as_ptr(), out.as_mut_ptr());
        let mut i = 0;
        while i < inner {
            let n = (inner - i).min(S::LANES);
            // SAFETY: both slices hold axis * inner values, and i + n <= inner.
            unsafe {
                let mut max = s.splat(f32::NEG_INFINITY);
                for a in 0..axis {
                    max = s.max(max, s.load_partial(from.add(a * inner + i), n));
                }
                let mut sum = s.splat(0.0);
                for a in 0..axis {
                    let e = share(s, s.sub(s.load_partial(from.add(a * inner + i), n), max));
                    sum = s.add(sum, e);
                    s.store_partial(to.add(a * inner + i), n, e);
                }
                for a in 0..axis {
                    let p = to.add(a * inner + i);
                    s.store_partial(p, n, s.div(s.load_partial(p, n), sum));
                }
            }
            i += n;
        }
    }
}

/// `e^x` for `x <= 0`; 0 where that would not be a normal number. NaN stays.
#[inline(always)]
fn share<S: Simd>(s: S, x: S::F) -> S::F {
    /// Its power is the last that is normal.
    const LEAST: f32 = -87.33;
    s.select(s.lt(x, s.splat(LEAST)), s.splat(0.0), math::exp(s, s.max(s.splat(LEAST), x)))
}

/// One row of adjacent values.
#[inline(always)]
fn row<S: Simd>(s: S, x: &[f32], out: &mut [f32]) {
    let (len, from, to) = (x.len(), x.as_ptr(), out.as_mut_ptr());
    let full = len / S::LANES * S::LANES;
    // SAFETY: both slices hold `len` values; vectors are read whole below `full` and in part from there.
    unsafe {
        // Several sums at a time: one would wait for itself.
        let mut maxima = [s.splat(f32::NEG_INFINITY); 4];
        let mut i = 0;
        while i + 4 * S::LANES <= full {
            for (j, max) in maxima.iter_mut().enumerate() {
                *max = s.max(*max, s.load(from.add(i + j * S::LANES)));
            }
            i += 4 * S::LANES;
        }
        while i < full {
            maxima[0] = s.max(maxima[0], s.load(from.add(i)));
            i += S::LANES;
        }
        let max = s.max(s.max(maxima[0], maxima[1]), s.max(maxima[2], maxima[3]));
        let max = x[full..].iter().fold(s.max_lane(max), |m, &x| if x > m { x } else { m });
        let shift = s.splat(max);
        let mut sum = s.splat(0.0);
        let mut i = 0;
        while i < full {
            let e = share(s, s.sub(s.load(from.add(i)), shift));
            sum = s.add(sum, e);
            s.store(to.add(i), e);
            i += S::LANES;
        }
        let mut total = s.sum(sum);
        if full < len {
            let e = share(s, s.sub(s.load_partial(from.add(full), len - full), shift));
            s.store_partial(to.add(full), len - full, e);
            total += out[full..].iter().sum::<f32>();
        }
        let factor = s.splat(1.0 / total);
        let to = out.as_mut_ptr();
        let mut i = 0;
        while i < full {
            s.store(to.add(i), s.mul(s.load(to.add(i)), factor));
            i += S::LANES;
        }
        if full < len {
            s.store_partial(to.add(full), len - full, s.mul(s.load_partial(to.add(full), len - full), factor));
        }
    }
}
