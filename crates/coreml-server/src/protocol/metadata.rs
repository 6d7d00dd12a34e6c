//! A model's inputs and outputs, in the protocol's terms.

use coreml_anywhere::model::{ColorLayout, DictionaryKey, Feature, FeatureKind, Interface, ShapeConstraint, SizeRange};
use coreml_anywhere::tensor::DType;
use serde::Serialize;

use super::Datatype;

/// The name of the platform that models are reported with.
pub(crate) const PLATFORM: &str = "coreml";

/// A model's metadata.
#[derive(Debug, Serialize)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) versions: Vec<String>,
    pub(crate) platform: &'static str,
    pub(crate) inputs: Vec<TensorMetadata>,
    pub(crate) outputs: Vec<TensorMetadata>,
}

/// One tensor of it. Sizes that vary are -1.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct TensorMetadata {
    pub(crate) name: String,
    pub(crate) datatype: &'static str,
    pub(crate) shape: Vec<i64>,
}

impl Metadata {
    pub(crate) fn of(name: &str, versions: Vec<String>, interface: &Interface) -> Self {
        let told = |features: &[Feature]| features.iter().map(tensor).collect();
        let (inputs, outputs) = (told(&interface.inputs), told(&interface.outputs));
        Self { name: name.to_owned(), versions, platform: PLATFORM, inputs, outputs }
    }
}

pub(super) fn tensor(feature: &Feature) -> TensorMetadata {
    let strings = Datatype::strings().name();
    let (datatype, shape) = match &feature.kind {
        FeatureKind::Int64 => ("INT64", vec![1]),
        FeatureKind::Double => ("FP64", vec![1]),
        FeatureKind::String => (strings, vec![1]),
        FeatureKind::Image(image) => {
            let size = match &image.constraint {
                ShapeConstraint::Fixed => [told(image.height), told(image.width)],
                ShapeConstraint::Range([width, height]) => [range(height), range(width)],
                _ => [-1, -1],
            };
            match image.color {
                ColorLayout::Grayscale => ("UINT8", size.to_vec()),
                ColorLayout::GrayscaleFloat16 => ("FP32", size.to_vec()),
                _ => ("UINT8", [size[0], size[1], 3].to_vec()),
            }
        }
        FeatureKind::MultiArray(array) | FeatureKind::State(array) => {
            // Half precision is taken and given in single precision, which JSON has a form for.
            let dtype = if array.dtype == DType::Float16 { DType::Float32 } else { array.dtype };
            let shape = match &array.constraint {
                ShapeConstraint::Fixed => array.shape.iter().copied().map(told).collect(),
                ShapeConstraint::Range(sizes) => sizes.iter().map(range).collect(),
                ShapeConstraint::Enumerated(shapes) => common(shapes),
                _ => vec![-1; array.shape.len()],
            };
            (Datatype::of(dtype).map_or(strings, Datatype::name), shape)
        }
        FeatureKind::Sequence(DictionaryKey::Int64) => ("INT64", vec![-1]),
        // The values; the labels come with the classification extension. As an input it is one JSON object.
        FeatureKind::Dictionary(_) => ("FP64", vec![-1]),
        _ => (strings, vec![-1]),
    };
    TensorMetadata { name: feature.name.clone(), datatype, shape }
}

fn told(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(-1)
}

fn range(range: &SizeRange) -> i64 {
    if range.max == Some(range.min) { told(range.min) } else { -1 }
}

/// The sizes that all shapes have in common.
fn common(shapes: &[Vec<usize>]) -> Vec<i64> {
    let Some((first, others)) = shapes.split_first() else { return Vec::new() };
    let same = |axis: usize| others.iter().all(|other| other.get(axis) == first.get(axis));
    first.iter().enumerate().map(|(axis, &size)| if same(axis) { told(size) } else { -1 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coreml_anywhere::model::ArrayFeature;

    #[test]
    fn what_varies_is_told_as_minus_one() {
        let told = |constraint| {
            let array = ArrayFeature { dtype: DType::Float16, shape: vec![1, 3], constraint, default: None };
            let kind = FeatureKind::MultiArray(array);
            tensor(&Feature { name: "x".into(), description: String::new(), kind, optional: false })
        };
        let fixed = told(ShapeConstraint::Fixed);
        assert_eq!(fixed, TensorMetadata { name: "x".into(), datatype: "FP32", shape: vec![1, 3] });
        let one = SizeRange { min: 1, max: None };
        let three = SizeRange { min: 3, max: Some(3) };
        assert_eq!(told(ShapeConstraint::Range(vec![one, three])).shape, [-1, 3]);
        assert_eq!(told(ShapeConstraint::Enumerated(vec![vec![1, 3], vec![8, 3]])).shape, [-1, 3]);
    }
}
