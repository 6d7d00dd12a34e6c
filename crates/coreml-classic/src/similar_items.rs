//! Recommenders based on the similarity of items.

use std::collections::{BTreeMap, BTreeSet};

use coreml_core::{CheckedInputs, CheckedValue, Error, Label, Value};
use coreml_model::{DictionaryKey, FeatureKind, Fields, Interface};

use crate::classes::{self, LabelKey};
use crate::{Classic, Read, broken, misfit, refuse};

/// How many items a model without names for them may have, if its file does not speak of at least a sixteenth of them.
const MOST_UNNAMED: usize = 1 << 20;

#[derive(Debug)]
struct Recommender {
    /// What items are called.
    ids: Vec<Label>,
    positions: BTreeMap<LabelKey, usize>,
    /// By item: those that are similar to it.
    similar: Vec<Vec<(usize, f64)>>,
    /// By item: what is taken off the score of whoever speaks for it.
    adjustments: Vec<f64>,
    items: String,
    count: Option<String>,
    restriction: Option<String>,
    exclusion: Option<String>,
    outputs: Vec<(String, Role)>,
}

/// What an output gets.
#[derive(Debug, Clone, Copy)]
enum Role {
    List,
    Scores,
}

/// What the file says of an item, by numbers.
struct Said {
    item: u64,
    similar: Vec<(u64, f64)>,
    adjustment: f64,
}

impl Said {
    fn read(fields: Fields<'_>) -> Result<Self, Error> {
        let similar = fields.messages(2)?.into_iter().map(|item| Ok((item.uint(1)?, item.double(2)?)));
        let similar = similar.collect::<Result<_, Error>>()?;
        Ok(Self { item: fields.uint(1)?, similar, adjustment: fields.double(3)? })
    }
}

pub(crate) fn read(fields: Fields<'_>, interface: &Interface) -> Read {
    let entries = fields.messages(1)?;
    let said = entries.into_iter().map(Said::read).collect::<Result<Vec<_>, _>>()?;
    let named = said.iter().flat_map(|said| [said.item].into_iter().chain(said.similar.iter().map(|(id, _)| *id)));
    let ids = classes::label_list(fields, 2, 3)?.filter(|ids| !ids.is_empty());
    let ids = match ids {
        Some(ids) => ids,
        None => {
            let (mut spoken, mut last) = (0usize, None);
            for id in named.clone() {
                (spoken, last) = (spoken + 1, last.max(Some(id)));
            }
            let count = last.map_or(Some(0), |last| usize::try_from(last).ok()?.checked_add(1));
            let count = count.filter(|&count| count <= MOST_UNNAMED.max(spoken.saturating_mul(16)));
            let count = count.ok_or_else(|| broken("items without names have numbers that are far too large"))?;
            (0..count as i64).map(Label::Int64).collect()
        }
    };
    let position = |id: u64| {
        let found = usize::try_from(id).ok().filter(|&position| position < ids.len());
        found.ok_or_else(|| broken(format!("there are {} items, the model speaks of item {id}", ids.len())))
    };
    let (mut similar, mut adjustments) = (vec![Vec::new(); ids.len()], vec![0.0; ids.len()]);
    for said in &said {
        let item = position(said.item)?;
        adjustments[item] = said.adjustment;
        for &(other, score) in &said.similar {
            similar[item].push((position(other)?, score));
        }
    }
    let keys = if classes::all_of(&ids, DictionaryKey::Int64) { DictionaryKey::Int64 } else { DictionaryKey::String };
    let labelled = |name: &str| match interface.input(name).map(|feature| &feature.kind) {
        Some(FeatureKind::Sequence(elements)) if *elements == keys => Ok(Some(name.to_owned())),
        Some(FeatureKind::Dictionary(found)) if *found == keys => Ok(Some(name.to_owned())),
        Some(_) => Err(misfit(name, "does not hold the names of items")),
        None => Ok(None),
    };
    let items = match fields.text(10)? {
        "" => interface.inputs.first().map_or("", |feature| &feature.name),
        name => name,
    };
    let items = labelled(items)?.ok_or_else(|| misfit(items, "is not among the inputs of the recommender"))?;
    let names = [fields.text(20)?, fields.text(21)?];
    let mut outputs = Vec::new();
    for feature in &interface.outputs {
        let role = match (names.iter().position(|&name| name == feature.name), &feature.kind) {
            (Some(0), FeatureKind::Sequence(elements)) if *elements == keys => Role::List,
            (Some(1), FeatureKind::Dictionary(found)) if *found == keys => Role::Scores,
            (Some(_), _) => return Err(misfit(&feature.name, "does not hold the names of items")),
            (None, _) => return Err(misfit(&feature.name, "is none that the recommender gives")),
        };
        outputs.push((feature.name.clone(), role));
    }
    Ok(Box::new(Recommender {
        positions: classes::positions(&ids),
        similar,
        adjustments,
        items,
        count: interface.input(fields.text(11)?).map(|feature| feature.name.clone()),
        restriction: labelled(fields.text(12)?)?,
        exclusion: labelled(fields.text(13)?)?,
        outputs,
        ids,
    }))
}

