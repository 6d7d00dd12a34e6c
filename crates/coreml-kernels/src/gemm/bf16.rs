//! Products of numbers rounded to bf16, summed in `f32`.
//!
//! Two consecutive numbers of a dot product form one element of 32 bits, and multiplying two elements adds both products
//! ([`Simd::dot_pairs`]). So except for the multiply-add itself, all code can treat a matrix as one of `f32` with half as
//! many columns. The left matrix is rounded to that form before the product starts.

use super::{Epilogue, Format, PackedB, check_output, matrix_fits, product_of, run_product};
use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, Simd, bf16};

/// The precision that the factors of a product are rounded to; sums are `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Not at all.
    #[default]
    F32,
    /// To eight significant bits.
    Bf16,
}

/// Rounds values to bf16, one after the other.
pub(crate) struct Round {
    pub(crate) from: *const f32,
    pub(crate) to: *mut u16,
    pub(crate) len: usize,
}

impl Kernel for Round {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, to, len } = self;
        // SAFETY: whoever made this vouched for `len` values to read and to write.
        unsafe {
            let mut i = 0;
            while i + S::LANES <= len {
                s.store_bf16(to.add(i), s.load(from.add(i)));
                i += S::LANES;
            }
            while i < len {
                to.add(i).write(bf16::round(from.add(i).read()));
                i += 1;
            }
        }
    }
}

/// Scratch values that [`gemm_bf16`] needs for a left matrix `[m, k]`.
pub fn gemm_bf16_scratch_len(m: usize, k: usize) -> usize {
    m * k / 2
}

/// As [`gemm`](super::gemm) for a matrix of [`Format::Bf16`]; what is read of `a` is rounded to bf16 in `scratch`.
///
/// # Panics
/// As [`gemm`](super::gemm), or if `b` has another format.
#[allow(
    clippy::too_many_arguments,
    reason = "the arguments of a matrix product, in their customary order, and scratch"
)]
pub fn gemm_bf16(
    isa: Isa,
    pool: &ThreadPool,
    m: usize,
    a: &[f32],
    lda: usize,
    b: &PackedB,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
    ldc: usize,
    scratch: &mut [f32],
) {
    struct Ends(*const f32, *mut f32);
    // SAFETY: the matrix is only read, and every task writes rows of its own.
    unsafe impl Sync for Ends {}
    let k = b.k();
    assert_eq!(b.format(), Format::Bf16, "the matrix is not packed in bf16");
    assert!(matrix_fits(a.len(), m, k, lda), "left matrix too short");
    assert!(scratch.len() >= gemm_bf16_scratch_len(m, k), "scratch too short");
    check_output(m, b.n(), epilogue, out.len(), ldc);
    let ends = Ends(a.as_ptr(), scratch.as_mut_ptr());
    let chunk = if pool.threads() == 1 { m } else { m.div_ceil(2 * pool.threads()) }.max(1);
    pool.run(m.div_ceil(chunk), &|task| {
        let Ends(a, pairs) = &ends;
        for row in task * chunk..m.min((task + 1) * chunk) {
            let (from, to) = (a.wrapping_add(row * lda), pairs.wrapping_add(row * (k / 2)));
            isa.dispatch(Round { from, to: to.cast(), len: k });
        }
    });
    let product = product_of(isa, (scratch.as_ptr(), k / 2), b.view(), epilogue, (out.as_mut_ptr(), ldc));
    run_product(isa, pool, m, &product);
}
