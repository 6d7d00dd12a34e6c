//! The interface of a model: its input and output features.

use coreml_tensor::DType;
use serde::{Deserialize, Serialize, Serializer};

/// Inputs, outputs and states of one function of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Interface {
    /// The inputs of a prediction.
    pub inputs: Vec<Feature>,
    /// The outputs of a prediction.
    pub outputs: Vec<Feature>,
    /// The states kept between predictions.
    pub states: Vec<Feature>,
    /// A classifier's output feature with the label.
    pub predicted_feature: Option<String>,
    /// A classifier's output feature with the probabilities by label.
    pub predicted_probabilities: Option<String>,
}

impl Interface {
    /// The input feature `name`.
    pub fn input(&self, name: &str) -> Option<&Feature> {
        self.inputs.iter().find(|feature| feature.name == name)
    }

    /// The output feature `name`.
    pub fn output(&self, name: &str) -> Option<&Feature> {
        self.outputs.iter().find(|feature| feature.name == name)
    }
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// The author's description; often empty.
    pub description: String,
    /// Its type.
    #[serde(flatten)]
    pub kind: FeatureKind,
    /// Whether a caller may leave it out. A missing array is filled with [`ArrayFeature::default`], or zeros.
    pub optional: bool,
}

/// The type of a feature.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FeatureKind {
    /// A 64-bit integer.
    Int64,
    /// A double.
    Double,
    /// A string.
    String,
    /// An image.
    Image(ImageFeature),
    /// A multi-array.
    MultiArray(ArrayFeature),
    /// A dictionary from labels to doubles.
    #[serde(serialize_with = "keys")]
    Dictionary(DictionaryKey),
    /// A sequence of strings or 64-bit integers.
    #[serde(serialize_with = "elements")]
    Sequence(DictionaryKey),
    /// A state: an array that is kept between predictions.
    State(ArrayFeature),
}

/// The type of a dictionary's keys or of a sequence's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DictionaryKey {
    /// Strings.
    String,
    /// 64-bit integers.
    Int64,
}

/// A multi-array feature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArrayFeature {
    /// The declared element type.
    pub dtype: DType,
    /// The default shape; empty for the outputs of flexible models.
    pub shape: Vec<usize>,
    /// The allowed shapes.
    pub constraint: ShapeConstraint<Vec<usize>, Vec<SizeRange>>,
    /// The value a missing optional input is filled with.
    pub default: Option<f64>,
}

/// An image feature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageFeature {
    /// Default width in pixels.
    pub width: usize,
    /// Default height in pixels.
    pub height: usize,
    /// Colour layout.
    pub color: ColorLayout,
    /// The allowed sizes, each as `[width, height]`.
    pub constraint: ShapeConstraint<[usize; 2], [SizeRange; 2]>,
}

/// The shapes or sizes that a feature takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ShapeConstraint<S, R> {
    /// Only the default.
    Fixed,
    /// One of these.
    Enumerated(Vec<S>),
    /// A range for each dimension.
    Range(R),
    /// The default, which is `[C]` or `[C, H, W]`, or `[sequence, batch, C, H, W]`: what old neural networks take.
    Sequences,
}

impl SizeRange {
    /// Whether `size` is in the range.
    pub fn contains(&self, size: usize) -> bool {
        size >= self.min && self.max.is_none_or(|max| size <= max)
    }
}

/// The sizes a dimension may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SizeRange {
    /// The smallest size.
    pub min: usize,
    /// The largest size; `None` if unbounded.
    pub max: Option<usize>,
}

/// The order of an image's colour planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ColorLayout {
    /// One plane, 8 bits.
    Grayscale,
    /// One plane of half-precision floats.
    GrayscaleFloat16,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

#[derive(Serialize)]
struct Keys {
    keys: DictionaryKey,
}

#[derive(Serialize)]
struct Elements {
    elements: DictionaryKey,
}

fn keys<S: Serializer>(&keys: &DictionaryKey, serializer: S) -> Result<S::Ok, S::Error> {
    Keys { keys }.serialize(serializer)
}

fn elements<S: Serializer>(&elements: &DictionaryKey, serializer: S) -> Result<S::Ok, S::Error> {
    Elements { elements }.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn features_are_told_in_fields() {
        let feature = |kind| Feature { name: "x".into(), description: String::new(), kind, optional: false };
        let array = ArrayFeature {
            dtype: DType::Float16,
            shape: vec![1, 3],
            constraint: ShapeConstraint::Range(vec![
                SizeRange { min: 1, max: Some(1) },
                SizeRange { min: 1, max: None },
            ]),
            default: None,
        };
        let image = ImageFeature {
            width: 96,
            height: 64,
            color: ColorLayout::GrayscaleFloat16,
            constraint: ShapeConstraint::Enumerated(vec![[96, 64], [64, 96]]),
        };
        let json = |kind| serde_json::to_value(feature(kind)).unwrap();
        assert_eq!(
            json(FeatureKind::MultiArray(array)),
            json!({"name": "x", "description": "", "kind": "multi_array", "dtype": "fp16", "shape": [1, 3],
                   "constraint": {"range": [{"min": 1, "max": 1}, {"min": 1, "max": null}]}, "default": null,
                   "optional": false})
        );
        assert_eq!(
            json(FeatureKind::Image(image)),
            json!({"name": "x", "description": "", "kind": "image", "width": 96, "height": 64,
                   "color": "grayscale_float16", "constraint": {"enumerated": [[96, 64], [64, 96]]}, "optional": false})
        );
        assert_eq!(json(FeatureKind::Double)["kind"], "double");
        assert_eq!(
            json(FeatureKind::Sequence(DictionaryKey::Int64)),
            json!({"name": "x", "description": "", "kind": "sequence", "elements": "int64", "optional": false})
        );
    }
}
