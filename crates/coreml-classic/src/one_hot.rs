//! One-hot encoders: a category becomes a position.

use std::collections::BTreeMap;

use coreml_core::{CheckedInputs, CheckedValue, Error, Label, Value};
use coreml_model::{DictionaryKey, Fields, Interface};

use crate::classes::{self, LabelKey};
use crate::numbers::Numbers;
use crate::ports::{self, Positions};
use crate::{Classic, Read, broken, refuse};

#[derive(Debug)]
struct OneHot {
    input: String,
    positions: BTreeMap<LabelKey, usize>,
    count: usize,
    /// Whether an unknown category is all zeros instead of an error.
    ignore_unknown: bool,
    output: Output,
}

/// Where a position goes to.
#[derive(Debug)]
enum Output {
    Dense(Numbers),
    Sparse(Positions),
}

pub(crate) fn read(fields: Fields<'_>, interface: &Interface) -> Read {
    let categories = classes::label_list(fields, 1, 2)?.ok_or_else(|| broken("the encoder has no categories"))?;
    let ignore_unknown = match fields.uint(11)? {
        0 => false,
        1 => true,
        other => return Err(broken(format!("there is no handling {other} of unknown categories"))),
    };
    let input = ports::only_input(interface)?;
    let wanted = if ports::is_string(input)? { DictionaryKey::String } else { DictionaryKey::Int64 };
    if !classes::all_of(&categories, wanted) {
        return Err(crate::misfit(&input.name, "is not of the type of the categories"));
    }
    // What the output is declared to be decides, as it is what callers get.
    let output = match Positions::read(interface)? {
        Some(sparse) => Output::Sparse(sparse),
        None => Output::Dense(Numbers::new(interface, Some(categories.len()))?),
    };
    let positions = classes::positions(&categories);
    let input = input.name.clone();
    Ok(Box::new(OneHot { input, positions, count: categories.len(), ignore_unknown, output }))
}

impl Classic for OneHot {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let category = match inputs.get(&self.input) {
            Some(CheckedValue::String(text)) => Some(Label::String((*text).into())),
            Some(CheckedValue::Int64(number)) => Some(Label::Int64(*number)),
            _ => None,
        };
        let position = category.as_ref().and_then(|label| self.positions.get(&label.into())).copied();
        if position.is_none() && !self.ignore_unknown {
            let told = category.map_or_else(|| "is missing".to_owned(), |label| format!("`{label}` is no category"));
            return Err(refuse(&self.input, format!("{told} of the encoder, which refuses unknown ones")));
        }
        match &self.output {
            Output::Sparse(output) => Ok(output.give(position.map(|position| (position, 1.0)))),
            Output::Dense(output) => {
                let mut row = vec![0.0; self.count];
                if let Some(position) = position {
                    row[position] = 1.0;
                }
                output.give(row)
            }
        }
    }
}
