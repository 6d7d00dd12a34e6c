//! A prediction's outputs: values by feature name.

use std::fmt;
use std::sync::Arc;

use coreml_tensor::{DType, Data, Tensor, TensorView, f16};

use crate::error::{Error, ErrorKind};

/// The outputs of one prediction, in the order of the interface.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outputs {
    entries: Vec<(String, Value)>,
}

/// One output value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A multi-array, in the feature's shape. The element type is the declared one, except for `float16`, which comes
    /// as `float32`: an engine that computes in higher precision than declared does not round its result.
    Tensor(Tensor),
    /// An image: `uint8` H×W×3 (red, green, blue) or H×W (grey); `float32` H×W for a feature of half-precision grey.
    Image(Tensor),
    /// A string: a classifier's label, for instance.
    String(String),
    /// A 64-bit integer.
    Int64(i64),
    /// A double.
    Double(f64),
    /// Numbers by label, in the model's order: a classifier's probabilities, for instance.
    Dictionary(Vec<(Label, f64)>),
    /// Labels, in order: a recommender's items, for instance.
    Sequence(Vec<Label>),
}

/// The key of a dictionary, or a class.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Label {
    /// A string; shared, because every answer of a classifier has all labels.
    String(Arc<str>),
    /// An integer.
    Int64(i64),
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(label) => f.pad(label),
            Self::Int64(label) => fmt::Display::fmt(label, f),
        }
    }
}

impl Value {
    /// The value's type in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Tensor(tensor) => format!("{} tensor of shape {}", tensor.dtype(), tensor.shape()),
            Self::Image(tensor) => format!("{} image of shape {}", tensor.dtype(), tensor.shape()),
            Self::String(_) => "string".into(),
            Self::Int64(_) => "integer".into(),
            Self::Double(_) => "double".into(),
            Self::Dictionary(entries) => format!("dictionary of {}", entries.len()),
            Self::Sequence(labels) => format!("sequence of {}", labels.len()),
        }
    }
}

impl Outputs {
    /// Outputs from a backend's values by name.
    pub fn new(entries: Vec<(String, Value)>) -> Self {
        Self { entries }
    }

    /// Those whose name is one to `keep`.
    pub(crate) fn keep(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.entries.retain(|(name, _)| keep(name));
        self
    }

    /// Removes and returns the value of this name.
    ///
    /// # Errors
    /// As [`Outputs::get`].
    pub fn take(&mut self, name: &str) -> Result<Value, Error> {
        match self.entries.iter().position(|(known, _)| known == name) {
            Some(position) => Ok(self.entries.remove(position).1),
            None => Err(self.get(name).err().unwrap_or_else(|| Error::new(ErrorKind::Bug, "an output has vanished"))),
        }
    }

    /// Names and values, in order, owned.
    pub fn into_entries(self) -> Vec<(String, Value)> {
        self.entries
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value of this name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when there is none; the message lists those there are.
    pub fn get(&self, name: &str) -> Result<&Value, Error> {
        self.iter().find(|&(known, _)| known == name).map(|(_, value)| value).ok_or_else(|| {
            let known: Vec<_> = self.iter().map(|(known, _)| format!("`{known}`")).collect();
            let message = format!("the model has no such output; it has {}", known.join(", "));
            Error::feature(ErrorKind::InvalidInput, name, message)
        })
    }

    /// The multi-array or image of this name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when there is none, or it is of another type.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, Error> {
        match self.get(name)? {
            Value::Tensor(tensor) | Value::Image(tensor) => Ok(tensor),
            other => Err(mismatch(name, other, "a tensor")),
        }
    }

    /// The string of this name.
    ///
    /// # Errors
    /// As [`Outputs::tensor`].
    pub fn string(&self, name: &str) -> Result<&str, Error> {
        match self.get(name)? {
            Value::String(string) => Ok(string),
            other => Err(mismatch(name, other, "a string")),
        }
    }

    /// The integer of this name.
    ///
    /// # Errors
    /// As [`Outputs::tensor`].
    pub fn int64(&self, name: &str) -> Result<i64, Error> {
        match self.get(name)? {
            Value::Int64(value) => Ok(*value),
            other => Err(mismatch(name, other, "an integer")),
        }
    }

    /// The double of this name.
    ///
    /// # Errors
    /// As [`Outputs::tensor`].
    pub fn double(&self, name: &str) -> Result<f64, Error> {
        match self.get(name)? {
            Value::Double(value) => Ok(*value),
            other => Err(mismatch(name, other, "a double")),
        }
    }

    /// The dictionary of this name.
    ///
    /// # Errors
    /// As [`Outputs::tensor`].
    pub fn dictionary(&self, name: &str) -> Result<&[(Label, f64)], Error> {
        match self.get(name)? {
            Value::Dictionary(entries) => Ok(entries),
            other => Err(mismatch(name, other, "a dictionary")),
        }
    }

    /// The sequence of this name.
    ///
    /// # Errors
    /// As [`Outputs::tensor`].
    pub fn sequence(&self, name: &str) -> Result<&[Label], Error> {
        match self.get(name)? {
            Value::Sequence(labels) => Ok(labels),
            other => Err(mismatch(name, other, "a sequence")),
        }
    }

