//! Batched products of two matrices known only at run time, with any strides.

use super::pack::fill;
use super::tile::{Block, Product, Rows, Runs};
use super::{ALIGNMENT_SLACK, PackedRef, packed_len, run_product};
use crate::activation::Activation;
use crate::aligned::aligned;
use crate::parallel::ThreadPool;
use crate::simd::Isa;

/// Sizes of `batch` products `[m, k] * [k, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMulShape {
    /// Number of products.
    pub batch: usize,
    /// Rows of the left matrix and the output.
    pub m: usize,
    /// Columns of the left and rows of the right matrix.
    pub k: usize,
    /// Columns of the right matrix and the output.
    pub n: usize,
}

/// Distances between elements. Swapping `row` and `col` transposes; `batch` 0 repeats one matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatStrides {
    /// From one matrix to the next.
    pub batch: usize,
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
    pub col: usize,
}

impl MatStrides {
    /// Those of contiguous `[rows, cols]` matrices, one after the other.
    pub fn contiguous(rows: usize, cols: usize) -> Self {
        Self { batch: rows * cols, row: cols, col: 1 }
    }

    fn fits(self, len: usize, batch: usize, rows: usize, cols: usize) -> bool {
        batch == 0
            || rows == 0
            || cols == 0
            || (batch - 1) * self.batch + (rows - 1) * self.row + (cols - 1) * self.col < len
    }
}

/// Scratch values one participant needs: a packed right matrix, and a left matrix if its columns are not adjacent.
fn slot_len(isa: Isa, shape: &MatMulShape, a_strides: MatStrides) -> usize {
    let left = if a_strides.col == 1 { 0 } else { shape.m * shape.k };
    (packed_len(isa, shape.k, shape.n) + ALIGNMENT_SLACK + left).next_multiple_of(ALIGNMENT_SLACK)
}

/// Scratch values that [`matmul`] needs on a pool of `threads`.
pub fn matmul_scratch_len(isa: Isa, shape: &MatMulShape, a_strides: MatStrides, threads: usize) -> usize {
    threads * slot_len(isa, shape, a_strides)
}

/// `out[i] = scale * a[i] * b[i]` for every product `i`; `out` is contiguous.
///
/// # Panics
/// If a slice is too short.
#[allow(clippy::too_many_arguments, reason = "two operands with strides, an output and scratch")]
pub fn matmul(
    isa: Isa,
    pool: &ThreadPool,
    shape: MatMulShape,
    a: &[f32],
    a_strides: MatStrides,
    b: &[f32],
    b_strides: MatStrides,
    scale: f32,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let MatMulShape { batch, m, k, n } = shape;
    assert!(a_strides.fits(a.len(), batch, m, k), "left matrices too short");
    assert!(b_strides.fits(b.len(), batch, k, n), "right matrices too short");
    assert!(out.len() >= batch * m * n, "output too short");
    assert!(scratch.len() >= matmul_scratch_len(isa, &shape, a_strides, pool.threads()), "scratch too short");
    let slot = slot_len(isa, &shape, a_strides);
    let matrices = Matrices { isa, shape, a, a_strides, b, b_strides, scale, out: out.as_mut_ptr() };
    if batch >= pool.threads() {
        let scratch = SharedScratch(scratch.as_mut_ptr());
        pool.run_indexed(batch, &|participant, index| {
            // SAFETY: participants have different numbers below `threads`, so their slots do not overlap, and the
            // assertion above makes room for all.
            let scratch = unsafe { std::slice::from_raw_parts_mut(scratch.at(participant * slot), slot) };
            let product = matrices.product(index, scratch);
            let panels = product.b.panels.count();
            isa.dispatch(Block { product: &product, first_row: 0, end_row: m, first_panel: 0, end_panel: panels });
        });
    } else {
        for index in 0..batch {
            let product = matrices.product(index, &mut scratch[..slot]);
            run_product(isa, pool, m, &product);
        }
    }
}

struct SharedScratch(*mut f32);

// SAFETY: participants use disjoint parts.
unsafe impl Sync for SharedScratch {}

impl SharedScratch {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

struct Matrices<'a> {
    isa: Isa,
    shape: MatMulShape,
    a: &'a [f32],
    a_strides: MatStrides,
    b: &'a [f32],
    b_strides: MatStrides,
    scale: f32,
    out: *mut f32,
}

// SAFETY: inputs are only read; every product writes its own part of the output.
unsafe impl Sync for Matrices<'_> {}

impl Matrices<'_> {
    /// Packs product `index` into `scratch`.
    fn product<'s>(&self, index: usize, scratch: &'s mut [f32]) -> Product<'s>
    where
        Self: 's,
    {
        let MatMulShape { m, k, n, .. } = self.shape;
        let (left, right) = scratch.split_at_mut(if self.a_strides.col == 1 { 0 } else { m * k });
        let a_start = index * self.a_strides.batch;
        let (base, stride) = if self.a_strides.col == 1 {
            (self.a.as_ptr().wrapping_add(a_start), self.a_strides.row)
        } else {
            for (row, values) in left.chunks_exact_mut(k.max(1)).enumerate() {
                for (col, value) in values.iter_mut().enumerate() {
                    *value = self.a[a_start + row * self.a_strides.row + col * self.a_strides.col];
                }
            }
            (left.as_ptr(), k)
        };
        let b = self.packed(index, right);
        Product {
            rows: Rows { base, per_line: usize::MAX, line_stride: 0, stride },
            runs: Runs { outer: 1, outer_stride: 0, inner: 1, inner_stride: 0, len: k },
            b,
            bias: None,
            residual: None,
            activation: Activation::None,
            out: self.out.wrapping_add(index * m * n),
            out_stride: n,
            next: None,
        }
    }

    /// The right matrix of product `index`, in panels.
    fn packed<'s>(&self, index: usize, scratch: &'s mut [f32]) -> PackedRef<'s> {
        let MatMulShape { k, n, .. } = self.shape;
        let MatStrides { batch, row, col } = self.b_strides;
        let start = index * batch;
        if row != 1 && col != 1 {
            let get = |k: usize, n: usize| self.scale * self.b[start + k * row + n * col];
            return PackedRef::pack_into(self.isa, k, n, get, scratch);
        }
        let packed = &mut aligned(scratch)[..packed_len(self.isa, k, n)];
        if !packed.is_empty() {
            fill(self.isa, [k, n], &self.b[start..], [row, col], self.scale, packed);
        }
        PackedRef::plain(self.isa, k, n, packed)
    }
}
