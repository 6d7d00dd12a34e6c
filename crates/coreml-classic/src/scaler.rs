//! Scalers: numbers are shifted, then scaled.

use coreml_core::{CheckedInputs, Error, Value};
use coreml_model::{Fields, Interface};

use crate::numbers::Numbers;
use crate::ports::NumbersIn;
use crate::{Classic, Read, broken, refuse};

#[derive(Debug)]
struct Scaler {
    input: NumbersIn,
    shift: Factors,
    scale: Factors,
    output: Numbers,
}

/// A number for each element, or one for all.
#[derive(Debug)]
struct Factors(Vec<f64>);

impl Factors {
    fn fits(&self, count: usize) -> bool {
        self.0.len() == 1 || self.0.len() == count
    }

    fn at(&self, position: usize) -> f64 {
        if let [only] = *self.0 { only } else { self.0[position] }
    }
}

pub(crate) fn read(fields: Fields<'_>, interface: &Interface) -> Read {
    let input = NumbersIn::only(interface)?;
    let factors = |number: u32, default: f64| {
        let numbers = fields.doubles(number)?;
        Ok::<_, Error>(Factors(if numbers.is_empty() { vec![default] } else { numbers }))
    };
    let (shift, scale) = (factors(1, 0.0)?, factors(2, 1.0)?);
    if let Some(count) = input.count().filter(|&count| !shift.fits(count) || !scale.fits(count)) {
        let (shifts, scales) = (shift.0.len(), scale.0.len());
        return Err(broken(format!("{count} numbers have {shifts} shifts and {scales} scales")));
    }
    let output = Numbers::new(interface, input.count())?;
    Ok(Box::new(Scaler { input, shift, scale, output }))
}

impl Classic for Scaler {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let (mut numbers, shape) = self.input.get(inputs)?;
        if !self.shift.fits(numbers.len()) || !self.scale.fits(numbers.len()) {
            let told = format!("has {} elements, the scaler has another number of factors", numbers.len());
            return Err(refuse(self.input.name(), told));
        }
        for (position, number) in numbers.iter_mut().enumerate() {
            *number = (*number + self.shift.at(position)) * self.scale.at(position);
        }
        self.output.give_shaped(numbers, shape)
    }
}
