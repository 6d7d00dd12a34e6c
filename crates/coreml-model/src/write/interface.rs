//! Interfaces as the messages of the format.

use coreml_tensor::DType;

use crate::element::array_code;
use crate::interface::{
    ArrayFeature, ColorLayout, DictionaryKey, Feature, FeatureKind, ImageFeature, Interface, ShapeConstraint, SizeRange,
};
use crate::package::Metadata;
use crate::proto::{self, array_type, dictionary_feature, feature_type, image_type, sequence_feature, state_feature};

/// The description of a model with one function.
pub(super) fn description(interface: &Interface, metadata: &Metadata) -> proto::Description {
    let function = function("", interface);
    proto::Description {
        inputs: function.inputs,
        outputs: function.outputs,
        states: function.states,
        predicted_feature: function.predicted_feature,
        predicted_probabilities: function.predicted_probabilities,
        functions: Vec::new(),
        default_function: String::new(),
        metadata: Some(self::metadata(metadata)),
    }
}

pub(super) fn function(name: &str, interface: &Interface) -> proto::FunctionDescription {
    let features = |features: &[Feature]| features.iter().map(feature).collect();
    proto::FunctionDescription {
        name: name.to_owned(),
        inputs: features(&interface.inputs),
        outputs: features(&interface.outputs),
        states: features(&interface.states),
        predicted_feature: interface.predicted_feature.clone().unwrap_or_default(),
        predicted_probabilities: interface.predicted_probabilities.clone().unwrap_or_default(),
    }
}

pub(super) fn metadata(metadata: &Metadata) -> proto::Metadata {
    proto::Metadata {
        short_description: metadata.short_description.clone(),
        version: metadata.version.clone(),
        author: metadata.author.clone(),
        license: metadata.license.clone(),
        user_defined: metadata.user_defined.clone(),
    }
}

fn feature(feature: &Feature) -> proto::Feature {
    use feature_type::Kind;

    let nothing = proto::Opaque {};
    let kind = match &feature.kind {
        FeatureKind::Int64 => Kind::Int64(nothing),
        FeatureKind::Double => Kind::Double(nothing),
        FeatureKind::String => Kind::String(nothing),
        FeatureKind::Image(image) => Kind::Image(self::image(image)),
        FeatureKind::MultiArray(array) => Kind::MultiArray(self::array(array)),
        FeatureKind::Dictionary(key) => Kind::Dictionary(proto::DictionaryFeature {
            key: Some(match key {
                DictionaryKey::Int64 => dictionary_feature::Key::Int64(nothing),
                DictionaryKey::String => dictionary_feature::Key::String(nothing),
            }),
        }),
        FeatureKind::Sequence(element) => Kind::Sequence(proto::SequenceFeature {
            element: Some(match element {
                DictionaryKey::Int64 => sequence_feature::Element::Int64(nothing),
                DictionaryKey::String => sequence_feature::Element::String(nothing),
            }),
        }),
        FeatureKind::State(array) => {
            Kind::State(proto::StateFeature { kind: Some(state_feature::Kind::Array(self::array(array))) })
        }
    };
    let r#type = Some(proto::FeatureType { optional: feature.optional, kind: Some(kind) });
    proto::Feature { name: feature.name.clone(), description: feature.description.clone(), r#type }
}

fn size<T: TryFrom<usize> + From<u8>>(size: usize) -> T {
    // Sizes were read from such numbers.
    T::try_from(size).unwrap_or_else(|_| T::from(0))
}

fn range(range: &SizeRange) -> proto::SizeRange {
    proto::SizeRange { lower: size(range.min), upper: range.max.map_or(-1, size) }
}

pub(super) fn array(array: &ArrayFeature) -> proto::ArrayType {
    use array_type::{Default, Flexibility};

    let shape = |shape: &Vec<usize>| shape.iter().map(|&dim| size(dim)).collect();
    let flexibility = match &array.constraint {
        // Only networks take sequences beside the shape they declare.
        ShapeConstraint::Fixed | ShapeConstraint::Sequences => None,
        ShapeConstraint::Enumerated(shapes) => {
            let shapes = shapes.iter().map(|dims| proto::ArrayShape { dims: shape(dims) }).collect();
            Some(Flexibility::Enumerated(proto::ArrayShapes { shapes }))
        }
        ShapeConstraint::Range(ranges) => {
            Some(Flexibility::Range(proto::ArrayShapeRange { dims: ranges.iter().map(range).collect() }))
        }
    };
    #[expect(clippy::as_conversions, reason = "the number was read from the type it is written in")]
    let default = array.default.map(|value| match array.dtype {
        DType::Int32 => Default::IntDefault(value as i32),
        DType::Float64 => Default::DoubleDefault(value),
        _ => Default::FloatDefault(value as f32),
    });
    // Array features were read with one of these types.
    let data_type = array_code(array.dtype).unwrap_or_default();
    proto::ArrayType { shape: shape(&array.shape), data_type, flexibility, default }
}

fn image(image: &ImageFeature) -> proto::ImageType {
    use image_type::Flexibility;

    let flexibility = match &image.constraint {
        // Only networks take sequences beside the shape they declare.
        ShapeConstraint::Fixed | ShapeConstraint::Sequences => None,
        ShapeConstraint::Enumerated(sizes) => {
            let sizes = sizes.iter();
            let sizes = sizes.map(|&[width, height]| proto::ImageSize { width: size(width), height: size(height) });
            Some(Flexibility::Enumerated(proto::ImageSizes { sizes: sizes.collect() }))
        }
        ShapeConstraint::Range([width, height]) => {
            Some(Flexibility::Range(proto::ImageSizeRange { width: Some(range(width)), height: Some(range(height)) }))
        }
    };
    let color_space = match image.color {
        ColorLayout::Grayscale => 10,
        ColorLayout::Rgb => 20,
        ColorLayout::Bgr => 30,
        ColorLayout::GrayscaleFloat16 => 40,
    };
    proto::ImageType { width: size(image.width), height: size(image.height), color_space, flexibility }
}
