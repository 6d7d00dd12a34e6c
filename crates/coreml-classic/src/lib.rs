//! Evaluates Core ML's classic models: those that are neither programs nor neural networks nor pipelines.
//!
//! [`read`] decodes a model's parameters and checks all of them, so that a prediction can fail only because of its inputs.
//! [`TYPES`] has a row for each type, and each type has a file. Numbers are `f64`, as in the files; labels that are
//! integers never pass through floating point.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::fmt;

use coreml_core::{Cancel, CheckedInputs, Error, ErrorKind, Value};
use coreml_model::{ClassicModel, Fields, Interface};

mod classes;
mod dict_vectorizer;
mod extractor;
mod feature_vectorizer;
mod functions;
mod identity;
mod imputer;
mod linear;
mod mapping;
mod neighbors;
mod normalizer;
mod numbers;
mod one_hot;
mod ports;
mod probit;
mod row;
mod scaler;
mod similar_items;
mod support_vectors;
mod suppression;
mod thresholding;
mod trees;
mod vectors;

/// A model, ready for predictions.
pub trait Classic: fmt::Debug + Send + Sync {
    /// The outputs by feature name, in the interface's order. `inputs` fit the interface that the model was read with.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the feature whose value the model has no answer to.
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error>;

    /// As [`Classic::predict`], for a type that may take long: it stops when `cancel` is set.
    ///
    /// # Errors
    /// As [`Classic::predict`]; [`ErrorKind::Cancelled`] if it was stopped.
    fn predict_until(&self, inputs: &CheckedInputs<'_>, _cancel: &Cancel) -> Result<Vec<(String, Value)>, Error> {
        self.predict(inputs)
    }

