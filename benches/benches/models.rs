//! The two fixture models: making a plan, and one run of it on one and two threads.

use std::time::Duration;

use coreml_benches::{criterion as config, must};
use coreml_engine::{Compute, Plan, PlanOptions};
use coreml_model::Package;
use coreml_tensor::{Shape, TensorView};
use coreml_testing::repository;
use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};

fn models(c: &mut Criterion) {
    for (name, size) in [("FastViTT8F16", 256), ("EfficientNetLite0", 224)] {
        let path = repository().join("tests/fixtures/models").join(format!("{name}.mlpackage"));
        let package = must(Package::open(&path));
        let function = &package.program().functions[package.default_function()];
        let shape = Shape::new(&[1, 3, size, size]);
        let pixels: Vec<f32> = (0..shape.count()).map(|i| ((i * 7919) % 256) as f32).collect();
        let image = must(TensorView::new(shape, &pixels));
        let mut group = c.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat);
        let plan = |threads| must(Plan::new(function, &[shape], &PlanOptions::default(), &Compute::new(threads)));
        group.bench_function("plan", |b| b.iter(|| plan(1)));
        for threads in [1, 2] {
            let plan = plan(threads);
            let (mut workspace, mut states) = (must(plan.workspace()), plan.states());
            group.bench_function(format!("run, {threads} threads"), |b| {
                b.iter(|| {
                    must(plan.set_input(&mut workspace, 0, image));
                    must(plan.run(&mut workspace, &mut states));
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = config().measurement_time(Duration::from_secs(3));
    targets = models
}
criterion_main!(benches);
