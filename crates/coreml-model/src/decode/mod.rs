//! From messages to a validated [`Program`] and its [`Interface`]s.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use prost::Message;

use crate::budget;
use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::interface::{FeatureKind, Interface, ShapeConstraint};
use crate::limits::Limits;
use crate::neural_network::{NetworkKind, NeuralNetwork};
use crate::package::blob::BlobStore;
use crate::package::impostor::impostor;
use crate::package::{Metadata, Stage};
use crate::program::Program;
use crate::proto::{self, model::Kind};

mod constant;
mod description;
mod function;
mod pipeline;
mod types;

/// The newest specification this library knows: iOS 26.
const NEWEST_SPECIFICATION: i32 = 10;

/// What a specification file holds.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) specification_version: i32,
    pub(crate) metadata: Metadata,
    /// At least one; several for a pipeline.
    pub(crate) stages: Vec<Stage>,
    pub(crate) interfaces: BTreeMap<String, Interface>,
    pub(crate) default_function: String,
}

/// Decodes the specification and reads the constants it refers to.
pub(crate) fn model(spec: &[u8], blobs: &mut BlobStore, limits: &Limits) -> Result<Decoded, ReadError> {
    if spec.is_empty() {
        return Err(ReadError::new(ReadErrorKind::Format, "the model file is empty"));
    }
    if let Some(message) = impostor(spec) {
        return Err(ReadError::new(ReadErrorKind::Format, message));
    }
    budget::check(spec, limits)?;
    let model = proto::Model::decode(spec)
        .map_err(|error| ReadError::new(ReadErrorKind::Format, "is not a Core ML model").because(error))?;
    let version = model.specification_version;
    check_version(&model)?;
    match model.kind {
        Some(
            Kind::PipelineClassifier(proto::PipelineHolder { pipeline: Some(pipeline) })
            | Kind::PipelineRegressor(proto::PipelineHolder { pipeline: Some(pipeline) })
            | Kind::Pipeline(pipeline),
        ) => {
            let stages = pipeline.models.into_iter().enumerate().map(|(i, member)| {
                let stage = check_version(&member).and_then(|()| stage(member, blobs, limits));
                stage.map(|(stage, ..)| stage).within(|| format!("member {} of the pipeline", i + 1))
            });
            let stages = stages.collect::<Result<Vec<_>, _>>()?;
            let (interface, metadata) = pipeline::describe(description(model.description)?, &stages)?;
            let default_function = description::MAIN.to_owned();
            let interfaces = BTreeMap::from([(default_function.clone(), interface)]);
            Ok(Decoded { specification_version: version, metadata, stages, interfaces, default_function })
        }
        _ => {
            let (stage, interfaces, metadata) = stage(model, blobs, limits)?;
            let default_function = stage.function.clone();
            Ok(Decoded { specification_version: version, metadata, stages: vec![stage], interfaces, default_function })
        }
    }
}

/// A model that is an ML Program or a neural network, with the interfaces of its functions and its metadata.
fn stage(
    model: proto::Model,
    blobs: &mut BlobStore,
    limits: &Limits,
) -> Result<(Stage, BTreeMap<String, Interface>, Metadata), ReadError> {
    let network = |kind, bytes| NeuralNetwork::new(kind, bytes, limits);
    let network = match model.kind {
        Some(Kind::NeuralNetwork(bytes)) => network(NetworkKind::Plain, bytes)?,
        Some(Kind::NeuralNetworkClassifier(bytes)) => network(NetworkKind::Classifier, bytes)?,
        Some(Kind::NeuralNetworkRegressor(bytes)) => network(NetworkKind::Regressor, bytes)?,
        kind => return program_stage(proto::Model { kind, ..model }, blobs, limits),
    };
    let (mut interface, metadata) = description::plain(description(model.description)?)?;
    if network.is_five_axes()? {
        admit_sequences(&mut interface);
    }
    let function = description::MAIN.to_owned();
    let interfaces = BTreeMap::from([(function.clone(), interface.clone())]);
    let program = Program { functions: BTreeMap::new() };
    Ok((Stage { program, network: Some(network), interface, function }, interfaces, metadata))
}

/// Arrays of a network whose blobs have five axes may have them, too, unless their feature says what else they may be.
fn admit_sequences(interface: &mut Interface) {
    for feature in &mut interface.inputs {
        if let FeatureKind::MultiArray(array) = &mut feature.kind
            && matches!(array.shape.len(), 1 | 3)
            && array.constraint == ShapeConstraint::Fixed
        {
            array.constraint = ShapeConstraint::Sequences;
        }
    }
}

