//! Tree ensembles.

use coreml_core::{CheckedInputs, Error, Value};
use coreml_model::{Fields, Interface};

use self::forest::Forest;
use crate::classes::{self, Classes};
use crate::functions::{largest, logistic, softmax};
use crate::numbers::Numbers;
use crate::row::{Row, Width};
use crate::{Answer, Classic, Read, broken};

mod forest;
mod nodes;
#[cfg(test)]
mod tests;

/// How many rows go through the trees together.
const BLOCK: usize = 64;

/// A forest, and what becomes of its scores.
#[derive(Debug)]
struct Trees {
    forest: Forest,
    /// The scores before any tree has been walked.
    base: Vec<f64>,
    transform: Transform,
    row: Row,
}

/// What becomes of the sums over all trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transform {
    None,
    Softmax,
    /// 1 / (1 + e^−v).
    Logistic,
    /// Softmax with a zero for the first class, which has no score.
    SoftmaxWithZero,
}

impl Transform {
    fn apply(self, scores: &mut Vec<f64>) {
        match self {
            Self::None => {}
            Self::Softmax => softmax(scores),
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::SoftmaxWithZero => {
                scores.insert(0, 0.0);
                softmax(scores);
            }
        }
    }
}

impl Trees {
    /// The ensemble in field 1 with the transform in field 2, for so many labels.
    fn read(fields: Fields<'_>, labels: usize, interface: &Interface) -> Result<Self, Error> {
        let ensemble = fields.message(1)?.ok_or_else(|| broken("the tree ensemble is missing"))?;
        let transform = match fields.uint(2)? {
            0 => Transform::None,
            1 => Transform::Softmax,
            2 => Transform::Logistic,
            3 => Transform::SoftmaxWithZero,
            other => return Err(broken(format!("there is no transform {other} of tree ensembles"))),
        };
        let (forest, base) = nodes::read(ensemble, labels)?;
        let row = Row::read(interface, Width::AtLeast(forest.features))?;
        Ok(Self { forest, base, transform, row })
    }

    /// How many numbers it gives.
    fn count(&self) -> usize {
        self.base.len() + usize::from(self.transform == Transform::SoftmaxWithZero)
    }

    /// The answers to each of the inputs, of which `answer` makes the last step.
    fn answer(&self, inputs: &[CheckedInputs<'_>], answer: impl Fn(Vec<f64>) -> Answer) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(inputs.len());
        let (mut rows, mut starts, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for block in inputs.chunks(BLOCK) {
            rows.clear();
            starts.clear();
            let gathered: Vec<_> = block
                .iter()
                .map(|inputs| {
                    let start = rows.len();
                    let gathered = self.row.gather_into(inputs, &mut rows);
                    if gathered.is_ok() {
                        starts.push(start);
                    } else {
                        rows.truncate(start);
                    }
                    gathered
                })
                .collect();
            scores.clear();
            starts.iter().for_each(|_| scores.extend_from_slice(&self.base));
            self.forest.add_scores(&rows, &starts, &mut scores);
            let mut scores = scores.chunks(self.base.len());
            answers.extend(gathered.into_iter().map(|gathered| {
                gathered?;
                let mut numbers = scores.next().unwrap_or_default().to_vec();
                self.transform.apply(&mut numbers);
                answer(numbers)
            }));
        }
        answers
    }

    fn answer_one(&self, inputs: &CheckedInputs<'_>, answer: impl Fn(Vec<f64>) -> Answer) -> Answer {
        let row = self.row.gather(inputs)?;
        let mut scores = self.base.clone();
        self.forest.add_scores(&row, &[0], &mut scores);
        self.transform.apply(&mut scores);
        answer(scores)
    }
}

#[derive(Debug)]
struct Regressor {
    trees: Trees,
    output: Numbers,
}

pub(crate) fn regressor(fields: Fields<'_>, interface: &Interface) -> Read {
    let trees = Trees::read(fields, 0, interface)?;
    let output = Numbers::new(interface, Some(trees.count()))?;
    Ok(Box::new(Regressor { trees, output }))
}

impl Classic for Regressor {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Answer {
        self.trees.answer_one(inputs, |scores| self.output.give(scores))
    }

    fn predict_batch(&self, inputs: &[CheckedInputs<'_>]) -> Vec<Answer> {
        self.trees.answer(inputs, |scores| self.output.give(scores))
    }
}

#[derive(Debug)]
struct Classifier {
    trees: Trees,
    classes: Classes,
}

pub(crate) fn classifier(fields: Fields<'_>, interface: &Interface) -> Read {
    let labels = classes::labels(fields)?;
    let trees = Trees::read(fields, labels.len(), interface)?;
    let scores = trees.base.len();
    // One score tells two classes apart.
    classes::check_count(&labels, scores, if scores == 1 { 2 } else { trees.count() })?;
    Ok(Box::new(Classifier { trees, classes: Classes::new(labels, interface)? }))
}

impl Classifier {
    fn give(&self, scores: &[f64]) -> Vec<(String, Value)> {
        match *scores {
            [second] => self.classes.give(usize::from(second >= 0.5), &[1.0 - second, second]),
            _ => self.classes.give(largest(scores), scores),
        }
    }
}

impl Classic for Classifier {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Answer {
        self.trees.answer_one(inputs, |scores| Ok(self.give(&scores)))
    }

    fn predict_batch(&self, inputs: &[CheckedInputs<'_>]) -> Vec<Answer> {
        self.trees.answer(inputs, |scores| Ok(self.give(&scores)))
    }
}
