//! Every type of feature there and back, and states.

use std::path::Path;

use coreml_bridge::CoreMlModel;
use coreml_bridge::stand_in::{self, Engine, EngineModel, PlannedOperation};
use coreml_core::{
    Backend, CheckedInputs, CheckedValue, ErrorKind, Image, Inputs, Label, LoadOptions, Model, ModelState, Outputs,
    Value, check,
};
use coreml_model::{
    ArrayFeature, ColorLayout, DictionaryKey, Feature, FeatureKind, ImageFeature, Interface, Package, ShapeConstraint,
    SizeRange,
};
use coreml_tensor::{DType, Shape, Tensor, f16};
use coreml_testing::repository;

use super::support::{StandIn, cpu, halves};

/// Gives every input back as the output `out NAME`; sequences as dictionaries from element to position.
struct Echo(Interface);

impl Engine for Echo {
    fn open(&self, _path: &Path, _function: Option<&str>) -> Result<Box<dyn EngineModel>, String> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

impl EngineModel for Echo {
    fn interface(&self) -> &Interface {
        &self.0
    }

    fn labels(&self) -> Vec<Label> {
        ["zebra", "ape", "mole"].map(|label| Label::String(label.into())).to_vec()
    }

    fn operations(&self) -> Vec<PlannedOperation> {
        Vec::new()
    }

    fn predict(&self, inputs: &CheckedInputs<'_>, _state: Option<&mut ModelState>) -> Result<Outputs, String> {
        let value = |value: &CheckedValue<'_>| match value {
            CheckedValue::Tensor(view) => Value::Tensor(view.to_tensor()),
            CheckedValue::Made(tensor) => Value::Tensor(tensor.clone()),
            CheckedValue::Image(image) => {
                let shape = Shape::new(&[image.height, image.width, image.channels]);
                let shape = if image.channels == 1 { Shape::new(&shape[..2]) } else { shape };
                Value::Image(Tensor::new(shape, image.pixels.to_vec()).unwrap())
            }
            CheckedValue::Planes(planes) => {
                let values = planes.to_f64_vec().into_iter().map(|value| value as f32).collect();
                Value::Image(Tensor::new(Shape::new(&planes.shape()[2..]), values).unwrap())
            }
            CheckedValue::String(text) => Value::String((*text).into()),
            CheckedValue::Int64(number) => Value::Int64(*number),
            CheckedValue::Double(number) => Value::Double(*number),
            CheckedValue::Dictionary(entries) => Value::Dictionary(entries.to_vec()),
            CheckedValue::Sequence(labels) => {
                Value::Dictionary(labels.iter().cloned().zip((0..).map(f64::from)).collect())
            }
            _ => Value::String("left out".into()),
        };
        Ok(Outputs::new(inputs.iter().map(|(name, given)| (format!("out {name}"), value(given))).collect()))
    }

    fn new_state(&self) -> Result<ModelState, String> {
        Err("has none".into())
    }
}

fn feature(name: &str, kind: FeatureKind) -> Feature {
    Feature { name: name.into(), description: String::new(), kind, optional: false }
}

fn array(dtype: DType, shape: &[usize]) -> FeatureKind {
    FeatureKind::MultiArray(ArrayFeature {
        dtype,
        shape: shape.to_vec(),
        constraint: ShapeConstraint::Fixed,
        default: None,
    })
}

fn image(color: ColorLayout) -> FeatureKind {
    FeatureKind::Image(ImageFeature { width: 5, height: 3, color, constraint: ShapeConstraint::Fixed })
}

/// An interface that gives back what it takes.
fn echo(inputs: Vec<Feature>) -> Interface {
    let output = |input: &Feature| {
        let kind = match &input.kind {
            FeatureKind::Sequence(key) => FeatureKind::Dictionary(*key),
            other => other.clone(),
        };
        feature(&format!("out {}", input.name), kind)
    };
    let outputs = inputs.iter().map(output).collect();
    Interface { inputs, outputs, states: Vec::new(), predicted_feature: None, predicted_probabilities: None }
}

