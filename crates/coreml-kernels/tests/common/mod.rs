//! What the tests share: repeatable data, every instruction set with one and two threads, and comparison.

#![allow(dead_code, reason = "each test binary uses a part")]

use coreml_kernels::{Isa, ThreadPool};

/// A small linear congruential generator: the same data on every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    /// Values in `[-1, 1)`.
    pub(crate) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.next() >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
    }
}

/// Runs `f` on every instruction set with one thread and with two, checks that the number of threads changes no bit,
/// and hands each result to `check`.
pub(crate) fn everywhere(f: impl Fn(Isa, &ThreadPool) -> Vec<f32>, check: impl Fn(Isa, &[f32])) {
    thread_local! {
        static POOLS: (ThreadPool, ThreadPool) = (ThreadPool::new(1), ThreadPool::new(2));
    }
    POOLS.with(|(one, two)| {
        for isa in Isa::available() {
            let alone = f(isa, one);
            let shared = f(isa, two);
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&alone), bits(&shared), "{}: two threads gave another result", isa.name());
            check(isa, &alone);
        }
    });
}

/// Asserts that every value is within `tolerance * (1 + |expected|)`.
pub(crate) fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths differ");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let same = a == e || (a.is_nan() && e.is_nan());
        assert!(same || (a - e).abs() <= tolerance * (1.0 + e.abs()), "{what}: [{i}] is {a}, not {e}");
    }
}

/// Channels-first `[n, c, hw]` to channels-last `[n, hw, c]`.
pub(crate) fn to_channels_last(n: usize, c: usize, hw: usize, x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for i in 0..n {
        for ch in 0..c {
            for p in 0..hw {
                out[(i * hw + p) * c + ch] = x[(i * c + ch) * hw + p];
            }
        }
    }
    out
}

/// The nearest number in bf16, of which the even one of two; for finite values.
pub(crate) fn in_bf16(x: f32) -> f32 {
    let below = f32::from_bits(x.to_bits() & 0xffff_0000);
    let above = f32::from_bits(below.to_bits() + 0x1_0000);
    let is_even = below.to_bits() & 0x1_0000 == 0;
    let (down, up) = ((x - below).abs(), (above - x).abs());
    if down < up || (down == up && is_even) { below } else { above }
}

/// All values in bf16.
pub(crate) fn all_in_bf16(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&x| in_bf16(x)).collect()
}
