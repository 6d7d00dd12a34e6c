//! Array feature extractors: elements at given positions of the flattened array.

use coreml_core::{CheckedInputs, Error, Value};
use coreml_model::{Fields, Interface};

use crate::numbers::Numbers;
use crate::ports::NumbersIn;
use crate::{Classic, Read, broken, refuse};

#[derive(Debug)]
struct Extractor {
    input: NumbersIn,
    positions: Vec<usize>,
    output: Numbers,
}

pub(crate) fn read(fields: Fields<'_>, interface: &Interface) -> Read {
    let input = NumbersIn::only(interface)?;
    let position = |position: u64| {
        let found = usize::try_from(position).ok().filter(|&at| input.count().is_none_or(|count| at < count));
        found.ok_or_else(|| broken(format!("the array has no element {position}, which is to be extracted")))
    };
    let positions = fields.uints(1)?.into_iter().map(position).collect::<Result<Vec<_>, _>>()?;
    let output = Numbers::new(interface, Some(positions.len()))?;
    Ok(Box::new(Extractor { input, positions, output }))
}

impl Classic for Extractor {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let (numbers, _) = self.input.get(inputs)?;
        let element = |&position: &usize| {
            let none =
                || refuse(self.input.name(), format!("has {} elements, element {position} is needed", numbers.len()));
            numbers.get(position).copied().ok_or_else(none)
        };
        self.output.give(self.positions.iter().map(element).collect::<Result<_, _>>()?)
    }
}
