//! The identity: inputs become outputs of the same name.

use coreml_core::{CheckedInputs, CheckedValue, Error, Value};
use coreml_model::{Feature, Fields, Interface};

use crate::{Classic, Read, misfit, refuse};

#[derive(Debug)]
struct Identity(Vec<Feature>);

pub(crate) fn read(_: Fields<'_>, interface: &Interface) -> Read {
    for output in &interface.outputs {
        let input = interface.input(&output.name);
        let input = input.ok_or_else(|| misfit(&output.name, "is an output of the identity, but not an input"))?;
        if std::mem::discriminant(&input.kind) != std::mem::discriminant(&output.kind) {
            return Err(misfit(&output.name, "is of another type as an output than as an input of the identity"));
        }
    }
    Ok(Box::new(Identity(interface.outputs.clone())))
}

impl Classic for Identity {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let output = |feature: &Feature| {
            let value = inputs.get(&feature.name).and_then(CheckedValue::to_value);
            let none = || refuse(&feature.name, "has no value that could be passed on");
            Ok((feature.name.clone(), value.ok_or_else(none)?.deliver(feature)?))
        };
        self.0.iter().map(output).collect()
    }
}
