//! Generalised linear models.

use coreml_core::{CheckedInputs, Error, Value};
use coreml_model::{Fields, Interface};

use crate::classes::{self, Classes};
use crate::functions::{largest, logistic, normal, softmax};
use crate::numbers::Numbers;
use crate::row::{Row, Width};
use crate::{Classic, Read, broken};

/// What becomes of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Identity,
    /// 1 / (1 + e^−s).
    Logit,
    /// The distribution function of the standard normal.
    Probit,
}

impl Link {
    fn apply(self, sum: f64) -> f64 {
        match self {
            Self::Identity => sum,
            Self::Logit => logistic(sum),
            Self::Probit => normal(sum),
        }
    }
}

/// Weighted sums of a row.
#[derive(Debug)]
struct Sums {
    row: Row,
    /// A row of weights for each sum, all as long as the features.
    weights: Vec<Vec<f64>>,
    offsets: Vec<f64>,
    link: Link,
}

impl Sums {
    fn read(fields: Fields<'_>, interface: &Interface, link: Link) -> Result<Self, Error> {
        let rows = fields.messages(1)?.into_iter().map(|row| row.doubles(1));
        let weights = rows.collect::<Result<Vec<_>, _>>()?;
        let first = weights.first().ok_or_else(|| broken("the linear model has no weights"))?;
        if let Some(row) = weights.iter().find(|row| row.len() != first.len()) {
            return Err(broken(format!("the linear model has rows of {} and of {} weights", first.len(), row.len())));
        }
        let mut offsets = fields.doubles(2)?;
        if offsets.is_empty() {
            offsets = vec![0.0; weights.len()];
        }
        if offsets.len() != weights.len() {
            return Err(broken(format!("{} rows of weights have {} offsets", weights.len(), offsets.len())));
        }
        let row = Row::read(interface, Width::Exactly(first.len()))?;
        Ok(Self { row, weights, offsets, link })
    }

    fn of(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<f64>, Error> {
        let row = self.row.gather(inputs)?;
        let dot = |weights: &[f64]| weights.iter().zip(&row).map(|(weight, value)| weight * value).sum::<f64>();
        Ok(self.weights.iter().zip(&self.offsets).map(|(weights, offset)| dot(weights) + offset).collect())
    }
}

#[derive(Debug)]
struct Regressor {
    sums: Sums,
    output: Numbers,
}

pub(crate) fn regressor(fields: Fields<'_>, interface: &Interface) -> Read {
    let link = match fields.uint(3)? {
        0 => Link::Identity,
        1 => Link::Logit,
        2 => Link::Probit,
        other => return Err(broken(format!("there is no transform {other} of linear regressors"))),
    };
    let sums = Sums::read(fields, interface, link)?;
    let output = Numbers::new(interface, Some(sums.weights.len()))?;
    Ok(Box::new(Regressor { sums, output }))
}

impl Classic for Regressor {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let sums = self.sums.of(inputs)?;
        self.output.give(sums.into_iter().map(|sum| self.sums.link.apply(sum)).collect())
    }
}

/// How sums stand for classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// The first class has no sum of its own, but zero.
    Reference,
    /// Each class has its own.
    OneVsRest,
}

#[derive(Debug)]
struct Classifier {
    sums: Sums,
    encoding: Encoding,
    classes: Classes,
}

pub(crate) fn classifier(fields: Fields<'_>, interface: &Interface) -> Read {
    let link = match fields.uint(3)? {
        0 => Link::Logit,
        1 => Link::Probit,
        other => return Err(broken(format!("there is no transform {other} of linear classifiers"))),
    };
    let encoding = match fields.uint(4)? {
        0 => Encoding::Reference,
        1 => Encoding::OneVsRest,
        other => return Err(broken(format!("there is no class encoding {other}"))),
    };
    let sums = Sums::read(fields, interface, link)?;
    let rows = sums.weights.len();
    let reference = encoding == Encoding::Reference;
    if rows > 1 && reference && link == Link::Probit {
        return Err(broken("a linear classifier of more than two classes against a reference has no probit"));
    }
    let labels = classes::labels(fields)?;
    // One row tells two classes apart, whatever the encoding.
    classes::check_count(&labels, rows, if rows == 1 || reference { rows + 1 } else { rows })?;
    Ok(Box::new(Classifier { sums, encoding, classes: Classes::new(labels, interface)? }))
}

impl Classic for Classifier {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let mut scores = self.sums.of(inputs)?;
        let link = self.sums.link;
        if let [sum] = *scores {
            let second = link.apply(sum);
            return Ok(self.classes.give(usize::from(second > 0.5), &[1.0 - second, second]));
        }
        match self.encoding {
            Encoding::Reference => {
                scores.insert(0, 0.0);
                softmax(&mut scores);
            }
            Encoding::OneVsRest => {
                scores.iter_mut().for_each(|score| *score = link.apply(*score));
                let total: f64 = scores.iter().sum();
                scores.iter_mut().for_each(|score| *score /= total);
            }
        }
        Ok(self.classes.give(largest(&scores), &scores))
    }
}
