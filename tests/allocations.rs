//! A plan that has run once allocates nothing when it runs again, and a session does not grow.
//!
//! The only file with `unsafe` outside the two crates that may use it: counting allocations needs an allocator, and
//! that needs `unsafe`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use coreml_anywhere::{Backend, CpuBackend, LoadOptions, Session, synthetic_inputs};
use coreml_breaker::{BreakerConfig, CircuitBreaker, Outcome};
use coreml_engine::{Compute, Plan, PlanOptions};
use coreml_model::{Limits, Package, ValueType};
use coreml_telemetry::Histogram;
use coreml_tensor::{DType, Shape, Tensor};
use coreml_testing::repository;
use coreml_testing::tiny::elementwise_model;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory but the counters.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        LIVE_BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract, and `alloc` gave the system's memory.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// The counters are the process's, and a harness that runs several tests tells of each as it ends: so this is one.
#[test]
fn allocations() {
    the_counter_counts();
    a_warm_plan_allocates_nothing();
    guarding_a_call_and_recording_its_time_allocate_nothing();
    a_session_adds_no_allocation();
    a_session_does_not_grow();
}

fn fixture(name: &str) -> std::path::PathBuf {
    repository().join("tests/fixtures/models").join(name)
}

fn the_counter_counts() {
    let (allocations, bytes) = (ALLOCATIONS.load(Relaxed), LIVE_BYTES.load(Relaxed));
    let kept = std::hint::black_box(vec![0u8; 1000]);
    assert!(ALLOCATIONS.load(Relaxed) > allocations && LIVE_BYTES.load(Relaxed) >= bytes + 1000);
    drop(kept);
}

fn a_warm_plan_allocates_nothing() {
    for name in ["EfficientNetLite0.mlpackage", "FastViTT8F16.mlpackage"] {
        let package = Package::open(fixture(name)).unwrap();
        let function = &package.program().functions[package.default_function()];
        let shapes: Vec<Shape> = function
            .inputs
            .iter()
            .filter_map(|&id| match &function.value(id).ty {
                ValueType::Tensor(ty) => Some(ty.dims.iter().map(|dim| match dim {
                    coreml_model::Dim::Fixed(n) => *n,
                    coreml_model::Dim::Unknown => panic!("the fixtures have fixed shapes"),
                })),
                _ => None,
            })
            .map(|dims| Shape::new(&dims.collect::<Vec<_>>()))
            .collect();
        for threads in [1, 2] {
            let plan = Plan::new(function, &shapes, &PlanOptions::default(), &Compute::new(threads)).unwrap();
            let (mut workspace, mut states) = (plan.workspace().unwrap(), plan.states());
            let image = Tensor::zeros(DType::Float32, shapes[0]);
            let mut cycle = || {
                plan.set_input(&mut workspace, 0, image.view()).unwrap();
                plan.run(&mut workspace, &mut states).unwrap();
            };
            (0..3).for_each(|_| cycle());
            let before = ALLOCATIONS.load(Relaxed);
            (0..20).for_each(|_| cycle());
            let made = ALLOCATIONS.load(Relaxed) - before;
            assert_eq!(made, 0, "{name} with {threads} threads: {made} allocations in 20 runs");
        }
    }
}

/// Closed, tripped, rejecting, probing, recovered: no call through a breaker allocates, nor does recording its time.
fn guarding_a_call_and_recording_its_time_allocate_nothing() {
    let epoch = Instant::now();
    let breaker = CircuitBreaker::new(BreakerConfig::default(), 1, epoch, |_| ()).unwrap();
    let histogram = Histogram::default();
    let mut now = epoch;
    let mut states = [0; 3];
    let mut calls = |number: u32, outcome: Outcome| {
        for _ in 0..number {
            now += Duration::from_millis(1);
            match breaker.admit(now) {
                Ok(permit) => drop(std::hint::black_box(permit.settle(outcome, now))),
                Err(rejected) => drop(std::hint::black_box(rejected)),
            }
            histogram.record(u64::from(number));
            states[breaker.state() as usize] += 1;
        }
    };
    // The first time, a thread is given its number.
    calls(1, Outcome::Success);
    let before = ALLOCATIONS.load(Relaxed);
    for _ in 0..20 {
        calls(1000, Outcome::Success);
        calls(2000, Outcome::Failure);
        calls(1000, Outcome::Ignored);
    }
    let made = ALLOCATIONS.load(Relaxed) - before;
    assert_eq!(made, 0, "{made} allocations in 80,000 calls");
    assert!(states.iter().all(|calls| *calls > 100), "closed, open and half-open: {states:?}");
}

/// Without a deadline, what a session does around the call to the model is free of the heap.
fn a_session_adds_no_allocation() {
    let package = || Package::from_parts(&elementwise_model(&[4], &["tanh"]), None, &Limits::default()).unwrap();
    let backends: [Arc<dyn Backend>; 2] = [Arc::new(CpuBackend::default()), Arc::new(CpuBackend::default())];
    let session = Session::builder().threads(1).backends(backends.clone()).load(package()).unwrap();
    let mut options = LoadOptions::default();
    options.threads = 1;
    let model = backends[0].load(&Arc::new(package()), &options).unwrap();
    let inputs = synthetic_inputs(session.interface(), 0).unwrap();
    let allocations = |predict: &dyn Fn()| {
        (0..10).for_each(|_| predict());
        let before = ALLOCATIONS.load(Relaxed);
        (0..100).for_each(|_| predict());
        ALLOCATIONS.load(Relaxed) - before
    };
    let by_hand = allocations(&|| {
        let checked = coreml_core::check(session.interface(), &inputs).unwrap();
        drop(model.predict(&checked, None).unwrap());
    });
    let by_session = allocations(&|| drop(session.predict(&inputs).unwrap()));
    assert_eq!(by_session, by_hand);
}

fn a_session_does_not_grow() {
    const PREDICTIONS: usize = 10_000;
    let spec = elementwise_model(&[16, 64], &["tanh", "sigmoid", "relu"]);
    let package = Package::from_parts(&spec, None, &Limits::default()).unwrap();
    let session = Session::builder().threads(1).load(package).unwrap();
    let inputs = synthetic_inputs(session.interface(), 0).unwrap();
    (0..20).for_each(|_| drop(session.predict(&inputs).unwrap()));
    let before = LIVE_BYTES.load(Relaxed);
    (0..PREDICTIONS).for_each(|_| drop(session.predict(&inputs).unwrap()));
    let growth = LIVE_BYTES.load(Relaxed).saturating_sub(before);
    println!("{PREDICTIONS} predictions: {growth} bytes more on the heap");
    assert!(growth < 100_000, "{growth} bytes");
}
