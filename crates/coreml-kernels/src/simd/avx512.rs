//! AVX-512F: sixteen lanes, thirty-two registers, masks.

use std::arch::x86_64::*;

use super::{EXPONENT, Kernel, Simd, dot_pairs_by_halves};

/// Proof that this CPU has AVX-512F; with `DOTS`, that it has AVX512_BF16 too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512<const DOTS: bool = false> {
    /// The CPU has AVX512_BF16 and may be asked for it: kernels that make no use of it need not be compiled again.
    dots: bool,
}

impl Avx512 {
    /// The proof, if this CPU has AVX-512F. AVX512_BF16 is not used.
    pub fn new() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self { dots: false })
    }

    /// The proof, if this CPU has AVX-512F and AVX512_BF16.
    pub fn with_dots() -> Option<Self> {
        is_x86_feature_detected!("avx512bf16").then(Self::new).flatten().map(|_| Self { dots: true })
    }
}

/// A lane mask with the first `n <= 16` lanes set.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

/// Wraps an intrinsic in the one reason that holds for all of them.
macro_rules! avx512 {
    ($e:expr) => {
        // SAFETY: `self` exists only where the CPU has AVX-512F.
        unsafe { $e }
    };
}

impl<const DOTS: bool> Simd for Avx512<DOTS> {
    type F = __m512;
    type M = __mmask16;
    const LANES: usize = 16;
    const ACCUMULATORS: usize = 24;
    const LOOKUP: bool = true;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx2,fma")]
        #[inline(never)]
        fn with_feature<K: Kernel, const DOTS: bool>(s: Avx512<DOTS>, kernel: K) -> K::Output {
            kernel.run(s)
        }
        avx512!(with_feature(self, kernel))
    }
    #[inline(always)]
    fn call_dots<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
        #[inline(never)]
        fn with_dots<K: Kernel>(s: Avx512<true>, kernel: K) -> K::Output {
            kernel.run(s)
        }
        if !self.dots {
            return self.call(kernel);
        }
        // SAFETY: `dots` is set only where the CPU has AVX-512F and AVX512_BF16.
        unsafe { with_dots(Avx512 { dots: true }, kernel) }
    }
    #[inline(always)]
    fn halves(self, pairs: Self::F) -> [Self::F; 2] {
        avx512!({
            let pairs = _mm512_castps_si512(pairs);
            let high = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(high)]
        })
    }
    #[inline(always)]
    fn dot_pairs(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        if DOTS {
            // SAFETY: with `DOTS`, `self` exists only where the CPU has AVX512_BF16; both types are vectors of 64 bytes.
            unsafe {
                let [a, b] = [a, b].map(|pairs| std::mem::transmute::<__m512, __m512bh>(pairs));
                return _mm512_dpbf16_ps(c, a, b);
            }
        }
        dot_pairs_by_halves(self, a, b, c)
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Self::F) {
        // SAFETY: the caller vouches for 16 writable values, and `self` exists only where the CPU has AVX-512F.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
            let kept = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v), rounded, quiet);
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(kept)));
        }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        avx512!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: the caller vouches for 16 readable values.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::F) {
        // SAFETY: the caller vouches for 16 writable values.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::F {
        // SAFETY: the mask touches only the n values the caller vouches for.
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, n: usize, v: Self::F) {
        // SAFETY: the mask touches only the n values the caller vouches for.
        unsafe { _mm512_mask_storeu_ps(p, first(n), v) }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        avx512!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        avx512!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        avx512!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        avx512!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn div_fast(self, a: Self::F, b: Self::F) -> Self::F {
        avx512!({
            let r = _mm512_rcp14_ps(b);
            let q = _mm512_mul_ps(a, r);
            // One Newton step on the quotient doubles its 14 good bits.
            _mm512_fmadd_ps(_mm512_fnmadd_ps(b, q, a), r, q)
        })
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        avx512!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        avx512!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        avx512!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        avx512!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        avx512!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        avx512!(_mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32(i32::MIN))))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        avx512!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT }>(a))
    }
    #[inline(always)]
    fn lt(self, a: Self::F, b: Self::F) -> Self::M {
        avx512!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b))
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F {
        avx512!(_mm512_mask_blend_ps(m, b, a))
    }
    #[inline(always)]
    fn scale_by_pow2(self, x: Self::F, n: Self::F) -> Self::F {
        avx512!(_mm512_scalef_ps(x, n))
    }
    #[inline(always)]
    fn power_below(self, a: Self::F) -> Self::F {
        avx512!(_mm512_castsi512_ps(_mm512_and_si512(
            _mm512_castps_si512(a),
            _mm512_set1_epi32(EXPONENT.cast_signed())
        )))
    }
    #[inline(always)]
    fn interleave(self, a: Self::F, b: Self::F) -> (Self::F, Self::F) {
        avx512!({
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            (_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b))
        })
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; 32], index: Self::F) -> Self::F {
        // The instruction looks at the five lowest bits of each number only.
        // SAFETY: `self` exists only where the CPU has AVX-512F, and the table holds two vectors.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(table.as_ptr()), _mm512_loadu_ps(table.as_ptr().add(16)));
            _mm512_permutex2var_ps(low, _mm512_cvtps_epi32(index), high)
        }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u8) -> Self::F {
        // SAFETY: the caller vouches for 32 readable bytes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const u8) -> Self::F {
        // SAFETY: the caller vouches for 16 readable bytes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(self, p: *const u8) -> [Self::F; 2] {
        // SAFETY: the caller vouches for 16 readable bytes.
        unsafe {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            let low = _mm512_and_si512(bytes, _mm512_set1_epi32(15));
            [_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(bytes))]
        }
    }
    #[inline(always)]
    unsafe fn lookup_nibbles(self, p: *const u8, table: &[f32; 16]) -> [Self::F; 2] {
        // The instruction looks at the four lowest bits of each number only.
        // SAFETY: the caller vouches for 16 readable bytes, and the table is one vector.
        unsafe {
            let table = _mm512_loadu_ps(table.as_ptr());
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            [_mm512_permutexvar_ps(bytes, table), _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(bytes), table)]
        }
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        avx512!(_mm512_reduce_add_ps(a))
    }
}
