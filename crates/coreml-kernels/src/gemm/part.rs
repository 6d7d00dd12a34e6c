//! A product that the calling thread computes alone, for kernels that cut their work themselves.

use super::pack::fill;
use super::tile::{Block, Product, Rows, Runs};
use super::{ALIGNMENT_SLACK, PackedRef, matrix_fits, packed_len};
use crate::activation::Activation;
use crate::aligned::aligned;
use crate::simd::Isa;

/// `a[m, k] * b[k, n]`, both row-major; rows of `a` start `k` apart, rows of `b` `n`.
pub(crate) struct Part<'a> {
    pub(crate) isa: Isa,
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) a: &'a [f32],
    pub(crate) b: &'a [f32],
}

/// Values of scratch that [`Part::write`] needs.
pub(crate) fn part_scratch_len(isa: Isa, k: usize, n: usize) -> usize {
    packed_len(isa, k, n) + ALIGNMENT_SLACK
}

impl Part<'_> {
    /// Writes the product to rows that start `out_stride` apart.
    ///
    /// # Safety
    /// `out` must be writable for `m` rows of `n` values `out_stride` apart, which nobody else uses meanwhile.
    pub(crate) unsafe fn write(&self, out: *mut f32, out_stride: usize, scratch: &mut [f32]) {
        let Self { isa, m, k, n, a, b } = *self;
        assert!(k > 0 && n > 0, "an empty product");
        assert!(matrix_fits(a.len(), m, k, k), "left matrix too short");
        let packed = &mut aligned(scratch)[..packed_len(isa, k, n)];
        fill(isa, [k, n], b, [n, 1], 1.0, packed);
        let product = Product {
            rows: Rows { base: a.as_ptr(), per_line: usize::MAX, line_stride: 0, stride: k },
            runs: Runs { outer: 1, outer_stride: 0, inner: 1, inner_stride: 0, len: k },
            b: PackedRef::plain(isa, k, n, packed),
            bias: None,
            residual: None,
            activation: Activation::None,
            out,
            out_stride,
            next: None,
        };
        let end_panel = product.b.panels.count();
        isa.dispatch(Block { product: &product, first_row: 0, end_row: m, first_panel: 0, end_panel });
    }
}
