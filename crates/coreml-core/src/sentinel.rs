//! Catches answers that cannot be right before the caller sees them.
//!
//! An accelerator that overflows half precision, reads a padded buffer as if it were dense, or is asked for a shape it
//! does not know may still report success. The model's interface says what its answer must look like.

use coreml_model::{ArrayFeature, Feature, FeatureKind, Interface, ShapeConstraint};
use coreml_tensor::{DType, DataView, Tensor};

use crate::check::admits;
use crate::error::{Error, ErrorKind};
use crate::outputs::{Outputs, Value};

/// Checks that `outputs` has a value of the right type, data type and shape for every output of `interface`, and that
/// no number is NaN or infinite.
///
/// # Errors
/// [`ErrorKind::Fault`] names the first feature that is wrong, and how.
pub(crate) fn inspect(interface: &Interface, outputs: &Outputs) -> Result<(), Error> {
    for feature in &interface.outputs {
        let found = outputs.iter().find(|(name, _)| *name == feature.name);
        let problem = match found {
            Some((_, value)) => problem(feature, value),
            None => Some("is missing".into()),
        };
        if let Some(problem) = problem {
            return Err(Error::feature(ErrorKind::Fault, &feature.name, format!("the backend's answer {problem}")));
        }
    }
    Ok(())
}

fn problem(feature: &Feature, value: &Value) -> Option<String> {
    match (&feature.kind, value) {
        (FeatureKind::MultiArray(array), Value::Tensor(tensor)) => array_problem(array, tensor),
        (FeatureKind::Image(_), Value::Image(tensor)) => non_finite(tensor),
        (FeatureKind::Dictionary(_), Value::Dictionary(entries)) => {
            let wrong = entries.iter().find(|(_, value)| !value.is_finite());
            wrong.map(|(label, value)| format!("is {value} for `{label}`"))
        }
        (FeatureKind::Double, Value::Double(value)) => (!value.is_finite()).then(|| format!("is {value}")),
        (FeatureKind::String, Value::String(_))
        | (FeatureKind::Int64, Value::Int64(_))
        // A classifier's label may be declared as either.
        | (FeatureKind::String, Value::Int64(_))
        | (FeatureKind::Int64, Value::String(_))
        | (FeatureKind::Sequence(_), Value::Sequence(_)) => None,
        (_, value) => Some(format!("is a {}", value.describe())),
    }
}

fn array_problem(array: &ArrayFeature, tensor: &Tensor) -> Option<String> {
    // Half precision is delivered as single.
    let dtype = if array.dtype == DType::Float16 { DType::Float32 } else { array.dtype };
    if tensor.dtype() != dtype {
        return Some(format!("has elements of type {}, not {dtype}", tensor.dtype()));
    }
    let dims = tensor.shape();
    // Flexible models leave the shapes of their outputs open.
    let admitted = (array.shape.is_empty() && array.constraint == ShapeConstraint::Fixed) || admits(array, dims);
    if admitted { non_finite(tensor) } else { Some(format!("has the shape {dims}, not {:?}", array.shape)) }
}

fn non_finite(tensor: &Tensor) -> Option<String> {
    // Without an early exit, so that the compiler makes vector code of it.
    let clean = match tensor.view().data() {
        DataView::Float32(values) => values.iter().fold(true, |clean, x| clean & x.is_finite()),
        _ if !tensor.dtype().is_float() => true,
        _ => {
            let mut clean = true;
            tensor.view().for_each_f64(|value| clean &= value.is_finite());
            clean
        }
    };
    if clean {
        return None;
    }
    let values = tensor.view().to_f64_vec();
    let (position, value) = values.iter().enumerate().find(|(_, value)| !value.is_finite())?;
    Some(format!("is {value} at position {position} of {}", values.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coreml_tensor::Shape;

    fn interface(kind: FeatureKind) -> Interface {
        let feature = Feature { name: "y".into(), description: String::new(), kind, optional: false };
        Interface {
            inputs: Vec::new(),
            outputs: vec![feature],
            states: Vec::new(),
            predicted_feature: None,
            predicted_probabilities: None,
        }
    }

    fn array(dtype: DType, shape: &[usize]) -> FeatureKind {
        let constraint = ShapeConstraint::Fixed;
        FeatureKind::MultiArray(ArrayFeature { dtype, shape: shape.to_vec(), constraint, default: None })
    }

    fn told(kind: FeatureKind, value: Value) -> Option<String> {
        let outputs = Outputs::new(vec![("y".into(), value)]);
        inspect(&interface(kind), &outputs).err().map(|error| error.to_string())
    }

    fn tensor(values: &[f32]) -> Value {
        Value::Tensor(Tensor::new(Shape::new(&[values.len()]), values.to_vec()).unwrap())
    }

    #[test]
    fn right_answers_pass() {
        assert_eq!(told(array(DType::Float32, &[2]), tensor(&[1.0, f32::MAX])), None);
        assert_eq!(told(array(DType::Float16, &[2]), tensor(&[1.0, -2.0])), None);
        assert_eq!(told(array(DType::Float32, &[]), tensor(&[1.0])), None, "a shape left open");
        assert_eq!(told(FeatureKind::String, Value::String("cat".into())), None);
        let many: Vec<f32> = (0..10_000).map(|i| i as f32 * 1e30).collect();
        assert_eq!(told(array(DType::Float32, &[10_000]), tensor(&many)), None);
    }

    #[test]
    fn wrong_ones_are_named() {
        let words = "feature `y`: the backend's answer";
        for (value, position) in [(f32::NAN, 9_999), (f32::INFINITY, 0), (f32::NEG_INFINITY, 5_000)] {
            let mut values = vec![1.0; 10_000];
            values[position] = value;
            let expected = format!("{words} is {value} at position {position} of 10000");
            assert_eq!(told(array(DType::Float32, &[10_000]), tensor(&values)), Some(expected));
        }
        let shape = told(array(DType::Float32, &[1, 2]), tensor(&[1.0, 2.0]));
        assert_eq!(shape, Some(format!("{words} has the shape [2], not [1, 2]")));
        let integers = Value::Tensor(Tensor::new(Shape::new(&[1]), vec![1i32]).unwrap());
        let dtype = told(array(DType::Float32, &[1]), integers);
        assert_eq!(dtype, Some(format!("{words} has elements of type int32, not fp32")));
        assert_eq!(told(FeatureKind::String, tensor(&[1.0])), Some(format!("{words} is a fp32 tensor of shape [1]")));
        assert_eq!(told(FeatureKind::Double, Value::Double(f64::NAN)), Some(format!("{words} is NaN")));
        let missing = inspect(&interface(FeatureKind::String), &Outputs::default()).unwrap_err();
        assert_eq!((missing.kind(), missing.to_string()), (ErrorKind::Fault, format!("{words} is missing")));
    }
}
