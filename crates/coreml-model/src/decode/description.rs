//! Decodes the description: features, the functions they belong to, and metadata.

use std::collections::{BTreeMap, BTreeSet};

use crate::element::array_dtype;
use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::interface::{
    ArrayFeature, ColorLayout, DictionaryKey, Feature, FeatureKind, ImageFeature, Interface, ShapeConstraint, SizeRange,
};
use crate::package::Metadata;
use crate::program::{Function, Program, ValueId, ValueType};
use crate::proto::{self, array_type, dictionary_feature, feature_type, image_type, sequence_feature, state_feature};

/// The function of models that have one.
pub(crate) const MAIN: &str = "main";

pub(crate) fn refuse(message: impl Into<String>) -> ReadError {
    ReadError::new(ReadErrorKind::Interface, message)
}

/// Interfaces by function, the default function, and metadata.
pub(crate) fn describe(
    description: proto::Description,
    program: &Program,
) -> Result<(BTreeMap<String, Interface>, String, Metadata), ReadError> {
    let default = default_function(&description, program)?;
    let described = if description.functions.is_empty() {
        vec![proto::FunctionDescription {
            name: default.clone(),
            inputs: description.inputs,
            outputs: description.outputs,
            states: description.states,
            predicted_feature: description.predicted_feature,
            predicted_probabilities: description.predicted_probabilities,
        }]
    } else {
        description.functions
    };
    let mut interfaces = BTreeMap::new();
    for description in described {
        let name = description.name.clone();
        let interface = interface(description)
            .and_then(|interface| {
                let function =
                    program.functions.get(&name).ok_or_else(|| refuse("is described, but not in the program"))?;
                check(&interface, function)?;
                Ok(interface)
            })
            .within(|| format!("function {}", quote(&name)))?;
        if interfaces.insert(name.clone(), interface).is_some() {
            return Err(refuse(format!("function {} is described twice", quote(&name))));
        }
    }
    if !interfaces.contains_key(&default) {
        return Err(refuse(format!("the default function {} is not described", quote(&default))));
    }
    Ok((interfaces, default, metadata(description.metadata)))
}

/// The interface and the metadata of a model without functions and states: whatever is no ML Program.
pub(crate) fn plain(description: proto::Description) -> Result<(Interface, Metadata), ReadError> {
    if !description.functions.is_empty() || !description.states.is_empty() {
        return Err(refuse("only ML Programs have functions and states"));
    }
    let interface = interface(proto::FunctionDescription {
        name: MAIN.to_owned(),
        inputs: description.inputs,
        outputs: description.outputs,
        states: Vec::new(),
        predicted_feature: description.predicted_feature,
        predicted_probabilities: description.predicted_probabilities,
    })?;
    for features in [&interface.inputs, &interface.outputs] {
        let mut seen = BTreeSet::new();
        if let Some(feature) = features.iter().find(|feature| !seen.insert(&feature.name)) {
            return Err(refuse(format!("feature {} is described twice", quote(&feature.name))));
        }
    }
    Ok((interface, metadata(description.metadata)))
}

pub(crate) fn metadata(metadata: Option<proto::Metadata>) -> Metadata {
    let metadata = metadata.unwrap_or_default();
    Metadata {
        author: metadata.author,
        short_description: metadata.short_description,
        license: metadata.license,
        version: metadata.version,
        user_defined: metadata.user_defined,
    }
}

fn default_function(description: &proto::Description, program: &Program) -> Result<String, ReadError> {
    let named = &description.default_function;
    if !named.is_empty() {
        return match program.functions.contains_key(named) {
            true => Ok(named.clone()),
            false => Err(refuse(format!("the default function {} is not in the program", quote(named)))),
        };
    }
    let mut names = program.functions.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ if program.functions.contains_key(MAIN) => Ok(MAIN.to_owned()),
        _ => Err(refuse("the model has several functions, and does not say which is the default")),
    }
}

pub(crate) fn interface(description: proto::FunctionDescription) -> Result<Interface, ReadError> {
    let interface = Interface {
        inputs: features(description.inputs, "input")?,
        outputs: described_once(features(description.outputs, "output")?),
        states: features(description.states, "state")?,
        predicted_feature: Some(description.predicted_feature).filter(|name| !name.is_empty()),
        predicted_probabilities: Some(description.predicted_probabilities).filter(|name| !name.is_empty()),
    };
    for name in [&interface.predicted_feature, &interface.predicted_probabilities].into_iter().flatten() {
        if interface.output(name).is_none() {
            return Err(refuse(format!("the prediction {} is not among the outputs", quote(name))));
        }
    }
    Ok(interface)
}

