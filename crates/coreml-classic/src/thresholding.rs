//! Class-confidence thresholding: returns the confidences with a row of ones, as the format's documentation says. The
//! curves of precision and recall in the file are for the application.

use coreml_core::{CheckedInputs, Error, Value};
use coreml_model::{Fields, Interface};
use coreml_tensor::Shape;

use crate::numbers::Numbers;
use crate::ports::NumbersIn;
use crate::{Classic, Read};

#[derive(Debug)]
struct Thresholding {
    input: NumbersIn,
    output: Numbers,
}

pub(crate) fn read(_: Fields<'_>, interface: &Interface) -> Read {
    let input = NumbersIn::only(interface)?;
    let output = Numbers::new(interface, input.count().and_then(|count| count.checked_mul(2)))?;
    Ok(Box::new(Thresholding { input, output }))
}

impl Classic for Thresholding {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let (mut numbers, _) = self.input.get(inputs)?;
        let classes = numbers.len();
        numbers.resize(2 * classes, 1.0);
        self.output.give_shaped(numbers, Shape::from([2, classes]))
    }
}
