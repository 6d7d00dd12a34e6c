//! Writes outputs as arrays to files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use coreml_anywhere::tensor::npz::{Array, NpzError, Writer};
use coreml_anywhere::tensor::{Shape, Tensor};
use coreml_anywhere::{Label, Outputs, Value};

use crate::failure::Failure;

/// The outputs of each prediction as arrays by name: `NAME`, or `STEP/NAME` if there are several predictions.
pub(crate) fn output_arrays(predictions: &[Outputs]) -> Vec<(String, Array)> {
    let several = predictions.len() > 1;
    let arrays = |(step, outputs)| arrays_of(outputs, several.then_some(step));
    predictions.iter().enumerate().flat_map(arrays).collect()
}

/// The outputs of one prediction as arrays by name, of one among several with its number before each name.
fn arrays_of(outputs: &Outputs, step: Option<usize>) -> Vec<(String, Array)> {
    outputs.iter().flat_map(|(name, value)| value_arrays(array_name(name, step), value)).collect()
}

/// The array that holds the output of this name.
pub(crate) fn array_name(name: &str, step: Option<usize>) -> String {
    step.map_or_else(|| name.to_owned(), |step| format!("{step}/{name}"))
}

/// An `.npz` file, or standard output for `-`, that takes the outputs of one prediction after another.
pub(crate) struct OutputFile {
    path: String,
    writer: Writer<Box<dyn Write>>,
}

impl OutputFile {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let sink: Box<dyn Write> = if shown == STANDARD {
            Box::new(BufWriter::new(io::stdout()))
        } else {
            Box::new(BufWriter::new(File::create(path).map_err(|error| failed(&shown, error.into()))?))
        };
        Ok(Self { path: shown, writer: Writer::new(sink) })
    }

    pub(crate) fn add(&mut self, outputs: &Outputs, step: Option<usize>) -> Result<(), Failure> {
        for (name, array) in arrays_of(outputs, step) {
            self.writer.add(&name, &array).map_err(|error| failed(&self.path, error))?;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Self { path, writer } = self;
        writer.finish().map(drop).map_err(|error| failed(&path, error))
    }
}

/// The name that stands for standard input and output.
pub(crate) const STANDARD: &str = "-";

fn failed(path: &str, error: NpzError) -> Failure {
    let message = format!("cannot write {path}");
    match error {
        NpzError::Io(error) => Failure::file(message, error),
        error => Failure::file(message, error),
    }
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
