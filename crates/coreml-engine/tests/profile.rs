//! Profiles give the same answers as predictions, times that add up, and the same arithmetic for both kinds of plan.
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coreml_core::{Backend, CheckedInputs, Clock, ErrorKind, Image, Inputs, LoadOptions, check};
use coreml_engine::profile::{Profile, Repetitions};
use coreml_engine::{CpuBackend, CpuOptions};
use coreml_model::{Limits, Package};
use coreml_testing::{repository, tensor, tiny::elementwise_model};

/// Time goes on by a microsecond whenever somebody looks.
#[derive(Debug)]
struct Ticks {
    start: Instant,
    ticks: AtomicU64,
}

impl Ticks {
    fn new() -> Self {
        Self { start: Instant::now(), ticks: AtomicU64::new(0) }
    }
}

impl Clock for Ticks {
    fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.ticks.fetch_add(1, Ordering::Relaxed))
    }
}

fn package(name: &str) -> Arc<Package> {
    Arc::new(Package::open(repository().join("tests/fixtures/models").join(name)).unwrap())
}

fn coffee() -> Image<'static> {
    Image::open(repository().join("tests/fixtures/images/coffee.png")).unwrap()
}

fn one_thread() -> LoadOptions {
    let mut options = LoadOptions::default();
    options.threads = 1;
    options
}

fn profile(backend: &CpuBackend, package: &Arc<Package>, inputs: &CheckedInputs<'_>, runs: usize) -> Profile {
    let repetitions = Repetitions { warmup: 0, runs };
    Profile::measure(backend, package, &one_thread(), inputs, repetitions, &Ticks::new()).unwrap()
}

#[test]
fn a_profile_answers_what_a_prediction_answers_and_its_times_add_up() {
    let (package, photo, backend) = (package("EfficientNetLite0.mlpackage"), coffee(), CpuBackend::default());
    let inputs = Inputs::new().image("image", &photo);
    let inputs = check(package.interface(None).unwrap(), &inputs).unwrap();
    let model = backend.load(&package, &one_thread()).unwrap();
    let profile = profile(&backend, &package, &inputs, 3);
    // Equality of floats here is that of bits: neither has a NaN or a negative zero among its probabilities.
    assert_eq!(profile.outputs, model.predict(&inputs, None).unwrap());

    assert_eq!(profile.steps.len(), model.info().steps);
    assert_eq!((profile.threads, profile.runs.len()), (1, 3));
    assert!(profile.peak_flops > 0.0);
    let tick = Duration::from_micros(1);
    for run in &profile.runs {
        // The clock is read at the start, when the inputs are set, after every step, and at the end.
        assert_eq!(run.whole, tick * (profile.steps.len() as u32 + 2));
        assert_eq!(run.steps.len(), profile.steps.len());
        assert!(run.steps.iter().all(|(begin, end)| *end - *begin == tick));
        assert!(run.steps.windows(2).all(|pair| pair[0].1 == pair[1].0));
    }
    assert!(profile.steps.iter().all(|step| step.median == tick && step.fastest == tick));
    let lines = model.info().plan;
    let shown =
        lines.lines().filter(|line| profile.steps.iter().any(|step| line.contains(&format!("%{}", step.output))));
    assert!(shown.count() >= profile.steps.len(), "steps bear names of the plan");
}

/// Fusing, packing and chaining change how arithmetic is done, not how much there is.
#[test]
fn both_forms_of_a_plan_do_the_same_arithmetic() {
    for name in ["EfficientNetLite0.mlpackage", "FastViTT8F16.mlpackage"] {
        let (package, photo) = (package(name), coffee());
        let inputs = Inputs::new().image("image", &photo);
        let inputs = check(package.interface(None).unwrap(), &inputs).unwrap();
        let fast = profile(&CpuBackend::default(), &package, &inputs, 1);
        let slow = profile(&CpuBackend::new(CpuOptions::reference()), &package, &inputs, 1);
        let total = |profile: &Profile| profile.steps.iter().filter_map(|step| step.flops).sum::<u64>();
        assert_eq!(total(&fast), total(&slow), "{name}");

        let first = slow.steps.iter().find(|step| step.is_convolution()).unwrap();
        // 3 x 3 over 3 channels with stride 2: EfficientNet has 32 channels on 112 x 112, FastViT 48 on 128 x 128.
        // EfficientNet's image is padded to 225 x 225 by an operation of its own.
        let (channels, side, size) = if name.starts_with("Eff") { (32, 112, 225) } else { (48, 128, 256) };
        assert_eq!(first.flops, Some(2 * 3 * 3 * 3 * channels * side * side), "{name}");
        let elements = 3 * size * size + 3 * 3 * 3 * channels + channels + channels * side * side;
        // The slow plan's convolution may have its bias in an operation of its own.
        assert!((4 * (elements - channels)..=4 * elements).contains(&first.bytes), "{name}: {}", first.bytes);
        let moved = |profile: &Profile| profile.steps.iter().map(|step| step.bytes).sum::<u64>();
        assert!(moved(&fast) < moved(&slow), "{name}: fusing saves reading and writing");
    }
}

/// A pipeline of models that each take `x` and give `y`: the second one's `y` is the pipeline's.
fn pipeline(first: &[&str], second: &[&str]) -> Arc<Package> {
    fn field(number: usize, contents: &[u8]) -> Vec<u8> {
        let varint = |mut value: usize| {
            let mut bytes = Vec::new();
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
            bytes
        };
        [varint(number << 3 | 2), varint(contents.len()), contents.to_vec()].concat()
    }
    let members: Vec<u8> = [first, second].iter().flat_map(|kinds| field(1, &elementwise_model(&[4], kinds))).collect();
    // Of alternatives in a message the last one counts, so this is a model with the first one's interface.
    let bytes = [elementwise_model(&[4], first), field(202, &members)].concat();
    Arc::new(Package::from_parts(&bytes, None, &Limits::default()).unwrap())
}

#[test]
fn a_pipelines_members_follow_each_other() {
    let package = pipeline(&["tanh"], &["relu", "abs"]);
    assert_eq!(package.stages().len(), 2);
    let x = tensor(&[4], &[-2.0f32, -0.5, 0.25, 3.0]);
    let inputs = Inputs::new().tensor("x", &x);
    let inputs = check(package.interface(None).unwrap(), &inputs).unwrap();
    let backend = CpuBackend::default();
    let profile = profile(&backend, &package, &inputs, 2);
    let places: Vec<_> = profile.steps.iter().map(|step| (step.member, step.position, step.kind.as_str())).collect();
    assert_eq!(places, [(0, 0, "tanh"), (1, 0, "relu"), (1, 1, "abs")]);
    assert_eq!(profile.steps[0].bytes, 4 * (4 + 4));
    assert!(profile.steps.iter().all(|step| step.flops.is_none()));
    assert_eq!(profile.outputs, backend.load(&package, &one_thread()).unwrap().predict(&inputs, None).unwrap());
}

#[test]
fn no_runs_are_no_profile() {
    let package = pipeline(&["tanh", "abs"], &["relu"]);
    let x = tensor(&[4], &[0.0f32; 4]);
    let inputs = Inputs::new().tensor("x", &x);
    let inputs = check(package.interface(None).unwrap(), &inputs).unwrap();
    let repetitions = Repetitions { warmup: 0, runs: 0 };
    let refused =
        Profile::measure(&CpuBackend::default(), &package, &one_thread(), &inputs, repetitions, &Ticks::new());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
}
