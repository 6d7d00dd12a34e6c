//! A model as Triton's clients know configurations: what it takes and gives, and how requests share a prediction.

use std::time::Duration;

use coreml_anywhere::model::{Feature, FeatureKind, Interface, ShapeConstraint};
use serde::Serialize;

use super::Datatype;
use super::metadata::{PLATFORM, TensorMetadata, tensor};

/// A model's configuration.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct ModelConfig {
    pub(crate) name: String,
    pub(crate) platform: &'static str,
    pub(crate) backend: &'static str,
    /// The most rows that share a prediction; 0 where requests do not. Sizes then tell the whole shape.
    pub(crate) max_batch_size: i32,
    pub(crate) input: Vec<TensorConfig>,
    pub(crate) output: Vec<TensorConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dynamic_batching: Option<DynamicBatching>,
}

/// One tensor of it. Sizes that vary are -1; that of the batch is left out.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct TensorConfig {
    pub(crate) name: String,
    pub(crate) data_type: String,
    pub(crate) dims: Vec<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) optional: bool,
}

/// How long requests wait for others.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct DynamicBatching {
    pub(crate) max_queue_delay_microseconds: u64,
}

impl ModelConfig {
    /// `batching`: how many rows share a prediction, and how long the first of them waits, where they do.
    pub(crate) fn of(name: &str, interface: &Interface, batching: Option<(usize, Duration)>) -> Self {
        let told = |features: &[Feature]| {
            let config = |feature: &Feature| {
                let TensorMetadata { name, datatype, mut shape } = tensor(feature);
                if batching.is_some() && !shape.is_empty() {
                    shape.remove(0);
                }
                TensorConfig { name, data_type: data_type(datatype), dims: shape, optional: feature.optional }
            };
            features.iter().map(config).collect()
        };
        let most = batching.map(|(most, _)| interface.inputs.iter().filter_map(most_rows).fold(most, usize::min));
        Self {
            name: name.to_owned(),
            platform: PLATFORM,
            backend: PLATFORM,
            max_batch_size: most.map_or(0, |most| i32::try_from(most).unwrap_or(i32::MAX)),
            input: told(&interface.inputs),
            output: told(&interface.outputs),
            dynamic_batching: batching.map(|(_, delay)| DynamicBatching {
                max_queue_delay_microseconds: u64::try_from(delay.as_micros()).unwrap_or(u64::MAX),
            }),
        }
    }
}

/// Triton's word for a datatype of the protocol.
fn data_type(datatype: &str) -> String {
    if datatype == Datatype::strings().name() { "TYPE_STRING".to_owned() } else { format!("TYPE_{datatype}") }
}

/// The most rows that an input takes, where there is a bound.
fn most_rows(feature: &Feature) -> Option<usize> {
    let FeatureKind::MultiArray(array) = &feature.kind else { return None };
    match &array.constraint {
        ShapeConstraint::Range(sizes) => sizes.first()?.max,
        ShapeConstraint::Enumerated(shapes) => shapes.iter().filter_map(|shape| shape.first().copied()).max(),
        _ => None,
    }
}
