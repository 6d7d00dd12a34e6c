//! Bayesian probit regressors: each value of each feature has a weight, given by its mean and precision.

use std::collections::BTreeMap;

use coreml_core::{CheckedInputs, CheckedValue, Error, ErrorKind, Value};
use coreml_model::{Feature, FeatureKind, Fields, Interface};
use coreml_tensor::Shape;

use crate::functions::normal;
use crate::{Classic, Read, broken, misfit, refuse, row};

/// How far an observation may be off by itself. The format does not carry it.
const BETA: f64 = 1.0;

#[derive(Debug)]
struct Probit {
    bias: Weight,
    /// By feature and value.
    weights: BTreeMap<(u32, u32), Weight>,
    input: String,
    optimism: Option<String>,
    outputs: Vec<(Feature, Role)>,
}

#[derive(Debug, Clone, Copy)]
struct Weight {
    mean: f64,
    variance: f64,
}

/// What an output gets.
#[derive(Debug, Clone, Copy)]
enum Role {
    Probability,
    Mean,
    Variance,
    Pessimistic,
}

impl Weight {
    fn read(fields: Fields<'_>, what: &str) -> Result<Self, Error> {
        let (mean, precision) = (fields.double(1)?, fields.double(2)?);
        if precision > 0.0 {
            return Ok(Self { mean, variance: 1.0 / precision });
        }
        Err(broken(format!("{what} has the precision {precision}")))
    }
}

pub(crate) fn regressor(fields: Fields<'_>, interface: &Interface) -> Read {
    let bias = fields.message(2)?.unwrap_or_default();
    let bias = match bias.double(2)? {
        // Left out, it is known for sure.
        0.0 => Weight { mean: bias.double(1)?, variance: 0.0 },
        _ => Weight::read(bias, "the bias")?,
    };
    let mut weights = BTreeMap::new();
    for feature in fields.messages(3)? {
        let id = number(feature.uint(1)?)?;
        for weight in feature.messages(2)? {
            let value = number(weight.uint(1)?)?;
            let what = || format!("the weight of value {value} of feature {id}");
            let gaussian = weight.message(2)?.ok_or_else(|| broken(format!("{} is missing", what())))?;
            weights.insert((id, value), Weight::read(gaussian, &what())?);
        }
    }
    let input = fields.text(10)?;
    match interface.input(input).map(|feature| &feature.kind) {
        Some(FeatureKind::MultiArray(_)) => {}
        Some(_) => return Err(misfit(input, "is not an array")),
        None => return Err(misfit(input, "is not among the inputs of the regressor")),
    }
    let optimism = interface.input(fields.text(11)?).map(|feature| feature.name.clone());
    let names = [(20, Role::Mean), (21, Role::Variance), (22, Role::Pessimistic)];
    let mut roles = Vec::new();
    for (field, role) in names {
        roles.push((fields.text(field)?, role));
    }
    let sampled = fields.text(23)?;
    let output = |feature: &Feature| {
        if !sampled.is_empty() && feature.name == sampled {
            let message = "is a random sample, which is not supported; take the output out of the description";
            return Err(Error::feature(ErrorKind::Unsupported, &feature.name, message));
        }
        if !matches!(feature.kind, FeatureKind::Double) {
            return Err(misfit(&feature.name, "is not a double"));
        }
        let named = roles.iter().find(|(name, _)| *name == feature.name).map(|(_, role)| *role);
        let predicted = || (interface.predicted_feature.as_ref() == Some(&feature.name)).then_some(Role::Probability);
        let role = named.or_else(predicted).ok_or_else(|| misfit(&feature.name, "is none that the regressor gives"))?;
        Ok((feature.clone(), role))
    };
    let outputs = interface.outputs.iter().map(output).collect::<Result<_, Error>>()?;
    Ok(Box::new(Probit { bias, weights, input: input.to_owned(), optimism, outputs }))
}

fn number(number: u64) -> Result<u32, Error> {
    u32::try_from(number).map_err(|_| broken(format!("{number} is no number of a feature or of its value")))
}

/// A number of a feature or value as one that weights may have.
fn exact(number: f64) -> Option<u32> {
    let whole = number as u32;
    (f64::from(whole) == number).then_some(whole)
}

impl Classic for Probit {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let value = inputs.get(&self.input);
        let mut numbers = Vec::new();
        row::numbers(&self.input, value, &mut numbers)?;
        let shape = match value {
            Some(CheckedValue::Tensor(view)) => view.shape(),
            Some(CheckedValue::Made(tensor)) => tensor.shape(),
            _ => Shape::from([numbers.len()]),
        };
        // Either the value of each feature, or pairs of a feature and its value.
        let pairs: Vec<(f64, f64)> = match shape.rank() {
            0 | 1 => (0u32..).map(f64::from).zip(numbers).collect(),
            _ if shape.last() == Some(&2) => numbers.as_chunks().0.iter().map(|&[id, value]| (id, value)).collect(),
            _ => return Err(refuse(&self.input, "is neither a row of values nor one of pairs")),
        };
        let Weight { mut mean, mut variance } = self.bias;
        // Values without a weight say nothing.
        let weight = |(id, value): (f64, f64)| self.weights.get(&(exact(id)?, exact(value)?));
        for weight in pairs.into_iter().filter_map(weight) {
            mean += weight.mean;
            variance += weight.variance;
        }
        let optimism = match self.optimism.as_ref().and_then(|name| inputs.get(name)) {
            Some(CheckedValue::Double(number)) => *number,
            Some(CheckedValue::Int64(number)) => *number as f64,
            _ => 0.0,
        };
        let spread = (BETA * BETA + variance).sqrt();
        let output = |(feature, role): &(Feature, Role)| {
            let number = match role {
                Role::Probability => normal(mean / spread),
                Role::Mean => mean,
                Role::Variance => variance,
                Role::Pessimistic => normal((mean + optimism * variance.sqrt()) / spread),
            };
            (feature.name.clone(), Value::Double(number))
        };
        Ok(self.outputs.iter().map(output).collect())
    }
}
