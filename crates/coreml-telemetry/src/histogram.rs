//! A log-linear histogram of durations: fixed memory, bounded relative error, hardly any contention.
//!
//! A value with `b` significant bits is cut to its top eight: the position of the highest bit and the seven bits that
//! follow select the bucket. Values below 128 have a bucket each. A bucket is thus at most 1/128 of its lower bound
//! wide, and its middle is within 1/256 (0.39 %) of every value in it. Two histograms merge by adding their buckets,
//! which loses nothing.
//!
//! Threads that record at once must not write to the same lines of memory, or each waits for the other's processor. So a
//! value first goes to a small batch that the thread has, most of the time, to itself, which takes one exchange with
//! memory. A full batch is added to the buckets, and so are all batches when the histogram is read. A thread that finds
//! its batch in use does not wait for it, but adds to the buckets.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::percentile::{self, Insufficient};

/// Bits kept below the highest one. More would double the memory for each halving of the error.
const PRECISION: u32 = 7;
/// Buckets per power of two.
const STEPS: usize = 1 << PRECISION;
/// Buckets for all of `u64`: one group for the values below [`STEPS`], one for each higher power of two. 58 KiB.
const BUCKETS: usize = (64 - PRECISION as usize + 1) * STEPS;

/// Values in a batch.
const BATCH: usize = 63;
/// Batches; of more threads than this some share one.
const BATCHES: usize = 8;
/// The length of a batch that somebody is changing: none that it can have.
const TAKEN: usize = usize::MAX;

/// Counts values, in nanoseconds, from any number of threads at once.
#[derive(Debug)]
pub struct Histogram {
    batches: [Batch; BATCHES],
    total: Mutex<Distribution>,
}

/// Values on their way to the buckets. Processors fetch lines of memory in pairs, so that batches keep that distance.
#[derive(Debug)]
#[repr(align(128))]
struct Batch {
    /// How many values there are; [`TAKEN`] gives whoever put it there the right to change them.
    len: AtomicUsize,
    values: [AtomicU64; BATCH],
}

impl Default for Histogram {
    fn default() -> Self {
        let batch = || Batch { len: AtomicUsize::new(0), values: std::array::from_fn(|_| AtomicU64::new(0)) };
        Self { batches: std::array::from_fn(|_| batch()), total: Mutex::new(Distribution::empty()) }
    }
}

impl Histogram {
    /// Counts one value.
    #[inline]
    pub fn record(&self, nanoseconds: u64) {
        let batch = &self.batches[thread_number() % BATCHES];
        let len = batch.len.swap(TAKEN, Ordering::Acquire);
        match batch.values.get(len) {
            Some(place) => {
                place.store(nanoseconds, Ordering::Relaxed);
                if len + 1 == BATCH {
                    self.flush(batch, BATCH);
                } else {
                    batch.len.store(len + 1, Ordering::Release);
                }
            }
            None => self.record_in_total(nanoseconds),
        }
    }

    #[cold]
    fn record_in_total(&self, nanoseconds: u64) {
        lock(&self.total).add(nanoseconds);
    }

    /// Counts one duration; durations above 584 years count as that.
    pub fn record_duration(&self, duration: std::time::Duration) {
        self.record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What has been counted so far. Values recorded meanwhile may be in or out.
    pub fn snapshot(&self) -> Distribution {
        for batch in &self.batches {
            loop {
                match batch.len.swap(TAKEN, Ordering::Acquire) {
                    // For a few instructions, or until a thread that was interrupted at them is run again.
                    TAKEN => std::thread::yield_now(),
                    len => break self.flush(batch, len),
                }
            }
        }
        lock(&self.total).clone()
    }

    /// Empties a batch that the caller has taken, and gives it back.
    #[cold]
    fn flush(&self, batch: &Batch, len: usize) {
        let mut total = lock(&self.total);
        batch.values[..len].iter().for_each(|value| total.add(value.load(Ordering::Relaxed)));
        batch.len.store(0, Ordering::Release);
    }
}

/// Nothing that is done under this lock can panic half-way.
fn lock(total: &Mutex<Distribution>) -> MutexGuard<'_, Distribution> {
    total.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A small number that differs between threads most of the time.
#[inline]
fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    // While a thread is being taken down its locals may be gone already; any number will do.
    NUMBER
        .try_with(|number| {
            if number.get() == usize::MAX {
                number.set(THREADS.fetch_add(1, Ordering::Relaxed) % BATCHES);
            }
            number.get()
        })
        .unwrap_or(0)
}

