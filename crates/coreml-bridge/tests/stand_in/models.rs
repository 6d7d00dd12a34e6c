//! Real models give the bytes that the CPU engine gives when asked directly, whatever layout Core ML chooses.

use coreml_bridge::stand_in::{self, Faults, ffi};
use coreml_core::{Backend, Inputs, LoadOptions, Model, Outputs, Value};
use coreml_model::{FeatureKind, Package};
use coreml_tensor::{DType, Shape, Tensor, f16};

use super::support::{StandIn, cpu, fixture, halves, load, predict};

/// Deterministic inputs that cross the bridge without rounding.
fn inputs(package: &Package) -> Vec<(String, Tensor)> {
    let input = |feature: &coreml_model::Feature| {
        let tensor = match &feature.kind {
            FeatureKind::Image(image) => {
                let shape = Shape::new(&[image.height, image.width, 3]);
                Tensor::new(shape, (0..shape.count()).map(|i| (i * 31 % 251) as u8).collect()).unwrap()
            }
            FeatureKind::MultiArray(array) => {
                let shape = Shape::new(&array.shape);
                Tensor::new(shape, halves(shape.count())).unwrap()
            }
            other => panic!("{other:?}"),
        };
        (feature.name.clone(), tensor)
    };
    package.interface(None).unwrap().inputs.iter().map(input).collect()
}

fn half_rounded(outputs: &Outputs, package: &Package, everything: bool) -> Outputs {
    let declared_half = |name: &str| match &package.interface(None).unwrap().output(name).unwrap().kind {
        FeatureKind::MultiArray(array) => array.dtype == DType::Float16,
        _ => false,
    };
    let rounded = outputs.iter().map(|(name, value)| {
        let value = match value {
            Value::Tensor(tensor) if everything || declared_half(name) => {
                let halves = tensor.as_slice::<f32>().unwrap().iter().map(|&x| f16::from_f32(x).to_f32()).collect();
                Value::Tensor(Tensor::new(tensor.shape(), halves).unwrap())
            }
            other => other.clone(),
        };
        (name.to_owned(), value)
    });
    Outputs::new(rounded.collect())
}

fn bits(outputs: &Outputs) -> Vec<(String, Vec<u64>)> {
    let bits = |value: &Value| match value {
        Value::Tensor(tensor) | Value::Image(tensor) => {
            tensor.view().to_f64_vec().iter().map(|x| x.to_bits()).collect()
        }
        Value::Dictionary(entries) => entries.iter().map(|(_, p)| p.to_bits()).collect(),
        _ => Vec::new(),
    };
    outputs.iter().map(|(name, value)| (name.to_owned(), bits(value))).collect()
}

type Set = fn(&mut Faults);

fn identical(model: &str) {
    let stand_in = StandIn::new();
    let package = fixture(model);
    let given = inputs(&package);
    let given: Inputs<'_> = given.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let direct = predict(&*load(&cpu(), &package), &package, &given).unwrap();
    let mut options = stand_in.options();
    for concurrent in [false, true] {
        options.concurrent = concurrent;
        let bridged = load(&coreml_bridge::CoreMlBackend::new(options.clone()), &package);
        let faults: [(&str, Set); 6] = [
            ("in place", |_| {}),
            ("copied", |faults| faults.ignored_backings = 1),
            ("padded rows", |faults| faults.padded_rows = 1),
            ("aliased", |faults| faults.outputs_alias_inputs = 1),
            ("half precision", |faults| faults.half_outputs = 1),
            ("half precision, padded rows", |faults| (faults.half_outputs, faults.padded_rows) = (1, 1)),
        ];
        for (layout, set) in faults {
            stand_in.stage(set);
            let found = predict(&*bridged, &package, &given).unwrap();
            let expected = half_rounded(&direct, &package, layout.starts_with("half"));
            assert_eq!(found, expected, "{model}, {layout}");
            assert_eq!(bits(&found), bits(&expected), "{model}, {layout}");
        }
        stand_in.stage(|_| {});
    }
}

#[test]
fn efficientnet_is_bit_identical() {
    identical("EfficientNetLite0.mlpackage");
}

#[test]
fn fastvit_is_bit_identical() {
    identical("FastViTT8F16.mlpackage");
}

#[test]
fn outputs_are_written_where_they_are_wanted() {
    let stand_in = StandIn::new();
    let package = stand_in.tiny();
    let model = load(&stand_in.backend(), &package);
    let x = Tensor::new([4, 30].into(), halves(120)).unwrap();
    let before = stand_in::observe(ffi::CMLB_STANDIN_BACKED);
    let outputs = predict(&*model, &package, &Inputs::new().tensor("x", &x)).unwrap();
    assert_eq!(stand_in::observe(ffi::CMLB_STANDIN_BACKED), before + 1);
    let expected: Vec<f32> = halves(120).iter().map(|x| x.max(0.0)).collect();
    assert_eq!(outputs.tensor("y").unwrap().as_slice::<f32>(), Some(&expected[..]));
    // Core ML may refuse the memory: the prediction is made without it, and it is not offered again.
    stand_in.stage(|faults| faults.refused_backings = 1);
    for predictions in [2, 1] {
        let before = stand_in::observe(ffi::CMLB_STANDIN_PREDICTIONS);
        let again = predict(&*model, &package, &Inputs::new().tensor("x", &x)).unwrap();
        assert_eq!(again, outputs);
        assert_eq!(stand_in::observe(ffi::CMLB_STANDIN_PREDICTIONS), before + predictions);
    }
}

