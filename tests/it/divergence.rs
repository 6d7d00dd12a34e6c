//! Faults planted in optimised plans are found at the right operation, and the model that is cut out shows them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use coreml_anywhere::divergence::{Bounds, Distance, Divergence, StepError};
use coreml_anywhere::model::{Limits, Package};
use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::{
    Backend, CpuBackend, CpuOptions, Inputs, LoadOptions, Outputs, Session, Value, check, synthetic_inputs,
};
use coreml_testing::npz::Array;
use coreml_testing::repository;

use crate::compiled::golden;

/// A literal of numbers between -1 and 1.
fn noise(dims: &[usize], seed: &mut u32) -> String {
    fn list(dims: &[usize], seed: &mut u32) -> String {
        let Some((&first, rest)) = dims.split_first() else {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            return format!("{}", f64::from(*seed >> 8) / f64::from(1 << 23) - 1.0);
        };
        let parts: Vec<String> = (0..first).map(|_| list(rest, seed)).collect();
        format!("[{}]", parts.join(", "))
    }
    format!("tensor<fp32, {dims:?}>({})", list(dims, seed))
}

fn ints(values: &[i32]) -> String {
    format!("tensor<int32, [{}]>({values:?})", values.len())
}

/// A convolution of a 3 x 3 or 1 x 1 kernel that keeps the size of its image.
fn conv(x: &str, weights: &str, groups: usize, padding: i32) -> String {
    let (one, pad) = (ints(&[1, 1]), ints(&[padding; 4]));
    format!(
        "conv(x = {x}, weight = {weights}, strides = {one}, pad_type = string(\"custom\"), pad = {pad}, dilations = {one}, groups = int32({groups}))"
    )
}

/// A program in which an operation of every family reads what others gave: an image goes through convolutions and pooling, and
/// its mean through products.
fn every_family() -> String {
    let mut seed = 1;
    let mut weights = |dims: &[usize]| noise(dims, &mut seed);
    let image = "tensor<fp32, [1, 8, 24, 24]>";
    let square = "tensor<fp32, [4, 4]>";
    let operations = [
        format!("{image} dense = {};", conv("image", &weights(&[8, 3, 3, 3]), 1, 1)),
        format!("{image} rectified = relu(x = dense);"),
        format!("{image} depthwise = {};", conv("rectified", &weights(&[8, 1, 3, 3]), 8, 1)),
        format!(
            "{image} normalized = batch_norm(x = depthwise, mean = {}, variance = {}, gamma = {}, beta = {}, epsilon = fp32(2));",
            weights(&[8]),
            weights(&[8]),
            weights(&[8]),
            weights(&[8])
        ),
        format!(
            "tensor<fp32, [1, 8, 12, 12]> pooled = max_pool(x = normalized, kernel_sizes = {}, strides = {}, pad_type = string(\"valid\"), pad = {}, ceil_mode = bool(false));",
            ints(&[2, 2]),
            ints(&[2, 2]),
            ints(&[0, 0, 0, 0])
        ),
        format!(
            "{image} resized = resize_bilinear(x = pooled, target_size_height = int32(24), target_size_width = int32(24), sampling_mode = string(\"DEFAULT\"));"
        ),
        format!("{image} curved = tanh(x = resized);"),
        format!("{image} joined = mul(x = curved, y = normalized);"),
        format!(
            "tensor<fp32, [1, 8]> mean = reduce_mean(x = joined, axes = {}, keep_dims = bool(false));",
            ints(&[2, 3])
        ),
        format!(
            "tensor<fp32, [1, 16]> linear = linear(x = mean, weight = {}, bias = {});",
            weights(&[16, 8]),
            weights(&[16])
        ),
        format!("{square} table = reshape(x = linear, shape = {});", ints(&[4, 4])),
        format!(
            "{square} product = matmul(x = table, y = table, transpose_x = bool(false), transpose_y = bool(true));"
        ),
        format!("{square} chances = softmax(x = product, axis = int32(-1));"),
        format!(
            "list<{square}, 1> store = make_list(dtype = string(\"fp32\"), dynamic_length = bool(false), elem_shape = (int32(4), int32(4)), init_length = int32(1));"
        ),
        format!("list<{square}, 1> stored = list_write(index = int32(0), ls = store, value = chances);"),
        format!("{square} read = list_read(index = int32(0), ls = stored);"),
        format!("{square} level = layer_norm(x = read, axes = {}, epsilon = fp32(0.001));", ints(&[-1])),
        format!("{square} picked = gather(x = level, indices = {}, axis = int32(0));", ints(&[3, 1, 1, 0])),
        format!(
            "tensor<fp32, [4, 2]> head = slice_by_size(x = picked, begin = {}, size = {});",
            ints(&[0, 1]),
            ints(&[4, 2])
        ),
        "tensor<fp32, [4, 2]> running = cumsum(x = head, axis = int32(0), exclusive = bool(false), reverse = bool(false));"
            .to_owned(),
    ];
    program(24, &operations, "running")
}

