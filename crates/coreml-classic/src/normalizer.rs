//! Normalisers: a row is divided by its norm.

use coreml_core::{CheckedInputs, Error, Value};
use coreml_model::{Fields, Interface};

use crate::numbers::Numbers;
use crate::ports::NumbersIn;
use crate::{Classic, Read, broken};

#[derive(Debug, Clone, Copy)]
enum Norm {
    /// The largest magnitude. The format leaves open whether signs count; those who train such models take magnitudes.
    Max,
    /// The sum of magnitudes.
    One,
    /// The root of the sum of squares.
    Two,
}

impl Norm {
    fn of(self, numbers: &[f64]) -> f64 {
        let magnitudes = numbers.iter().map(|number| number.abs());
        match self {
            Self::Max => magnitudes.fold(0.0, f64::max),
            Self::One => magnitudes.sum(),
            Self::Two => numbers.iter().map(|number| number * number).sum::<f64>().sqrt(),
        }
    }
}

#[derive(Debug)]
struct Normalizer {
    input: NumbersIn,
    norm: Norm,
    output: Numbers,
}

pub(crate) fn read(fields: Fields<'_>, interface: &Interface) -> Read {
    let norm = match fields.uint(1)? {
        0 => Norm::Max,
        1 => Norm::One,
        2 => Norm::Two,
        other => return Err(broken(format!("there is no norm {other}"))),
    };
    let input = NumbersIn::only(interface)?;
    let output = Numbers::new(interface, input.count())?;
    Ok(Box::new(Normalizer { input, norm, output }))
}

impl Classic for Normalizer {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let (mut numbers, shape) = self.input.get(inputs)?;
        let norm = self.norm.of(&numbers);
        // A row of zeros stays one.
        if norm != 0.0 {
            numbers.iter_mut().for_each(|number| *number /= norm);
        }
        self.output.give_shaped(numbers, shape)
    }
}
