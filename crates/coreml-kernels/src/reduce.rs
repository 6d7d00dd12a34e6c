//! Sums, means and extremes over the middle axis of `[outer, axis, inner]`.
//!
//! With `inner` 1 a row is folded in vectors and then across lanes; otherwise vectors run along `inner`, as for the
//! average over all pixels of a channels-last image. The order of summation depends only on the sizes and the
//! instruction set.

use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, Simd};

/// What is computed from the values along the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum; 0 of none.
    Sum,
    /// Their mean; NaN of none.
    Mean,
    /// The largest; minus infinity of none. NaN if one is.
    Max,
    /// The smallest; infinity of none. NaN if one is.
    Min,
    /// The sum of their squares; 0 of none.
    SumOfSquares,
}

/// `out[o, i] = reduction of x[o, .., i]`.
///
/// # Panics
/// If the lengths do not fit.
#[allow(clippy::too_many_arguments, reason = "the three extents of the input")]
pub fn reduce(
    isa: Isa,
    pool: &ThreadPool,
    reduction: Reduction,
    outer: usize,
    axis: usize,
    inner: usize,
    x: &[f32],
    out: &mut [f32],
) {
    assert_eq!(x.len(), outer * axis * inner, "input does not fit the sizes");
    assert_eq!(out.len(), outer * inner, "output does not fit the sizes");
    if out.is_empty() {
        return;
    }
    struct Out(*mut f32);
    // SAFETY: tasks use disjoint parts.
    unsafe impl Sync for Out {}
    // A task takes some rows, or a part of the inner axis.
    let (rows, columns) = if inner == 1 { ((16384 / axis.max(1)).clamp(1, outer), 1) } else { (1, inner.min(256)) };
    let per_row = inner.div_ceil(columns);
    let out = Out(out.as_mut_ptr());
    pool.run(outer.div_ceil(rows) * per_row, &|task| {
        let out = &out;
        let first = task / per_row * rows;
        let column = task % per_row * columns;
        for o in first..outer.min(first + rows) {
            let columns = columns.min(inner - column);
            // SAFETY: the parts [column, column + columns) of row o are this task's alone.
            let out = unsafe { std::slice::from_raw_parts_mut(out.0.add(o * inner + column), columns) };
            let x = &x[o * axis * inner..][..axis * inner];
            isa.dispatch(Rows { reduction, axis, inner, column, x, out });
        }
    });
}

struct Rows<'a> {
    reduction: Reduction,
    axis: usize,
    inner: usize,
    column: usize,
    x: &'a [f32],
    out: &'a mut [f32],
}

#[inline(always)]
fn fold<S: Simd>(s: S, reduction: Reduction, sum: S::F, x: S::F) -> S::F {
    // A NaN in the sum is kept by `select`, one in x by min and max.
    let sum_is_number = s.lt(s.splat(-1.0), s.abs(sum));
    match reduction {
        Reduction::Sum | Reduction::Mean => s.add(sum, x),
        Reduction::SumOfSquares => s.fma(x, x, sum),
        Reduction::Max => s.select(sum_is_number, s.max(sum, x), sum),
        Reduction::Min => s.select(sum_is_number, s.min(sum, x), sum),
    }
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rows { reduction, axis, inner, column, x, out } = self;
        let start = match reduction {
            Reduction::Max => f32::NEG_INFINITY,
            Reduction::Min => f32::INFINITY,
            _ => 0.0,
        };
        let divisor = if reduction == Reduction::Mean { axis as f32 } else { 1.0 };
        if inner == 1 {
            out[0] = row(s, reduction, start, x) / divisor;
            return;
        }
        let mut i = 0;
        while i < out.len() {
            let n = (out.len() - i).min(S::LANES);
            let mut sums = [s.splat(start); 4];
            for a in 0..axis {
                // SAFETY: x holds axis * inner values, and column + i + n <= inner.
                let v = unsafe { s.load_partial(x.as_ptr().add(a * inner + column + i), n) };
                sums[a % 4] = fold(s, reduction, sums[a % 4], v);
            }
            let merge = if reduction == Reduction::SumOfSquares { Reduction::Sum } else { reduction };
            let low = fold(s, merge, sums[0], sums[1]);
            let all = fold(s, merge, low, fold(s, merge, sums[2], sums[3]));
            // SAFETY: n values are left in `out` from i on.
            unsafe { s.store_partial(out.as_mut_ptr().add(i), n, s.div(all, s.splat(divisor))) };
            i += n;
        }
    }
}

/// Folds adjacent values.
#[inline(always)]
fn row<S: Simd>(s: S, reduction: Reduction, start: f32, x: &[f32]) -> f32 {
    let mut sums = [s.splat(start); 4];
    let mut chunks = x.chunks_exact(4 * S::LANES);
    for chunk in &mut chunks {
        for (j, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the chunk holds four vectors.
            let v = unsafe { s.load(chunk.as_ptr().add(j * S::LANES)) };
            *sum = fold(s, reduction, *sum, v);
        }
    }
    let merge = if reduction == Reduction::SumOfSquares { Reduction::Sum } else { reduction };
    let low = fold(s, merge, sums[0], sums[1]);
    let all = s.to_array(fold(s, merge, low, fold(s, merge, sums[2], sums[3])));
    let tail = chunks.remainder().iter().map(|&x| if reduction == Reduction::SumOfSquares { x * x } else { x });
    all[..S::LANES].iter().copied().chain(tail).fold(start, |sum, x| match reduction {
        Reduction::Max => {
            if x > sum || x.is_nan() {
                x
            } else {
                sum
            }
        }
        Reduction::Min => {
            if x < sum || x.is_nan() {
                x
            } else {
                sum
            }
        }
        _ => sum + x,
    })
}