/// A program of these operations on `image`, of so many pixels either way.
fn program(size: usize, operations: &[String], result: &str) -> String {
    let operations = operations.join("\n        ");
    format!(
        "program(1.0)\n[buildInfo = dict<string, string>({{{{\"by\", \"a test\"}}}})]\n{{\n    func main<ios17>(tensor<fp32, [1, 3, {size}, {size}]> image) {{\n        \
         {operations}\n    }} -> ({result});\n}}\n"
    )
}

/// What is planted where: the value that comes out wrong, and the operations that its step stands for.
const FAULTS: &[(&str, &[&str])] = &[
    ("rectified", &["conv", "relu"]),
    ("depthwise", &["conv"]),
    ("normalized", &["batch_norm"]),
    ("pooled", &["max_pool"]),
    ("resized", &["resize_bilinear"]),
    ("curved", &["tanh"]),
    ("joined", &["mul"]),
    ("mean", &["reduce_mean"]),
    ("linear", &["linear"]),
    ("product", &["matmul"]),
    ("chances", &["softmax"]),
    // Lists are made anew for whoever reads them.
    ("read", &["make_list", "list_write", "list_read"]),
    ("level", &["layer_norm"]),
    ("picked", &["gather"]),
    ("running", &["cumsum"]),
];

fn backend(planted: Option<&str>) -> CpuBackend {
    let mut options = CpuOptions::default();
    options.threads = 1;
    options.planted = planted.map(Into::into);
    CpuBackend::new(options)
}

fn try_measure(package: &Arc<Package>, planted: Option<&str>) -> Option<Divergence> {
    let interface = package.interface(None).unwrap().clone();
    let inputs = synthetic_inputs(&interface, 3).ok()?;
    let checked = check(&interface, &inputs).ok()?;
    Divergence::measure(&backend(planted), package, &LoadOptions::default(), &checked).ok()
}

fn measure(package: &Arc<Package>, planted: Option<&str>) -> Divergence {
    try_measure(package, planted).unwrap()
}

/// What a model answers to these inputs.
fn answer(path: &Path, backend: CpuBackend, inputs: &[(String, Tensor)]) -> Outputs {
    let session = Session::builder().backends([Arc::new(backend) as Arc<dyn Backend>]).open(path).unwrap();
    let give = |given: Inputs<'static>, (name, tensor): &(String, Tensor)| given.owned_tensor(name, tensor.clone());
    session.predict(&inputs.iter().fold(Inputs::new(), give)).unwrap().into_outputs()
}

/// How far each output is from the expected one.
fn distances(found: &Outputs, expected: &Outputs) -> Vec<Distance> {
    let pairs = expected.iter().map(|(name, expected)| (found.get(name).unwrap(), expected));
    pairs
        .map(|pair| match pair {
            (Value::Tensor(found), Value::Tensor(expected)) => Distance::between(found, expected),
            (found, expected) => {
                assert_eq!(found, expected, "labels and their numbers are copied");
                Distance::default()
            }
        })
        .collect()
}

