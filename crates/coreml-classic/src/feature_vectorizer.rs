//! Feature vectorisers: several values become one row.

use std::collections::BTreeMap;

use coreml_core::{CheckedInputs, CheckedValue, Error, Label, Value};
use coreml_model::{DictionaryKey, Feature, FeatureKind, Fields, Interface};

use crate::numbers::Numbers;
use crate::ports::{self, MOST_NUMBERS};
use crate::{Classic, Read, broken, misfit, refuse, row};

#[derive(Debug)]
struct FeatureVectorizer {
    columns: Vec<Column>,
    width: usize,
    output: Numbers,
}

/// One input, by its position among them, and how many numbers it becomes.
#[derive(Debug)]
struct Column {
    input: usize,
    width: usize,
}

pub(crate) fn read(fields: Fields<'_>, interface: &Interface) -> Read {
    let inputs: BTreeMap<_, _> =
        interface.inputs.iter().enumerate().map(|(i, feature)| (feature.name.as_str(), (i, feature))).collect();
    let columns = fields.messages(1)?.into_iter().map(|column| self::column(column, &inputs));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let width = columns.iter().try_fold(0usize, |sum, column| sum.checked_add(column.width));
    let width = width.filter(|&width| width <= MOST_NUMBERS);
    let width = width.ok_or_else(|| broken(format!("the row has more than {MOST_NUMBERS} numbers")))?;
    Ok(Box::new(FeatureVectorizer { columns, width, output: Numbers::new(interface, Some(width))? }))
}

fn column(column: Fields<'_>, inputs: &BTreeMap<&str, (usize, &Feature)>) -> Result<Column, Error> {
    let name = column.text(1)?;
    let found = inputs.get(name).ok_or_else(|| misfit(name, "is a column, but not among the inputs"))?;
    let &(input, feature) = found;
    let declared = column.uint(2)?;
    let width = usize::try_from(declared).map_err(|_| misfit(name, format!("has {declared} columns")))?;
    match feature.kind {
        FeatureKind::Int64 | FeatureKind::Double | FeatureKind::MultiArray(_) => match ports::fixed_count(feature) {
            Some(count) if count != width => {
                return Err(misfit(name, format!("has {count} elements and {width} columns")));
            }
            _ => {}
        },
        FeatureKind::Dictionary(DictionaryKey::Int64) => {}
        _ => return Err(misfit(name, "is no number, no array and no dictionary by positions")),
    }
    Ok(Column { input, width })
}

impl Classic for FeatureVectorizer {
    fn least_bytes(&self) -> usize {
        self.width.saturating_mul(size_of::<f64>())
    }

    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let mut numbers = Vec::with_capacity(self.width);
        let values: Vec<_> = inputs.iter().collect();
        for Column { input, width } in &self.columns {
            let (start, (name, value)) = (numbers.len(), values[*input]);
            match value {
                CheckedValue::Dictionary(entries) => {
                    numbers.resize(start + width, 0.0);
                    for (key, number) in *entries {
                        let Label::Int64(key) = key else { continue };
                        let position = usize::try_from(*key).ok().filter(|position| position < width);
                        let none = || refuse(name, format!("has the key {key}, but only {width} columns"));
                        numbers[start + position.ok_or_else(none)?] = *number;
                    }
                }
                value => row::numbers(name, Some(value), &mut numbers)?,
            }
            let found = numbers.len() - start;
            if found != *width {
                return Err(refuse(name, format!("has {width} columns, {found} numbers are given")));
            }
        }
        self.output.give(numbers)
    }
}
