//! Products of a few rows: each weight is read once, so reading weights takes most of the time.
//!
//! Weights are decoded in registers. They are stored in the order in which they are read, with all panels of a block in one
//! stretch, and are prefetched some way ahead, also across the end of a panel.

#![allow(clippy::needless_range_loop, reason = "loops with constant bounds over arrays that are to stay in registers")]

use std::marker::PhantomData;

use super::decode::Decode;
use super::pack::Format;
use super::tile::{self, Block, Product, activate, finish};
use crate::simd::{Kernel, Simd};

/// Blocks of at most so many rows are computed here, decoding for every eight rows; with more of them it pays to decode once.
/// Elements that need no decoding are as well off with tiles; pairs know nothing else.
pub(super) fn most_rows(format: Format) -> usize {
    match format {
        Format::Bf16 => 0,
        Format::F32 => 2,
        _ => 8,
    }
}

/// How far ahead weights are asked for, in bytes.
const AHEAD: usize = 4096;
/// Rows of the right matrix between one such request and the next.
const STEP: usize = 4;

/// Computes a block of a few rows, evenly apart, whose dot products are one run.
pub(super) struct Few<'a, D>(pub(super) &'a Block<'a>, pub(super) PhantomData<D>);

impl<D: Decode> Few<'_, D> {
    /// The most rows whose sums fit in registers beside decoded weights.
    fn height<S: Simd>() -> usize {
        (S::ACCUMULATORS / 3).min(8)
    }
}

impl<D: Decode> Kernel for Few<'_, D> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let block = self.0;
        let Product { b, .. } = block.product;
        for panel in block.first_panel..block.end_panel {
            let (column, vectors) = b.panels.get(panel);
            let mut row = block.first_row;
            while row < block.end_row {
                let live = (block.end_row - row).min(Self::height::<S>());
                let at = Part { product: block.product, row, live, column };
                match vectors {
                    1 => part::<S, D, 1>(s, at),
                    2 => part::<S, D, 2>(s, at),
                    _ => part::<S, D, 3>(s, at),
                }
                row += live;
            }
        }
    }
}

/// Some rows of a panel.
#[derive(Clone, Copy)]
struct Part<'a> {
    product: &'a Product<'a>,
    row: usize,
    live: usize,
    column: usize,
}

/// Computes a part of a panel of `NV` vectors.
#[inline(always)]
fn part<S: Simd, D: Decode, const NV: usize>(s: S, part: Part<'_>) {
    match part.live {
        1 => rows::<S, D, 1, NV>(s, part),
        2 => rows::<S, D, 2, NV>(s, part),
        3 | 4 => rows::<S, D, 4, NV>(s, part),
        _ => {
            if 8 * NV <= S::ACCUMULATORS {
                rows::<S, D, 8, NV>(s, part);
            }
        }
    }
}

/// Computes `MR` rows, of which those beyond the live ones repeat the last and are not stored.
#[inline(always)]
fn rows<S: Simd, D: Decode, const MR: usize, const NV: usize>(s: S, part: Part<'_>) {
    let Part { product, row, live, column } = part;
    let b = product.b;
    let width = NV * S::LANES;
    let mut left = [product.rows.base; MR];
    for (r, left) in left.iter_mut().enumerate() {
        *left = left.wrapping_add((row + r.min(live - 1)) * product.rows.stride);
    }
    let mut acc = [[s.splat(0.0); NV]; MR];
    let mut p = b.data[b.offset(column, width, 0)..].as_ptr();
    let stride = width * D::BYTES;
    let lines = (STEP / D::ROWS * stride).div_ceil(64);
    // SAFETY: the panel holds k rows, made up to whole groups of those that lie together, and the rows of the left matrix
    // hold k values; both were checked where the product was set up. Output and residual hold the live rows of the columns
    // there are from here on.
    unsafe {
        let mut k = 0;
        while k < b.k {
            let number = k / b.block;
            let end = b.k.min((number + 1) * b.block);
            let parameters = b.parameters(column, width, number).as_ptr();
            let mut shared = [D::shared(s, &b, parameters, width, 0); NV];
            for v in 1..NV {
                shared[v] = D::shared(s, &b, parameters, width, v);
            }
            while k + STEP <= end {
                for u in 0..STEP / D::ROWS {
                    step::<S, D, MR, NV>(s, &mut acc, &left, k + u * D::ROWS, p, &shared, D::ROWS);
                    p = p.wrapping_add(stride);
                }
                for line in 0..lines {
                    s.prefetch(p.wrapping_add(AHEAD + 64 * line));
                }
                k += STEP;
            }
            while k < end {
                let rows = D::ROWS.min(end - k);
                step::<S, D, MR, NV>(s, &mut acc, &left, k, p, &shared, rows);
                p = p.wrapping_add(stride);
                k += rows;
            }
        }
        let cols = width.min(b.n - column);
        let at = tile::Part { row, live, column, cols };
        finish(s, product, at, &acc);
        activate(s, product, at);
    }
}

/// Adds the products of columns `k..k + rows` of the left rows with the rows of the panel that lie together at `p`.
/// # Safety
/// `left[..]` must be readable at the columns, `p` for `NV` vectors.
#[inline(always)]
unsafe fn step<S: Simd, D: Decode, const MR: usize, const NV: usize>(
    s: S,
    acc: &mut [[S::F; NV]; MR],
    left: &[*const f32; MR],
    k: usize,
    p: *const u8,
    shared: &[D::Shared<S>; NV],
    rows: usize,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut weights = [[s.splat(0.0); 2]; NV];
        for v in 0..NV {
            weights[v] = D::decode(s, p.wrapping_add(v * S::LANES * D::BYTES), shared[v]);
        }
        for j in 0..rows {
            for r in 0..MR {
                let x = s.splat(left[r].add(k + j).read());
                for v in 0..NV {
                    acc[r][v] = s.fma(x, weights[v][j], acc[r][v]);
                }
            }
        }
    }
}
