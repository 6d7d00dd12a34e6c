//! The leak detector on this process's real memory: a planted leak is found, a healthy session is not accused.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

use std::sync::{Arc, Mutex};

use coreml_anywhere::model::{Limits, Package};
use coreml_anywhere::telemetry::{Growth, Histogram, memory};
use coreml_anywhere::{CpuBackend, Session, synthetic_inputs};
use coreml_testing::scripted::{Act, Scripted, always};
use coreml_testing::tiny::elementwise_model;

const CALLS: u64 = 20_000;
const CLEAN_RUNS: u32 = 50;
/// Bytes a call below which nothing is called a leak: an allocator takes a page now and then.
const FLOOR: f64 = 8.0;

fn growth(act: Act) -> Growth {
    let package = Package::from_parts(&elementwise_model(&[16], &["tanh"]), None, &Limits::default()).unwrap();
    let backend = Scripted::new("accelerator", Arc::new(CpuBackend::default())).on_predict(always(act));
    let session = Session::builder().threads(1).backends([backend.backend()]).load(package).unwrap();
    let inputs = synthetic_inputs(session.interface(), 0).unwrap();
    let mut readings = Vec::with_capacity(200);
    for call in 0..CALLS {
        session.predict(&inputs).unwrap();
        if call % 100 == 0 {
            readings.push((call, memory::resident_bytes().unwrap()));
        }
    }
    Growth::of(&readings).unwrap()
}

/// The memory is the whole process's: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

#[test]
fn a_planted_leak_is_found_and_a_healthy_session_is_not_accused() {
    let _one = ONE.lock().unwrap();
    let leaking = growth(Act::Leak(64));
    println!("64 bytes lost a call: {leaking}");
    assert!(leaking.exceeds(FLOOR) && leaking.bytes_per_call >= 60.0, "{leaking}");
    for run in 0..CLEAN_RUNS {
        let healthy = growth(Act::Answer);
        assert!(!healthy.exceeds(FLOOR), "run {run}: {healthy}");
    }
    println!("{CLEAN_RUNS} healthy runs of {CALLS} calls: no alarm");
}

#[test]
fn a_hundred_million_records_take_no_more_memory_than_one() {
    let _one = ONE.lock().unwrap();
    let histogram = Histogram::default();
    histogram.record(1);
    let before = memory::resident_bytes().unwrap();
    (1..100_000_000u64).for_each(|i| histogram.record(i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (i % 60)));
    let after = memory::resident_bytes().unwrap();
    let grown = after.saturating_sub(before);
    println!("10^8 records: {grown} bytes more");
    assert_eq!(histogram.snapshot().count(), 100_000_000);
    assert!(grown <= 1 << 20, "{grown}");
}
