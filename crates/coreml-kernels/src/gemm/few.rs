//! Products of one row or two: each weight is read once, so reading them is what takes the time.
//!
//! Weights are decoded in registers. They lie in the order in which they are read, all panels of a block in one stretch, and
//! are asked for some way ahead, also across the end of a panel.

use std::marker::PhantomData;

use super::decode::Decode;
use super::tile::{Block, Product, activate, finish};
use crate::simd::{Kernel, Simd};

/// Blocks of at most so many rows are computed here.
pub(super) const ROWS: usize = 2;
/// How far ahead weights are asked for, in bytes.
const AHEAD: usize = 4096;
/// Rows of the right matrix between one such request and the next.
const STEP: usize = 4;

/// Computes a block of at most [`ROWS`] rows whose dot products are one run.
pub(super) struct Few<'a, D>(pub(super) &'a Block<'a>, pub(super) PhantomData<D>);

impl<D: Decode> Kernel for Few<'_, D> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let block = self.0;
        let Product { b, .. } = block.product;
        for panel in block.first_panel..block.end_panel {
            let (column, vectors) = b.panels.get(panel);
            macro_rules! panel {
                ($($nv:literal)*) => {
                    match (vectors, block.end_row - block.first_row) {
                        $(
                            ($nv, 1) => rows::<S, D, 1, $nv>(s, block, column),
                            ($nv, 2) => rows::<S, D, 2, $nv>(s, block, column),
                        )*
                        _ => unreachable!("panels have one to three vectors, and there are one or two rows"),
                    }
                };
            }
            panel!(1 2 3);
        }
    }
}

/// Computes `MR` rows of a panel of `NV` vectors.
#[inline(always)]
fn rows<S: Simd, D: Decode, const MR: usize, const NV: usize>(s: S, block: &Block<'_>, column: usize) {
    let (product, row) = (block.product, block.first_row);
    let b = product.b;
    let width = NV * S::LANES;
    let left: [*const f32; MR] =
        std::array::from_fn(|r| product.rows.base.wrapping_add((row + r) * product.rows.stride));
    let mut acc = [[s.splat(0.0); NV]; MR];
    let mut p = b.data[b.offset(column, width, 0)..].as_ptr();
    let stride = width * D::BYTES;
    let lines = (STEP / D::ROWS * stride).div_ceil(64);
    // SAFETY: the panel holds k rows, made up to whole groups of those that lie together, and the rows of the left matrix
    // hold k values; both were checked where the product was set up.
    unsafe {
        let mut k = 0;
        while k < b.k {
            let number = k / b.block;
            let end = b.k.min((number + 1) * b.block);
            let parameters = b.parameters(column, width, number).as_ptr();
            let shared: [D::Shared<S>; NV] = std::array::from_fn(|v| D::shared(s, parameters, width, v));
            let step = |acc: &mut [[S::F; NV]; MR], k: usize, p: *const u8, live: usize| {
                let weights: [[S::F; 2]; NV] =
                    std::array::from_fn(|v| D::decode(s, p.wrapping_add(v * S::LANES * D::BYTES), shared[v]));
                for j in 0..live {
                    for r in 0..MR {
                        let x = s.splat(left[r].add(k + j).read());
                        for v in 0..NV {
                            acc[r][v] = s.fma(x, weights[v][j], acc[r][v]);
                        }
                    }
                }
            };
            while k + STEP <= end {
                for u in 0..STEP / D::ROWS {
                    step(&mut acc, k + u * D::ROWS, p.wrapping_add(u * stride), D::ROWS);
                }
                for line in 0..lines {
                    s.prefetch(p.wrapping_add(AHEAD + 64 * line));
                }
                p = p.wrapping_add(STEP / D::ROWS * stride);
                k += STEP;
            }
            while k < end {
                let live = D::ROWS.min(end - k);
                step(&mut acc, k, p, live);
                p = p.wrapping_add(stride);
                k += live;
            }
        }
        let cols = width.min(b.n - column);
        finish(s, product, row, MR, column, cols, &acc);
        activate(s, product, row, MR, column, cols);
    }
}
