//! Dictionary vectorisers: keys become positions.

use std::collections::BTreeMap;

use coreml_core::{CheckedInputs, Error, Value};
use coreml_model::{FeatureKind, Fields, Interface};

use crate::classes::{self, LabelKey};
use crate::numbers::Numbers;
use crate::ports::{self, Positions};
use crate::{Classic, Read, broken, misfit};

#[derive(Debug)]
struct DictVectorizer {
    input: String,
    positions: BTreeMap<LabelKey, usize>,
    count: usize,
    output: Output,
}

#[derive(Debug)]
enum Output {
    Dense(Numbers),
    Sparse(Positions),
}

pub(crate) fn read(fields: Fields<'_>, interface: &Interface) -> Read {
    let keys = classes::label_list(fields, 1, 2)?.ok_or_else(|| broken("the vectoriser has no keys"))?;
    let input = ports::only_input(interface)?;
    match input.kind {
        FeatureKind::Dictionary(wanted) if classes::all_of(&keys, wanted) => {}
        FeatureKind::Dictionary(_) => return Err(misfit(&input.name, "has keys of another type than the vectoriser")),
        _ => return Err(misfit(&input.name, "is not a dictionary")),
    }
    let output = match Positions::read(interface)? {
        Some(sparse) => Output::Sparse(sparse),
        None => Output::Dense(Numbers::new(interface, Some(keys.len()))?),
    };
    let (input, positions) = (input.name.clone(), classes::positions(&keys));
    Ok(Box::new(DictVectorizer { input, positions, count: keys.len(), output }))
}

impl Classic for DictVectorizer {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let entries = ports::dictionary(inputs, &self.input)?;
        // Keys that the vectoriser does not know are left out, as those who train such models expect.
        let known = entries.iter().filter_map(|(key, number)| Some((*self.positions.get(&key.into())?, *number)));
        match &self.output {
            Output::Sparse(output) => Ok(output.give(known.collect::<BTreeMap<_, _>>())),
            Output::Dense(output) => {
                let mut row = vec![0.0; self.count];
                known.for_each(|(position, number)| row[position] = number);
                output.give(row)
            }
        }
    }
}
