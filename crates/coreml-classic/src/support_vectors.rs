//! Support vector machines, in the layout of libsvm.

use coreml_core::{CheckedInputs, Error, Value};
use coreml_model::{Fields, Interface};

use crate::classes::{self, Classes};
use crate::functions::largest;
use crate::numbers::Numbers;
use crate::row::Row;
use crate::vectors::{Kernel, Vectors};
use crate::{Classic, Read, broken};

#[derive(Debug)]
struct Regressor {
    row: Row,
    kernel: Kernel,
    vectors: Vectors,
    /// A number for each vector.
    coefficients: Vec<f64>,
    rho: f64,
    output: Numbers,
}

pub(crate) fn regressor(fields: Fields<'_>, interface: &Interface) -> Read {
    let kernel = Kernel::read(fields)?;
    let vectors = Vectors::read(fields, 2, 3)?;
    let coefficients = fields.message(4)?.unwrap_or_default().doubles(1)?;
    check_coefficients(&coefficients, &vectors)?;
    let row = Row::read(interface, vectors.width())?;
    let output = Numbers::new(interface, Some(1))?;
    Ok(Box::new(Regressor { row, kernel, vectors, coefficients, rho: fields.double(5)?, output }))
}

fn check_coefficients(coefficients: &[f64], vectors: &Vectors) -> Result<(), Error> {
    let (found, wanted) = (coefficients.len(), vectors.count());
    if found == wanted { Ok(()) } else { Err(broken(format!("{wanted} support vectors have {found} coefficients"))) }
}

impl Classic for Regressor {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let likeness = self.vectors.compare(self.kernel, &self.row.gather(inputs)?);
        let sum: f64 = self.coefficients.iter().zip(likeness).map(|(alpha, k)| alpha * k).sum();
        self.output.give(vec![sum - self.rho])
    }
}

#[derive(Debug)]
struct Classifier {
    row: Row,
    kernel: Kernel,
    /// Those of each class follow each other.
    vectors: Vectors,
    /// Where each class's vectors begin; one more for the end of the last.
    starts: Vec<usize>,
    /// One row fewer than classes, each with a number for each vector.
    coefficients: Vec<Vec<f64>>,
    /// For each pair of classes, in the order 01, 02, …, 12, …: what its decision is measured from.
    rho: Vec<f64>,
    /// For each pair, the slope and the offset that make a probability of its decision.
    sigmoids: Option<Vec<(f64, f64)>>,
    classes: Classes,
}

pub(crate) fn classifier(fields: Fields<'_>, interface: &Interface) -> Read {
    let kernel = Kernel::read(fields)?;
    let vectors = Vectors::read(fields, 3, 4)?;
    let mut starts = vec![0usize];
    for count in fields.ints(2)? {
        let end = usize::try_from(count).ok().and_then(|count| starts.last()?.checked_add(count));
        let end = end.filter(|&end| end <= vectors.count());
        starts.push(end.ok_or_else(|| broken(format!("a class has {count} support vectors")))?);
    }
    if starts.last() != Some(&vectors.count()) {
        return Err(broken(format!("the classes do not share all {} support vectors", vectors.count())));
    }
    let count = starts.len() - 1;
    if count < 2 {
        return Err(broken(format!("the classifier has the support vectors of {count} classes")));
    }
    let labels = classes::labels(fields)?;
    classes::check_count(&labels, count, count)?;
    let rows = fields.messages(5)?.into_iter().map(|row| row.doubles(1));
    let coefficients = rows.collect::<Result<Vec<_>, _>>()?;
    if coefficients.len() != count - 1 {
        return Err(broken(format!("{count} classes have {} rows of coefficients", coefficients.len())));
    }
    coefficients.iter().try_for_each(|row| check_coefficients(row, &vectors))?;
    let pairs = count.checked_mul(count - 1).map_or(usize::MAX, |twice| twice / 2);
    let (rho, slopes, offsets) = (fields.doubles(6)?, fields.doubles(7)?, fields.doubles(8)?);
    let probable = !slopes.is_empty() || !offsets.is_empty();
    if rho.len() != pairs || (probable && (slopes.len() != pairs || offsets.len() != pairs)) {
        let found =
            format!("{} offsets and {} and {} numbers for probabilities", rho.len(), slopes.len(), offsets.len());
        return Err(broken(format!("{pairs} pairs of classes have {found}")));
    }
    let sigmoids = probable.then(|| slopes.into_iter().zip(offsets).collect());
    let row = Row::read(interface, vectors.width())?;
    let classes = Classes::new(labels, interface)?;
    Ok(Box::new(Classifier { row, kernel, vectors, starts, coefficients, rho, sigmoids, classes }))
}

