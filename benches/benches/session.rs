//! What a prediction costs: the fixture models at one and two threads, what a session adds, and one telemetry record.
#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use coreml_anywhere::model::{Limits, Package};
use coreml_anywhere::telemetry::Histogram;
use coreml_anywhere::{Session, synthetic_inputs};
use coreml_testing::repository;
use coreml_testing::tiny::elementwise_model;
use criterion::{Criterion, criterion_group, criterion_main};

fn models(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("predict");
    group.sample_size(50);
    for name in ["EfficientNetLite0", "FastViTT8F16"] {
        for threads in [1, 2] {
            let path = repository().join(format!("tests/fixtures/models/{name}.mlpackage"));
            let session = Session::builder().threads(threads).open(path).unwrap();
            let inputs = synthetic_inputs(session.interface(), 0).unwrap();
            group.bench_function(format!("{name}/{threads}"), |bencher| {
                bencher.iter(|| black_box(session.predict(&inputs).unwrap()));
            });
        }
    }
}

/// A model of no work to speak of: what is left is checking, fallback logic, telemetry and the copies at the edge.
fn overhead(criterion: &mut Criterion) {
    let spec = elementwise_model(&[1, 16], &["relu"]);
    let package = Package::from_parts(&spec, None, &Limits::default()).unwrap();
    let session = Session::builder().threads(1).load(package).unwrap();
    let inputs = synthetic_inputs(session.interface(), 0).unwrap();
    criterion.bench_function("session overhead", |bencher| {
        bencher.iter(|| black_box(session.predict(&inputs).unwrap()));
    });
}

fn telemetry(criterion: &mut Criterion) {
    let histogram = Histogram::default();
    let mut value = 0u64;
    criterion.bench_function("histogram record", |bencher| {
        bencher.iter(|| {
            value = value.wrapping_add(977) & 0xf_ffff;
            histogram.record(black_box(value));
        });
    });
}

criterion_group!(benches, models, overhead, telemetry);
criterion_main!(benches);
