//! Values between the members of a pipeline: outputs become inputs, and a member's result is converted to the declared
//! type of the feature.

use std::borrow::Cow;

use coreml_model::{Feature, FeatureKind, Interface};
use coreml_tensor::{DType, Shape, Tensor};

use crate::check::{self, CheckedInputs, CheckedValue, admits, describe, exact_double, exact_int64, wrong};
use crate::error::Error;
use crate::image::{self, PreparedImage};
use crate::outputs::{Value, cast};

impl<'a> CheckedInputs<'a> {
    /// The inputs of one member of a pipeline: for each feature of its interface the value that `find` returns for that
    /// name, in the feature's type. Numbers are converted if that is exact; an array may have a different shape than
    /// declared if the number of elements is the same; optional features may be missing.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) names the feature that is missing or does not fit.
    pub fn hand_on(
        interface: &'a Interface,
        mut find: impl FnMut(&str) -> Option<CheckedValue<'a>>,
    ) -> Result<Self, Error> {
        let entry = |feature: &'a Feature| {
            let value = match find(&feature.name) {
                None | Some(CheckedValue::Absent) if feature.optional => check::default(feature)?,
                None | Some(CheckedValue::Absent) => {
                    let message = format!("is missing; a member of the pipeline takes {}", describe(&feature.kind));
                    return Err(wrong(&feature.name, message));
                }
                Some(value) => fit(feature, value)?,
            };
            Ok((feature.name.as_str(), value))
        };
        Ok(Self::new(interface.inputs.iter().map(entry).collect::<Result<_, _>>()?))
    }
}

/// A value as `feature` has it.
fn fit<'a>(feature: &Feature, value: CheckedValue<'a>) -> Result<CheckedValue<'a>, Error> {
    let inexact = || wrong(&feature.name, format!("takes {}, which does not hold the number", describe(&feature.kind)));
    match (&feature.kind, value) {
        (FeatureKind::MultiArray(array), CheckedValue::Tensor(view)) => {
            if let Some(shape) = other_shape(array, view.shape()).map_err(|message| wrong(&feature.name, message))? {
                let view = view.reshape(shape).map_err(|error| wrong(&feature.name, error.to_string()))?;
                return check::elements(feature, array, view);
            }
            check::elements(feature, array, view)
        }
        (FeatureKind::MultiArray(array), CheckedValue::Made(tensor)) => {
            let view = check::elements(feature, array, tensor.view()).map(|value| match value {
                CheckedValue::Made(converted) => Some(converted),
                _ => None,
            })?;
            let tensor = view.unwrap_or(tensor);
            match other_shape(array, tensor.shape()).map_err(|message| wrong(&feature.name, message))? {
                Some(shape) => tensor.reshape(shape).map_err(|error| wrong(&feature.name, error.to_string())),
                None => Ok(tensor),
            }
            .map(CheckedValue::Made)
        }
        (FeatureKind::Image(wanted), CheckedValue::Image(picture)) => {
            let channels = if image::is_gray(wanted.color) { 1 } else { 3 };
            if picture.channels == channels && image::admits(wanted, picture.width, picture.height) {
                return Ok(CheckedValue::Image(picture));
            }
            let PreparedImage { width, height, channels, .. } = picture;
            let message =
                format!("takes {}, {width} x {height} with {channels} planes is given", describe(&feature.kind));
            Err(wrong(&feature.name, message))
        }
        (FeatureKind::Image(_), value @ CheckedValue::Planes(_))
        | (FeatureKind::String, value @ CheckedValue::String(_))
        | (FeatureKind::Int64, value @ CheckedValue::Int64(_))
        | (FeatureKind::Double, value @ CheckedValue::Double(_))
        | (FeatureKind::Dictionary(_), value @ CheckedValue::Dictionary(_))
        | (FeatureKind::Sequence(_), value @ CheckedValue::Sequence(_)) => Ok(value),
        (FeatureKind::Double, CheckedValue::Int64(number)) => {
            exact_double(number).map(CheckedValue::Double).ok_or_else(inexact)
        }
        (FeatureKind::Int64, CheckedValue::Double(number)) => {
            exact_int64(number).map(CheckedValue::Int64).ok_or_else(inexact)
        }
        (kind, _) => Err(wrong(&feature.name, format!("takes {}, a value of another type is given", describe(kind)))),
    }
}

