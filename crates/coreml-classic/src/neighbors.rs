//! k nearest neighbours.

use coreml_core::{CheckedInputs, Error, Label, Value};
use coreml_model::{Fields, Interface};

use crate::classes::{self, Classes, LabelKey};
use crate::functions::largest;
use crate::row::{Row, Width};
use crate::{Classic, Read, broken};
use std::collections::BTreeMap;

/// The nearest that a sample may be when its weight is made of its distance.
const NEAREST: f64 = 1e-12;

#[derive(Debug)]
struct Neighbors {
    row: Row,
    width: usize,
    /// One sample after the other.
    samples: Vec<f32>,
    /// For each sample, which of the distinct labels it has.
    classes_of: Vec<usize>,
    /// How many neighbours have a say.
    count: usize,
    by_distance: bool,
    /// The distinct labels, in the order in which samples have them; only the default label of a model without samples.
    classes: Classes,
}

pub(crate) fn classifier(fields: Fields<'_>, interface: &Interface) -> Read {
    let index = fields.message(1)?.ok_or_else(|| broken("the model has no index of neighbours"))?;
    let dimensions = index.int(1)?;
    let width = usize::try_from(dimensions).ok().filter(|&width| width > 0);
    let width = width.ok_or_else(|| broken(format!("the samples have {dimensions} dimensions")))?;
    let mut samples = Vec::new();
    for sample in index.messages(2)? {
        let start = samples.len();
        samples.extend(sample.floats(1)?);
        let found = samples.len() - start;
        if found != width {
            return Err(broken(format!("a sample of {dimensions} dimensions has {found} numbers")));
        }
    }
    let neighbors = fields.message(3)?.unwrap_or_default().int(1)?;
    let count = usize::try_from(neighbors).ok().filter(|&count| count > 0);
    let count = count.ok_or_else(|| broken(format!("{neighbors} neighbours are asked for")))?;
    let by_distance = match fields.one_of(&[200, 210])? {
        Some(200) => false,
        Some(_) => true,
        None => return Err(broken("the model does not say how neighbours are weighted")),
    };
    let labels = classes::label_list(fields, 100, 101)?.unwrap_or_default();
    if labels.len() != samples.len() / width {
        return Err(broken(format!("{} samples have {} labels", samples.len() / width, labels.len())));
    }
    let (mut distinct, mut positions, mut classes_of) = (Vec::new(), BTreeMap::new(), Vec::new());
    for label in labels {
        let class = *positions.entry(LabelKey::from(&label)).or_insert(distinct.len());
        if class == distinct.len() {
            distinct.push(label);
        }
        classes_of.push(class);
    }
    if distinct.is_empty() {
        distinct.push(match fields.one_of(&[110, 111])? {
            Some(110) => Label::String(fields.text(110)?.into()),
            Some(_) => Label::Int64(fields.int(111)?),
            None => return Err(broken("the model has neither samples nor a default label")),
        });
    }
    let row = Row::read(interface, Width::Exactly(width))?;
    let classes = Classes::new(distinct, interface)?;
    Ok(Box::new(Neighbors { row, width, samples, classes_of, count, by_distance, classes }))
}

impl Classic for Neighbors {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let row = self.row.gather_known(inputs)?;
        let square = |(a, b): (&f32, &f64)| (f64::from(*a) - b) * (f64::from(*a) - b);
        let distance = |sample: &[f32]| sample.iter().zip(&row).map(square).sum::<f64>();
        let mut nearest: Vec<(f64, usize)> =
            self.samples.chunks_exact(self.width).map(distance).zip(self.classes_of.iter().copied()).collect();
        if self.count < nearest.len() {
            // Of samples that are as far, the first ones count.
            nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
            nearest.truncate(self.count);
        }
        let mut votes = vec![0.0; self.classes.labels().len()];
        for (distance, class) in nearest {
            votes[class] += if self.by_distance { 1.0 / distance.sqrt().max(NEAREST) } else { 1.0 };
        }
        let class = largest(&votes);
        let total: f64 = votes.iter().sum();
        if total > 0.0 {
            votes.iter_mut().for_each(|vote| *vote /= total);
        } else {
            // The default label of a model without samples.
            votes[class] = 1.0;
        }
        Ok(self.classes.give(class, &votes))
    }
}
