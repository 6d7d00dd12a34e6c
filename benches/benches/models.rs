//! The two fixture models: making a plan, and one run of it on one and two threads and on the reference plan.

use std::path::Path;
use std::time::Duration;

use coreml_engine::{Compute, Plan, PlanOptions};
use coreml_model::Package;
use coreml_tensor::{Shape, TensorView};
use criterion::{Criterion, criterion_group, criterion_main};

fn models(c: &mut Criterion) {
    for (name, size) in [("FastViTT8F16", 256), ("EfficientNetLite0", 224)] {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/models").join(format!("{name}.mlpackage"));
        let package = match Package::open(&path) {
            Ok(package) => package,
            Err(error) => panic!("{error}"),
        };
        let function = &package.program().functions[package.default_function()];
        let shape = Shape::new(&[1, 3, size, size]);
        let pixels: Vec<f32> = (0..shape.count()).map(|i| ((i * 7919) % 256) as f32).collect();
        let mut group = c.benchmark_group(name);
        let plan = |options: &PlanOptions, threads| match Plan::new(function, &[shape], options, &Compute::new(threads))
        {
            Ok(plan) => plan,
            Err(error) => panic!("{error}"),
        };
        group.bench_function("plan", |b| b.iter(|| plan(&PlanOptions::default(), 1)));
        for threads in [1, 2] {
            let plan = plan(&PlanOptions::default(), threads);
            let (mut workspace, mut states) = (plan.workspace(), plan.states());
            let image = TensorView::new(shape, &pixels);
            group.bench_function(format!("run, {threads} threads"), |b| {
                b.iter(|| {
                    if let Ok(image) = image {
                        plan.set_input(&mut workspace, 0, image).map(|()| plan.run(&mut workspace, &mut states))
                    } else {
                        panic!("the pixels do not fill the shape")
                    }
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = models
}
criterion_main!(benches);