#[test]
fn an_output_in_an_inputs_memory_is_copied() {
    let stand_in = StandIn::new();
    let package = stand_in.tiny();
    let model = load(&stand_in.backend(), &package);
    stand_in.stage(|faults| faults.outputs_alias_inputs = 1);
    // The rectifier leaves these as they are, so that the output has the input's bytes, and here its memory.
    let mut x = Tensor::new([4, 30].into(), halves(120).iter().map(|x| x.abs()).collect()).unwrap();
    let outputs = predict(&*model, &package, &Inputs::new().tensor("x", &x)).unwrap();
    let kept = outputs.tensor("y").unwrap().clone();
    x.as_mut_slice::<f32>().unwrap().fill(7.0);
    assert_eq!(outputs.tensor("y").unwrap(), &kept);
    assert_eq!(kept.as_slice::<f32>().unwrap()[1], halves(120)[1].abs());
}

#[test]
fn a_batch_gives_what_its_members_give() {
    let stand_in = StandIn::new();
    let package = stand_in.tiny();
    let backend = stand_in.backend();
    let compiled = backend.compile(package.path(), &LoadOptions::default()).unwrap();
    let model = backend.load_compiled(&compiled, &LoadOptions::default()).unwrap();
    let tensors: Vec<_> = (0..5)
        .map(|k| Tensor::new([4, 30].into(), halves(120).iter().map(|x| x * k as f32).collect()).unwrap())
        .collect();
    let given: Vec<_> = tensors.iter().map(|tensor| Inputs::new().tensor("x", tensor)).collect();
    let checked: Vec<_> = given.iter().map(|given| coreml_core::check(model.interface(), given).unwrap()).collect();
    let one_by_one: Vec<_> = checked.iter().map(|inputs| model.predict(inputs, None).unwrap()).collect();
    stand_in.stage(|faults| faults.padded_rows = 1);
    assert_eq!(model.predict_batch(&checked).unwrap(), one_by_one);
    assert_eq!(model.predict_batch(&[]).unwrap(), []);
}

#[test]
fn compiled_models_are_kept() {
    let stand_in = StandIn::new();
    let package = stand_in.tiny();
    let backend = stand_in.backend();
    let compilations = || stand_in::observe(ffi::CMLB_STANDIN_COMPILATIONS);
    let before = compilations();
    load(&backend, &package);
    load(&backend, &package);
    load(&stand_in.backend(), &package);
    assert_eq!(compilations(), before + 1);
    let mut other = LoadOptions::default();
    other.compute_units = coreml_core::ComputeUnits::CpuOnly;
    backend.load(&package, &other).unwrap();
    assert_eq!(compilations(), before + 2, "another configuration is another model to Core ML");
    // A damaged copy is thrown away and made again.
    let compiled = backend.compile(package.path(), &LoadOptions::default()).unwrap();
    std::fs::remove_dir_all(compiled.join("model")).unwrap();
    load(&backend, &package);
    assert_eq!(compilations(), before + 3);
}

#[test]
fn the_plan_tells_where_operations_run() {
    let stand_in = StandIn::new();
    let package = fixture("FastViTT8F16.mlpackage");
    let model = load(&stand_in.backend(), &package);
    stand_in.stage(|faults| faults.neural_bytes = 12_345_678);
    let info = model.info();
    let placement = info.placement.unwrap();
    let operations = &package.program().functions[package.default_function()].body.operations;
    let casts = operations.iter().filter(|operation| operation.kind == "cast").count();
    let work = operations.iter().filter(|operation| operation.kind != "const").count();
    assert_eq!(placement.operations, work);
    assert_eq!((placement.cpu.operations, placement.neural_engine.operations), (casts, work - casts));
    let share = placement.neural_engine.cost.unwrap();
    assert!((share - (work - casts) as f64 / work as f64).abs() < 1e-9, "{share}");
    assert_eq!(info.neural_engine_bytes, Some(12_345_678));
    stand_in.stage(|_| {});
    assert_eq!(model.info().neural_engine_bytes, None, "what is not measured is not zero");
}

#[test]
fn devices_and_system_are_told() {
    let stand_in = StandIn::new();
    let backend = stand_in.backend();
    let devices = backend.devices().unwrap();
    let engine = devices.iter().find(|device| device.kind == coreml_bridge::DeviceKind::NeuralEngine).unwrap();
    assert_eq!((devices.len(), engine.core_count, engine.usable), (3, Some(16), true));
    let system = backend.system();
    assert_eq!(system, coreml_bridge::SystemReport::default(), "nothing of this is known off Apple's systems");
}
