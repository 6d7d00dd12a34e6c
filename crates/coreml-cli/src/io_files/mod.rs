//! Tensors and pictures from files, and outputs into them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coreml_anywhere::model::{FeatureKind, Interface};
use coreml_anywhere::tensor::npz::{self, Array};
use coreml_anywhere::tensor::{DType, Shape, Tensor};
use coreml_anywhere::{ImageReader, Inputs, Label, Outputs, Value, cast, synthetic_inputs};

use crate::failure::Failure;

/// How picture files are named; what they are, their contents tell.
const PICTURES: [&str; 6] = ["png", "jpg", "jpeg", "gif", "webp", "bmp"];

/// `NAME=FILE` of `--input`.
#[derive(Debug, Clone)]
pub(crate) struct NamedFile {
    name: String,
    path: PathBuf,
}

impl std::str::FromStr for NamedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(Self { name: name.into(), path: path.into() })
            }
            _ => Err("expected NAME=FILE".into()),
        }
    }
}

/// The inputs of each prediction: one for each `.npz`, or one if there is none, each with the named files added.
pub(crate) fn read_inputs(
    interface: &Interface,
    archives: &[PathBuf],
    files: &[NamedFile],
    pictures: ImageReader,
) -> Result<Vec<Inputs<'static>>, Failure> {
    let mut predictions = Vec::new();
    for archive in archives {
        predictions.push(add_arrays(interface, read_arrays(archive)?));
    }
    if predictions.is_empty() {
        predictions.push(Inputs::new());
    }
    for NamedFile { name, path } in files {
        for inputs in &mut predictions {
            let so_far = std::mem::take(inputs);
            *inputs = match extension(path).as_str() {
                extension if PICTURES.contains(&extension) => so_far.image(name, pictures.open(path)?),
                "npy" | "npz" => add_array(so_far, interface, name, read_one(path, name)?),
                other => {
                    let message = format!(
                        "{}: cannot read `.{other}`; use .npy, .npz, .{}",
                        path.display(),
                        PICTURES.join(", .")
                    );
                    return Err(Failure::usage(message));
                }
            };
        }
    }
    Ok(predictions)
}

/// As [`read_inputs`]; where no files are given, one prediction's inputs are made up, noise that depends on `seed` alone.
pub(crate) fn read_or_make(
    interface: &Interface,
    archives: &[PathBuf],
    files: &[NamedFile],
    seed: u64,
) -> Result<Vec<Inputs<'static>>, Failure> {
    if archives.is_empty() && files.is_empty() {
        return Ok(vec![synthetic_inputs(interface, seed)?]);
    }
    read_inputs(interface, archives, files, ImageReader::new())
}

/// All arrays of an `.npz` file, or the one of an `.npy` file under the name `""`.
pub(crate) fn read_arrays(path: &Path) -> Result<Vec<(String, Array)>, Failure> {
    npz::read(path).map_err(|error| Failure::file(format!("cannot read {}", path.display()), error))
}

fn extension(path: &Path) -> String {
    path.extension().map_or_else(String::new, |extension| extension.to_string_lossy().to_ascii_lowercase())
}

/// The array `name` of a file, or its only one.
fn read_one(path: &Path, name: &str) -> Result<Array, Failure> {
    let mut arrays = read_arrays(path)?;
    let position = arrays.iter().position(|(known, _)| known == name);
    match position.or((arrays.len() == 1).then_some(0)) {
        Some(position) => Ok(arrays.swap_remove(position).1),
        None => {
            let known: Vec<_> = arrays.into_iter().map(|(known, _)| known).collect();
            let message = format!("{} has no array `{name}`", path.display());
            Err(Failure::file(message, format!("it has {}", known.join(", "))))
        }
    }
}

/// The arrays of one prediction. A dictionary is two of them, `NAME.keys` and `NAME.values`.
fn add_arrays(interface: &Interface, arrays: Vec<(String, Array)>) -> Inputs<'static> {
    let (mut inputs, mut keys) = (Inputs::new(), BTreeMap::new());
    let mut rest = Vec::new();
    let is_dictionary =
        |name: &str| matches!(interface.input(name).map(|feature| &feature.kind), Some(FeatureKind::Dictionary(_)));
    for (name, array) in arrays {
        match name.strip_suffix(".keys") {
            Some(dictionary) if is_dictionary(dictionary) => drop(keys.insert(dictionary.to_owned(), array)),
            _ => rest.push((name, array)),
        }
    }
    for (name, array) in rest {
        let dictionary = name.strip_suffix(".values").and_then(|name| Some((name, labels(keys.get(name)?)?)));
        inputs = match (dictionary, array) {
            (Some((name, labels)), Array::Tensor(values)) if labels.len() == values.shape().count() => {
                inputs.dictionary(name, labels.into_iter().zip(values.view().to_f64_vec()))
            }
            (_, array) => add_array(inputs, interface, &name, array),
        };
    }
    inputs
}