fn model(folder: &Path, text: &str) -> Arc<Package> {
    let path = folder.join("model.mlmodelc");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("model.mil"), text).unwrap();
    Arc::new(Package::open(&path).unwrap())
}

fn kinds(step: &StepError) -> Vec<&str> {
    step.covers.iter().map(|covered| covered.kind.as_str()).collect()
}

#[test]
fn each_planted_fault_is_found_and_cut_out() {
    let folder = tempfile::tempdir().unwrap();
    let package = model(folder.path(), &every_family());
    let bounds = Bounds::default();
    for &(name, covers) in FAULTS {
        let divergence = measure(&package, Some(name));
        let found = divergence.first(bounds).unwrap_or_else(|| panic!("{name}: nothing was found"));
        assert_eq!((found.output.as_str(), kinds(found)), (name, covers.to_vec()));
        let own = found.own.clone().unwrap();
        assert!(own.relative_largest > 0.05, "{name}: {own:?}");
        // Steps after it inherit the fault, and add none of their own.
        let others = divergence.steps.iter().filter(|step| step.output != name);
        for step in others {
            assert!(step.own.is_ok() && !step.diverges(bounds), "{name}: {step:?}");
        }
        if name != "running" {
            let last = divergence.steps.last().unwrap();
            assert!(last.total.unwrap().largest > 0.0, "{name} changes no answer");
        }

        let cut = divergence.cut(found).unwrap();
        let path = folder.path().join(format!("{name}.mlpackage"));
        cut.model().write_package(&path).unwrap();
        let expected = answer(&path, CpuBackend::new(CpuOptions::reference()), &cut.inputs);
        let shown = distances(&answer(&path, backend(Some(name)), &cut.inputs), &expected);
        assert!(shown.iter().any(|&distance| !bounds.admit(distance)), "{name}: the cut model hides it: {shown:?}");
        let sound = distances(&answer(&path, backend(None), &cut.inputs), &expected);
        assert!(
            sound.iter().all(|&distance| bounds.admit(distance)),
            "{name}: the cut model is wrong itself: {sound:?}"
        );
        // Nothing but what the step stands for is in it.
        let program = Package::open(&path).unwrap().program().functions["main"].body.operations.len();
        let constants = Package::open(&path).unwrap().program().functions["main"]
            .body
            .operations
            .iter()
            .filter(|operation| operation.kind == "const")
            .count();
        assert_eq!(program - constants, covers.len(), "{name}");
    }
}

/// Convolutions that run strip by strip, so that what lies between them is never there as a whole, are judged together.
#[test]
fn a_fault_in_a_chain_is_told_with_all_that_the_chain_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut seed = 5;
    let mut weights = |dims: &[usize]| noise(dims, &mut seed);
    let (wide, narrow) = ("tensor<fp32, [1, 16, 144, 144]>", "tensor<fp32, [1, 8, 144, 144]>");
    let operations = [
        format!("{wide} first = {};", conv("image", &weights(&[16, 3, 3, 3]), 1, 1)),
        format!("{wide} rectified = relu(x = first);"),
        format!("{narrow} second = {};", conv("rectified", &weights(&[8, 16, 1, 1]), 1, 0)),
    ];
    let package = model(folder.path(), &program(144, &operations, "second"));
    let divergence = measure(&package, Some("second"));
    let found = divergence.first(Bounds::default()).unwrap();
    assert_eq!((found.kind.as_str(), kinds(found)), ("conv+relu > conv", vec!["conv", "relu", "conv"]));
    assert_eq!(measure(&package, None).first(Bounds::default()), None);
}

/// The fixtures that are quick on both plans: states, data-dependent sizes, attention and convolutions in one dimension.
const FIXTURES: [&str; 3] = ["text/text.mlmodelc", "speech/AudioEncoder.mlmodelc", "speech/TextDecoder.mlmodelc"];

fn fixture(name: &str) -> Arc<Package> {
    Arc::new(Package::open(repository().join("tests/fixtures").join(name)).unwrap())
}

