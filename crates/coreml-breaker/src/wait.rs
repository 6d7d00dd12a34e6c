//! How long an open circuit waits: exponential, bounded, with jitter from a small random generator seeded per breaker.

use std::time::Duration;

use crate::config::OpenWait;

#[derive(Debug)]
pub(crate) struct Waits {
    rule: OpenWait,
    /// The state of a SplitMix64 generator: one addition and a few multiplications a number, and seeds that differ in one
    /// bit give unrelated sequences.
    random: u64,
}

impl Waits {
    pub(crate) fn new(rule: OpenWait, seed: u64) -> Self {
        Self { rule, random: seed }
    }

    /// The wait after `attempts` earlier ones.
    pub(crate) fn next(&mut self, attempts: u32) -> Duration {
        let OpenWait { initial, max, multiplier, jitter } = self.rule;
        let exponent = i32::try_from(attempts).unwrap_or(i32::MAX);
        let full = (initial.as_secs_f64() * multiplier.powi(exponent)).min(max.as_secs_f64());
        Duration::try_from_secs_f64(full * (1.0 - jitter * self.uniform())).unwrap_or(max).min(max)
    }

    /// A number in 0..1.
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ bits >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_numbers() {
        let mut waits = Waits::new(OpenWait::default(), 0);
        for bits in [0xe220_a839_7b1d_cdaf_u64, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f] {
            assert_eq!(waits.uniform(), (bits >> 11) as f64 / (1u64 << 53) as f64);
        }
    }
}
