//! Vectors of `f32` behind one trait, so that every kernel is written once and compiled for each instruction set.
//!
//! A value of a type that implements [`Simd`] is a proof that this CPU can run its instructions: the only way to get
//! an [`Avx512`] is [`Avx512::new`], which asks the CPU. A kernel is a struct that implements [`Kernel`]; its `run` is
//! `#[inline(always)]` and generic, and [`Isa::dispatch`] (or [`Simd::call`] from inside another kernel) compiles it
//! inside a function that has the instruction set enabled.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod bf16;
pub(crate) mod half;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
pub(crate) mod wide;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use scalar::Scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use simd128::Simd128;

/// Work that can be compiled for any instruction set. Mark `run` `#[inline(always)]`: what is not inlined into the
/// dispatching function is compiled without the instruction set.
pub trait Kernel {
    /// What the kernel returns.
    type Output;
    /// Does the work with the vectors of `S`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// The vector operations of one instruction set.
///
/// Comparisons and `min`/`max` are written so that a NaN in the *second* operand survives.
pub trait Simd: Copy + Send + Sync + std::fmt::Debug + 'static {
    /// A vector of [`Self::LANES`] values.
    type F: Copy;
    /// The result of a lane-wise comparison.
    type M: Copy;
    /// Values per vector.
    const LANES: usize;
    /// Registers a matrix tile may use for sums, leaving enough for operands.
    const ACCUMULATORS: usize;

    /// Whether [`Simd::lookup`] takes an instruction or two.
    const LOOKUP: bool = false;

    /// Runs `kernel` in a function of its own that has this instruction set enabled.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    /// As [`Simd::call`], with the instruction for [`Simd::dot_pairs`] enabled too where the CPU has it.
    #[inline(always)]
    fn call_dots<K: Kernel>(self, kernel: K) -> K::Output {
        self.call(kernel)
    }

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// Reads `LANES` values.
    /// # Safety
    /// `p` must be readable for `LANES` values. No alignment is needed.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// Writes `LANES` values.
    /// # Safety
    /// `p` must be writable for `LANES` values. No alignment is needed.
    unsafe fn store(self, p: *mut f32, v: Self::F);
    /// Reads the first `n <= LANES` values; the other lanes are 0.
    /// # Safety
    /// `p` must be readable for `n` values.
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::F;
    /// Writes the first `n <= LANES` lanes.
    /// # Safety
    /// `p` must be writable for `n` values.
    unsafe fn store_partial(self, p: *mut f32, n: usize, v: Self::F);

