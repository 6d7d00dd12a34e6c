//! Labels, and the answer of a classifier.

use std::collections::BTreeMap;

use coreml_core::{Error, Label, Value};
use coreml_model::{DictionaryKey, FeatureKind, Fields, Interface};

use crate::{broken, misfit};

/// The labels in fields 100 and 101, in the order of the scores.
pub(crate) fn labels(fields: Fields<'_>) -> Result<Vec<Label>, Error> {
    label_list(fields, 100, 101)?.ok_or_else(|| broken("the classifier has no class labels"))
}

/// The labels in one of two fields: strings or integers.
pub(crate) fn label_list(fields: Fields<'_>, strings: u32, integers: u32) -> Result<Option<Vec<Label>>, Error> {
    let found = fields.one_of(&[strings, integers])?;
    let Some(number) = found else { return Ok(None) };
    let vector = fields.message(number)?.unwrap_or_default();
    let labels = if number == strings {
        vector.texts(1)?.into_iter().map(|text| Label::String(text.into())).collect()
    } else {
        vector.ints(1)?.into_iter().map(Label::Int64).collect()
    };
    Ok(Some(labels))
}

/// Whether all of the labels are of this type.
pub(crate) fn all_of(labels: &[Label], wanted: DictionaryKey) -> bool {
    labels.iter().all(|label| matches!(label, Label::String(_)) == (wanted == DictionaryKey::String))
}

/// What an output feature of a classifier gets.
#[derive(Debug, Clone, Copy)]
enum Role {
    Label,
    Probabilities,
}

/// The outputs of a classifier.
#[derive(Debug)]
pub(crate) struct Classes {
    labels: Vec<Label>,
    outputs: Vec<(String, Role)>,
}

impl Classes {
    /// The outputs with these labels. `labels` may have none, for a model that says so by itself.
    pub(crate) fn new(labels: Vec<Label>, interface: &Interface) -> Result<Self, Error> {
        if interface.predicted_feature.is_none() {
            return Err(broken("the description does not say which output is the predicted label"));
        }
        let mut outputs = Vec::new();
        for feature in &interface.outputs {
            let named = |name: &Option<String>| name.as_ref() == Some(&feature.name);
            let (role, fits) = match &feature.kind {
                FeatureKind::String if named(&interface.predicted_feature) => {
                    (Role::Label, all_of(&labels, DictionaryKey::String))
                }
                FeatureKind::Int64 if named(&interface.predicted_feature) => {
                    (Role::Label, all_of(&labels, DictionaryKey::Int64))
                }
                FeatureKind::Dictionary(keys) if named(&interface.predicted_probabilities) => {
                    (Role::Probabilities, all_of(&labels, *keys))
                }
                _ => return Err(misfit(&feature.name, "is neither the label nor the probabilities of the classifier")),
            };
            if !fits {
                return Err(misfit(&feature.name, "is not of the type of the class labels"));
            }
            outputs.push((feature.name.clone(), role));
        }
        Ok(Self { labels, outputs })
    }

    pub(crate) fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The answer that `class` is the one; there is a probability for each label.
    pub(crate) fn give(&self, class: usize, probabilities: &[f64]) -> Vec<(String, Value)> {
        let dictionary = || self.labels.iter().cloned().zip(probabilities.iter().copied()).collect();
        self.give_with(&self.labels[class], dictionary)
    }

    pub(crate) fn give_with(
        &self,
        label: &Label,
        probabilities: impl Fn() -> Vec<(Label, f64)>,
    ) -> Vec<(String, Value)> {
        let value = |role: Role| match (role, label) {
            (Role::Label, Label::String(label)) => Value::String(label.to_string()),
            (Role::Label, Label::Int64(label)) => Value::Int64(*label),
            (Role::Probabilities, _) => Value::Dictionary(probabilities()),
        };
        self.outputs.iter().map(|(name, role)| (name.clone(), value(*role))).collect()
    }
}

/// Refuses labels that are not as many as the scores need.
pub(crate) fn check_count(labels: &[Label], scores: usize, wanted: usize) -> Result<(), Error> {
    if labels.len() == wanted {
        return Ok(());
    }
    Err(broken(format!("{scores} scores need {wanted} class labels, the model has {}", labels.len())))
}

/// The position of each label; of one that is there twice, the first.
pub(crate) fn positions(labels: &[Label]) -> BTreeMap<LabelKey, usize> {
    let mut positions = BTreeMap::new();
    for (i, label) in labels.iter().enumerate() {
        positions.entry(LabelKey::from(label)).or_insert(i);
    }
    positions
}

/// A label in an order: integers before strings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LabelKey {
    Int64(i64),
    String(std::sync::Arc<str>),
}

impl From<&Label> for LabelKey {
    fn from(label: &Label) -> Self {
        match label {
            Label::Int64(number) => Self::Int64(*number),
            Label::String(text) => Self::String(text.clone()),
        }
    }
}
