//! A caller's inputs: values by feature name, borrowed where they are large.

use coreml_tensor::{Tensor, TensorView};

use crate::image::Image;
use crate::outputs::Label;

/// The inputs of one prediction, by feature name.
///
/// ```
/// use coreml_core::Inputs;
/// use coreml_tensor::{Shape, TensorView};
///
/// let samples = [0.0f32; 16];
/// let audio = TensorView::new(Shape::new(&[1, 16]), &samples)?;
/// let inputs = Inputs::new().tensor("audio", audio).double("gain", 0.5);
/// assert_eq!(inputs.names().collect::<Vec<_>>(), ["audio", "gain"]);
/// # Ok::<(), coreml_tensor::TensorError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Inputs<'a> {
    entries: Vec<(String, Input<'a>)>,
}

/// One value that a caller brings.
#[derive(Debug, Clone)]
pub(crate) enum Input<'a> {
    Tensor(TensorView<'a>),
    Owned(Tensor),
    Image(Image<'a>),
    String(String),
    Int64(i64),
    Double(f64),
    Dictionary(Vec<(Label, f64)>),
    Sequence(Vec<Label>),
}

impl Input<'_> {
    /// The tensor, if it is one, owned or borrowed.
    pub(crate) fn as_tensor(&self) -> Option<TensorView<'_>> {
        match self {
            Self::Tensor(view) => Some(*view),
            Self::Owned(tensor) => Some(tensor.view()),
            _ => None,
        }
    }

    /// The value's type in words.
    pub(crate) fn describe(&self) -> String {
        let tensor = |view: TensorView<'_>| format!("a {} tensor of shape {}", view.dtype(), view.shape());
        match self {
            Self::Tensor(view) => tensor(*view),
            Self::Owned(owned) => tensor(owned.view()),
            Self::Image(image) => format!("an image of {} x {}", image.width(), image.height()),
            Self::String(_) => "a string".into(),
            Self::Int64(_) => "an integer".into(),
            Self::Double(_) => "a double".into(),
            Self::Dictionary(_) => "a dictionary".into(),
            Self::Sequence(_) => "a sequence".into(),
        }
    }
}

impl<'a> Inputs<'a> {
    /// No inputs yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, name: impl Into<String>, input: Input<'a>) -> Self {
        self.entries.push((name.into(), input));
        self
    }

    /// A tensor, borrowed. For a multi-array its shape must be one the feature takes and its elements must be of the
    /// same kind (floating-point, integer or boolean). For an image feature it holds the pixels as they are to be used:
    /// `uint8` H×W×3 (red, green, blue) or H×W (grey), or floating-point 1×C×H×W from 0 to 255 with its planes in the
    /// feature's own colour order.
    pub fn tensor(self, name: impl Into<String>, tensor: impl Into<TensorView<'a>>) -> Self {
        self.with(name, Input::Tensor(tensor.into()))
    }

    /// Like [`Inputs::tensor`], for a tensor that these inputs own.
    pub fn owned_tensor(self, name: impl Into<String>, tensor: Tensor) -> Self {
        self.with(name, Input::Owned(tensor))
    }

    /// A picture; it is cropped, resized and converted to what the feature takes, see [`Image`].
    pub fn image(self, name: impl Into<String>, image: impl Into<Image<'a>>) -> Self {
        self.with(name, Input::Image(image.into()))
    }

    /// A string.
    pub fn string(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(name, Input::String(value.into()))
    }

    /// A 64-bit integer.
    pub fn int64(self, name: impl Into<String>, value: i64) -> Self {
        self.with(name, Input::Int64(value))
    }

    /// A double.
    pub fn double(self, name: impl Into<String>, value: f64) -> Self {
        self.with(name, Input::Double(value))
    }

    /// A dictionary of numbers by label.
    pub fn dictionary(self, name: impl Into<String>, entries: impl IntoIterator<Item = (Label, f64)>) -> Self {
        self.with(name, Input::Dictionary(entries.into_iter().collect()))
    }

    /// A sequence of labels.
    pub fn sequence(self, name: impl Into<String>, labels: impl IntoIterator<Item = Label>) -> Self {
        self.with(name, Input::Sequence(labels.into_iter().collect()))
    }

    /// The names given so far, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn entries(&self) -> &[(String, Input<'a>)] {
        &self.entries
    }
}

impl<'a, N: Into<String>, T: Into<TensorView<'a>>> FromIterator<(N, T)> for Inputs<'a> {
    /// Tensors by name.
    fn from_iter<I: IntoIterator<Item = (N, T)>>(tensors: I) -> Self {
        let entry = |(name, tensor): (N, T)| (name.into(), Input::Tensor(tensor.into()));
        Self { entries: tensors.into_iter().map(entry).collect() }
    }
}