    /// The answers to each of the inputs, for a type that is faster with many at once; the others are asked one by one.
    ///
    /// # Errors
    /// As [`Classic::predict`], for each.
    fn predict_batch(&self, inputs: &[CheckedInputs<'_>]) -> Vec<Answer> {
        inputs.iter().map(|inputs| self.predict(inputs)).collect()
    }

    /// Bytes that every prediction takes because a number in the file says so, whatever the inputs.
    fn least_bytes(&self) -> usize {
        0
    }
}

/// The outputs by feature name, or why there are none.
pub type Answer = Result<Vec<(String, Value)>, Error>;

/// A model, or what is wrong with its parameters.
type Read = Result<Box<dyn Classic>, Error>;

/// A type of models.
#[derive(Debug, Clone, Copy)]
pub struct ClassicType {
    /// Its number in the format.
    pub tag: u32,
    /// Its name in the format.
    pub name: &'static str,
    /// What it does, and what is not obvious about it.
    pub notes: &'static str,
    read: fn(Fields<'_>, &Interface) -> Read,
}

/// The types that are evaluated, in the order of their numbers.
pub const TYPES: &[ClassicType] = &[
    ClassicType {
        tag: 300,
        name: "glmRegressor",
        notes: "weighted sums of the features, as they are, logistic or probit",
        read: linear::regressor,
    },
    ClassicType {
        tag: 301,
        name: "supportVectorRegressor",
        notes: "all four kernels, dense and sparse vectors",
        read: support_vectors::regressor,
    },
    ClassicType {
        tag: 302,
        name: "treeEnsembleRegressor",
        notes: "sums over the leaves of trees; a missing number (NaN) goes where the node says",
        read: trees::regressor,
    },
    ClassicType {
        tag: 304,
        name: "bayesianProbitRegressor",
        notes: "mean and variance by the file; probabilities assume an observation noise of 1, which the format does not carry; the sampled probability is refused",
        read: probit::regressor,
    },
    ClassicType {
        tag: 400,
        name: "glmClassifier",
        notes: "logistic and probit regression; linear support vectors, whose probabilities mean nothing",
        read: linear::classifier,
    },
    ClassicType {
        tag: 401,
        name: "supportVectorClassifier",
        notes: "votes of all pairs of classes, or their probabilities coupled as libsvm does; without those in the file the dictionary has the share of votes",
        read: support_vectors::classifier,
    },
    ClassicType {
        tag: 402,
        name: "treeEnsembleClassifier",
        notes: "as `treeEnsembleRegressor`; the scores of forests that vote need not add up to 1",
        read: trees::classifier,
    },
    ClassicType {
        tag: 404,
        name: "kNearestNeighborsClassifier",
        notes: "all samples are looked at, whatever the index; weights by distance are 1/d",
        read: neighbors::classifier,
    },
    ClassicType {
        tag: 501,
        name: "itemSimilarityRecommender",
        notes: "items that the model does not know are passed over",
        read: similar_items::read,
    },
    ClassicType {
        tag: 560,
        name: "classConfidenceThresholding",
        notes: "confidences and a row of ones; the curves are there for the application",
        read: thresholding::read,
    },
    ClassicType {
        tag: 600,
        name: "oneHotEncoder",
        notes: "dense and sparse; an unknown category is an error unless the model ignores it",
        read: one_hot::read,
    },
    ClassicType {
        tag: 601,
        name: "imputer",
        notes: "numbers, strings, arrays, dictionaries; optional inputs that were left out, too",
        read: imputer::read,
    },
    ClassicType {
        tag: 602,
        name: "featureVectorizer",
        notes: "numbers, arrays and dictionaries by position, in the order of its list",
        read: feature_vectorizer::read,
    },
    ClassicType {
        tag: 603,
        name: "dictVectorizer",
        notes: "dense and sparse; unknown keys are left out",
        read: dict_vectorizer::read,
    },
    ClassicType {
        tag: 604,
        name: "scaler",
        notes: "shift, then scale; a result that an integer output does not hold is an error",
        read: scaler::read,
    },
    ClassicType {
        tag: 606,
        name: "categoricalMapping",
        notes: "both ways; unknown values are an error unless the model has a value for them",
        read: mapping::read,
    },
    ClassicType {
        tag: 607,
        name: "normalizer",
        notes: "by the largest magnitude, the sum of magnitudes or the length; zeros stay zeros",
        read: normalizer::read,
    },
    ClassicType {
        tag: 609,
        name: "arrayFeatureExtractor",
        notes: "elements of the flattened array; one of them may become a number",
        read: extractor::read,
    },
    ClassicType {
        tag: 610,
        name: "nonMaximumSuppression",
        notes: "thresholds may come as inputs; outputs of a fixed size are cut or filled with zeros",
        read: suppression::read,
    },
    ClassicType { tag: 900, name: "identity", notes: "inputs become outputs of the same name", read: identity::read },
];

/// Decodes and checks a model's parameters.
///
/// # Errors
/// [`ErrorKind::InvalidModel`] says what contradicts the format's rules or the interface,
/// [`ErrorKind::Unsupported`] names a type that is not in [`TYPES`].
pub fn read(model: &ClassicModel, interface: &Interface) -> Result<Box<dyn Classic>, Error> {
    match TYPES.iter().find(|row| row.tag == model.tag()) {
        Some(row) => (row.read)(model.fields(), interface),
        None => {
            let message = format!("a model of type `{}` is not supported yet", model.kind());
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

/// The interface with the optional inputs that a model of this type takes without describing them.
///
/// # Errors
/// As [`read`].
pub fn complete(model: &ClassicModel, mut interface: Interface) -> Result<Interface, Error> {
    if model.kind() == "nonMaximumSuppression" {
        let more = suppression::undescribed(model.fields(), &interface)?;
        interface.inputs.extend(more);
    }
    Ok(interface)
}

/// The file contradicts the format's rules.
fn broken(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidModel, message)
}

/// The interface does not fit the model.
fn misfit(feature: &str, message: impl Into<String>) -> Error {
    Error::feature(ErrorKind::InvalidModel, feature, message)
}

/// The caller's value has no answer.
fn refuse(feature: &str, message: impl Into<String>) -> Error {
    Error::feature(ErrorKind::InvalidInput, feature, message)
}