/// As [`stage`], of an ML Program.
fn program_stage(
    model: proto::Model,
    blobs: &mut BlobStore,
    limits: &Limits,
) -> Result<(Stage, BTreeMap<String, Interface>, Metadata), ReadError> {
    let version = model.specification_version;
    let program = match model.kind {
        Some(Kind::MlProgram(program)) => program,
        Some(other) => {
            let message = format!(
                "a model of type `{}` is not supported yet; only `mlProgram` is, which converters write for iOS 15 and \
                 later, neural networks are, and pipelines of both",
                kind_name(&other)
            );
            return Err(ReadError::new(ReadErrorKind::Unsupported, message));
        }
        None if version == 0 => return Err(ReadError::new(ReadErrorKind::Format, "is not a Core ML model")),
        None => {
            let message = format!(
                "a model of specification version {version} has no type that this library knows; \
                 it knows those up to version {NEWEST_SPECIFICATION}"
            );
            return Err(ReadError::new(ReadErrorKind::Unsupported, message));
        }
    };
    let program = self::program(program, blobs, limits)?;
    let (interfaces, function, metadata) = description::describe(description(model.description)?, &program)?;
    let interface = interfaces.get(&function).cloned();
    let interface = interface.ok_or_else(|| ReadError::new(ReadErrorKind::Interface, "the model has no interface"))?;
    Ok((Stage { program, network: None, interface, function }, interfaces, metadata))
}

fn description(description: Option<proto::Description>) -> Result<proto::Description, ReadError> {
    description.ok_or_else(|| ReadError::new(ReadErrorKind::Interface, "the model has no description"))
}

/// Models of kinds that this library knows may still be too new for it.
fn check_version(model: &proto::Model) -> Result<(), ReadError> {
    let version = model.specification_version;
    // What is neither a program nor a pipeline is refused for its type, which says more.
    let read = matches!(
        model.kind,
        Some(
            Kind::NeuralNetwork(_)
                | Kind::NeuralNetworkClassifier(_)
                | Kind::NeuralNetworkRegressor(_)
                | Kind::MlProgram(_)
                | Kind::Pipeline(_)
                | Kind::PipelineClassifier(_)
                | Kind::PipelineRegressor(_)
        )
    );
    if read && version > NEWEST_SPECIFICATION {
        let message = format!(
            "specification version {version} is newer than {NEWEST_SPECIFICATION}, the newest this library knows"
        );
        return Err(ReadError::new(ReadErrorKind::Unsupported, message));
    }
    Ok(())
}

fn program(program: proto::Program, blobs: &mut BlobStore, limits: &Limits) -> Result<Program, ReadError> {
    if program.version != 1 {
        let message = format!("program version {} is not 1, the only one this library knows", program.version);
        return Err(ReadError::new(ReadErrorKind::Unsupported, message));
    }
    if program.functions.is_empty() {
        return Err(ReadError::new(ReadErrorKind::Program, "the program has no functions"));
    }
    let functions = program
        .functions
        .into_iter()
        .map(|(name, function)| {
            let function =
                function::function(function, blobs, limits).within(|| format!("function {}", quote(&name)))?;
            Ok((name, function))
        })
        .collect::<Result<_, ReadError>>()?;
    Ok(Program { functions })
}

/// The name the format has for a kind of model.
fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::PipelineClassifier(_) => "pipelineClassifier",
        Kind::PipelineRegressor(_) => "pipelineRegressor",
        Kind::Pipeline(_) => "pipeline",
        Kind::GlmRegressor(_) => "glmRegressor",
        Kind::SupportVectorRegressor(_) => "supportVectorRegressor",
        Kind::TreeEnsembleRegressor(_) => "treeEnsembleRegressor",
        Kind::NeuralNetworkRegressor(_) => "neuralNetworkRegressor",
        Kind::BayesianProbitRegressor(_) => "bayesianProbitRegressor",
        Kind::GlmClassifier(_) => "glmClassifier",
        Kind::SupportVectorClassifier(_) => "supportVectorClassifier",
        Kind::TreeEnsembleClassifier(_) => "treeEnsembleClassifier",
        Kind::NeuralNetworkClassifier(_) => "neuralNetworkClassifier",
        Kind::KNearestNeighborsClassifier(_) => "kNearestNeighborsClassifier",
        Kind::NeuralNetwork(_) => "neuralNetwork",
        Kind::ItemSimilarityRecommender(_) => "itemSimilarityRecommender",
        Kind::MlProgram(_) => "mlProgram",
        Kind::CustomModel(_) => "customModel",
        Kind::LinkedModel(_) => "linkedModel",
        Kind::ClassConfidenceThresholding(_) => "classConfidenceThresholding",
        Kind::OneHotEncoder(_) => "oneHotEncoder",
        Kind::Imputer(_) => "imputer",
        Kind::FeatureVectorizer(_) => "featureVectorizer",
        Kind::DictVectorizer(_) => "dictVectorizer",
        Kind::Scaler(_) => "scaler",
        Kind::CategoricalMapping(_) => "categoricalMapping",
        Kind::Normalizer(_) => "normalizer",
        Kind::ArrayFeatureExtractor(_) => "arrayFeatureExtractor",
        Kind::NonMaximumSuppression(_) => "nonMaximumSuppression",
        Kind::Identity(_) => "identity",
        Kind::TextClassifier(_) => "textClassifier",
        Kind::WordTagger(_) => "wordTagger",
        Kind::VisionFeaturePrint(_) => "visionFeaturePrint",
        Kind::SoundAnalysisPreprocessing(_) => "soundAnalysisPreprocessing",
        Kind::Gazetteer(_) => "gazetteer",
        Kind::WordEmbedding(_) => "wordEmbedding",
        Kind::AudioFeaturePrint(_) => "audioFeaturePrint",
        Kind::SerializedModel(_) => "serializedModel",
    }
}