fn loaded(stand_in: &StandIn, interface: Interface) -> CoreMlModel {
    stand_in::install(Echo(interface));
    let path = stand_in.cache.path().join("echo.mlmodel");
    std::fs::write(&path, "echo").unwrap();
    let backend = stand_in.backend();
    let compiled = backend.compile(&path, &LoadOptions::default()).unwrap();
    backend.load_compiled(&compiled, &LoadOptions::default()).unwrap()
}

fn answer(model: &CoreMlModel, inputs: &Inputs<'_>) -> Outputs {
    model.predict(&check(model.interface(), inputs).unwrap(), None).unwrap()
}

fn string(label: &str) -> Label {
    Label::String(label.into())
}

#[test]
fn texts_and_numbers() {
    let stand_in = StandIn::new();
    let (texts, numbers) = (DictionaryKey::String, DictionaryKey::Int64);
    let model = loaded(
        &stand_in,
        echo(vec![
            feature("text", FeatureKind::String),
            feature("int", FeatureKind::Int64),
            feature("double", FeatureKind::Double),
            feature("by text", FeatureKind::Dictionary(texts)),
            feature("by number", FeatureKind::Dictionary(numbers)),
            feature("texts", FeatureKind::Sequence(texts)),
            feature("numbers", FeatureKind::Sequence(numbers)),
        ]),
    );
    let big = i64::from(i32::MAX) * 1_000_003;
    let by_text = [(string("mole"), 0.25), (string("zebra"), -1.5), (string("æther"), 1e300), (string("ape"), 0.5)];
    let by_number = [(Label::Int64(7), 1.0), (Label::Int64(-big), 2.0)];
    let inputs = Inputs::new()
        .string("text", "naïve ☃")
        .int64("int", -big)
        .double("double", 0.1)
        .dictionary("by text", by_text)
        .dictionary("by number", by_number)
        .sequence("texts", [string("b"), string(""), string("a")])
        .sequence("numbers", [Label::Int64(30), Label::Int64(-4)]);
    let outputs = answer(&model, &inputs);
    assert_eq!(outputs.string("out text").unwrap(), "naïve ☃");
    assert_eq!(outputs.int64("out int").unwrap(), -big);
    assert_eq!(outputs.double("out double").unwrap(), 0.1);
    // In the order of the model's classes, then of the labels.
    let expected = [(string("zebra"), -1.5), (string("ape"), 0.5), (string("mole"), 0.25), (string("æther"), 1e300)];
    assert_eq!(outputs.dictionary("out by text").unwrap(), expected);
    assert_eq!(outputs.dictionary("out by number").unwrap(), [(Label::Int64(-big), 2.0), (Label::Int64(7), 1.0)]);
    let expected = [(string(""), 1.0), (string("a"), 2.0), (string("b"), 0.0)];
    assert_eq!(outputs.dictionary("out texts").unwrap(), expected);
    assert_eq!(outputs.dictionary("out numbers").unwrap(), [(Label::Int64(-4), 1.0), (Label::Int64(30), 0.0)]);
}