/// The shape that an array of shape `given` must get, if it must get another.
fn other_shape(array: &coreml_model::ArrayFeature, given: Shape) -> Result<Option<Shape>, String> {
    if admits(array, given) {
        return Ok(None);
    }
    let shape = Shape::try_new(&array.shape).map_err(|error| error.to_string())?;
    if shape.count() == given.count() {
        return Ok(Some(shape));
    }
    Err(format!("takes {}, the shape {given} is given", describe(&FeatureKind::MultiArray(array.clone()))))
}

impl CheckedValue<'_> {
    /// The same value, borrowed.
    pub fn lend(&self) -> CheckedValue<'_> {
        match self {
            Self::Tensor(view) => CheckedValue::Tensor(*view),
            Self::Made(tensor) => CheckedValue::Tensor(tensor.view()),
            Self::Image(image) => CheckedValue::Image(PreparedImage { pixels: Cow::Borrowed(&image.pixels), ..*image }),
            Self::Planes(view) => CheckedValue::Planes(*view),
            Self::String(text) => CheckedValue::String(text),
            Self::Int64(value) => CheckedValue::Int64(*value),
            Self::Double(value) => CheckedValue::Double(*value),
            Self::Dictionary(entries) => CheckedValue::Dictionary(entries),
            Self::Sequence(labels) => CheckedValue::Sequence(labels),
            Self::Absent => CheckedValue::Absent,
        }
    }

    /// The value as an output, for values that pass through a model unchanged; `None` if it was left out.
    pub fn to_value(&self) -> Option<Value> {
        match self {
            Self::Tensor(view) => Some(Value::Tensor(view.to_tensor())),
            Self::Made(tensor) => Some(Value::Tensor(tensor.clone())),
            Self::Image(PreparedImage { width, height, channels, pixels }) => {
                let shape = if *channels == 1 { vec![*height, *width] } else { vec![*height, *width, *channels] };
                Tensor::new(Shape::try_new(&shape).ok()?, pixels.to_vec()).ok().map(Value::Image)
            }
            // Planes as floats have no form among the outputs that every image feature has.
            Self::Planes(_) | Self::Absent => None,
            Self::String(text) => Some(Value::String((*text).to_owned())),
            Self::Int64(value) => Some(Value::Int64(*value)),
            Self::Double(value) => Some(Value::Double(*value)),
            Self::Dictionary(entries) => Some(Value::Dictionary(entries.to_vec())),
            Self::Sequence(labels) => Some(Value::Sequence(labels.to_vec())),
        }
    }
}

