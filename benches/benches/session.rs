//! What a session and its telemetry cost beyond the model: a prediction of a model with next to no arithmetic, and the
//! recording of one value.

use std::path::Path;
use std::time::Duration;

use coreml_anywhere::{Inputs, Session};
use coreml_telemetry::Histogram;
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
    targets = session, telemetry
}
criterion_main!(benches);
