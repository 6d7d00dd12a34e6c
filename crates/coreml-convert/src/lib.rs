//! Lowers neural networks, the model type before ML Programs, to ML Programs.
//!
//! [`lower`] turns a network into a [`Function`] of ML Program operations, so that an engine for these runs networks too. The
//! table `layers::FAMILIES` has one row for each type of layer, with its name and how it is lowered. Only the ranks of blobs
//! are followed, not their sizes: the result works for every shape that the model takes.
//!
//! In the old mapping of shapes a blob has five axes: sequence, batch, channels, height, width. Most layers count axes from
//! the end and treat the first two alike. If all layers of a network do, these two become one axis here, so that blobs have
//! the four axes that convolutions of ML Programs take.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod builder;
mod constants;
mod error;
mod flow;
mod layers;
mod liveness;
mod sizes;
mod weights;

use std::collections::HashMap;
use std::sync::Arc;

use coreml_model::{
    ColorLayout, Constant, Dim, Feature, FeatureKind, Fields, Function, Interface, NetworkKind, NeuralNetwork,
    TensorType, ValueId, ValueType,
};
use coreml_tensor::{DType, Shape};

pub use crate::constants::name_constants;
pub use crate::error::ConvertError;
pub use crate::layers::{LayerInfo, layers};

use crate::builder::{Arg, Blob, Builder, tensor};
use crate::flow::{Flow, steps};
use crate::liveness::{Live, Places, Uses};

/// The network as the body of a function that takes and gives the features of `interface`.
///
/// # Errors
/// A layer that breaks the rules of the format, or that cannot be lowered.
pub fn lower(network: &NeuralNetwork, interface: &Interface) -> Result<Function, ConvertError> {
    let fields = network.fields();
    let steps = steps(fields)?;
    let mapping = if !network.is_five_axes()? {
        Mapping { arrays: None, images: if fields.uint(6)? == 1 { 4 } else { 5 } }
    } else {
        let axes = if layers::all_count_from_the_end(&steps)? { 4 } else { 5 };
        Mapping { arrays: Some(axes), images: axes }
    };
    let mut builder = Builder::default();
    let mut blobs = HashMap::new();
    let mut given = Vec::new();
    for feature in &interface.inputs {
        let [parameter, blob] = input(&mut builder, feature, mapping, fields)?;
        given.push(parameter);
        blobs.insert(feature.name.as_str(), blob);
    }
    let last = steps.iter().rev().find_map(|step| step.layer.outputs.first().copied());
    let named = fields.text(200)?;
    let scores = if named.is_empty() { last.unwrap_or_default() } else { named };
    let asked = interface.outputs.iter().map(|feature| feature.name.as_str()).chain([scores]);
    let asked = Places::new([&Uses::new(asked, [], false)].into_iter());
    let mut flow = Flow::new(&mut builder, mapping.arrays, blobs);
    flow.run(&steps, &Live::new(&asked, 0, None))?;
    let blobs = flow.into_blobs();
    let blob = |builder: &mut Builder, name: &str| Some(builder.existing(*blobs.get(name)?));
    let classes = if network.kind() == NetworkKind::Classifier {
        let scores = blob(&mut builder, scores)
            .ok_or_else(|| ConvertError::invalid(format!("no layer gives the scores `{}`", scores.escape_debug())))?;
        Some(classify(&mut builder, fields, scores)?)
    } else {
        None
    };
    let output = |builder: &mut Builder, feature: &Feature| {
        let [label, probabilities] = classes.map_or([None, None], |classes| classes.map(Some));
        let class = match &feature.kind {
            FeatureKind::String | FeatureKind::Int64 => label,
            FeatureKind::Dictionary(_) => probabilities,
            _ => None,
        };
        if let Some(class) = class {
            // What the numbers are called comes with the value itself.
            builder.name(class, &feature.name);
            return Ok(class.id);
        }
        let blob = blob(builder, &feature.name).ok_or_else(|| {
            ConvertError::invalid(format!("no layer gives the output `{}`", feature.name.escape_debug()))
        })?;
        Ok::<ValueId, ConvertError>(result(builder, feature, blob, mapping.arrays.map(|_| given.as_slice())))
    };
    let outputs = interface.outputs.iter().map(|feature| output(&mut builder, feature));
    let outputs = outputs.collect::<Result<_, _>>()?;
    Ok(builder.finish(outputs))
}

/// How many axes the blobs of features have.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    /// 4 or 5 in the old mapping; `None` for the axes that the features declare.
    arrays: Option<i32>,
    images: i32,
}