impl Value {
    /// The value as an input of another model; `None` for an image in a form that no input can have.
    pub fn lend(&self) -> Option<CheckedValue<'_>> {
        Some(match self {
            Self::Tensor(tensor) => CheckedValue::Tensor(tensor.view()),
            Self::Image(image) => {
                let (height, width, channels) = match *image.shape() {
                    [height, width] => (height, width, 1),
                    [height, width, channels] => (height, width, channels),
                    _ => return None,
                };
                match image.as_slice::<u8>() {
                    Some(bytes) => {
                        let pixels = Cow::Borrowed(bytes);
                        CheckedValue::Image(PreparedImage { width, height, channels, pixels })
                    }
                    // Half-precision grey.
                    None => CheckedValue::Planes(image.view().reshape([1, 1, height, width].into()).ok()?),
                }
            }
            Self::String(text) => CheckedValue::String(text),
            Self::Int64(value) => CheckedValue::Int64(*value),
            Self::Double(value) => CheckedValue::Double(*value),
            Self::Dictionary(entries) => CheckedValue::Dictionary(entries),
            Self::Sequence(labels) => CheckedValue::Sequence(labels),
        })
    }

    /// The value in the declared type of the output `feature`: numbers are converted if that is exact, an array gets
    /// the declared shape and element type.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) names the feature that cannot hold the result of these inputs.
    pub fn deliver(self, feature: &Feature) -> Result<Self, Error> {
        let inexact =
            |number: f64| wrong(&feature.name, format!("is {}, which {number} is not", describe(&feature.kind)));
        match (&feature.kind, self) {
            (FeatureKind::Double, Self::Int64(number)) => {
                exact_double(number).map(Self::Double).ok_or_else(|| inexact(number as f64))
            }
            (FeatureKind::Int64, Self::Double(number)) => {
                exact_int64(number).map(Self::Int64).ok_or_else(|| inexact(number))
            }
            (FeatureKind::MultiArray(array), Self::Tensor(tensor)) => {
                let dtype = if array.dtype == DType::Float16 { DType::Float32 } else { array.dtype };
                let tensor = if tensor.dtype() == dtype {
                    tensor
                } else if dtype.is_float() {
                    let none = || wrong(&feature.name, format!("elements of type {dtype} are not supported"));
                    cast(tensor.view(), dtype).ok_or_else(none)?
                } else {
                    let message = || format!("has elements of type {dtype}, which do not hold the numbers");
                    check::exactly(tensor.view(), dtype).ok_or_else(|| wrong(&feature.name, message()))?
                };
                // The shapes of outputs are often declared loosely; what has another size is given as it is.
                match other_shape(array, tensor.shape()) {
                    Ok(Some(shape)) => tensor.reshape(shape).map_err(|error| wrong(&feature.name, error.to_string())),
                    _ => Ok(tensor),
                }
                .map(Self::Tensor)
            }
            (_, value) => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use coreml_model::{ArrayFeature, ShapeConstraint};

    use super::*;

    fn feature(kind: FeatureKind) -> Feature {
        Feature { name: "x".into(), description: String::new(), kind, optional: false }
    }

    fn array(dtype: DType, shape: &[usize]) -> FeatureKind {
        let constraint = ShapeConstraint::Fixed;
        FeatureKind::MultiArray(ArrayFeature { dtype, shape: shape.to_vec(), constraint, default: None })
    }

    fn handed(kind: FeatureKind, value: &Value) -> Result<Value, String> {
        let interface = Interface {
            inputs: vec![feature(kind)],
            outputs: Vec::new(),
            states: Vec::new(),
            predicted_feature: None,
            predicted_probabilities: None,
        };
        let inputs = CheckedInputs::hand_on(&interface, |_| value.lend()).map_err(|error| error.to_string())?;
        Ok(inputs.get("x").and_then(CheckedValue::to_value).unwrap())
    }

    #[test]
    fn numbers_are_handed_on_where_that_is_exact() {
        assert_eq!(handed(FeatureKind::Double, &Value::Int64(3)), Ok(Value::Double(3.0)));
        assert_eq!(handed(FeatureKind::Int64, &Value::Double(-4.0)), Ok(Value::Int64(-4)));
        for (kind, value) in [
            (FeatureKind::Int64, Value::Double(0.5)),
            (FeatureKind::Int64, Value::Double(9.3e18)),
            (FeatureKind::Int64, Value::Double(f64::NAN)),
            (FeatureKind::Double, Value::Int64((1 << 53) + 1)),
            (FeatureKind::String, Value::Int64(1)),
        ] {
            assert!(handed(kind, &value).unwrap_err().contains("feature `x`: takes"), "{value:?}");
        }
    }

    #[test]
    fn arrays_get_the_declared_shape_if_they_have_as_many_elements() {
        let three = |dims: &[usize]| Value::Tensor(Tensor::new(Shape::new(dims), vec![1.0f64, 2.0, 3.0]).unwrap());
        for shape in [&[3][..], &[1, 3], &[3, 1, 1]] {
            assert_eq!(handed(array(DType::Float64, shape), &three(&[1, 3])), Ok(three(shape)));
        }
        assert_eq!(handed(array(DType::Float64, &[]), &three(&[1, 3])), Ok(three(&[1, 3])), "a shape left open");
        let told = handed(array(DType::Float64, &[4]), &three(&[3])).unwrap_err();
        assert!(told.contains("the shape [3] is given"), "{told}");
        let whole = Tensor::new(Shape::new(&[3]), vec![1i32, 2, 3]).unwrap();
        assert_eq!(handed(array(DType::Int32, &[3]), &three(&[3])), Ok(Value::Tensor(whole)));
        let halves = Value::Tensor(Tensor::new(Shape::new(&[1]), vec![0.5f64]).unwrap());
        assert!(handed(array(DType::Int32, &[1]), &halves).unwrap_err().contains("do not all fit"));
    }

    #[test]
    fn outputs_are_delivered_as_declared() {
        let deliver = |kind, value: Value| value.deliver(&feature(kind)).map_err(|error| error.to_string());
        assert_eq!(deliver(FeatureKind::Int64, Value::Double(2.0)), Ok(Value::Int64(2)));
        let told = deliver(FeatureKind::Int64, Value::Double(2.5)).unwrap_err();
        assert_eq!(told, "feature `x`: is an integer, which 2.5 is not");
        let tensor = Tensor::new(Shape::new(&[2]), vec![0.5f64, 1.5]).unwrap();
        let single = Tensor::new(Shape::new(&[1, 2]), vec![0.5f32, 1.5]).unwrap();
        assert_eq!(deliver(array(DType::Float16, &[1, 2]), Value::Tensor(tensor)), Ok(Value::Tensor(single)));
    }
}
