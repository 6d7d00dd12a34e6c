//! Input and output features of models that turn one value into another.

use coreml_core::{CheckedInputs, CheckedValue, Error, Label, Value};
use coreml_model::{DictionaryKey, Feature, FeatureKind, Interface, ShapeConstraint};
use coreml_tensor::Shape;

use crate::{broken, misfit, refuse, row};

/// The most numbers that a model may give whose count only the file knows.
pub(crate) const MOST_NUMBERS: usize = 1 << 26;

/// The input of a model that has one.
pub(crate) fn only_input(interface: &Interface) -> Result<&Feature, Error> {
    match interface.inputs.as_slice() {
        [only] => Ok(only),
        inputs => Err(broken(format!("the model takes one input, its description has {}", inputs.len()))),
    }
}

/// The output of a model that has one.
pub(crate) fn only_output(interface: &Interface) -> Result<&Feature, Error> {
    match interface.outputs.as_slice() {
        [only] => Ok(only),
        outputs => Err(broken(format!("the model gives one output, its description has {}", outputs.len()))),
    }
}

/// Whether a feature is a string, and not an integer.
pub(crate) fn is_string(feature: &Feature) -> Result<bool, Error> {
    match feature.kind {
        FeatureKind::String => Ok(true),
        FeatureKind::Int64 => Ok(false),
        _ => Err(misfit(&feature.name, "is neither a string nor an integer")),
    }
}

/// The number of elements of an array of one shape, or of a number; `None` where it is open.
pub(crate) fn fixed_count(feature: &Feature) -> Option<usize> {
    match &feature.kind {
        FeatureKind::MultiArray(array) if array.constraint == ShapeConstraint::Fixed && !array.shape.is_empty() => {
            array.shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))
        }
        FeatureKind::Int64 | FeatureKind::Double => Some(1),
        _ => None,
    }
}

/// The input that gives numbers: an array or a single one.
#[derive(Debug)]
pub(crate) struct NumbersIn {
    name: String,
    count: Option<usize>,
}

impl NumbersIn {
    pub(crate) fn only(interface: &Interface) -> Result<Self, Error> {
        let feature = only_input(interface)?;
        match feature.kind {
            FeatureKind::MultiArray(_) | FeatureKind::Int64 | FeatureKind::Double => {
                Ok(Self { name: feature.name.clone(), count: fixed_count(feature) })
            }
            _ => Err(misfit(&feature.name, "is neither a number nor an array")),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many there are, where that is known.
    pub(crate) fn count(&self) -> Option<usize> {
        self.count
    }

    /// The numbers and their shape.
    pub(crate) fn get(&self, inputs: &CheckedInputs<'_>) -> Result<(Vec<f64>, Shape), Error> {
        let value = inputs.get(&self.name);
        let mut numbers = Vec::new();
        row::numbers(&self.name, value, &mut numbers)?;
        let shape = match value {
            Some(CheckedValue::Tensor(view)) => view.shape(),
            Some(CheckedValue::Made(tensor)) => tensor.shape(),
            _ => Shape::from([1]),
        };
        Ok((numbers, shape))
    }
}

/// A dictionary of numbers by position, as the sparse form of a row is given.
#[derive(Debug)]
pub(crate) struct Positions(String);

impl Positions {
    /// The output, if it is such a dictionary.
    pub(crate) fn read(interface: &Interface) -> Result<Option<Self>, Error> {
        let feature = only_output(interface)?;
        match feature.kind {
            FeatureKind::Dictionary(DictionaryKey::Int64) => Ok(Some(Self(feature.name.clone()))),
            FeatureKind::Dictionary(_) => Err(misfit(&feature.name, "gets positions, but its keys are no integers")),
            _ => Ok(None),
        }
    }

    pub(crate) fn give(&self, entries: impl IntoIterator<Item = (usize, f64)>) -> Vec<(String, Value)> {
        let entry = |(position, number): (usize, f64)| (Label::Int64(position as i64), number);
        vec![(self.0.clone(), Value::Dictionary(entries.into_iter().map(entry).collect()))]
    }
}

/// The entries of a dictionary; none of one that was left out.
pub(crate) fn dictionary<'a>(inputs: &'a CheckedInputs<'_>, name: &str) -> Result<&'a [(Label, f64)], Error> {
    match inputs.get(name) {
        Some(CheckedValue::Dictionary(entries)) => Ok(entries),
        Some(CheckedValue::Absent) => Ok(&[]),
        _ => Err(refuse(name, "is not a dictionary")),
    }
}
