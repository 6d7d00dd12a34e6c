//! A product of evenly spaced rows with one vector of columns.
//!
//! For rows that are needed one vector at a time: the tiles of [`super::tile`] take any rows and several vectors, but their
//! set-up would cost more than the few products of such a row. The order of summation is the same.

#![allow(clippy::needless_range_loop, reason = "loops with constant bounds over arrays that are to stay in registers")]

use super::tile::{Runs, Singles, step};
use crate::activation::{ActivateRows, Activation};
use crate::simd::{Kernel, Simd};

/// Rows summed at a time: their addresses and sums stay in registers.
const HIGH: usize = 12;
/// The same where fewer are left.
const MIDDLE: usize = 8;
/// The same where fewer still are left, or the instruction set has few registers.
const LOW: usize = 4;

/// `activation(rows * columns + bias)`, a whole vector for each row, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// The first value of the first row, and the distance to the next row.
    pub(crate) first: *const f32,
    pub(crate) stride: usize,
    /// Where the values of a row lie from its first.
    pub(crate) runs: Runs,
    /// A panel of one vector: a vector for each value of a row.
    pub(crate) panel: *const f32,
    /// The biases of the first `columns` lanes, if there are any.
    pub(crate) bias: Option<*const f32>,
    pub(crate) columns: usize,
    pub(crate) activation: Activation,
    pub(crate) rows: usize,
    pub(crate) out: *mut f32,
}

impl Line {
    /// Sums `N` rows from `row` on, and finishes and stores them.
    /// # Safety
    /// The rows must be readable at all runs, the panel for a vector for each value of a row, and `out` writable for the
    /// rows.
    #[inline(always)]
    unsafe fn sums<S: Simd, const N: usize>(&self, s: S, row: usize, bias: S::F, lo: S::F, hi: S::F) {
        let Runs { outer, outer_stride, inner, inner_stride, len } = self.runs;
        let mut sums = [[s.splat(0.0)]; N];
        // SAFETY: as the caller vouches.
        unsafe {
            let first = self.first.add(row * self.stride);
            let mut panel = self.panel;
            for o in 0..outer {
                for i in 0..inner {
                    let run = first.add(o * outer_stride + i * inner_stride);
                    let mut rows = [run; N];
                    for r in 1..N {
                        rows[r] = run.add(r * self.stride);
                    }
                    let mut k = 0;
                    // Four at a time, so that a row's address serves four values.
                    while k + 4 <= len {
                        for u in 0..4 {
                            step::<S, Singles, N, 1>(s, &mut sums, &rows, k + u, panel.add(u * S::LANES));
                        }
                        panel = panel.add(4 * S::LANES);
                        k += 4;
                    }
                    while k < len {
                        step::<S, Singles, N, 1>(s, &mut sums, &rows, k, panel);
                        panel = panel.add(S::LANES);
                        k += 1;
                    }
                }
            }
            for r in 0..N {
                let y = s.min(hi, s.max(lo, s.add(sums[r][0], bias)));
                s.store(self.out.add((row + r) * S::LANES), y);
            }
        }
    }
}

impl Kernel for Line {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let bias = match self.bias {
            // SAFETY: there is a bias for each of the columns.
            Some(bias) => unsafe { s.load_partial(bias, self.columns) },
            None => s.splat(0.0),
        };
        let (lo, hi) = self.activation.as_clip().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let (lo, hi) = (s.splat(lo), s.splat(hi));
        let mut row = 0;
        // SAFETY: whoever made this vouched for as many rows.
        unsafe {
            while S::ACCUMULATORS >= HIGH && row + HIGH <= self.rows {
                self.sums::<S, HIGH>(s, row, bias, lo, hi);
                row += HIGH;
            }
            // The last rows may be computed twice: that takes less time than a kernel of their number.
            while S::ACCUMULATORS >= HIGH && row + LOW < self.rows && MIDDLE <= self.rows {
                row = row.min(self.rows - MIDDLE);
                self.sums::<S, MIDDLE>(s, row, bias, lo, hi);
                row += MIDDLE;
            }
            while row < self.rows && LOW <= self.rows {
                row = row.min(self.rows - LOW);
                self.sums::<S, LOW>(s, row, bias, lo, hi);
                row += LOW;
            }
            while row < self.rows {
                self.sums::<S, 1>(s, row, bias, lo, hi);
                row += 1;
            }
        }
        if self.activation.as_clip().is_none() {
            // All lanes, as one long row.
            let (data, cols) = (self.out, self.rows * S::LANES);
            s.call(ActivateRows { activation: self.activation, data, rows: 1, cols, stride: cols });
        }
    }
}
