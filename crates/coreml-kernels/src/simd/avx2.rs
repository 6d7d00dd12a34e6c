//! AVX2 with FMA and F16C: eight lanes.

use std::arch::x86_64::*;

use super::{EXPONENT, Kernel, Simd};

/// Wraps an intrinsic in the one reason that holds for all of them.
macro_rules! avx2 {
    ($e:expr) => {
        // SAFETY: `self` exists only where the CPU has AVX2, FMA and F16C.
        unsafe { $e }
    };
}

/// Proof that this CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, if this CPU has all three.
    pub fn new() -> Option<Self> {
        let has_all =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        has_all.then_some(Self(()))
    }
}

impl Avx2 {
    /// 2^n for whole `n` in `[-126, 127]`.
    #[inline(always)]
    fn pow2(self, n: __m256) -> __m256 {
        avx2!({
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        })
    }
}

/// A lane mask with the first `n` lanes set.
#[inline(always)]
fn first(n: usize) -> __m256i {
    const ONES_THEN_ZEROS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: the window starts at 8 - min(n, 8), within 0..=8, and takes 8 of the 16 values; AVX is there as every
    // caller holds an `Avx2`.
    unsafe { _mm256_loadu_si256(ONES_THEN_ZEROS.as_ptr().add(8 - n.min(8)).cast()) }
}

impl Simd for Avx2 {
    type F = __m256;
    type M = __m256;
    const LANES: usize = 8;
    const ACCUMULATORS: usize = 12;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline(never)]
        fn with_feature<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
            kernel.run(s)
        }
        avx2!(with_feature(self, kernel))
    }
    #[inline(always)]
    fn halves(self, pairs: Self::F) -> [Self::F; 2] {
        avx2!({
            let pairs = _mm256_castps_si256(pairs);
            let high = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(high)]
        })
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        avx2!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: the caller vouches for 8 readable values.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::F) {
        // SAFETY: the caller vouches for 8 writable values.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::F {
        // SAFETY: the mask touches only the n values the caller vouches for.
        unsafe { _mm256_maskload_ps(p, first(n)) }
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, n: usize, v: Self::F) {
        // SAFETY: the mask touches only the n values the caller vouches for.
        unsafe { _mm256_maskstore_ps(p, first(n), v) }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        avx2!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        avx2!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        avx2!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        avx2!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn div_fast(self, a: Self::F, b: Self::F) -> Self::F {
        self.div(a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        avx2!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        avx2!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        avx2!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        avx2!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        avx2!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        avx2!(_mm256_xor_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        avx2!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn lt(self, a: Self::F, b: Self::F) -> Self::M {
        avx2!(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b))
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F {
        avx2!(_mm256_blendv_ps(b, a, m))
    }
    #[inline(always)]
    fn scale_by_pow2(self, x: Self::F, n: Self::F) -> Self::F {
        // In two steps, so that results near the ends of the range neither overflow nor vanish early.
        let half = self.round(self.mul(n, self.splat(0.5)));
        let rest = self.sub(n, half);
        self.mul(self.mul(x, self.pow2(half)), self.pow2(rest))
    }
    #[inline(always)]
    fn power_below(self, a: Self::F) -> Self::F {
        avx2!(_mm256_and_ps(a, _mm256_set1_ps(f32::from_bits(EXPONENT))))
    }
    #[inline(always)]
    fn interleave(self, a: Self::F, b: Self::F) -> (Self::F, Self::F) {
        avx2!({
            let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
        })
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u8) -> Self::F {
        // SAFETY: the caller vouches for 16 readable bytes.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const u8) -> Self::F {
        // SAFETY: the caller vouches for 8 readable bytes.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(self, p: *const u8) -> [Self::F; 2] {
        // SAFETY: the caller vouches for 8 readable bytes.
        unsafe {
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            let low = _mm256_and_si256(bytes, _mm256_set1_epi32(15));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(bytes))]
        }
    }
    #[inline(always)]
    unsafe fn lookup_nibbles(self, p: *const u8, table: &[f32; 16]) -> [Self::F; 2] {
        // The permutation looks at the three lowest bits of each number only; the fourth, brought to the top, chooses the
        // half of the table.
        // SAFETY: the caller vouches for 8 readable bytes, and the table is two vectors.
        unsafe {
            let (low, high) = (_mm256_loadu_ps(table.as_ptr()), _mm256_loadu_ps(table.as_ptr().add(8)));
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            [bytes, _mm256_srli_epi32::<4>(bytes)].map(|index| {
                let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index));
                _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, index), _mm256_permutevar8x32_ps(high, index), upper)
            })
        }
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        avx2!({
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }
}
