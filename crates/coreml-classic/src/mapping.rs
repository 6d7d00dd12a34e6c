//! Categorical mappings: strings become integers, or integers strings.

use std::collections::BTreeMap;

use coreml_core::{CheckedInputs, CheckedValue, Error, Value};
use coreml_model::{Fields, Interface};

use crate::{Classic, Read, broken, misfit, ports, refuse};

#[derive(Debug)]
struct Mapping {
    input: String,
    output: String,
    table: Table,
}

/// The pairs, and what stands for everything else.
#[derive(Debug)]
enum Table {
    ToInt64(BTreeMap<String, i64>, Option<i64>),
    ToString(BTreeMap<i64, String>, Option<String>),
}

pub(crate) fn read(fields: Fields<'_>, interface: &Interface) -> Read {
    let kind = fields.one_of(&[1, 2])?.ok_or_else(|| broken("the mapping has no table"))?;
    let entries = fields.message(kind)?.unwrap_or_default().messages(1)?;
    let unknown = fields.one_of(&[101, 102])?;
    let to_int64 = kind == 1;
    if unknown.is_some_and(|unknown| (unknown == 102) != to_int64) {
        return Err(broken("what stands for unknown values is of another type than the mapping gives"));
    }
    let table = if to_int64 {
        let pair = |entry: Fields<'_>| Ok((entry.text(1)?.to_owned(), entry.int(2)?));
        let pairs = entries.into_iter().map(pair).collect::<Result<_, Error>>()?;
        Table::ToInt64(pairs, unknown.map(|number| fields.int(number)).transpose()?)
    } else {
        let pair = |entry: Fields<'_>| Ok((entry.int(1)?, entry.text(2)?.to_owned()));
        let pairs = entries.into_iter().map(pair).collect::<Result<_, Error>>()?;
        Table::ToString(pairs, unknown.map(|number| Ok::<_, Error>(fields.text(number)?.to_owned())).transpose()?)
    };
    let (input, output) = (ports::only_input(interface)?, ports::only_output(interface)?);
    for (feature, string) in [(input, to_int64), (output, !to_int64)] {
        if ports::is_string(feature)? != string {
            return Err(misfit(&feature.name, "is not of the type that the mapping has"));
        }
    }
    Ok(Box::new(Mapping { input: input.name.clone(), output: output.name.clone(), table }))
}

impl Classic for Mapping {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let (found, told) = match (&self.table, inputs.get(&self.input)) {
            (Table::ToInt64(pairs, unknown), Some(CheckedValue::String(text))) => {
                (pairs.get(*text).or(unknown.as_ref()).copied().map(Value::Int64), format!("`{text}`"))
            }
            (Table::ToString(pairs, unknown), Some(CheckedValue::Int64(number))) => {
                (pairs.get(number).or(unknown.as_ref()).cloned().map(Value::String), number.to_string())
            }
            // A missing value is one that the table does not know.
            (Table::ToInt64(_, unknown), _) => (unknown.map(Value::Int64), "a missing value".to_owned()),
            (Table::ToString(_, unknown), _) => (unknown.clone().map(Value::String), "a missing value".to_owned()),
        };
        let none =
            || refuse(&self.input, format!("{told} is not in the mapping, which has nothing for unknown values"));
        Ok(vec![(self.output.clone(), found.ok_or_else(none)?)])
    }
}