impl Classifier {
    /// The decision between each pair of classes; above zero it is for the first.
    fn decisions(&self, row: &[f64]) -> Vec<(usize, usize, f64)> {
        let likeness = self.vectors.compare(self.kernel, row);
        let count = self.starts.len() - 1;
        let part = |class: usize, against: usize| {
            let vectors = self.starts[class]..self.starts[class + 1];
            let coefficients = &self.coefficients[against][vectors.clone()];
            coefficients.iter().zip(&likeness[vectors]).map(|(alpha, k)| alpha * k).sum::<f64>()
        };
        let pairs = (0..count).flat_map(|i| (i + 1..count).map(move |j| (i, j)));
        pairs.zip(&self.rho).map(|((i, j), rho)| (i, j, part(i, j - 1) + part(j, i) - rho)).collect()
    }
}

impl Classic for Classifier {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let row = self.row.gather_known(inputs)?;
        let decisions = self.decisions(&row);
        let count = self.starts.len() - 1;
        let Some(sigmoids) = &self.sigmoids else {
            let mut votes = vec![0.0; count];
            for &(i, j, decision) in &decisions {
                votes[if decision > 0.0 { i } else { j }] += 1.0;
            }
            let class = largest(&votes);
            // No probabilities: the share of the pairs that a class has won.
            votes.iter_mut().for_each(|votes| *votes /= decisions.len() as f64);
            return Ok(self.classes.give(class, &votes));
        };
        let mut wins = Square::zeros(count);
        for (&(i, j, decision), &(slope, offset)) in decisions.iter().zip(sigmoids) {
            let p = 1.0 / (1.0 + (decision * slope + offset).exp());
            let p = p.clamp(1e-7, 1.0 - 1e-7);
            *wins.at(i, j) = p;
            *wins.at(j, i) = 1.0 - p;
        }
        let probabilities = if count == 2 { vec![*wins.at(0, 1), *wins.at(1, 0)] } else { couple(&mut wins) };
        Ok(self.classes.give(largest(&probabilities), &probabilities))
    }
}

/// A matrix with as many rows as columns.
struct Square {
    size: usize,
    numbers: Vec<f64>,
}

impl Square {
    fn zeros(size: usize) -> Self {
        Self { size, numbers: vec![0.0; size * size] }
    }

    fn at(&mut self, row: usize, column: usize) -> &mut f64 {
        &mut self.numbers[row * self.size + column]
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.numbers[row * self.size..(row + 1) * self.size]
    }
}

/// The probabilities of all classes from those of each pair: the second method of Wu, Lin and Weng, iterated as libsvm does.
fn couple(wins: &mut Square) -> Vec<f64> {
    let count = wins.size;
    let mut q = Square::zeros(count);
    for t in 0..count {
        for j in (0..count).filter(|&j| j != t) {
            let (lost, won) = (*wins.at(j, t), *wins.at(t, j));
            *q.at(t, t) += lost * lost;
            *q.at(t, j) = -lost * won;
        }
    }
    let mut p = vec![1.0 / count as f64; count];
    let close = 0.005 / count as f64;
    for _ in 0..count.max(100) {
        let mut qp: Vec<f64> = (0..count).map(|t| q.row(t).iter().zip(&p).map(|(q, p)| q * p).sum()).collect();
        let mut pqp: f64 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < close) {
            break;
        }
        for t in 0..count {
            let diagonal = *q.at(t, t);
            let step = (pqp - qp[t]) / diagonal;
            p[t] += step;
            let scale = 1.0 + step;
            pqp = (pqp + step * (step * diagonal + 2.0 * qp[t])) / (scale * scale);
            for (j, q) in q.row(t).iter().enumerate() {
                qp[j] = (qp[j] + step * q) / scale;
                p[j] /= scale;
            }
        }
    }
    p
}
