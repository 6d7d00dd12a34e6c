//! WebAssembly's 128-bit vectors: four lanes, no fused multiply-add.
//!
//! A WebAssembly program cannot ask what its runtime supports: a program with these instructions does not load without
//! them. So they are chosen when the program is built (`-C target-feature=+simd128`), and are then always available.

use std::arch::wasm32::*;

use super::{EXPONENT, Kernel, Simd};

/// Proof that this program was built with 128-bit vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd128(());

impl Simd128 {
    /// The proof.
    pub fn new() -> Option<Self> {
        Some(Self(()))
    }
}

/// 2^n for whole `n` in `[-126, 127]`.
#[inline(always)]
fn pow2(n: v128) -> v128 {
    i32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(n), i32x4_splat(127)), 23)
}

impl Simd for Simd128 {
    type F = v128;
    type M = v128;
    const LANES: usize = 4;
    const ACCUMULATORS: usize = 12;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        fn apart<S: Simd, K: Kernel>(s: S, kernel: K) -> K::Output {
            kernel.run(s)
        }
        apart(self, kernel)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        f32x4_splat(x)
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: the caller vouches for 4 readable values.
        unsafe { v128_load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::F) {
        // SAFETY: the caller vouches for 4 writable values.
        unsafe { v128_store(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::F {
        // SAFETY: each arm reads the n values the caller vouches for.
        unsafe {
            match n {
                0 => f32x4_splat(0.0),
                1 => v128_load32_zero(p.cast()),
                2 => v128_load64_zero(p.cast()),
                3 => v128_load32_lane::<2>(v128_load64_zero(p.cast()), p.add(2).cast()),
                _ => v128_load(p.cast()),
            }
        }
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, n: usize, v: Self::F) {
        // SAFETY: each arm writes the n values the caller vouches for.
        unsafe {
            match n {
                0 => {}
                1 => v128_store32_lane::<0>(v, p.cast()),
                2 => v128_store64_lane::<0>(v, p.cast()),
                3 => {
                    v128_store64_lane::<0>(v, p.cast());
                    v128_store32_lane::<2>(v, p.add(2).cast());
                }
                _ => v128_store(p.cast(), v),
            }
        }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        f32x4_add(a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        f32x4_sub(a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        f32x4_mul(a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        f32x4_div(a, b)
    }
    #[inline(always)]
    fn div_fast(self, a: Self::F, b: Self::F) -> Self::F {
        self.div(a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        // `pmin(x, y)` is `y < x ? y : x`.
        f32x4_pmin(b, a)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        f32x4_pmax(b, a)
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        f32x4_sqrt(a)
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        f32x4_abs(a)
    }
    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        f32x4_neg(a)
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        f32x4_nearest(a)
    }
    #[inline(always)]
    fn lt(self, a: Self::F, b: Self::F) -> Self::M {
        f32x4_lt(a, b)
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F {
        v128_bitselect(a, b, m)
    }
    #[inline(always)]
    fn scale_by_pow2(self, x: Self::F, n: Self::F) -> Self::F {
        // In two steps, so that results near the ends of the range neither overflow nor vanish early.
        let half = self.round(self.mul(n, self.splat(0.5)));
        let rest = self.sub(n, half);
        self.mul(self.mul(x, pow2(half)), pow2(rest))
    }
    #[inline(always)]
    fn power_below(self, a: Self::F) -> Self::F {
        v128_and(a, u32x4_splat(EXPONENT))
    }
    #[inline(always)]
    fn interleave(self, a: Self::F, b: Self::F) -> (Self::F, Self::F) {
        (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b))
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        let two = f32x4_add(a, i32x4_shuffle::<2, 3, 0, 1>(a, a));
        f32x4_extract_lane::<0>(two) + f32x4_extract_lane::<1>(two)
    }
}
