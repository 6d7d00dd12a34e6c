//! What a session costs beyond the model: a prediction of a model with next to no arithmetic, and one that a backend
//! answers at once.

use std::sync::Arc;
use std::time::Instant;

use coreml_anywhere::model::Package;
use coreml_anywhere::{
    Availability, Backend, CheckedInputs, CpuBackend, Error, Inputs, LoadOptions, Model, ModelInfo, ModelState,
    Outputs, Session, synthetic_inputs,
};
use coreml_benches::{criterion as config, must};
use coreml_breaker::{BreakerConfig, CircuitBreaker, Outcome};
use coreml_telemetry::{Registry, names};
use coreml_tensor::{Shape, Tensor};
use coreml_testing::repository;
use criterion::{Criterion, criterion_group, criterion_main};

fn session(c: &mut Criterion) {
    let path = repository().join("tests/golden/elementwise/add-same.mlmodel");
    let session = must(Session::builder().threads(1).open(path));
    let tensors: Vec<(String, Tensor)> = session
        .interface()
        .inputs
        .iter()
        .filter_map(|feature| match &feature.kind {
            coreml_anywhere::model::FeatureKind::MultiArray(array) => {
                Some((feature.name.clone(), Tensor::zeros(array.dtype, Shape::new(&array.shape))))
            }
            _ => None,
        })
        .collect();
    c.bench_function("session: predict, one small addition", |b| {
        b.iter(|| {
            let inputs = tensors.iter().fold(Inputs::new(), |inputs, (name, tensor)| inputs.tensor(name, tensor));
            must(session.predict(&inputs))
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

/// What stands between the caller and the backend: the difference of the first and the last is all that a session adds,
/// its breaker, its clock and its telemetry included.
fn guard(c: &mut Criterion) {
    let path = repository().join("tests/golden/elementwise/clip-relu6.mlmodel");
    let backends: [Arc<dyn Backend>; 2] = [Arc::new(AtOnce), Arc::new(CpuBackend::default())];
    let session = must(Session::builder().threads(1).trust_outputs(true).backends(backends).open(path));
    let inputs = must(synthetic_inputs(session.interface(), 0));
    let mut group = c.benchmark_group("what a session adds to an immediate answer");
    group.bench_function("inputs checked, model called", |b| {
        let model: Box<dyn Model> = Box::new(AtOnce);
        b.iter(|| {
            must(coreml_core::check(session.interface(), &inputs).and_then(|inputs| model.predict(&inputs, None)))
        });
    });
    group.bench_function("its breaker, clock and telemetry alone", |b| {
        let breaker = must(CircuitBreaker::new(BreakerConfig::default(), 1, Instant::now(), |_| ()));
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
    group.bench_function("session", |b| b.iter(|| must(session.predict(&inputs))));
    assert_eq!(must(session.predict(&inputs)).served_by(), "at-once", "another backend was measured");
    group.finish();
}

criterion_group! {
    name = benches;
    config = config();
    targets = session, guard
}
criterion_main!(benches);
