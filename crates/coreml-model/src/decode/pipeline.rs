//! The description of a pipeline: what it takes and gives must be what its members take and give.
//!
//! Members run in order and find their inputs by name among the pipeline's own and the outputs of those before them.

use std::collections::BTreeMap;
use std::mem::discriminant;

use super::description::{self, refuse};
use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::interface::{Feature, FeatureKind, Interface};
use crate::package::{Metadata, Stage};
use crate::proto;

/// The interface and the metadata of a pipeline with these members.
pub(crate) fn describe(description: proto::Description, stages: &[Stage]) -> Result<(Interface, Metadata), ReadError> {
    if !description.functions.is_empty() {
        return Err(refuse("a pipeline has no functions, its description has"));
    }
    let mut interface = description::interface(proto::FunctionDescription {
        name: description::MAIN.to_owned(),
        inputs: description.inputs,
        outputs: description.outputs,
        states: description.states,
        predicted_feature: description.predicted_feature,
        predicted_probabilities: description.predicted_probabilities,
    })?;
    let last = stages.last().ok_or_else(|| refuse("the pipeline has no members"))?;
    if !interface.states.is_empty() || stages.iter().any(|stage| !stage.interface.states.is_empty()) {
        let message = "a pipeline with states is not supported; the members by themselves are";
        return Err(ReadError::new(ReadErrorKind::Unsupported, message));
    }
    let (mut known, mut given) = (BTreeMap::new(), BTreeMap::new());
    for feature in &interface.inputs {
        if known.insert(feature.name.as_str(), &feature.kind).is_some() {
            return Err(refuse(format!("feature {} is described twice", quote(&feature.name))));
        }
    }
    for (i, stage) in stages.iter().enumerate() {
        for feature in stage.interface.inputs.iter().filter(|feature| !feature.optional) {
            check(&known, feature, "takes").within(|| format!("member {} of the pipeline", i + 1))?;
        }
        let outputs = stage.interface.outputs.iter().map(|feature| (feature.name.as_str(), &feature.kind));
        known.extend(outputs.clone());
        given.extend(outputs);
    }
    for feature in &interface.outputs {
        check(&given, feature, "gives").within(|| "the pipeline".to_owned())?;
    }
    let mut names: Vec<_> = interface.outputs.iter().map(|feature| &feature.name).collect();
    names.sort_unstable();
    if let Some(pair) = names.array_windows().find(|[a, b]| a == b) {
        return Err(refuse(format!("output {} is described twice", quote(pair[0]))));
    }
    // Converters forget to say these of the pipeline.
    let of_last = |name: &Option<String>| name.clone().filter(|name| interface.output(name).is_some());
    let feature = of_last(&last.interface.predicted_feature);
    let probabilities = of_last(&last.interface.predicted_probabilities);
    interface.predicted_feature = interface.predicted_feature.take().or(feature);
    interface.predicted_probabilities = interface.predicted_probabilities.take().or(probabilities);
    Ok((interface, description::metadata(description.metadata)))
}

fn check(known: &BTreeMap<&str, &FeatureKind>, feature: &Feature, verb: &str) -> Result<(), ReadError> {
    match known.get(feature.name.as_str()) {
        None => Err(refuse(format!("{verb} the feature {}, which nothing before gives", quote(&feature.name)))),
        Some(kind) if discriminant(*kind) != discriminant(&feature.kind) => {
            let message = format!("{verb} the feature {} in another type than it has", quote(&feature.name));
            Err(refuse(message))
        }
        Some(_) => Ok(()),
    }
}
