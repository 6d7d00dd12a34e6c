//! What telemetry costs: recording, on every prediction, and reading, now and then. The cost of one value in a
//! histogram is in `breaker`, beside other crates.

use std::hint::black_box;

use coreml_benches::criterion as config;
use coreml_telemetry::{Counter, Gauge, Histogram, Registry, names, openmetrics};
use criterion::{Criterion, criterion_group, criterion_main};

fn recording(c: &mut Criterion) {
    let mut group = c.benchmark_group("recording");
    let (counter, gauge) = (Counter::default(), Gauge::default());
    group.bench_function("an event", |b| b.iter(|| counter.increment()));
    group.bench_function("a level", |b| b.iter(|| gauge.set(black_box(0.5))));
    // Who does not keep the handle.
    let registry = session(2);
    group.bench_function("an event by the name of its counter", |b| {
        b.iter(|| registry.counter(&names::ATTEMPTS, black_box(&["backend 1", "ok"])).increment());
    });
    group.finish();
}

/// The registry of a session that has been at work with so many backends.
fn session(backends: usize) -> Registry {
    let registry = Registry::default();
    for backend in (0..backends).map(|i| format!("backend {i}")) {
        for outcome in ["ok", "fault", "timeout"] {
            registry.counter(&names::ATTEMPTS, &[&backend, outcome]).increment();
        }
        registry.gauge(&names::LOAD_DURATION, &[&backend]).set(0.1);
        for spec in [&names::PREDICTION_DURATION, &names::FAILED_ATTEMPT_DURATION] {
            let histogram = registry.histogram(spec, &[&backend]);
            (0..10_000).for_each(|i| histogram.record(1_000_000 + i * 7919 % 5_000_000));
        }
    }
    for outcome in ["ok", "fault"] {
        registry.counter(&names::PREDICTIONS, &[outcome]).increment();
    }
    registry
}

fn looking(c: &mut Criterion) {
    let mut group = c.benchmark_group("looking");
    let histogram = Histogram::default();
    group.bench_function("at a histogram, a value recorded since", |b| {
        b.iter(|| {
            histogram.record(1_000_000);
            histogram.snapshot()
        });
    });
    let (distribution, registry) = (histogram.snapshot(), session(2));
    group.bench_function("for a percentile", |b| b.iter(|| distribution.quantile(black_box(0.99))));
    group.bench_function("at a session's metrics", |b| b.iter(|| registry.snapshot()));
    let snapshot = registry.snapshot();
    group.bench_function("as OpenMetrics", |b| b.iter(|| openmetrics::write(&[(&[("model", "m")], &snapshot)])));
    group.bench_function("as JSON", |b| b.iter(|| serde_json::to_string(&snapshot)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = config();
    targets = recording, looking
}
criterion_main!(benches);