/// A parameter of the program, and what layers see of it.
fn input(
    builder: &mut Builder,
    feature: &Feature,
    mapping: Mapping,
    network: Fields<'_>,
) -> Result<[Blob; 2], ConvertError> {
    let floats = |rank: usize| ValueType::Tensor(TensorType { dtype: DType::Float32, dims: vec![Dim::Unknown; rank] });
    match &feature.kind {
        FeatureKind::Image(image) => {
            let parameter = builder.input(&feature.name, floats(4), 4);
            let blob = preprocess(builder, feature, image.color, parameter, network)?;
            Ok([parameter, if mapping.images == 5 { builder.expand_dims(blob, vec![0]) } else { blob }])
        }
        FeatureKind::MultiArray(array) => {
            let rank = array.shape.len();
            let parameter = builder.input(&feature.name, floats(rank), rank);
            builder.assume(parameter, Some(array.shape.iter().copied().map(Some).collect()));
            let Some(axes) = mapping.arrays else { return Ok([parameter, parameter]) };
            if !matches!(rank, 1 | 3 | 4 | 5) {
                let message = format!("input `{}` has {rank} axes; 1 or 3 are admitted", feature.name);
                return Err(ConvertError::unsupported(message));
            }
            let inputs = vec![("x", parameter.into()), ("axes", axes.into())];
            Ok([parameter, builder.op("neural_network:array", axes as usize, inputs)])
        }
        _ => Err(ConvertError::unsupported(format!("input `{}` is neither an array nor an image", feature.name))),
    }
}

/// Scales, biases and mean images of an image feature, whose planes come in the order of its colours.
fn preprocess(
    builder: &mut Builder,
    feature: &Feature,
    color: ColorLayout,
    blob: Blob,
    network: Fields<'_>,
) -> Result<Blob, ConvertError> {
    let mut blob = blob;
    for entry in network.messages(2)? {
        let name = entry.text(1)?;
        if !name.is_empty() && name != feature.name {
            continue;
        }
        if let Some(scaler) = entry.message(10)? {
            let scale = if scaler.has(10)? { scaler.float(10)? } else { 1.0 };
            let [blue, green, red, gray] = [scaler.float(20)?, scaler.float(21)?, scaler.float(22)?, scaler.float(30)?];
            let biases = match color {
                ColorLayout::Rgb => vec![red, green, blue],
                ColorLayout::Bgr => vec![blue, green, red],
                _ => vec![gray],
            };
            blob = builder.binary("mul", blob, scale);
            blob = builder.binary("add", blob, tensor(&[biases.len(), 1, 1], biases)?);
        }
        if let Some(mean) = entry.message(11)? {
            let mean = mean.floats(1)?;
            let FeatureKind::Image(image) = &feature.kind else { continue };
            let planes = if matches!(color, ColorLayout::Rgb | ColorLayout::Bgr) { 3 } else { 1 };
            blob = builder.binary("sub", blob, tensor(&[planes, image.height, image.width], mean)?);
        }
    }
    Ok(blob)
}

/// The label and the probabilities of a classifier.
fn classify(builder: &mut Builder, network: Fields<'_>, scores: Blob) -> Result<[Blob; 2], ConvertError> {
    let classes = match (network.message(100)?, network.message(101)?) {
        (Some(labels), _) => {
            let labels: Vec<_> = labels.texts(1)?.into_iter().map(str::to_owned).collect();
            let shape = Shape::try_new(&[labels.len()]);
            Constant::Strings(shape.map_err(|error| ConvertError::invalid(error.to_string()))?, labels)
        }
        (None, Some(labels)) => {
            let labels = labels.ints(1)?;
            Constant::Tensor(Arc::new(tensor(&[labels.len()], labels)?))
        }
        (None, None) => return Err(ConvertError::invalid("the classifier has no labels")),
    };
    let flat = builder.reshape(scores, vec![-1]);
    let inputs = vec![("probabilities", flat.into()), ("classes", Arg::Constant(classes))];
    let both = builder.many("classify", &[0, 1], inputs);
    Ok([both[0], both[1]])
}

/// A blob as the output `feature`. In the old mapping, which has the parameters `given`, it gets the shape of the feature; else
/// where it has more axes than the feature, which comes of images, whose blobs have a batch that no feature has.
fn result(builder: &mut Builder, feature: &Feature, blob: Blob, given: Option<&[Blob]>) -> ValueId {
    let declared = match &feature.kind {
        FeatureKind::MultiArray(array) => array.shape.as_slice(),
        _ => &[],
    };
    let declared: Option<Vec<i32>> = declared.iter().map(|&size| i32::try_from(size).ok()).collect();
    let is_image = matches!(feature.kind, FeatureKind::Image(_));
    let is_deeper = declared.as_ref().is_some_and(|shape| !shape.is_empty() && shape.len() < blob.rank);
    let named = match given.or((is_image || is_deeper).then_some(&[])) {
        Some(given) => {
            let shape = declared.unwrap_or_default();
            let inputs = vec![("x", blob.into()), ("inputs", Arg::Blobs(given.to_vec())), ("shape", shape.into())];
            builder.op("neural_network:feature", blob.rank, inputs)
        }
        None => builder.unary("identity", blob),
    };
    builder.name(named, &feature.name);
    named.id
}