/// The contents of a [`Histogram`] at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    buckets: Vec<u64>,
    sum: u64,
    min: u64,
    max: u64,
}

impl Distribution {
    fn empty() -> Self {
        Self { buckets: vec![0; BUCKETS], sum: 0, min: u64::MAX, max: 0 }
    }

    fn add(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
        self.sum = self.sum.wrapping_add(nanoseconds);
        self.min = self.min.min(nanoseconds);
        self.max = self.max.max(nanoseconds);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Number of values below the `power`-th power of two, exact.
    pub fn count_up_to_power(&self, power: u32) -> u64 {
        self.buckets[..bucket(1 << power)].iter().sum()
    }

    /// The sum of all values, exact up to `u64`.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The smallest value, exact; `None` if there is none.
    pub fn min(&self) -> Option<u64> {
        (self.min <= self.max).then_some(self.min)
    }

    /// The largest value, exact; `None` if there is none.
    pub fn max(&self) -> Option<u64> {
        (self.min <= self.max).then_some(self.max)
    }

    /// Adds the values of another histogram: the result is that of having recorded everything into one.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(a, b)| *a += b);
        self.sum = self.sum.wrapping_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The value below or at which the share `quantile` of all values lies (nearest rank), within 0.39 %.
    ///
    /// # Errors
    /// [`Insufficient`] when there are too few values for this quantile: see [`percentile::minimum_samples`].
    pub fn quantile(&self, quantile: f64) -> Result<f64, Insufficient> {
        let count = self.count();
        percentile::sufficient(quantile, count)?;
        Ok(self.estimate(percentile::rank(quantile, count)))
    }

    /// The middle of the bucket that holds the `rank`-th smallest value, counted from 1.
    fn estimate(&self, rank: u64) -> f64 {
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let (low, width) = bounds(index);
                let middle = low as f64 + (width - 1) as f64 / 2.0;
                return middle.clamp(self.min as f64, self.max as f64);
            }
        }
        self.max as f64
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - PRECISION;
    // The highest bit is still in here, which selects the second half of two groups: hence no `+ 1` for the group.
    shift as usize * STEPS + (value >> shift) as usize
}

