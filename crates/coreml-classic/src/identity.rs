//! The identity: inputs become outputs of the same name.

use std::collections::BTreeMap;

use coreml_core::{CheckedInputs, Error, Value};
use coreml_model::{Feature, Fields, Interface};

use crate::{Classic, Read, misfit, refuse};

#[derive(Debug)]
struct Identity {
    /// Each with the position of the input it is.
    outputs: Vec<(Feature, usize)>,
}

pub(crate) fn read(_: Fields<'_>, interface: &Interface) -> Read {
    let inputs: BTreeMap<_, _> =
        interface.inputs.iter().enumerate().map(|(i, feature)| (feature.name.as_str(), (i, feature))).collect();
    let output = |output: &Feature| {
        let found = inputs.get(output.name.as_str());
        let found = found.ok_or_else(|| misfit(&output.name, "is an output of the identity, but not an input"))?;
        let &(position, input) = found;
        if std::mem::discriminant(&input.kind) != std::mem::discriminant(&output.kind) {
            return Err(misfit(&output.name, "is of another type as an output than as an input of the identity"));
        }
        Ok((output.clone(), position))
    };
    Ok(Box::new(Identity { outputs: interface.outputs.iter().map(output).collect::<Result<_, Error>>()? }))
}

impl Classic for Identity {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let values: Vec<_> = inputs.iter().map(|(_, value)| value).collect();
        let output = |(feature, position): &(Feature, usize)| {
            let value = values[*position].to_value();
            let none = || refuse(&feature.name, "has no value that could be passed on");
            Ok((feature.name.clone(), value.ok_or_else(none)?.deliver(feature)?))
        };
        self.outputs.iter().map(output).collect()
    }
}
