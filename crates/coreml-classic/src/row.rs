//! The row of features that most models take.

use coreml_core::{CheckedInputs, CheckedValue, Error};
use coreml_model::{Feature, FeatureKind, Interface, ShapeConstraint};
use coreml_tensor::TensorView;

use crate::{broken, misfit, refuse};

/// How many features a model looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Width {
    Exactly(usize),
    /// Trees need not look at all of them.
    AtLeast(usize),
}

impl Width {
    fn admits(self, count: usize) -> bool {
        match self {
            Self::Exactly(wanted) => count == wanted,
            Self::AtLeast(wanted) => count >= wanted,
        }
    }

    fn told(self) -> String {
        match self {
            Self::Exactly(wanted) => format!("{wanted} features"),
            Self::AtLeast(wanted) => format!("{wanted} features or more"),
        }
    }
}

/// Where the numbers of a row come from: arrays and single numbers, in the order of the interface.
#[derive(Debug)]
pub(crate) struct Row {
    /// The name of the first input, for messages.
    first: String,
    width: Width,
}

impl Row {
    pub(crate) fn read(interface: &Interface, width: Width) -> Result<Self, Error> {
        let first = interface.inputs.first().ok_or_else(|| broken("the model has no inputs"))?.name.clone();
        // Unknown as soon as one array's size is open.
        let mut count = Some(0usize);
        for feature in &interface.inputs {
            let more = elements(feature)?;
            count = count.zip(more).and_then(|(count, more)| count.checked_add(more));
        }
        match count {
            Some(count) if !width.admits(count) => {
                Err(broken(format!("the model looks at {}, its inputs have {count}", width.told())))
            }
            _ => Ok(Self { first, width }),
        }
    }

    /// The row's numbers. What is missing is NaN.
    pub(crate) fn gather(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<f64>, Error> {
        let mut row = Vec::new();
        self.gather_into(inputs, &mut row)?;
        Ok(row)
    }

    /// Appends the row's numbers to `rows`; part of them if that fails.
    pub(crate) fn gather_into(&self, inputs: &CheckedInputs<'_>, rows: &mut Vec<f64>) -> Result<(), Error> {
        let start = rows.len();
        for (name, value) in inputs.iter() {
            numbers(name, Some(value), rows)?;
        }
        let count = rows.len() - start;
        if self.width.admits(count) {
            return Ok(());
        }
        Err(refuse(&self.first, format!("the model looks at {}, {count} are given", self.width.told())))
    }

    /// As [`Row::gather`], where a number that is none would make the answer one, too.
    pub(crate) fn gather_known(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<f64>, Error> {
        let row = self.gather(inputs)?;
        match row.iter().position(|number| number.is_nan()) {
            None => Ok(row),
            Some(position) => Err(refuse(
                &self.first,
                format!("number {position} of the row is NaN, which the model has no answer to"),
            )),
        }
    }
}

/// How many numbers a feature has; `None` if that is open.
fn elements(feature: &Feature) -> Result<Option<usize>, Error> {
    match &feature.kind {
        FeatureKind::Int64 | FeatureKind::Double => Ok(Some(1)),
        FeatureKind::MultiArray(array) if array.constraint == ShapeConstraint::Fixed && !array.shape.is_empty() => {
            Ok(array.shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size)))
        }
        FeatureKind::MultiArray(_) => Ok(None),
        _ => Err(misfit(&feature.name, "the model takes numbers and arrays only")),
    }
}

/// Appends the numbers of a value.
pub(crate) fn numbers(name: &str, value: Option<&CheckedValue<'_>>, row: &mut Vec<f64>) -> Result<(), Error> {
    match value {
        Some(CheckedValue::Tensor(view)) => append(*view, row),
        Some(CheckedValue::Made(tensor)) => append(tensor.view(), row),
        Some(CheckedValue::Double(number)) => row.push(*number),
        Some(CheckedValue::Int64(number)) => row.push(*number as f64),
        Some(CheckedValue::Absent) => row.push(f64::NAN),
        _ => return Err(refuse(name, "is not a number or an array")),
    }
    Ok(())
}

fn append(view: TensorView<'_>, row: &mut Vec<f64>) {
    match view.as_slice::<f64>() {
        Some(numbers) => row.extend_from_slice(numbers),
        None => {
            row.reserve(view.shape().count());
            view.for_each_f64(|number| row.push(number));
        }
    }
}