/// Converters describe a value that is returned twice under one name twice, and Core ML gives it once. Descriptions that
/// differ stay, for the checks to refuse.
fn described_once(outputs: Vec<Feature>) -> Vec<Feature> {
    let mut first: BTreeMap<String, Feature> = BTreeMap::new();
    let mut repeats = |feature: &Feature| match first.get(&feature.name) {
        Some(known) => known == feature,
        None => first.insert(feature.name.clone(), feature.clone()).is_some(),
    };
    outputs.into_iter().filter(|feature| !repeats(feature)).collect()
}

/// Whether the features are those of the function.
fn check(interface: &Interface, function: &Function) -> Result<(), ReadError> {
    let parameters: BTreeMap<&str, &ValueType> = function.inputs.iter().map(|&id| by_name(function, id)).collect();
    let mut described = BTreeSet::new();
    for feature in interface.inputs.iter().chain(&interface.states) {
        if !described.insert(feature.name.as_str()) {
            return Err(refuse(format!("feature {} is described twice", quote(&feature.name))));
        }
        let parameter = parameters
            .get(feature.name.as_str())
            .ok_or_else(|| refuse(format!("feature {} is not a parameter of the function", quote(&feature.name))))?;
        let state = matches!(feature.kind, FeatureKind::State(_));
        if state != matches!(parameter, ValueType::State(_)) {
            let message = format!("{} is a state either in the description or in the function", quote(&feature.name));
            return Err(refuse(message));
        }
    }
    if let Some(name) = parameters.keys().find(|name| !described.contains(*name)) {
        return Err(refuse(format!("the function's parameter {} is not described", quote(name))));
    }
    let results: BTreeMap<&str, &ValueType> = function.body.outputs.iter().map(|&id| by_name(function, id)).collect();
    let mut outputs = BTreeSet::new();
    for feature in &interface.outputs {
        if !outputs.insert(feature.name.as_str()) {
            return Err(refuse(format!("output {} is described twice", quote(&feature.name))));
        }
        if !results.contains_key(feature.name.as_str()) {
            return Err(refuse(format!("output {} is not a result of the function", quote(&feature.name))));
        }
    }
    Ok(())
}

fn by_name(function: &Function, id: ValueId) -> (&str, &ValueType) {
    let value = function.value(id);
    (&value.name, &value.ty)
}

fn features(features: Vec<proto::Feature>, role: &str) -> Result<Vec<Feature>, ReadError> {
    let read = |feature: proto::Feature| {
        let place = format!("{role} {}", quote(&feature.name));
        self::feature(feature, role == "state").within(|| place)
    };
    features.into_iter().map(read).collect()
}

fn feature(feature: proto::Feature, state: bool) -> Result<Feature, ReadError> {
    use feature_type::Kind;

    let ty = feature.r#type.ok_or_else(|| refuse("has no type"))?;
    let kind = match ty.kind.ok_or_else(|| refuse("has no type that this library knows"))? {
        Kind::Int64(_) => FeatureKind::Int64,
        Kind::Double(_) => FeatureKind::Double,
        Kind::String(_) => FeatureKind::String,
        Kind::Image(image) => FeatureKind::Image(self::image(image)?),
        Kind::MultiArray(array) => FeatureKind::MultiArray(self::array(array)?),
        Kind::Dictionary(dictionary) => FeatureKind::Dictionary(match dictionary.key {
            Some(dictionary_feature::Key::Int64(_)) => DictionaryKey::Int64,
            Some(dictionary_feature::Key::String(_)) => DictionaryKey::String,
            None => return Err(refuse("is a dictionary without a type of keys")),
        }),
        Kind::Sequence(sequence) => FeatureKind::Sequence(match sequence.element {
            Some(sequence_feature::Element::Int64(_)) => DictionaryKey::Int64,
            Some(sequence_feature::Element::String(_)) => DictionaryKey::String,
            None => return Err(refuse("is a sequence without a type of elements")),
        }),
        Kind::State(proto::StateFeature { kind: Some(state_feature::Kind::Array(array)) }) => {
            FeatureKind::State(self::array(array)?)
        }
        Kind::State(_) => return Err(refuse("is a state without a type")),
    };
    if state != matches!(kind, FeatureKind::State(_)) {
        return Err(refuse("states, and only states, are of a state type"));
    }
    Ok(Feature { name: feature.name, description: feature.description, kind, optional: ty.optional })
}

