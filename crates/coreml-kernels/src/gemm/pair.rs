//! Two products in a row, as the two layers of a perceptron: `act2(act1(a * b1 + …) * b2 + …)`.
//!
//! The inner result is never written out as a whole. A task computes some of its rows into scratch memory, where they
//! stay in the cache, and goes on with the second product, so that a wide inner result costs no memory traffic.

use super::tile::{Block, Product, Rows, Runs};
use super::{Epilogue, Format, PackedB, ROW_UNIT, check_output, matrix_fits};
use crate::aligned::{LINE_VALUES, aligned};
use crate::parallel::ThreadPool;
use crate::simd::Isa;

/// Values of the inner result per block: a part of the L2 cache that leaves room for weights.
const BLOCK_VALUES: usize = 64 * 1024;

/// Rows per block for an inner width of `n`.
fn block_rows(n: usize) -> usize {
    (BLOCK_VALUES / n.max(1)).clamp(ROW_UNIT, 32 * ROW_UNIT) / ROW_UNIT * ROW_UNIT
}

fn slot_len(inner: usize) -> usize {
    (block_rows(inner) * inner).next_multiple_of(LINE_VALUES)
}

/// Scratch values that [`gemm_pair`] needs for an inner result of `inner` columns on a pool of `threads`.
pub fn gemm_pair_scratch_len(inner: usize, threads: usize) -> usize {
    threads * slot_len(inner) + LINE_VALUES
}

/// `out[m, b2.n] = epilogue2(epilogue1(a[m, b1.k] * b1) * b2)`; `epilogue1` must have no residual.
///
/// # Panics
/// If a slice is too short for its matrix, or the matrices do not fit together.
#[allow(clippy::too_many_arguments, reason = "two products, an output and scratch")]
pub fn gemm_pair(
    isa: Isa,
    pool: &ThreadPool,
    m: usize,
    a: &[f32],
    lda: usize,
    (b1, epilogue1): (&PackedB, &Epilogue<'_>),
    (b2, epilogue2): (&PackedB, &Epilogue<'_>),
    out: &mut [f32],
    ldc: usize,
    scratch: &mut [f32],
) {
    struct Ends(*const f32, *mut f32, *mut f32);
    // SAFETY: the input is only read; participants use their own scratch and every task writes its own rows.
    unsafe impl Sync for Ends {}
    let (b1, b2, inner) = (b1.view(), b2.view(), b1.n());
    assert!(b1.isa == isa && b2.isa == isa, "a matrix was packed for another instruction set");
    assert!([b1, b2].iter().all(|b| b.format != Format::Bf16), "the left matrices are not rounded");
    assert_eq!(b2.k, inner, "the matrices do not fit together");
    assert!(matrix_fits(a.len(), m, b1.k, lda), "left matrix too short");
    assert!(epilogue1.residual.is_none(), "the inner product takes no residual");
    assert!(epilogue1.bias.is_none_or(|b| b.len() >= inner), "bias too short");
    check_output(m, b2.n, epilogue2, out.len(), ldc);
    assert!(scratch.len() >= gemm_pair_scratch_len(inner, pool.threads()), "scratch too short");
    let (slot, most) = (slot_len(inner), block_rows(inner));
    let rows =
        if pool.threads() == 1 { most } else { most.min(m.div_ceil(2 * pool.threads()).next_multiple_of(ROW_UNIT)) };
    let ends = Ends(a.as_ptr(), out.as_mut_ptr(), aligned(scratch).as_mut_ptr());
    let run = |len| Runs { outer: 1, outer_stride: 0, inner: 1, inner_stride: 0, len };
    pool.run_indexed(m.div_ceil(rows.max(1)), &|participant, task| {
        let Ends(a, out, scratch) = &ends;
        let first = task * rows;
        let count = rows.min(m - first);
        let hidden = scratch.wrapping_add(participant * slot);
        let start = |base: *const f32, stride: usize| Rows { base, per_line: usize::MAX, line_stride: 0, stride };
        let product1 = Product {
            rows: start(a.wrapping_add(first * lda), lda),
            runs: run(b1.k),
            b: b1,
            bias: epilogue1.bias,
            residual: None,
            activation: epilogue1.activation,
            out: hidden,
            out_stride: inner,
            next: None,
        };
        let product2 = Product {
            rows: start(hidden, inner),
            runs: run(inner),
            b: b2,
            bias: epilogue2.bias,
            residual: epilogue2.residual.map(|(r, stride)| (r.as_ptr().wrapping_add(first * stride), stride)),
            activation: epilogue2.activation,
            out: out.wrapping_add(first * ldc),
            out_stride: ldc,
            next: None,
        };
        for product in [&product1, &product2] {
            let end_panel = product.b.panels.count();
            isa.dispatch(Block { product, first_row: 0, end_row: count, first_panel: 0, end_panel });
        }
    });
}
