//! NEON, as every 64-bit ARM processor has it: four lanes, thirty-two registers, fused multiply-add.

use std::arch::aarch64::*;

use super::{EXPONENT, Kernel, Simd};

/// Wraps an intrinsic in the one reason that holds for all of them.
macro_rules! neon {
    ($e:expr) => {
        // SAFETY: `self` exists only where the CPU has NEON.
        unsafe { $e }
    };
}

/// Proof that this CPU has NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(());

impl Neon {
    /// The proof, if this CPU has it.
    pub fn new() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    /// 2^n for whole `n` in `[-126, 127]`.
    #[inline(always)]
    fn pow2(self, n: float32x4_t) -> float32x4_t {
        neon!({
            let biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        })
    }
}

impl Simd for Neon {
    type F = float32x4_t;
    type M = uint32x4_t;
    const LANES: usize = 4;
    const ACCUMULATORS: usize = 24;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        #[inline(never)]
        fn with_feature<K: Kernel>(s: Neon, kernel: K) -> K::Output {
            kernel.run(s)
        }
        neon!(with_feature(self, kernel))
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        neon!(vdupq_n_f32(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: the caller vouches for 4 readable values.
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::F) {
        // SAFETY: the caller vouches for 4 writable values.
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::F {
        // SAFETY: each arm reads the n values the caller vouches for.
        unsafe {
            let zero = vdup_n_f32(0.0);
            match n {
                0 => vdupq_n_f32(0.0),
                1 => vcombine_f32(vld1_lane_f32::<0>(p, zero), zero),
                2 => vcombine_f32(vld1_f32(p), zero),
                3 => vcombine_f32(vld1_f32(p), vld1_lane_f32::<0>(p.add(2), zero)),
                _ => vld1q_f32(p),
            }
        }
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, n: usize, v: Self::F) {
        // SAFETY: each arm writes the n values the caller vouches for.
        unsafe {
            match n {
                0 => {}
                1 => vst1q_lane_f32::<0>(p, v),
                2 => vst1_f32(p, vget_low_f32(v)),
                3 => {
                    vst1_f32(p, vget_low_f32(v));
                    vst1q_lane_f32::<2>(p.add(2), v);
                }
                _ => vst1q_f32(p, v),
            }
        }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        neon!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        neon!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        neon!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        neon!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn div_fast(self, a: Self::F, b: Self::F) -> Self::F {
        self.div(a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        neon!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        // Not vminq, which gives NaN if either is.
        self.select(self.lt(a, b), a, b)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        self.select(self.lt(b, a), a, b)
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F) -> Self::F {
        neon!(vsqrtq_f32(a))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        neon!(vabsq_f32(a))
    }
    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        neon!(vnegq_f32(a))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        neon!(vrndnq_f32(a))
    }
    #[inline(always)]
    fn lt(self, a: Self::F, b: Self::F) -> Self::M {
        neon!(vcltq_f32(a, b))
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F {
        neon!(vbslq_f32(m, a, b))
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
        neon!(vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vdupq_n_u32(EXPONENT))))
    }
    #[inline(always)]
    fn interleave(self, a: Self::F, b: Self::F) -> (Self::F, Self::F) {
        neon!((vzip1q_f32(a, b), vzip2q_f32(a, b)))
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        neon!(vaddvq_f32(a))
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch is a hint that touches no memory, wherever it points.
        unsafe {
            std::arch::asm!("prfm pldl2keep, [{}]", in(reg) p, options(nostack, readonly, preserves_flags));
        }
    }
}