fn array(array: proto::ArrayType) -> Result<ArrayFeature, ReadError> {
    use array_type::{Default, Flexibility};

    let code = array.data_type;
    let dtype = array_dtype(code).ok_or_else(|| refuse(format!("data type {code} is not one this library knows")))?;
    let shape = array.shape.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let constraint: ShapeConstraint<Vec<usize>, Vec<SizeRange>> = match array.flexibility {
        None => ShapeConstraint::Fixed,
        Some(Flexibility::Enumerated(shapes)) => {
            let shapes = shapes.shapes.into_iter();
            let shapes = shapes.map(|shape| shape.dims.into_iter().map(size).collect::<Result<Vec<_>, _>>());
            let shapes = shapes.collect::<Result<Vec<_>, _>>()?;
            if shapes.is_empty() {
                return Err(refuse("enumerates no shapes"));
            }
            ShapeConstraint::Enumerated(shapes)
        }
        Some(Flexibility::Range(ranges)) => {
            ShapeConstraint::Range(ranges.dims.iter().map(range).collect::<Result<_, _>>()?)
        }
    };
    let rank = shape.len();
    let same_rank = match &constraint {
        ShapeConstraint::Enumerated(shapes) => shapes.iter().all(|other| other.len() == rank),
        ShapeConstraint::Range(ranges) => ranges.len() == rank,
        ShapeConstraint::Fixed | ShapeConstraint::Sequences => true,
    };
    // The outputs of flexible models have no default shape.
    if rank != 0 && !same_rank {
        return Err(refuse("the admitted shapes differ in rank from the default shape"));
    }
    let default = array.default.map(|default| match default {
        Default::IntDefault(value) => f64::from(value),
        Default::FloatDefault(value) => f64::from(value),
        Default::DoubleDefault(value) => value,
    });
    Ok(ArrayFeature { dtype, shape, constraint, default })
}

fn image(image: proto::ImageType) -> Result<ImageFeature, ReadError> {
    use image_type::Flexibility;

    let color = match image.color_space {
        10 => ColorLayout::Grayscale,
        20 => ColorLayout::Rgb,
        30 => ColorLayout::Bgr,
        40 => ColorLayout::GrayscaleFloat16,
        other => return Err(refuse(format!("colour space {other} is not one this library knows"))),
    };
    let constraint = match image.flexibility {
        None => ShapeConstraint::Fixed,
        Some(Flexibility::Enumerated(sizes)) => {
            let sizes = sizes.sizes.iter().map(|image| Ok([size(image.width)?, size(image.height)?]));
            let sizes = sizes.collect::<Result<Vec<_>, ReadError>>()?;
            if sizes.is_empty() {
                return Err(refuse("enumerates no sizes"));
            }
            ShapeConstraint::Enumerated(sizes)
        }
        Some(Flexibility::Range(ranges)) => {
            let side = |side: Option<proto::SizeRange>| {
                side.as_ref().map_or_else(|| Err(refuse("a range of sizes lacks a side")), range)
            };
            ShapeConstraint::Range([side(ranges.width)?, side(ranges.height)?])
        }
    };
    Ok(ImageFeature { width: size(image.width)?, height: size(image.height)?, color, constraint })
}

fn range(range: &proto::SizeRange) -> Result<SizeRange, ReadError> {
    let min = size(range.lower)?;
    // The format writes "unbounded" as a negative number.
    let max = if range.upper < 0 { None } else { Some(size(range.upper)?) };
    if max.is_some_and(|max| max < min) {
        return Err(refuse(format!("the range from {min} to {} is empty", range.upper)));
    }
    Ok(SizeRange { min, max })
}

fn size<T: TryInto<usize> + Copy + std::fmt::Display>(size: T) -> Result<usize, ReadError> {
    size.try_into().map_err(|_| refuse(format!("{size} is not a size")))
}
