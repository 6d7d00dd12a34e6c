//! Products of rounded factors: asked for or not there, said in name and plan, and close to the others.
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::sync::Arc;

use coreml_core::{Backend, Image, Inputs, LoadOptions, Outputs, check};
use coreml_engine::{CpuBackend, CpuOptions, LowPrecision};
use coreml_model::Package;
use coreml_testing::repository;

fn backend(low_precision: LowPrecision) -> CpuBackend {
    let mut options = CpuOptions::default();
    options.low_precision = low_precision;
    CpuBackend::new(options)
}

/// What `backend` answers to a photograph, and its plan.
fn answer(backend: &CpuBackend, model: &str) -> (Outputs, String) {
    let package = Package::open(repository().join("tests/fixtures/models").join(model)).unwrap();
    let package = Arc::new(package);
    let photo = Image::open(repository().join("tests/fixtures/images/coffee.png")).unwrap();
    let inputs = Inputs::new().image("image", &photo);
    let inputs = check(package.interface(None).unwrap(), &inputs).unwrap();
    let mut options = LoadOptions::default();
    options.threads = 2;
    let model = backend.load(&package, &options).unwrap();
    (model.predict(&inputs, None).unwrap(), model.info().plan)
}

const MODELS: [&str; 2] = ["EfficientNetLite0.mlpackage", "FastViTT8F16.mlpackage"];

#[test]
fn rounding_happens_where_asked_for_and_is_said() {
    for model in MODELS {
        let (plain, plan) = answer(&CpuBackend::default(), model);
        assert!(!plan.contains("bf16"), "{model}");
        let never = backend(LowPrecision::Never);
        assert_eq!((never.name(), answer(&never, model).0), ("cpu", plain.clone()), "{model}");

        let always = backend(LowPrecision::Always);
        assert_eq!(always.name(), "cpu-bf16");
        let (rounded, plan) = answer(&always, model);
        assert!(plan.contains("conv bf16"), "{model}: {plan}");
        assert_ne!(rounded, plain, "{model}");

        // Which of the two depends on the machine, but nothing else does.
        let faster = backend(LowPrecision::WhereFaster);
        let expected = if faster.name() == "cpu-bf16" { &rounded } else { &plain };
        assert_eq!(&answer(&faster, model).0, expected, "{model} on {}", faster.name());
    }
}

#[test]
fn the_reference_does_not_round() {
    let mut options = CpuOptions::reference();
    options.low_precision = LowPrecision::Always;
    assert_eq!(CpuBackend::new(options).name(), "reference");
}
