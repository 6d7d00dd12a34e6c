//! The answer of a model that returns numbers.

use coreml_core::{Error, Value};
use coreml_model::{Feature, FeatureKind, Interface, ShapeConstraint};
use coreml_tensor::{Shape, Tensor};

use crate::{broken, misfit, refuse};

/// The one output of a model that gives numbers: a number, or an array of them.
#[derive(Debug)]
pub(crate) struct Numbers(Feature);

impl Numbers {
    /// The output of a model that gives `count` numbers, or as many as its input has.
    pub(crate) fn new(interface: &Interface, count: Option<usize>) -> Result<Self, Error> {
        let [feature] = interface.outputs.as_slice() else {
            return Err(broken(format!("the model gives one output, its description has {}", interface.outputs.len())));
        };
        let (fits, declared) = match &feature.kind {
            FeatureKind::Double | FeatureKind::Int64 => (count.is_none_or(|count| count == 1), 1),
            FeatureKind::MultiArray(array) => {
                let open = array.shape.is_empty() || array.constraint != ShapeConstraint::Fixed;
                let declared = array.shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
                let declared =
                    declared.ok_or_else(|| misfit(&feature.name, "has more elements than can be counted"))?;
                (open || count.is_none_or(|count| count == declared), declared)
            }
            _ => return Err(misfit(&feature.name, "gets numbers, but is neither a number nor an array")),
        };
        match count {
            Some(count) if !fits => {
                Err(misfit(&feature.name, format!("has {declared} elements, the model gives {count} numbers")))
            }
            _ => Ok(Self(feature.clone())),
        }
    }

    /// Whether the output is a single number.
    pub(crate) fn is_single(&self) -> bool {
        !matches!(self.0.kind, FeatureKind::MultiArray(_))
    }

    /// The numbers as the output.
    pub(crate) fn give(&self, numbers: Vec<f64>) -> Result<Vec<(String, Value)>, Error> {
        let shape = Shape::from([numbers.len()]);
        self.give_shaped(numbers, shape)
    }

    /// The numbers as the output, in this shape where none is declared.
    pub(crate) fn give_shaped(&self, numbers: Vec<f64>, shape: Shape) -> Result<Vec<(String, Value)>, Error> {
        let name = &self.0.name;
        let value = match (self.is_single(), numbers.as_slice()) {
            (true, &[number]) => Value::Double(number),
            (true, _) => return Err(refuse(name, format!("is one number, the model gives {}", numbers.len()))),
            (false, _) => {
                let tensor = Tensor::new(shape, numbers).map_err(|error| refuse(name, error.to_string()))?;
                Value::Tensor(tensor)
            }
        };
        Ok(vec![(name.clone(), value.deliver(&self.0)?)])
    }
}