/// The smallest value of a bucket, and how many values it covers.
fn bounds(bucket: usize) -> (u64, u64) {
    if bucket < 2 * STEPS {
        return (bucket as u64, 1);
    }
    let shift = bucket / STEPS - 1;
    (((bucket % STEPS + STEPS) as u64) << shift, 1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator, so that the samples are the same everywhere.
    fn uniform(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((*state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    #[test]
    fn memory_is_bounded() {
        assert!(BUCKETS * size_of::<u64>() + size_of::<Histogram>() <= 64 << 10);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn every_value_lies_in_its_bucket() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1, (1 << bit) | (1 << bit >> 1)]);
        for value in edges.chain([u64::MAX]) {
            let (low, width) = bounds(bucket(value));
            assert!(low <= value && value - low < width, "{value} in [{low}, +{width})");
            assert!(width as f64 <= (low as f64 / 128.0).max(1.0), "{value}: width {width}");
        }
    }

    #[test]
    fn quantiles_are_within_the_stated_error_of_exact_ones() {
        let mut state = 1;
        let mut normal = || {
            let (a, b) = (uniform(&mut state), uniform(&mut state));
            (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
        };
        let log_normal: Vec<u64> = (0..200_000).map(|_| (2e6 * (0.5 * normal()).exp()) as u64).collect();
        let mut state = 2;
        // Mostly an accelerator, sometimes a slow fallback: the shape of a degraded service.
        let bimodal: Vec<u64> = (0..200_000)
            .map(|_| {
                let centre = if uniform(&mut state) < 0.95 { 1.8e6 } else { 40e6 };
                (centre * (0.9 + 0.2 * uniform(&mut state))) as u64
            })
            .collect();
        let mut state = 3;
        let pareto: Vec<u64> = (0..200_000).map(|_| (1e5 * uniform(&mut state).powf(-1.0 / 1.5)) as u64).collect();
        for (name, mut samples) in [("log-normal", log_normal), ("bimodal", bimodal), ("Pareto", pareto)] {
            let histogram = Histogram::default();
            samples.iter().for_each(|&sample| histogram.record(sample));
            samples.sort_unstable();
            let distribution = histogram.snapshot();
            for quantile in [0.5, 0.9, 0.95, 0.99, 0.999] {
                let exact = samples[percentile::rank(quantile, samples.len() as u64) as usize - 1] as f64;
                let error = (distribution.quantile(quantile).unwrap() - exact).abs() / exact;
                assert!(error <= 0.004, "{name} p{}: {error}", 100.0 * quantile);
            }
            assert_eq!(distribution.sum(), samples.iter().sum::<u64>());
            assert_eq!((distribution.min(), distribution.max()), (samples.first().copied(), samples.last().copied()));
        }
    }

    #[test]
    fn merging_shards_equals_recording_into_one() {
        let (all, shards) = (Histogram::default(), [Histogram::default(), Histogram::default()]);
        let mut state = 4;
        for i in 0..10_000 {
            let value = (uniform(&mut state).powi(-3) * 1000.0) as u64;
            all.record(value);
            shards[i % 2].record(value);
        }
        let mut merged = shards[0].snapshot();
        merged.merge(&shards[1].snapshot());
        assert_eq!(merged, all.snapshot());
    }

    #[test]
    fn threads_lose_nothing() {
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            for t in 0..4u64 {
                let histogram = &histogram;
                scope.spawn(move || (0..10_000).for_each(|i| histogram.record(t * 10_000 + i)));
            }
        });
        let distribution = histogram.snapshot();
        assert_eq!((distribution.count(), distribution.sum()), (40_000, 39_999 * 20_000));
        assert_eq!((distribution.min(), distribution.max()), (Some(0), Some(39_999)));
    }

    /// More threads than batches, and somebody who looks all the time.
    #[test]
    fn looking_neither_loses_values_nor_counts_them_twice() {
        const THREADS: u64 = BATCHES as u64 + 3;
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|t| {
                    let histogram = &histogram;
                    scope.spawn(move || {
                        for i in 0..5_000 {
                            histogram.record(t * 5_000 + i);
                            if i % 1000 == 0 {
                                assert!(histogram.snapshot().count() > i, "its own values are in");
                            }
                        }
                    })
                })
                .collect();
            let mut before = 0;
            while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                let count = histogram.snapshot().count();
                assert!(before <= count && count <= THREADS * 5_000);
                before = count;
            }
        });
        let (distribution, values) = (histogram.snapshot(), THREADS * 5_000);
        assert_eq!((distribution.count(), distribution.sum()), (values, (values - 1) * values / 2));
        assert_eq!(histogram.snapshot(), distribution);
    }

    #[test]
    fn too_few_values_give_no_quantile() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().max(), None);
        (0..100).for_each(|i| histogram.record(i));
        let distribution = histogram.snapshot();
        assert_eq!(distribution.quantile(0.5), Ok(49.0));
        let refusal = distribution.quantile(0.99).unwrap_err().to_string();
        assert_eq!(refusal, "p99 needs at least 662 samples, there are 100");
    }
}