#[test]
fn images_of_every_layout() {
    let stand_in = StandIn::new();
    let layouts = [ColorLayout::Rgb, ColorLayout::Grayscale, ColorLayout::GrayscaleFloat16];
    let names = ["color", "gray", "half"];
    let inputs = names.iter().zip(layouts).map(|(name, layout)| feature(name, image(layout))).collect();
    let model = loaded(&stand_in, echo(inputs));
    let rgb: Vec<u8> = (0..45).map(|i| (i * 5 + 3) as u8).collect();
    let gray: Vec<u8> = (0..15).map(|i| 255 - (i * 11) as u8).collect();
    let planes: Vec<f32> = (0..15).map(|i| i as f32 / 8.0 - 0.5).collect();
    let planes = Tensor::new([1, 1, 3, 5].into(), planes).unwrap();
    let inputs = Inputs::new()
        .image("color", Image::rgb8(5, 3, rgb.as_slice()).unwrap())
        .image("gray", Image::gray8(5, 3, gray.as_slice()).unwrap())
        .tensor("half", &planes);
    let outputs = answer(&model, &inputs);
    assert_eq!(outputs.tensor("out color").unwrap(), &Tensor::new([3, 5, 3].into(), rgb).unwrap());
    assert_eq!(outputs.tensor("out gray").unwrap(), &Tensor::new([3, 5].into(), gray).unwrap());
    let half = outputs.tensor("out half").unwrap();
    assert_eq!((half.shape(), half.as_slice::<f32>()), ([3, 5].into(), planes.as_slice::<f32>()));
    // Colours as floating-point planes arrive where bytes can hold them, and are refused where they cannot.
    let whole = Tensor::new([1, 3, 3, 5].into(), (0..45).map(|i| i as f32).collect()).unwrap();
    let gray = Tensor::new([3, 5].into(), vec![9u8; 15]).unwrap();
    let inputs = |color| Inputs::new().tensor("color", color).tensor("gray", &gray).tensor("half", &planes);
    let outputs = answer(&model, &inputs(&whole));
    assert_eq!(outputs.tensor("out color").unwrap().as_slice::<u8>().unwrap()[..4], [0, 15, 30, 1]);
    let between = Tensor::new([1, 3, 3, 5].into(), vec![0.5f32; 45]).unwrap();
    let given = inputs(&between);
    let error = model.predict(&check(model.interface(), &given).unwrap(), None).unwrap_err();
    assert_eq!((error.kind(), error.about_feature()), (ErrorKind::Unsupported, Some("color")));
}

#[test]
fn multi_arrays_of_every_type() {
    let stand_in = StandIn::new();
    let types = [DType::Float64, DType::Float32, DType::Float16, DType::Int32, DType::Int8];
    let inputs = types.iter().map(|&dtype| feature(dtype.name(), array(dtype, &[2, 3, 5]))).collect();
    let model = loaded(&stand_in, echo(inputs));
    let shape = Shape::new(&[2, 3, 5]);
    let doubles = Tensor::new(shape, (0..30).map(|i| f64::from(i) / 7.0).collect()).unwrap();
    let floats = Tensor::new(shape, (0..30).map(|i| i as f32 / 7.0).collect()).unwrap();
    let exact = Tensor::new(shape, halves(30)).unwrap();
    let ints = Tensor::new(shape, (0..30).map(|i| i * 70_001 - 1_000_000).collect()).unwrap();
    let bytes = Tensor::new(shape, (0..30).map(|i| (i * 8 - 120) as i8).collect()).unwrap();
    for (padded, ignored) in [(0, 0), (0, 1), (1, 0)] {
        stand_in.stage(|faults| (faults.padded_rows, faults.ignored_backings) = (padded, ignored));
        let inputs = Inputs::new().tensor("fp64", &doubles).tensor("fp32", &floats).tensor("fp16", &exact);
        let outputs = answer(&model, &inputs.tensor("int32", &ints).tensor("int8", &bytes));
        let all = [("fp64", &doubles), ("fp32", &floats), ("fp16", &exact), ("int32", &ints), ("int8", &bytes)];
        for (name, expected) in all {
            assert_eq!(outputs.tensor(&format!("out {name}")).unwrap(), expected, "{name}");
        }
    }
    // What is given in another type of the same sort is converted: rounded to half precision, to the nearest.
    stand_in.stage(|_| {});
    let inputs = Inputs::new().tensor("fp64", &floats).tensor("fp32", &doubles).tensor("fp16", &floats);
    let outputs = answer(&model, &inputs.tensor("int32", &bytes).tensor("int8", &bytes));
    let rounded: Vec<f32> = floats.view().to_f64_vec().iter().map(|&x| f16::from_f64(x).to_f32()).collect();
    assert_eq!(outputs.tensor("out fp16").unwrap().as_slice::<f32>(), Some(&rounded[..]));
    assert_eq!(outputs.tensor("out int32").unwrap().view().to_f64_vec(), bytes.view().to_f64_vec());
}

