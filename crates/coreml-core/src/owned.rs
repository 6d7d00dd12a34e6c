//! Checked inputs that outlive the caller, for backends that may still be reading them when the caller has left.

use std::borrow::Cow;

use coreml_tensor::Tensor;

use crate::check::{CheckedInputs, CheckedValue};
use crate::image::PreparedImage;
use crate::outputs::Label;

/// Inputs that fit an interface, owned. [`OwnedInputs::checked`] lends them in the form that backends take.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OwnedInputs {
    entries: Vec<(String, OwnedValue)>,
}

/// The owned form of a [`CheckedValue`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OwnedValue {
    /// A multi-array.
    Tensor(Tensor),
    /// An image feature's pixels as bytes.
    Image(PreparedImage<'static>),
    /// An image feature's pixels as floating-point planes.
    Planes(Tensor),
    /// A string.
    String(String),
    /// A 64-bit integer.
    Int64(i64),
    /// A double.
    Double(f64),
    /// Numbers by label.
    Dictionary(Vec<(Label, f64)>),
    /// Labels.
    Sequence(Vec<Label>),
    /// An optional feature, other than an array, that was left out.
    Absent,
}

impl OwnedInputs {
    /// From names and values, in the interface's order, that [`check`](crate::check()) has accepted: they are not
    /// checked again.
    pub fn new(entries: Vec<(String, OwnedValue)>) -> Self {
        Self { entries }
    }

    /// Names and values, in the interface's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &OwnedValue)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The inputs as a backend takes them.
    pub fn checked(&self) -> CheckedInputs<'_> {
        CheckedInputs::new(self.iter().map(|(name, value)| (name, value.lend())).collect())
    }
}

impl From<&CheckedInputs<'_>> for OwnedInputs {
    fn from(inputs: &CheckedInputs<'_>) -> Self {
        Self { entries: inputs.iter().map(|(name, value)| (name.to_owned(), OwnedValue::from(value))).collect() }
    }
}

impl From<&CheckedValue<'_>> for OwnedValue {
    fn from(value: &CheckedValue<'_>) -> Self {
        match value {
            CheckedValue::Tensor(view) => Self::Tensor(view.to_tensor()),
            CheckedValue::Made(tensor) => Self::Tensor(tensor.clone()),
            CheckedValue::Image(image) => {
                Self::Image(PreparedImage { pixels: Cow::Owned(image.pixels.to_vec()), ..*image })
            }
            CheckedValue::Planes(view) => Self::Planes(view.to_tensor()),
            CheckedValue::String(value) => Self::String((*value).to_owned()),
            CheckedValue::Int64(value) => Self::Int64(*value),
            CheckedValue::Double(value) => Self::Double(*value),
            CheckedValue::Dictionary(entries) => Self::Dictionary(entries.to_vec()),
            CheckedValue::Sequence(labels) => Self::Sequence(labels.to_vec()),
            CheckedValue::Absent => Self::Absent,
        }
    }
}

impl OwnedValue {
    fn lend(&self) -> CheckedValue<'_> {
        match self {
            Self::Tensor(tensor) => CheckedValue::Tensor(tensor.view()),
            Self::Image(image) => CheckedValue::Image(PreparedImage { pixels: Cow::Borrowed(&image.pixels), ..*image }),
            Self::Planes(tensor) => CheckedValue::Planes(tensor.view()),
            Self::String(value) => CheckedValue::String(value),
            Self::Int64(value) => CheckedValue::Int64(*value),
            Self::Double(value) => CheckedValue::Double(*value),
            Self::Dictionary(entries) => CheckedValue::Dictionary(entries),
            Self::Sequence(labels) => CheckedValue::Sequence(labels),
            Self::Absent => CheckedValue::Absent,
        }
    }
}
