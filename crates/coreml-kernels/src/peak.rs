//! The most multiply-adds this machine does in a second; kernels and profiles are compared with it.
//!
//! It is measured, because data sheets say neither what clock a virtual machine gets nor how two threads share one
//! core.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, Simd};

/// Rounds of multiply-adds in one task: some tenths of a millisecond, against which handing out tasks is nothing.
const ROUNDS: usize = 100_000;
/// How long to go on looking for the best.
const PATIENCE: Duration = Duration::from_millis(8);
/// Measured at least so often, however slow the machine.
const LEAST: usize = 5;

/// Floating-point operations per second of fused multiply-adds on registers, each counting two, by all threads of `pool`
/// together with the vectors of `isa`; of one core with a pool of one.
///
/// A measurement of about 10 ms: the best of several short runs. If the machine is busy or changes its clock, the peak is
/// different a moment later, so callers should measure before and after what they compare, and take the larger.
pub fn peak_flops(isa: Isa, pool: &ThreadPool) -> f64 {
    let begin = Instant::now();
    let mut best = 0.0f64;
    let mut runs = 0;
    while runs < LEAST || begin.elapsed() < PATIENCE {
        let start = Instant::now();
        // Time is the whole group's: where one thread does two tasks, nothing is counted twice.
        let operations = AtomicUsize::new(0);
        pool.run(pool.threads(), &|_| {
            operations.fetch_add(isa.dispatch(MultiplyAdd), Ordering::Relaxed);
        });
        best = best.max(operations.into_inner() as f64 / start.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

/// Whether products of numbers in bf16 take less time than products of `f32` with the vectors of `isa`: never without
/// an instruction for them, and not on every CPU that has one. A measurement of about a millisecond.
pub fn bf16_pays(isa: Isa) -> bool {
    // In turns, so that a change of the clock meets both alike; the shortest, so that an interruption does not count.
    let mut shortest = [Duration::MAX; 2];
    for _ in 0..LEAST {
        for (shortest, pairs) in shortest.iter_mut().zip([false, true]) {
            let start = Instant::now();
            isa.dispatch(Products { pairs });
            *shortest = start.elapsed().min(*shortest);
        }
    }
    // Rounding the left matrix takes time too.
    let [singles, pairs] = shortest;
    pairs < singles.mul_f64(1.6)
}

/// Products of elements: of `f32`, or of pairs.
struct Products {
    pairs: bool,
}

impl Kernel for Products {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.pairs { s.call_dots(SumOf::<true>) } else { s.call(SumOf::<false>) }
    }
}

/// Sums of products of pairs or of `f32`, the same number of elements.
struct SumOf<const PAIRS: bool>;

impl<const PAIRS: bool> Kernel for SumOf<PAIRS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (a, b) = (s.splat(black_box(0.5)), s.splat(black_box(0.25)));
        let mut sums = [s.splat(black_box(1.0)); FEW];
        for _ in 0..ROUNDS / 10 {
            for sum in &mut sums {
                *sum = if PAIRS { s.dot_pairs(a, b, *sum) } else { s.fma(a, b, *sum) };
            }
        }
        for sum in sums {
            black_box(s.sum(sum));
        }
    }
}

/// Enough sums that none is waited for, if the registers hold them.
const MANY: usize = 24;
const FEW: usize = 12;

/// Returns how many operations it did.
struct MultiplyAdd;

impl Kernel for MultiplyAdd {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        if S::ACCUMULATORS >= MANY { rounds::<S, MANY>(s) } else { rounds::<S, FEW>(s) }
    }
}

#[inline(always)]
fn rounds<S: Simd, const SUMS: usize>(s: S) -> usize {
    // Towards 1, so that no sum leaves the range where arithmetic is fast.
    let (a, b) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
    let mut sums = [s.splat(black_box(1.0)); SUMS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = s.fma(*sum, a, b);
        }
    }
    for sum in sums {
        black_box(s.sum(sum));
    }
    2 * ROUNDS * SUMS * S::LANES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something like a speed on every instruction set, and wider vectors are not slower than plain code.
    #[test]
    fn it_is_a_speed() {
        let pool = ThreadPool::new(1);
        let peaks: Vec<f64> = Isa::available().into_iter().map(|isa| peak_flops(isa, &pool)).collect();
        assert!(peaks.iter().all(|peak| (1e7..1e13).contains(peak)), "{peaks:?}");
        let (plain, fastest) = (peaks[0], peaks[peaks.len() - 1]);
        // Half of it, because other programs may take the processor in between.
        assert!(fastest >= plain / 2.0, "{peaks:?}");
    }
}