impl Recommender {
    /// The items that an input names, with their scores: 1 where it has none. `None` if it was left out. Items that the
    /// model does not know have nothing that is similar.
    fn named(&self, inputs: &CheckedInputs<'_>, name: &str) -> Result<Option<BTreeMap<usize, f64>>, Error> {
        let position = |label: &Label| self.positions.get(&label.into()).copied();
        match inputs.get(name) {
            None | Some(CheckedValue::Absent) => Ok(None),
            Some(CheckedValue::Sequence(labels)) => {
                Ok(Some(labels.iter().filter_map(|label| Some((position(label)?, 1.0))).collect()))
            }
            Some(CheckedValue::Dictionary(entries)) => {
                let entry = |(label, score): &(Label, f64)| Some((position(label)?, *score));
                Ok(Some(entries.iter().filter_map(entry).collect()))
            }
            Some(_) => Err(refuse(name, "does not hold the names of items")),
        }
    }

    /// As [`Recommender::named`], of an input that the model may not have.
    fn chosen(&self, inputs: &CheckedInputs<'_>, name: Option<&String>) -> Result<Option<BTreeSet<usize>>, Error> {
        let named = name.map(|name| self.named(inputs, name)).transpose()?.flatten();
        Ok(named.map(|named| named.into_keys().collect()))
    }
}

impl Classic for Recommender {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let observed = self.named(inputs, &self.items)?.unwrap_or_default();
        let mut scores = vec![0.0; self.ids.len()];
        for (&item, &score) in &observed {
            for &(other, similarity) in &self.similar[item] {
                scores[other] += similarity * (score - self.adjustments[other]);
            }
        }
        let restriction = self.chosen(inputs, self.restriction.as_ref())?;
        // An exclusion that is given stands instead of what was observed.
        let exclusion = self.chosen(inputs, self.exclusion.as_ref())?;
        let exclusion = exclusion.unwrap_or_else(|| observed.keys().copied().collect());
        let admitted =
            |item: &usize| restriction.as_ref().is_none_or(|items| items.contains(item)) && !exclusion.contains(item);
        let mut items: Vec<usize> = (0..self.ids.len()).filter(admitted).collect();
        items.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let count = match self.count.as_ref().and_then(|name| inputs.get(name)) {
            Some(CheckedValue::Int64(count)) => usize::try_from(*count).ok(),
            _ => None,
        };
        items.truncate(count.unwrap_or(usize::MAX));
        let value = |role: Role| match role {
            Role::List => Value::Sequence(items.iter().map(|&item| self.ids[item].clone()).collect()),
            Role::Scores => {
                Value::Dictionary(items.iter().map(|&item| (self.ids[item].clone(), scores[item])).collect())
            }
        };
        Ok(self.outputs.iter().map(|(name, role)| (name.clone(), value(*role))).collect())
    }
}
