//! Softmax over the middle axis of `[outer, axis, inner]`, shifted by the largest value so that nothing overflows.

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
                    let e = math::exp(s, s.sub(s.load_partial(from.add(a * inner + i), n), max));
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

/// One row of adjacent values.
#[inline(always)]
fn row<S: Simd>(s: S, x: &[f32], out: &mut [f32]) {
    let (len, from, to) = (x.len(), x.as_ptr(), out.as_mut_ptr());
    let full = len / S::LANES * S::LANES;
    // SAFETY: both slices hold `len` values; vectors are read whole below `full` and in part from there.
    unsafe {
        let mut max = s.splat(f32::NEG_INFINITY);
        let mut i = 0;
        while i < full {
            max = s.max(max, s.load(from.add(i)));
            i += S::LANES;
        }
        let max = x[full..].iter().fold(s.max_lane(max), |m, &x| if x > m { x } else { m });
        let shift = s.splat(max);
        let mut sum = s.splat(0.0);
        let mut i = 0;
        while i < full {
            let e = math::exp(s, s.sub(s.load(from.add(i)), shift));
            sum = s.add(sum, e);
            s.store(to.add(i), e);
            i += S::LANES;
        }
        let mut total = s.sum(sum);
        if full < len {
            let e = math::exp(s, s.sub(s.load_partial(from.add(full), len - full), shift));
            s.store_partial(to.add(full), len - full, e);
            total += out[full..].iter().sum::<f32>();
        }
        let factor = s.splat(1.0 / total);
        let to = out.as_mut_ptr();
        let mut i = 0;
        while i < len {
            let n = (len - i).min(S::LANES);
            s.store_partial(to.add(i), n, s.mul(s.load_partial(to.add(i), n), factor));
            i += n;
        }
    }
}