#[test]
fn sound_models_have_no_step_that_diverges() {
    for name in FIXTURES {
        let divergence = measure(&fixture(name), None);
        assert_eq!(divergence.first(Bounds::default()), None, "{name}");
        assert!(divergence.steps.len() > 50, "{name}");
        // Only what reads a state cannot be judged.
        for step in &divergence.steps {
            assert!(
                step.own.as_ref().is_ok_and(|own| own.relative_l2.is_finite()) || step.kind == "read_state",
                "{step:?}"
            );
        }
    }
}

/// The mean of what has been centred is nothing but what rounding left, and the plans round in other orders.
#[test]
fn sums_that_cancel_out_are_no_divergence() {
    let folder = tempfile::tempdir().unwrap();
    let mean = "axes = tensor<int32, [3]>([1, 2, 3]), keep_dims = bool(true)";
    let operations = [
        format!("tensor<fp32, [1, 1, 1, 1]> mean = reduce_mean(x = image, {mean});"),
        "tensor<fp32, [1, 3, 24, 24]> centred = sub(x = image, y = mean);".to_owned(),
        format!("tensor<fp32, [1, 1, 1, 1]> nothing = reduce_mean(x = centred, {mean});"),
    ];
    let divergence = measure(&model(folder.path(), &program(24, &operations, "nothing")), None);
    let last = divergence.steps.last().unwrap();
    let own = last.own.clone().unwrap();
    assert!(!Bounds::default().admit(own), "the sums agree by chance, which this test is not about: {own:?}");
    assert!(!last.diverges(Bounds::default()), "{last:?}");
    assert_eq!(divergence.first(Bounds::default()), None);
}

/// A small neural network for every type of layer.
fn networks() -> Vec<Arc<Package>> {
    let arrays = coreml_testing::load(repository().join("tests/fixtures/layers.npz"));
    let model = |(name, array): (String, Array)| match array {
        Array::Tensor(bytes) if name.ends_with("/model") => {
            let package = Package::from_parts(bytes.as_slice::<u8>().unwrap(), None, &Limits::default());
            Some(Arc::new(package.unwrap()))
        }
        _ => None,
    };
    arrays.into_iter().filter_map(model).collect()
}

/// Whichever step it is, the model that is cut out of it can be written, read and run, and both plans of it agree.
#[test]
fn any_step_can_be_cut_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.mlpackage");
    let pipeline = "classic/pipeline-network-and-suppression.mlmodel";
    let mut packages = vec![model(folder.path(), &every_family()), fixture(FIXTURES[0]), fixture(pipeline)];
    packages.extend(networks().into_iter().step_by(3));
    packages.extend(golden().into_iter().step_by(16).map(|path| Arc::new(Package::open(path).unwrap())));
    let (mut cuts, mut kinds) = (0, BTreeSet::new());
    for package in packages {
        let place = package.path().display().to_string();
        // Some cases are there to be refused.
        let Some(divergence) = try_measure(&package, None) else { continue };
        for step in &divergence.steps {
            let cut = match divergence.cut(step) {
                Ok(cut) => cut,
                Err(error) => {
                    let known = ["no feature of a model is a value of type list", "no operation of ML Programs does"];
                    let known = known.iter().any(|reason| error.to_string().contains(reason));
                    assert!(step.covers.is_empty() || known, "{place}: {step:?}: {error}");
                    continue;
                }
            };
            cut.model().write_package(&path).unwrap();
            let expected = answer(&path, CpuBackend::new(CpuOptions::reference()), &cut.inputs);
            let found = distances(&answer(&path, backend(None), &cut.inputs), &expected);
            assert!(found.iter().all(|&distance| Bounds::default().admit(distance)), "{place}: {step:?}: {found:?}");
            std::fs::remove_dir_all(&path).unwrap();
            cuts += 1;
            kinds.insert(step.kind.clone());
        }
    }
    assert!(cuts > 200 && kinds.len() > 40, "{cuts} of {kinds:?}");
}
