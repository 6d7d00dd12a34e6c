//! The Open Inference Protocol without the transport: requests and answers, for HTTP and gRPC alike.

use std::collections::BTreeMap;

use bytes::Bytes;
use coreml_anywhere::tensor::{Shape, Tensor};

pub(crate) use self::datatype::Datatype;
use crate::refusal::Refusal;

pub(crate) mod binary;
pub(crate) mod bind;
pub(crate) mod classification;
pub(crate) mod datatype;
pub(crate) mod json;
pub(crate) mod metadata;
pub(crate) mod model_config;
pub(crate) mod object;
pub(crate) mod wishes;

/// The extensions that the server's metadata announces.
pub(crate) const EXTENSIONS: [&str; 7] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "sequence",
    "statistics",
];

/// Parameters of a request, a tensor or an answer.
pub(crate) type Parameters = BTreeMap<String, Parameter>;

/// One parameter.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Parameter {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Double(f64),
    Text(String),
}

/// 2^64: what is whole and less is a `u64`, and exactly that one.
const TOO_LARGE: f64 = 18_446_744_073_709_551_616.0;

impl Parameter {
    /// A number that is not negative.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(*number),
            Self::Signed(number) => u64::try_from(*number).ok(),
            // JSON knows no integers: 3.0 is 3.
            Self::Double(number) if number.fract() == 0.0 && (0.0..TOO_LARGE).contains(number) => Some(*number as u64),
            _ => None,
        }
    }
}

/// A request to a model.
#[derive(Debug, Default)]
pub(crate) struct InferRequest {
    pub(crate) id: Option<String>,
    pub(crate) parameters: Parameters,
    pub(crate) inputs: Vec<NamedTensor>,
    /// Which outputs are wanted; all of them if there are none.
    pub(crate) outputs: Vec<WantedOutput>,
    /// Whether outputs come as binary tensors by default.
    pub(crate) binary_outputs: bool,
}

/// A tensor of a request or an answer.
#[derive(Debug)]
pub(crate) struct NamedTensor {
    pub(crate) name: String,
    pub(crate) content: Content,
    /// The parameters of an output.
    pub(crate) parameters: Parameters,
}

/// What a tensor holds.
#[derive(Debug)]
pub(crate) enum Content {
    Numbers(Tensor),
    Strings(Vec<usize>, Vec<Bytes>),
}

/// An output that is wanted, and how.
#[derive(Debug, Default)]
pub(crate) struct WantedOutput {
    pub(crate) name: String,
    pub(crate) binary: Option<bool>,
    /// Only this many classes, the likeliest.
    pub(crate) classes: Option<usize>,
    /// With the labels of a dictionary.
    pub(crate) labels: bool,
}

/// The answer of a model.
#[derive(Debug)]
pub(crate) struct InferResponse {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) id: Option<String>,
    pub(crate) parameters: Parameters,
    pub(crate) outputs: Vec<NamedTensor>,
}

impl Content {
    pub(crate) fn shape(&self) -> Vec<usize> {
        match self {
            Self::Numbers(tensor) => tensor.shape().dims().to_vec(),
            Self::Strings(shape, _) => shape.clone(),
        }
    }

    pub(crate) fn datatype(&self) -> Datatype {
        match self {
            Self::Numbers(tensor) => Datatype::of(tensor.dtype()).unwrap_or_else(Datatype::strings),
            Self::Strings(..) => Datatype::strings(),
        }
    }
}

impl WantedOutput {
    /// From its name and parameters.
    ///
    /// # Errors
    /// When a parameter has not the type it must have.
    pub(crate) fn new(name: String, parameters: &Parameters) -> Result<Self, Refusal> {
        let flag = |key: &str| match parameters.get(key) {
            None => Ok(None),
            Some(Parameter::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(Refusal::tensor(&name, format!("the parameter {key} is true or false"))),
        };
        let (binary, labels) = (flag("binary_data")?, flag("labels")?.unwrap_or(false));
        let classes = match parameters.get("classification").map(Parameter::as_u64) {
            None => None,
            Some(Some(classes)) if classes > 0 => Some(usize::try_from(classes).unwrap_or(usize::MAX)),
            Some(_) => return Err(Refusal::tensor(&name, "the parameter classification is a number of classes")),
        };
        Ok(Self { name, binary, classes, labels })
    }
}

/// The shape of a request's tensor, and how many elements it has.
///
/// # Errors
/// When it has too many dimensions, or more elements than there can be.
pub(crate) fn shape(name: &str, dims: &[usize]) -> Result<Shape, Refusal> {
    Shape::try_new(dims).map_err(|error| Refusal::tensor(name, error))
}
