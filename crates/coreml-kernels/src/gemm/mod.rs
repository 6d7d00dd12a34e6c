//! Matrix products `out = activation(a * b + bias + residual)` of row-major matrices.
//!
//! The right matrix is packed ([`PackedB`]), usually once when a model is loaded. The left is read in place. Work is cut into
//! blocks of rows whose left and output parts stay in the L2 cache while all panels of the right matrix pass by; if there are
//! too few rows to keep all threads busy, the panels are divided too. Every output is summed in order of k, so the result does
//! not depend on how the work is cut.
//!
//! Weights may be packed smaller than `f32` ([`Format`]). If a block has few rows, reading the weights takes most of the
//! time, and elements become `f32` in registers right before they are multiplied; if it has more, a piece of a panel is
//! decoded into the L2 cache and the tiles pass over that. Both give the same bits.
//!
//! With matrices packed in bf16 both factors are rounded, so that one instruction multiplies two of each (`bf16.rs`).

mod bf16;
mod decode;
mod few;
pub(crate) mod line;
mod matmul;
mod pack;
mod pair;
mod panels;
mod part;
pub(crate) mod tile;

pub(crate) use bf16::Round;
pub use bf16::{Precision, gemm_bf16, gemm_bf16_scratch_len};
pub use matmul::{MatMulShape, MatStrides, matmul, matmul_scratch_len};
pub use pack::{ALIGNMENT_SLACK, Affine, Format, PALETTE, PackedB, PackedRef, packed_len};

pub use pair::{gemm_pair, gemm_pair_scratch_len};

pub(crate) use panels::Panels;
pub(crate) use part::{Part, part_scratch_len};

use crate::activation::Activation;
use crate::parallel::ThreadPool;
use crate::simd::Isa;
use tile::{Block, Product, Rows, Runs};

/// What is done to a product before it is stored: `+ bias`, `+ residual`, activation, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value per column.
    pub bias: Option<&'a [f32]>,
    /// A matrix of the output's size, and the distance between its rows.
    pub residual: Option<(&'a [f32], usize)>,
    /// Applied last.
    pub activation: Activation,
}

/// `out[m, n] = activation(a[m, k] * b[k, n] + bias + residual)`.
///
/// Rows of `a` start `lda` apart, rows of `out` `ldc`. `isa` must be the one `b` was packed for.
///
/// # Panics
/// If a slice is too short for its matrix.
#[allow(clippy::too_many_arguments, reason = "the arguments of a matrix product, in their customary order")]
pub fn gemm<'a>(
    isa: Isa,
    pool: &ThreadPool,
    m: usize,
    a: &[f32],
    lda: usize,
    b: impl Into<PackedRef<'a>>,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
    ldc: usize,
) {
    let b = b.into();
    assert_ne!(b.format, Format::Bf16, "the left matrix is not rounded");
    assert!(matrix_fits(a.len(), m, b.k, lda), "left matrix too short");
    check_output(m, b.n, epilogue, out.len(), ldc);
    let product = product_of(isa, (a.as_ptr(), lda), b, epilogue, (out.as_mut_ptr(), ldc));
    run_product(isa, pool, m, &product);
}

/// The product of a matrix of elements as `b` wants them with `b`. Both matrices come with the distance between rows.
///
/// # Panics
/// If `b` was packed for another instruction set.
fn product_of<'a>(
    isa: Isa,
    (a, lda): (*const f32, usize),
    b: PackedRef<'a>,
    epilogue: &Epilogue<'a>,
    (out, ldc): (*mut f32, usize),
) -> Product<'a> {
    assert_eq!(isa, b.isa, "the matrix was packed for another instruction set");
    Product {
        rows: Rows { base: a, per_line: usize::MAX, line_stride: 0, stride: lda },
        runs: Runs { outer: 1, outer_stride: 0, inner: 1, inner_stride: 0, len: b.k },
        b,
        bias: epilogue.bias,
        residual: epilogue.residual.map(|(r, stride)| (r.as_ptr(), stride)),
        activation: epilogue.activation,
        out,
        out_stride: ldc,
        next: None,
    }
}

/// Whether `m` rows of `n` values, `stride` apart, fit in `len` values.
pub(crate) fn matrix_fits(len: usize, m: usize, n: usize, stride: usize) -> bool {
    m == 0 || n == 0 || (len >= (m - 1) * stride + n && (m == 1 || stride >= n))
}

/// Panics unless output and epilogue suit an `[m, n]` result.
pub(crate) fn check_output(m: usize, n: usize, epilogue: &Epilogue<'_>, out_len: usize, ldc: usize) {
    assert!(matrix_fits(out_len, m, n, ldc), "output too short");
    if let Some(bias) = epilogue.bias {
        assert!(bias.len() >= n, "bias too short");
    }
    if let Some((residual, stride)) = epilogue.residual {
        assert!(matrix_fits(residual.len(), m, n, stride), "residual too short");
    }
}

/// Every tile height divides this many rows.
const ROW_UNIT: usize = 24;
/// Values of the left matrix and the output per block: a good part of an L2 cache.
const BLOCK_VALUES: usize = 192 * 1024;

/// Computes a product of `m` rows whose pointers and lengths have been checked.
pub(crate) fn run_product(isa: Isa, pool: &ThreadPool, m: usize, product: &Product<'_>) {
    let (k, n) = (product.b.k, product.b.n);
    let panels = product.b.panels;
    if m == 0 || panels.count() == 0 {
        return;
    }
    let (row_blocks, panel_blocks) = blocks(m, k, n, panels, pool.threads());
    // Whole tiles, spread evenly.
    let unit = panels.row_unit();
    let units = m.div_ceil(unit);
    pool.run(row_blocks * panel_blocks, &|task| {
        let (row_block, panel_block) = (task / panel_blocks, task % panel_blocks);
        let row = |block: usize| m.min(units * block / row_blocks * unit);
        let panel = |block: usize| panels.count() * block / panel_blocks;
        isa.dispatch(Block {
            product,
            first_row: row(row_block),
            end_row: row(row_block + 1),
            first_panel: panel(panel_block),
            end_panel: panel(panel_block + 1),
        });
    });
}

/// Into how many blocks of rows and of panels a product is cut.
///
/// Threads share the rows where they can, so that each goes on with the part of an image it has made itself. Where the
/// right matrix is the larger part of the data they share its panels: each then reads only its own from beyond its cache.
fn blocks(m: usize, k: usize, n: usize, panels: Panels, threads: usize) -> (usize, usize) {
    let units = m.div_ceil(panels.row_unit());
    let fitting = m.div_ceil((BLOCK_VALUES / (k + n)).max(ROW_UNIT)).min(units);
    if threads == 1 {
        return (fitting, 1);
    }
    // More blocks than threads, so that one that is held up leaves work to the others.
    let wanted = 4 * threads;
    if k * n > m * (k + n) || units < 2 * threads {
        let panel_blocks = panels.count().min(wanted);
        return (fitting.max(wanted / panel_blocks).min(units), panel_blocks);
    }
    (fitting.max(wanted).next_multiple_of(threads).min(units), 1)
}
