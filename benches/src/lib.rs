//! Criterion benchmarks, in `benches/`: kernels, operations, models, what a session and its telemetry cost; and what the
//! benchmarks share.
//!
//! Only times from the same machine and hour can be compared; `scripts/peers.py` compares with other engines.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::time::Duration;

use criterion::Criterion;

/// How long a benchmark takes: short enough for all of them together to run in a few minutes, long enough for an interval
/// of some per cent on a quiet machine.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .nresamples(10_000)
}

/// The value; a benchmark that cannot be set up ends in the error's words.
///
/// # Panics
/// On an error.
pub fn must<T, E: Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// So many numbers between -1 and 1, the same every time.
pub fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}