    /// `a + b`
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`, correctly rounded.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b` within 2 ulp for normal operands and quotients; faster than [`Simd::div`] where the CPU helps.
    fn div_fast(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`; one rounding where the instruction set has it.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger; `b` if either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// Square root, correctly rounded.
    fn sqrt(self, a: Self::F) -> Self::F;
    /// Magnitude.
    fn abs(self, a: Self::F) -> Self::F;
    /// `-a`, also for zeros.
    fn neg(self, a: Self::F) -> Self::F;
    /// To the nearest whole number, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `a < b`, false for NaN.
    fn lt(self, a: Self::F, b: Self::F) -> Self::M;
    /// Per lane `a` where `m`, else `b`.
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F;
    /// `x * 2^n` for whole `n` in `[-252, 252]`.
    fn scale_by_pow2(self, x: Self::F, n: Self::F) -> Self::F;
    /// The largest power of two not above `|a|`: 0 below the normal numbers, infinite where `a` is not a finite number.
    fn power_below(self, a: Self::F) -> Self::F;
    /// `a0 b0 a1 b1 …` as two vectors.
    fn interleave(self, a: Self::F, b: Self::F) -> (Self::F, Self::F);
    /// Sum of all lanes, always in the same order.
    fn sum(self, a: Self::F) -> f32;

    /// The numbers in bf16 in the low 16 bits of each lane, and those in the high ones.
    #[inline(always)]
    fn halves(self, pairs: Self::F) -> [Self::F; 2] {
        let lanes = self.to_array(pairs);
        [0, 1].map(|half| filled(self, |i| bf16::halves(lanes[i])[half]))
    }

    /// Per lane `c + high(a) * high(b) + low(a) * low(b)` of pairs of numbers in bf16, with two roundings. Numbers below the
    /// normal ones may be taken for 0.
    ///
    /// The order is that of VDPBF16PS (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2).
    #[inline(always)]
    fn dot_pairs(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        dot_pairs_by_halves(self, a, b, c)
    }

    /// Writes `LANES` values rounded to bf16, one after the other.
    /// # Safety
    /// `p` must be writable for `LANES` values. No alignment is needed.
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Self::F) {
        let lanes = self.to_array(v);
        for (i, &lane) in lanes[..Self::LANES].iter().enumerate() {
            // SAFETY: i < LANES, and the caller vouches for LANES values.
            unsafe { p.add(i).write_unaligned(bf16::round(lane)) };
        }
    }

    /// Per lane the entry of `table` with the number `index`, a whole number below 32; any entry for what is not one.
    #[inline(always)]
    fn lookup(self, table: &[f32; 32], index: Self::F) -> Self::F {
        let mut lanes = self.to_array(index);
        for lane in &mut lanes[..Self::LANES] {
            *lane = table[*lane as usize % 32];
        }
        // SAFETY: the array holds MAX_LANES >= LANES values.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Reads `LANES` half-precision values, none of which is infinite or NaN.
    /// # Safety
    /// `p` must be readable for `2 * LANES` bytes. No alignment is needed.
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u8) -> Self::F {
        // SAFETY: i < LANES, and the caller vouches for 2 * LANES bytes.
        unsafe { filled(self, |i| half::to_f32(p.cast::<u16>().add(i).read_unaligned())) }
    }
    /// Reads `LANES` signed bytes as whole numbers.
    /// # Safety
    /// `p` must be readable for `LANES` bytes.
    #[inline(always)]
    unsafe fn load_i8(self, p: *const u8) -> Self::F {
        // SAFETY: i < LANES, and the caller vouches for LANES bytes.
        unsafe { filled(self, |i| f32::from(p.cast::<i8>().add(i).read())) }
    }
    /// Reads `LANES` bytes: their low halves as whole numbers from 0 to 15, and their high halves.
    /// # Safety
    /// `p` must be readable for `LANES` bytes.
    #[inline(always)]
    unsafe fn load_nibbles(self, p: *const u8) -> [Self::F; 2] {
        // SAFETY: i < LANES, and the caller vouches for LANES bytes.
        unsafe {
            [filled(self, |i| f32::from(p.add(i).read() & 15)), filled(self, |i| f32::from(p.add(i).read() >> 4))]
        }
    }
    /// As [`Simd::load_nibbles`], but gives the entries of `table` that the numbers stand for.
    /// # Safety
    /// `p` must be readable for `LANES` bytes.
    #[inline(always)]
    unsafe fn lookup_nibbles(self, p: *const u8, table: &[f32; 16]) -> [Self::F; 2] {
        let entry = |number: u8| table[usize::from(number)];
        // SAFETY: i < LANES, and the caller vouches for LANES bytes.
        unsafe { [filled(self, |i| entry(p.add(i).read() & 15)), filled(self, |i| entry(p.add(i).read() >> 4))] }
    }

    /// Asks for the cache line at `p` to be brought into the L2 cache. `p` may point anywhere.
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch is a hint that touches no memory; SSE, which has it, is part of x86_64.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }

    /// The lanes as the start of an array, for code that is not worth vectorising.
    #[inline(always)]
    fn to_array(self, a: Self::F) -> [f32; MAX_LANES] {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: the array holds MAX_LANES >= LANES values.
        unsafe { self.store(lanes.as_mut_ptr(), a) };
        lanes
    }

    /// The largest lane.
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        self.to_array(a)[..Self::LANES].iter().fold(f32::NEG_INFINITY, |m, &x| if x > m || x.is_nan() { x } else { m })
    }
}

/// [`Simd::dot_pairs`] without an instruction for it.
#[inline(always)]
fn dot_pairs_by_halves<S: Simd>(s: S, a: S::F, b: S::F, c: S::F) -> S::F {
    let ([a_low, a_high], [b_low, b_high]) = (s.halves(a), s.halves(b));
    s.fma(a_low, b_low, s.fma(a_high, b_high, c))
}

/// A vector of which lane `i` is `get(i)`.
#[inline(always)]
fn filled<S: Simd>(s: S, get: impl Fn(usize) -> f32) -> S::F {
    let mut lanes = [0.0; MAX_LANES];
    for (i, lane) in lanes[..S::LANES].iter_mut().enumerate() {
        *lane = get(i);
    }
    // SAFETY: the array holds MAX_LANES >= LANES values.
    unsafe { s.load(lanes.as_ptr()) }
}

/// The widest vector of any instruction set here.
pub const MAX_LANES: usize = 16;

/// The bits of an `f32` that hold its exponent.
const EXPONENT: u32 = 0x7f80_0000;

/// Makes [`Isa`] of a table of instruction sets, slowest first; a row has a type that implements [`Simd`] and what makes a
/// value of it where the CPU can.
macro_rules! instruction_sets {
    ($($(#[doc = $doc:literal])* $(#[cfg($cfg:meta)])? $isa:ident: $set:ident::$new:ident, $name:literal;)*) => {
        /// The instruction set a kernel is compiled for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Isa {
            $($(#[doc = $doc])* $(#[cfg($cfg)])? $isa($set),)*
        }

        impl Isa {
            /// The fastest this CPU has.
            pub fn detect() -> Self {
                #[allow(unused_mut, reason = "there may be one row only")]
                let mut fastest = Self::Scalar(Scalar);
                $($(#[cfg($cfg)])? if let Some(s) = $set::$new() {
                    fastest = Self::$isa(s);
                })*
                fastest
            }

            /// Everything this CPU has, slowest first.
            pub fn available() -> Vec<Self> {
                let all = [$($(#[cfg($cfg)])? $set::$new().map(Self::$isa),)*];
                all.into_iter().flatten().collect()
            }

            /// The name people know it by.
            pub fn name(self) -> &'static str {
                match self {
                    $($(#[cfg($cfg)])? Self::$isa(_) => $name,)*
                }
            }

            /// Values per vector.
            pub fn lanes(self) -> usize {
                match self {
                    $($(#[cfg($cfg)])? Self::$isa(_) => <$set>::LANES,)*
                }
            }

            /// Runs `kernel` compiled for this instruction set.
            pub fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
                match self {
                    $($(#[cfg($cfg)])? Self::$isa(s) => s.call(kernel),)*
                }
            }
        }
    };
}

instruction_sets! {
    /// Portable code; always there.
    Scalar: Scalar::new, "scalar";
    /// 4 lanes.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128: Simd128::new, "simd128";
    /// 4 lanes and 32 registers with fused multiply-add.
    #[cfg(target_arch = "aarch64")]
    Neon: Neon::new, "neon";
    /// 8 lanes with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2: Avx2::new, "avx2";
    /// 16 lanes with masks.
    #[cfg(target_arch = "x86_64")]
    Avx512: Avx512::new, "avx512";
    /// The same with dot products of pairs in bf16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16: Avx512::with_dots, "avx512-bf16";
}
