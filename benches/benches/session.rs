//! What a session and its telemetry cost beyond the model: a prediction of a model with next to no arithmetic, and the
//! recording of one value.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreml_anywhere::model::Package;
use coreml_anywhere::{
    Availability, Backend, CheckedInputs, CpuBackend, Error, Inputs, LoadOptions, Model, ModelInfo, ModelState,
    Outputs, Session, synthetic_inputs,
};
use coreml_breaker::{BreakerConfig, CircuitBreaker, Outcome};
use coreml_telemetry::{Histogram, Registry, names};
use coreml_tensor::Tensor;
use criterion::{Criterion, criterion_group, criterion_main};

fn session(c: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/elementwise/add-same.mlmodel");
    let session = match Session::builder().threads(1).open(path) {
        Ok(session) => session,
        Err(error) => panic!("{error}"),
    };
    let tensors: Vec<(String, Tensor)> = session
        .interface()
        .inputs
        .iter()
        .filter_map(|feature| match &feature.kind {
            coreml_anywhere::model::FeatureKind::MultiArray(array) => {
                Some((feature.name.clone(), Tensor::zeros(array.dtype, coreml_tensor::Shape::new(&array.shape))))
            }
            _ => None,
        })
        .collect();
    c.bench_function("session: predict, one small addition", |b| {
        b.iter(|| {
            let inputs = tensors.iter().fold(Inputs::new(), |inputs, (name, tensor)| inputs.tensor(name, tensor));
            session.predict(&inputs)
        });
    });
}

/// A backend that answers at once, with nothing.
#[derive(Debug, Clone, Copy)]
struct AtOnce;

impl Backend for AtOnce {
    fn name(&self) -> &'static str {
        "at-once"
    }
    fn availability(&self) -> Availability {
        Availability::Available
    }
    fn load(&self, _: &Arc<Package>, _: &LoadOptions) -> Result<Box<dyn Model>, Error> {
        Ok(Box::new(*self))
    }
}

impl Model for AtOnce {
    fn predict(&self, _: &CheckedInputs<'_>, _: Option<&mut ModelState>) -> Result<Outputs, Error> {
        Ok(Outputs::default())
    }
    fn new_state(&self) -> Result<ModelState, Error> {
        Ok(ModelState::new(()))
    }
    fn info(&self) -> ModelInfo {
        ModelInfo::default()
    }
}

/// What stands between the caller and the backend: the difference of the two is all that a session adds, its breaker,
/// its clock and its telemetry included.
fn guard(c: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/elementwise/clip-relu6.mlmodel");
    let backends: [Arc<dyn Backend>; 2] = [Arc::new(AtOnce), Arc::new(CpuBackend::default())];
    let session = match Session::builder().threads(1).trust_outputs(true).backends(backends).open(path) {
        Ok(session) => session,
        Err(error) => panic!("{error}"),
    };
    let inputs = match synthetic_inputs(session.interface(), 0) {
        Ok(inputs) => inputs,
        Err(error) => panic!("{error}"),
    };
    let mut group = c.benchmark_group("what a session adds to an immediate answer");
    group.bench_function("inputs checked, model called", |b| {
        let model: Box<dyn Model> = Box::new(AtOnce);
        b.iter(|| coreml_core::check(session.interface(), &inputs).and_then(|checked| model.predict(&checked, None)));
    });
    group.bench_function("its breaker, clock and telemetry alone", |b| {
        let epoch = Instant::now();
        let breaker = match CircuitBreaker::new(BreakerConfig::default(), 1, epoch, |_| ()) {
            Ok(breaker) => breaker,
            Err(error) => panic!("{error}"),
        };
        let registry = Registry::default();
        let duration = registry.histogram(&names::PREDICTION_DURATION, &["a"]);
        let answered = registry.counter(&names::ATTEMPTS, &["a", "ok"]);
        let predictions = registry.counter(&names::PREDICTIONS, &["ok"]);
        b.iter(|| {
            let start = Instant::now();
            let permit = breaker.admit(start);
            let end = Instant::now();
            duration.record_duration(end - start);
            answered.increment();
            predictions.increment();
            permit.map(|permit| permit.settle(Outcome::Success, end))
        });
    });
    group.bench_function("session", |b| b.iter(|| session.predict(&inputs)));
    group.finish();
}

fn telemetry(c: &mut Criterion) {
    let histogram = Histogram::default();
    let mut nanoseconds = 1000;
    c.bench_function("telemetry: record one value", |b| {
        b.iter(|| {
            nanoseconds = if nanoseconds > 1_000_000_000 { 1000 } else { nanoseconds + nanoseconds / 100 };
            histogram.record(nanoseconds);
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = session, guard, telemetry
}
criterion_main!(benches);