/// Strings or whole numbers as labels. An array without elements has none, whatever its type.
fn labels(array: &Array) -> Option<Vec<Label>> {
    match array {
        Array::Strings(_, strings) => Some(strings.iter().map(|label| Label::String(label.as_str().into())).collect()),
        Array::Tensor(tensor) if tensor.shape().count() == 0 => Some(Vec::new()),
        Array::Tensor(tensor) if tensor.dtype().is_float() => None,
        Array::Tensor(tensor) => {
            let whole = cast(tensor.view(), DType::Int64)?;
            Some(whole.as_slice::<i64>()?.iter().copied().map(Label::Int64).collect())
        }
    }
}

fn add_array(inputs: Inputs<'static>, interface: &Interface, name: &str, array: Array) -> Inputs<'static> {
    if let Some(FeatureKind::Sequence(_)) = interface.input(name).map(|feature| &feature.kind)
        && let Some(labels) = labels(&array)
    {
        return inputs.sequence(name, labels);
    }
    match array {
        Array::Strings(_, mut strings) if strings.len() == 1 => inputs.string(name, strings.remove(0)),
        Array::Strings(_, strings) => {
            inputs.sequence(name, strings.into_iter().map(|label| Label::String(label.into())))
        }
        Array::Tensor(tensor) => inputs.owned_tensor(name, tensor),
    }
}

/// The outputs of each prediction as arrays by name: `NAME`, or `STEP/NAME` if there are several predictions.
pub(crate) fn output_arrays(predictions: &[Outputs]) -> Vec<(String, Array)> {
    let mut arrays = Vec::new();
    for (step, outputs) in predictions.iter().enumerate() {
        for (name, value) in outputs.iter() {
            let name = if predictions.len() > 1 { format!("{step}/{name}") } else { name.to_owned() };
            arrays.extend(value_arrays(name, value));
        }
    }
    arrays
}

fn value_arrays(name: String, value: &Value) -> Vec<(String, Array)> {
    let scalar = |array| vec![(name.clone(), array)];
    match value {
        Value::Tensor(tensor) | Value::Image(tensor) => scalar(Array::Tensor(tensor.clone())),
        Value::String(string) => scalar(Array::Strings(Shape::SCALAR, vec![string.clone()])),
        Value::Int64(value) => scalar(Array::Tensor(Tensor::scalar(*value))),
        Value::Double(value) => scalar(Array::Tensor(Tensor::scalar(*value))),
        Value::Dictionary(entries) => {
            let shape = Shape::from([entries.len()]);
            let keys = label_array(entries.iter().map(|(label, _)| label));
            let numbers = Tensor::new(shape, entries.iter().map(|(_, value)| *value).collect::<Vec<f64>>());
            let values = numbers.map_or_else(|_| Array::Strings(shape, Vec::new()), Array::Tensor);
            vec![(format!("{name}.keys"), keys), (format!("{name}.values"), values)]
        }
        Value::Sequence(labels) => scalar(label_array(labels.iter())),
        _ => Vec::new(),
    }
}

/// Labels as an array of integers, or of strings.
fn label_array<'a>(labels: impl Iterator<Item = &'a Label> + Clone) -> Array {
    let integer = |label: &Label| if let Label::Int64(label) = label { Some(*label) } else { None };
    let integers: Option<Vec<i64>> = labels.clone().map(integer).collect();
    let strings = || labels.map(ToString::to_string).collect::<Vec<_>>();
    match integers.map(|integers| Tensor::new([integers.len()].into(), integers)) {
        Some(Ok(integers)) => Array::Tensor(integers),
        _ => {
            let strings = strings();
            Array::Strings([strings.len()].into(), strings)
        }
    }
}

/// Writes the outputs of each prediction to an `.npz` file.
pub(crate) fn write_outputs(path: &Path, predictions: &[Outputs]) -> Result<(), Failure> {
    let arrays = output_arrays(predictions);
    npz::write(path, arrays.iter().map(|(name, array)| (name.as_str(), array)))
        .map_err(|error| Failure::file(format!("cannot write {}", path.display()), error))
}
