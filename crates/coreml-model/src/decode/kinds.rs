//! The types of models that the format has.

use bytes::Bytes;

use crate::error::{ReadError, ReadErrorKind, quote};
use crate::neural_network::NetworkKind;
use crate::proto::{self, model::Kind};
use crate::wire::Fields;

/// A model's content, sorted by what is done with it.
pub(crate) enum Sorted {
    Program(proto::Program),
    Network(NetworkKind, Bytes),
    Classic(u32, Bytes),
    Pipeline(proto::Pipeline),
    Linked(Bytes),
    /// What this library cannot run.
    Refused(ReadError),
}

/// A type of models that runs on Apple's systems only.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RefusedType {
    /// Its name in the format.
    pub name: &'static str,
    /// Why.
    pub why: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

/// The types that are recognised and refused.
pub const REFUSED_TYPES: &[RefusedType] = &[
    RefusedType {
        name: "customModel",
        why: "its computation is code of the app it was made for, and the file only has the name of the class",
        instead: "convert the model again with that part as operations of an ML Program",
    },
    RefusedType {
        name: "textClassifier",
        why: "it needs Apple's language models, which are part of its systems",
        instead: "train a text classifier whose network is in the file, or use Core ML directly",
    },
    RefusedType {
        name: "wordTagger",
        why: "it needs Apple's language models, which are part of its systems",
        instead: "train a tagger whose network is in the file, or use Core ML directly",
    },
    RefusedType {
        name: "visionFeaturePrint",
        why: "the network that looks at the picture is part of Apple's systems, and the file only has its name",
        instead: "train again on top of a network that can be converted, such as MobileNet, or use Core ML directly",
    },
    RefusedType {
        name: "soundAnalysisPreprocessing",
        why: "how it prepares sound is part of Apple's systems and not published",
        instead: "convert a model that computes its spectrogram itself, or use Core ML directly",
    },
    RefusedType {
        name: "gazetteer",
        why: "its table is in a form that only Apple's language framework reads",
        instead: "keep the list of words and labels as a categoricalMapping or in your program",
    },
    RefusedType {
        name: "wordEmbedding",
        why: "its table is in a form that only Apple's language framework reads",
        instead: "convert the table of vectors as an ML Program that gathers rows",
    },
    RefusedType {
        name: "audioFeaturePrint",
        why: "the network that listens is part of Apple's systems, and the file only has its name",
        instead: "train again on top of a network that can be converted, such as YAMNet, or use Core ML directly",
    },
    RefusedType {
        name: "serializedModel",
        why: "its contents are in a form that only an Apple framework reads",
        instead: "convert the original model again",
    },
];

fn refused(name: &'static str, detail: &str) -> Sorted {
    let row = REFUSED_TYPES.iter().find(|row| row.name == name);
    let (why, instead) = row.map_or(("", ""), |row| (row.why, row.instead));
    let message = format!("a model of type `{name}`{detail} is not supported: {why}; {instead}");
    Sorted::Refused(ReadError::new(ReadErrorKind::Unsupported, message))
}

/// Sorts a model by its type, and returns the type's name in the format.
pub(crate) fn sort(kind: Kind) -> (&'static str, Sorted) {
    use Sorted::{Classic, Linked, Network, Pipeline, Program};

    let held = |holder: proto::PipelineHolder| Pipeline(holder.pipeline.unwrap_or_default());
    match kind {
        Kind::PipelineClassifier(holder) => ("pipelineClassifier", held(holder)),
        Kind::PipelineRegressor(holder) => ("pipelineRegressor", held(holder)),
        Kind::Pipeline(pipeline) => ("pipeline", Pipeline(pipeline)),
        Kind::GlmRegressor(bytes) => ("glmRegressor", Classic(300, bytes)),
        Kind::SupportVectorRegressor(bytes) => ("supportVectorRegressor", Classic(301, bytes)),
        Kind::TreeEnsembleRegressor(bytes) => ("treeEnsembleRegressor", Classic(302, bytes)),
        Kind::NeuralNetworkRegressor(bytes) => ("neuralNetworkRegressor", Network(NetworkKind::Regressor, bytes)),
        Kind::BayesianProbitRegressor(bytes) => ("bayesianProbitRegressor", Classic(304, bytes)),
        Kind::GlmClassifier(bytes) => ("glmClassifier", Classic(400, bytes)),
        Kind::SupportVectorClassifier(bytes) => ("supportVectorClassifier", Classic(401, bytes)),
        Kind::TreeEnsembleClassifier(bytes) => ("treeEnsembleClassifier", Classic(402, bytes)),
        Kind::NeuralNetworkClassifier(bytes) => ("neuralNetworkClassifier", Network(NetworkKind::Classifier, bytes)),
        Kind::KNearestNeighborsClassifier(bytes) => ("kNearestNeighborsClassifier", Classic(404, bytes)),
        Kind::NeuralNetwork(bytes) => ("neuralNetwork", Network(NetworkKind::Plain, bytes)),
        Kind::ItemSimilarityRecommender(bytes) => ("itemSimilarityRecommender", Classic(501, bytes)),
        Kind::MlProgram(program) => ("mlProgram", Program(program)),
        Kind::CustomModel(bytes) => {
            let class =
                Fields::new(&bytes).text(10).map_or(String::new(), |class| format!(" (class {})", quote(class)));
            ("customModel", refused("customModel", &class))
        }
        Kind::LinkedModel(bytes) => ("linkedModel", Linked(bytes)),
        Kind::ClassConfidenceThresholding(bytes) => ("classConfidenceThresholding", Classic(560, bytes)),
        Kind::OneHotEncoder(bytes) => ("oneHotEncoder", Classic(600, bytes)),
        Kind::Imputer(bytes) => ("imputer", Classic(601, bytes)),
        Kind::FeatureVectorizer(bytes) => ("featureVectorizer", Classic(602, bytes)),
        Kind::DictVectorizer(bytes) => ("dictVectorizer", Classic(603, bytes)),
        Kind::Scaler(bytes) => ("scaler", Classic(604, bytes)),
        Kind::CategoricalMapping(bytes) => ("categoricalMapping", Classic(606, bytes)),
        Kind::Normalizer(bytes) => ("normalizer", Classic(607, bytes)),
        Kind::ArrayFeatureExtractor(bytes) => ("arrayFeatureExtractor", Classic(609, bytes)),
        Kind::NonMaximumSuppression(bytes) => ("nonMaximumSuppression", Classic(610, bytes)),
        Kind::Identity(bytes) => ("identity", Classic(900, bytes)),
        Kind::TextClassifier(_) => ("textClassifier", refused("textClassifier", "")),
        Kind::WordTagger(_) => ("wordTagger", refused("wordTagger", "")),
        Kind::VisionFeaturePrint(_) => ("visionFeaturePrint", refused("visionFeaturePrint", "")),
        Kind::SoundAnalysisPreprocessing(_) => {
            ("soundAnalysisPreprocessing", refused("soundAnalysisPreprocessing", ""))
        }
        Kind::Gazetteer(_) => ("gazetteer", refused("gazetteer", "")),
        Kind::WordEmbedding(_) => ("wordEmbedding", refused("wordEmbedding", "")),
        Kind::AudioFeaturePrint(_) => ("audioFeaturePrint", refused("audioFeaturePrint", "")),
        Kind::SerializedModel(_) => ("serializedModel", refused("serializedModel", "")),
    }
}
