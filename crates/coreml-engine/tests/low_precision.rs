//! Products of rounded factors: they occur only if asked for, the backend's name and the plan show them, and their
//! results are close to the others.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, helpers included")]

use std::collections::BTreeMap;
use std::sync::Arc;

use coreml_core::{Backend, Image, Inputs, LoadOptions, Outputs, Value, check};
use coreml_engine::{CpuBackend, CpuOptions, LowPrecision};
use coreml_model::Package;
use coreml_testing::repository;

fn backend(low_precision: LowPrecision) -> CpuBackend {
    let mut options = CpuOptions::default();
    options.low_precision = low_precision;
    CpuBackend::new(options)
}

/// What `backend` answers to a photograph, and its plan.
fn answer_to(photo: &str, backend: &CpuBackend, model: &str) -> (Outputs, String) {
    let package = Package::open(repository().join("tests/fixtures/models").join(model)).unwrap();
    let package = Arc::new(package);
    let photo = Image::open(repository().join("tests/fixtures/images").join(photo)).unwrap();
    let inputs = Inputs::new().image("image", &photo);
    let inputs = check(package.interface(None).unwrap(), &inputs).unwrap();
    let mut options = LoadOptions::default();
    options.threads = 2;
    let model = backend.load(&package, &options).unwrap();
    (model.predict(&inputs, None).unwrap(), model.info().plan)
}

fn answer(backend: &CpuBackend, model: &str) -> (Outputs, String) {
    answer_to("coffee.png", backend, model)
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

/// The probability of each label.
fn probabilities(outputs: &Outputs) -> BTreeMap<String, f64> {
    let probabilities = outputs.iter().find_map(|(_, value)| match value {
        Value::Dictionary(probabilities) => Some(probabilities),
        _ => None,
    });
    probabilities.unwrap().iter().map(|(label, probability)| (label.to_string(), *probability)).collect()
}

fn likeliest(probabilities: &BTreeMap<String, f64>) -> &str {
    probabilities.iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
}

#[test]
fn rounding_leaves_the_likeliest_label_and_moves_no_probability_far() {
    let photos = ["astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.png"];
    for model in MODELS {
        let (mut furthest, mut agree) = (0.0f64, 0);
        for photo in photos {
            let [plain, rounded] = [LowPrecision::Never, LowPrecision::Always]
                .map(|precision| probabilities(&answer_to(photo, &backend(precision), model).0));
            agree += usize::from(likeliest(&plain) == likeliest(&rounded));
            furthest = plain.iter().map(|(label, p)| (p - rounded[label]).abs()).fold(furthest, f64::max);
        }
        println!("{model} in bf16 against f32: L-inf {furthest:.1e}, top-1 the same for {agree} of {}", photos.len());
        assert_eq!(agree, photos.len(), "{model}");
        // What Gate C allows a backend to be away from the CPU.
        assert!(furthest <= 1e-2, "{model}: {furthest}");
    }
}

#[test]
fn the_reference_does_not_round() {
    let mut options = CpuOptions::reference();
    options.low_precision = LowPrecision::Always;
    assert_eq!(CpuBackend::new(options).name(), "reference");
}