#[test]
fn flexible_shapes_and_features_left_out() {
    let stand_in = StandIn::new();
    let flexible = |constraint| {
        FeatureKind::MultiArray(ArrayFeature { dtype: DType::Float32, shape: vec![1, 4], constraint, default: None })
    };
    let range = |min, max| SizeRange { min, max };
    let mut interface = echo(vec![
        feature("some", flexible(ShapeConstraint::Enumerated(vec![vec![1, 4], vec![2, 4]]))),
        feature("many", flexible(ShapeConstraint::Range(vec![range(1, Some(9)), range(4, None)]))),
        feature("maybe", FeatureKind::String),
    ]);
    interface.inputs[2].optional = true;
    let model = loaded(&stand_in, interface.clone());
    // The stand-in and the bridge sort features by name; besides that the interface arrives as it was.
    let mut sorted = interface;
    sorted.inputs.sort_by(|a, b| a.name.cmp(&b.name));
    sorted.outputs.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(model.interface(), &sorted);
    let some = Tensor::new([2, 4].into(), halves(8)).unwrap();
    let many = Tensor::new([7, 40].into(), halves(280)).unwrap();
    stand_in.stage(|faults| faults.padded_rows = 1);
    let outputs = answer(&model, &Inputs::new().tensor("some", &some).tensor("many", &many));
    assert_eq!(outputs.tensor("out some").unwrap(), &some);
    assert_eq!(outputs.tensor("out many").unwrap(), &many);
    assert_eq!(outputs.string("out maybe").unwrap(), "left out");
}

#[test]
fn states_survive_between_predictions() {
    let stand_in = StandIn::new();
    let mut tried = 0;
    for entry in std::fs::read_dir(repository().join("tests/golden/state")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "mlmodel") {
            continue;
        }
        let package = std::sync::Arc::new(Package::open(&path).unwrap());
        let interface = package.interface(None).unwrap();
        if interface.states.is_empty() {
            continue;
        }
        let tensor = |feature: &Feature| {
            let FeatureKind::MultiArray(array) = &feature.kind else { panic!("{feature:?}") };
            let shape = Shape::new(&array.shape);
            let halves = Tensor::new(shape, halves(shape.count())).unwrap();
            let tensor = if array.dtype.is_float() { halves } else { Tensor::zeros(array.dtype, shape) };
            (feature.name.clone(), tensor)
        };
        let tensors: Vec<_> = interface.inputs.iter().map(tensor).collect();
        let inputs: Inputs<'_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let checked = check(interface, &inputs).unwrap();
        let direct = cpu().load(&package, &LoadOptions::default()).unwrap();
        for concurrent in [false, true] {
            let mut options = stand_in.options();
            options.concurrent = concurrent;
            let backend = coreml_bridge::CoreMlBackend::new(options);
            let bridged = backend.load(&package, &LoadOptions::default()).unwrap();
            let (mut ours, mut theirs) = (direct.new_state().unwrap(), bridged.new_state().unwrap());
            let mut other = bridged.new_state().unwrap();
            for step in 0..4 {
                let expected = direct.predict(&checked, Some(&mut ours)).unwrap();
                let found = bridged.predict(&checked, Some(&mut theirs)).unwrap();
                let same = found.iter().zip(expected.iter()).all(|((name, found), (other, expected))| {
                    let rounded = |value: &Value| match value {
                        Value::Tensor(tensor) => {
                            tensor.view().to_f64_vec().iter().map(|&x| f16::from_f64(x).to_f64()).collect::<Vec<_>>()
                        }
                        other => panic!("{other:?}"),
                    };
                    name == other && rounded(found) == rounded(expected)
                });
                assert!(same, "{}, step {step}:\n{found:?}\n{expected:?}", path.display());
            }
            // Another state began at zero and knows nothing of the first.
            let mut fresh = direct.new_state().unwrap();
            let (a, b) = (
                bridged.predict(&checked, Some(&mut other)).unwrap(),
                direct.predict(&checked, Some(&mut fresh)).unwrap(),
            );
            assert_eq!(a.iter().len(), b.iter().len());
            let mut foreign = ModelState::new(5);
            assert_eq!(bridged.predict(&checked, Some(&mut foreign)).unwrap_err().kind(), ErrorKind::Bug);
        }
        tried += 1;
    }
    assert!(tried >= 3, "{tried} models with states");
}