    /// The outputs that have NaN or infinite numbers, with how many of each, and how many numbers there are in all.
    pub fn non_finite(&self) -> Vec<NonFinite<'_>> {
        self.iter()
            .map(|(name, value)| NonFinite::of(name, value))
            .filter(|found| found.nan + found.infinite > 0)
            .collect()
    }

    /// The `k` largest entries of the first dictionary, largest first: a classifier's likeliest classes. Empty if no
    /// output is a dictionary.
    pub fn top(&self, k: usize) -> Vec<(&Label, f64)> {
        let dictionary = self.entries.iter().find_map(|(_, value)| match value {
            Value::Dictionary(entries) => Some(entries),
            _ => None,
        });
        let mut entries: Vec<_> = dictionary.into_iter().flatten().map(|(label, p)| (label, *p)).collect();
        entries.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        entries.truncate(k);
        entries
    }
}

/// The numbers of one output that are not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NonFinite<'a> {
    /// The output.
    pub name: &'a str,
    /// Numbers that are NaN.
    pub nan: usize,
    /// Numbers that are infinite.
    pub infinite: usize,
    /// All numbers of the output.
    pub count: usize,
}

impl<'a> NonFinite<'a> {
    fn of(name: &'a str, value: &Value) -> Self {
        let mut found = Self { name, nan: 0, infinite: 0, count: 0 };
        let mut look = |number: f64| {
            found.nan += usize::from(number.is_nan());
            found.infinite += usize::from(number.is_infinite());
            found.count += 1;
        };
        match value {
            Value::Tensor(tensor) | Value::Image(tensor) => tensor.view().for_each_f64(look),
            Value::Dictionary(entries) => entries.iter().for_each(|&(_, number)| look(number)),
            Value::Double(number) => look(*number),
            Value::String(_) | Value::Int64(_) | Value::Sequence(_) => {}
        }
        found
    }
}

/// `y: of 10 numbers 3 are NaN and 1 infinite`.
impl fmt::Display for NonFinite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, nan, infinite, count } = self;
        write!(f, "{name}: of {count} numbers {nan} are NaN and {infinite} infinite")
    }
}

fn mismatch(name: &str, found: &Value, wanted: &str) -> Error {
    Error::feature(ErrorKind::InvalidInput, name, format!("is a {}, not {wanted}", found.describe()))
}

/// The elements as another type: integers saturate, fractions are rounded to the nearest integer, halves to the even
/// one. `None` for types that have no conversion, and if memory runs out.
pub fn cast(tensor: TensorView<'_>, dtype: DType) -> Option<Tensor> {
    if tensor.dtype() == dtype {
        return Some(tensor.to_tensor());
    }
    let mut values = Vec::new();
    values.try_reserve_exact(tensor.shape().count()).ok()?;
    tensor.for_each_f64(|value| values.push(value));
    // `as` saturates, and takes NaN to 0.
    macro_rules! integers {
        ($variant:ident, $ty:ty) => {
            Data::$variant(values.into_iter().map(|x| x.round_ties_even() as $ty).collect())
        };
    }
    let data = match dtype {
        DType::Bool => Data::Bool(values.into_iter().map(|x| x != 0.0).collect()),
        DType::Int8 => integers!(Int8, i8),
        DType::UInt8 => integers!(UInt8, u8),
        DType::Int16 => integers!(Int16, i16),
        DType::UInt16 => integers!(UInt16, u16),
        DType::Int32 => integers!(Int32, i32),
        DType::UInt32 => integers!(UInt32, u32),
        DType::Int64 => integers!(Int64, i64),
        DType::UInt64 => integers!(UInt64, u64),
        DType::Float16 => Data::Float16(values.into_iter().map(f16::from_f64).collect()),
        DType::Float32 => Data::Float32(values.into_iter().map(|x| x as f32).collect()),
        DType::Float64 => Data::Float64(values),
        _ => return None,
    };
    Tensor::from_data(tensor.shape(), data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_saturate_and_round_half_to_even() {
        let values = Tensor::new([6].into(), vec![-1.0f32, 0.5, 1.5, 254.6, 300.0, f32::NAN]).unwrap();
        let as_u8 = cast(values.view(), DType::UInt8).unwrap();
        assert_eq!(as_u8.as_slice::<u8>(), Some(&[0, 0, 2, 255, 255, 0][..]));
        let as_i8 = cast(values.view(), DType::Int8).unwrap();
        assert_eq!(as_i8.as_slice::<i8>(), Some(&[-1, 0, 2, 127, 127, 0][..]));
    }

    #[test]
    fn what_is_no_finite_number_is_counted() {
        let tensor = Tensor::new([4].into(), vec![f32::NAN, 1.0, f32::INFINITY, f32::NAN]).unwrap();
        let whole = Tensor::new([2].into(), vec![1i32, 2]).unwrap();
        let outputs = Outputs::new(vec![("y".into(), Value::Tensor(tensor)), ("n".into(), Value::Tensor(whole))]);
        let found = outputs.non_finite();
        assert_eq!(found, [NonFinite { name: "y", nan: 2, infinite: 1, count: 4 }]);
        assert_eq!(found[0].to_string(), "y: of 4 numbers 2 are NaN and 1 infinite");
    }

    #[test]
    fn values_are_typed() {
        let label = |name: &str| Label::String(name.into());
        let dictionary = vec![(label("a"), 0.25), (label("b"), 0.75)];
        let outputs = Outputs::new(vec![
            ("label".into(), Value::String("b".into())),
            ("probs".into(), Value::Dictionary(dictionary.clone())),
        ]);
        assert_eq!(outputs.string("label").unwrap(), "b");
        assert_eq!(outputs.top(1), [(&label("b"), 0.75)]);
        let error = outputs.tensor("label").unwrap_err();
        assert_eq!(error.to_string(), "feature `label`: is a string, not a tensor");
        let error = outputs.string("lable").unwrap_err();
        assert_eq!(error.to_string(), "feature `lable`: the model has no such output; it has `label`, `probs`");
    }
}
