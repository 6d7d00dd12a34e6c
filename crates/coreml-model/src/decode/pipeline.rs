//! Decodes pipelines: a pipeline's inputs and outputs must match those of its members.
//!
//! Members run in order and find their inputs by name among the pipeline's own and the outputs of earlier members.

use std::collections::BTreeMap;

use super::description::{self, refuse};
use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::interface::{ArrayFeature, DictionaryKey, Feature, FeatureKind, Interface, ShapeConstraint};
use crate::package::Metadata;
use crate::proto;
use crate::stage::Stage;

/// The members of a pipeline, each read by `read`.
pub(crate) fn members(
    pipeline: proto::Pipeline,
    mut read: impl FnMut(proto::Model) -> Result<Stage, ReadError>,
) -> Result<Vec<Stage>, ReadError> {
    let names = pipeline.names;
    let member = |(i, member): (usize, proto::Model)| {
        let name = names.get(i).filter(|name| !name.is_empty());
        let name = name.map_or(String::new(), |name| format!(" ({})", quote(name)));
        read(member).within(|| format!("member {}{name} of the pipeline", i + 1))
    };
    pipeline.models.into_iter().enumerate().map(member).collect()
}

/// A value that members can take: its type, and where it comes from.
struct Known<'a> {
    kind: &'a FeatureKind,
    giver: String,
}

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
    let mut known: BTreeMap<&str, Known<'_>> = BTreeMap::new();
    for feature in &interface.inputs {
        let input = Known { kind: &feature.kind, giver: "the pipeline".to_owned() };
        if known.insert(&feature.name, input).is_some() {
            return Err(refuse(format!("feature {} is described twice", quote(&feature.name))));
        }
    }
    for (i, stage) in stages.iter().enumerate() {
        for feature in &stage.interface.inputs {
            match known.get(feature.name.as_str()) {
                None if feature.optional => Ok(()),
                found => check(found, feature, "takes"),
            }
            .within(|| format!("member {} of the pipeline, `{}`", i + 1, stage.kind))?;
        }
        for feature in &stage.interface.outputs {
            let giver = format!("member {}, `{}`,", i + 1, stage.kind);
            known.insert(&feature.name, Known { kind: &feature.kind, giver });
        }
    }
    for feature in &interface.outputs {
        check(known.get(feature.name.as_str()), feature, "gives").within(|| "the pipeline".to_owned())?;
    }
    let mut names: Vec<_> = interface.outputs.iter().map(|feature| &feature.name).collect();
    names.sort_unstable();
    if let Some([twice, _]) = names.array_windows().find(|[a, b]| a == b) {
        return Err(refuse(format!("output {} is described twice", quote(twice))));
    }
    // Converters forget to say these of the pipeline.
    let of_last = |name: &Option<String>| name.clone().filter(|name| interface.output(name).is_some());
    let feature = of_last(&last.interface.predicted_feature);
    let probabilities = of_last(&last.interface.predicted_probabilities);
    interface.predicted_feature = interface.predicted_feature.take().or(feature);
    interface.predicted_probabilities = interface.predicted_probabilities.take().or(probabilities);
    Ok((interface, description::metadata(description.metadata)))
}

fn check(known: Option<&Known<'_>>, feature: &Feature, verb: &str) -> Result<(), ReadError> {
    let name = quote(&feature.name);
    match known {
        None => Err(refuse(format!("{verb} the feature {name}, which nothing before gives"))),
        Some(Known { kind, giver }) if !fits(kind, &feature.kind) => {
            let (wanted, given) = (words(&feature.kind), words(kind));
            Err(refuse(format!("{verb} the feature {name} as {wanted}; {giver} has it as {given}")))
        }
        Some(_) => Ok(()),
    }
}

/// Whether a value of one type can be handed on as one of another. Numbers are converted where that is exact; arrays may
/// have another shape with as many elements.
fn fits(given: &FeatureKind, wanted: &FeatureKind) -> bool {
    use FeatureKind::{Dictionary, Double, Image, Int64, MultiArray, Sequence, String};

    match (given, wanted) {
        (Int64 | Double, Int64 | Double) | (String, String) | (Image(_), Image(_)) => true,
        (MultiArray(given), MultiArray(wanted)) => match (fixed_count(given), fixed_count(wanted)) {
            (Some(given), Some(wanted)) => given == wanted,
            _ => true,
        },
        (Dictionary(given), Dictionary(wanted)) | (Sequence(given), Sequence(wanted)) => given == wanted,
        _ => false,
    }
}

/// The number of elements of an array that has one shape.
fn fixed_count(array: &ArrayFeature) -> Option<usize> {
    let fixed = array.constraint == ShapeConstraint::Fixed && !array.shape.is_empty();
    fixed.then(|| array.shape.iter().try_fold(1, |count: usize, &size| count.checked_mul(size))).flatten()
}

/// A type in words.
fn words(kind: &FeatureKind) -> String {
    let key = |key: &DictionaryKey| if *key == DictionaryKey::String { "strings" } else { "integers" };
    match kind {
        FeatureKind::Int64 => "an integer".into(),
        FeatureKind::Double => "a double".into(),
        FeatureKind::String => "a string".into(),
        FeatureKind::Image(_) => "an image".into(),
        FeatureKind::MultiArray(array) | FeatureKind::State(array) => format!("an array of shape {:?}", array.shape),
        FeatureKind::Dictionary(keys) => format!("a dictionary by {}", key(keys)),
        FeatureKind::Sequence(elements) => format!("a sequence of {}", key(elements)),
    }
}
