//! From messages to a validated [`Program`] and its [`Interface`]s.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use prost::Message;

use crate::budget;
use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::interface::Interface;
use crate::limits::Limits;
use crate::package::blob::BlobStore;
use crate::package::{Metadata, impostor};
use crate::program::Program;
use crate::proto::{self, model};

mod constant;
mod description;
mod function;
mod types;

/// The newest specification this library knows: iOS 26.
const NEWEST_SPECIFICATION: i32 = 10;

/// What a specification file holds.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) specification_version: i32,
    pub(crate) metadata: Metadata,
    pub(crate) program: Program,
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
    let program = match model.kind {
        Some(model::Kind::MlProgram(program)) => program,
        Some(other) => {
            let message = format!(
                "a model of type `{}` is not supported yet; only `mlProgram` is, which converters write for iOS 15 and later",
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
    if version > NEWEST_SPECIFICATION {
        let message = format!(
            "specification version {version} is newer than {NEWEST_SPECIFICATION}, the newest this library knows"
        );
        return Err(ReadError::new(ReadErrorKind::Unsupported, message));
    }
    let program = self::program(program, blobs, limits)?;
    let description =
        model.description.ok_or_else(|| ReadError::new(ReadErrorKind::Interface, "the model has no description"))?;
    let (interfaces, default_function, metadata) = description::describe(description, &program)?;
    Ok(Decoded { specification_version: version, metadata, program, interfaces, default_function })
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
fn kind_name(kind: &model::Kind) -> &'static str {
    use model::Kind;

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
