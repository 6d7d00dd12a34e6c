//! Imputers: missing values are replaced.

use std::collections::BTreeMap;

use coreml_core::{CheckedInputs, CheckedValue, Error, Label, Value};
use coreml_model::{DictionaryKey, Feature, FeatureKind, Fields, Interface};

use crate::classes::LabelKey;
use crate::numbers::Numbers;
use crate::ports::{self, NumbersIn};
use crate::{Classic, Read, broken, misfit, refuse};

/// What counts as missing. NaN is equal to NaN here.
#[derive(Debug, Clone, PartialEq)]
enum Missing {
    Double(f64),
    Int64(i64),
    String(String),
}

impl Missing {
    fn is(&self, number: f64) -> bool {
        match *self {
            Self::Double(missing) => number == missing || (number.is_nan() && missing.is_nan()),
            Self::Int64(missing) => number == missing as f64,
            Self::String(_) => false,
        }
    }
}

#[derive(Debug)]
struct Imputer {
    input: Feature,
    output: Feature,
    missing: Missing,
    imputed: Imputed,
}

/// What stands for the missing.
#[derive(Debug)]
enum Imputed {
    Double(f64),
    Int64(i64),
    String(String),
    /// A number for each element, or one for all.
    Array(Vec<f64>, NumbersIn, Numbers),
    Dictionary(BTreeMap<LabelKey, f64>),
}

pub(crate) fn read(fields: Fields<'_>, interface: &Interface) -> Read {
    let missing = match fields.one_of(&[11, 12, 13])? {
        Some(11) => Missing::Double(fields.double(11)?),
        Some(12) => Missing::Int64(fields.int(12)?),
        Some(_) => Missing::String(fields.text(13)?.to_owned()),
        None => Missing::Double(f64::NAN),
    };
    let kind = fields.one_of(&[1, 2, 3, 4, 5, 6, 7])?.ok_or_else(|| broken("the imputer has nothing to impute"))?;
    let held = fields.message(kind).ok().flatten().unwrap_or_default();
    let (input, output) = (ports::only_input(interface)?, ports::only_output(interface)?);
    let imputed = match (&input.kind, kind) {
        (FeatureKind::Double | FeatureKind::Int64, 1) => Imputed::Double(fields.double(1)?),
        (FeatureKind::Double | FeatureKind::Int64, 2) => Imputed::Int64(fields.int(2)?),
        (FeatureKind::String, 3) => Imputed::String(fields.text(3)?.to_owned()),
        (FeatureKind::MultiArray(_), 1 | 2 | 4 | 5) => {
            let numbers = match kind {
                1 => vec![fields.double(1)?],
                2 => vec![fields.int(2)? as f64],
                4 => held.doubles(1)?,
                _ => held.ints(1)?.into_iter().map(|number| number as f64).collect(),
            };
            let elements = NumbersIn::only(interface)?;
            if numbers.len() != 1 && elements.count().is_some_and(|count| count != numbers.len()) {
                return Err(misfit(&input.name, format!("has another size than the {} imputed", numbers.len())));
            }
            let output = Numbers::new(interface, elements.count())?;
            Imputed::Array(numbers, elements, output)
        }
        (FeatureKind::Dictionary(DictionaryKey::String), 6) => {
            let pair = |entry: Fields<'_>| Ok((LabelKey::String(entry.text(1)?.into()), entry.double(2)?));
            Imputed::Dictionary(held.messages(1)?.into_iter().map(pair).collect::<Result<_, Error>>()?)
        }
        (FeatureKind::Dictionary(DictionaryKey::Int64), 7) => {
            let pair = |entry: Fields<'_>| Ok((LabelKey::Int64(entry.int(1)?), entry.double(2)?));
            Imputed::Dictionary(held.messages(1)?.into_iter().map(pair).collect::<Result<_, Error>>()?)
        }
        _ => return Err(misfit(&input.name, "is of another type than what the imputer has for it")),
    };
    let fits = match (&input.kind, &output.kind) {
        (FeatureKind::Double | FeatureKind::Int64, FeatureKind::Double | FeatureKind::Int64) => true,
        (input, output) => std::mem::discriminant(input) == std::mem::discriminant(output),
    };
    if !fits {
        return Err(misfit(&output.name, "is of another type than the input"));
    }
    Ok(Box::new(Imputer { input: input.clone(), output: output.clone(), missing, imputed }))
}

impl Classic for Imputer {
    fn predict(&self, inputs: &CheckedInputs<'_>) -> Result<Vec<(String, Value)>, Error> {
        let name = &self.input.name;
        let value = match (&self.imputed, inputs.get(name)) {
            (Imputed::Array(imputed, elements, output), _) => {
                let (mut numbers, shape) = elements.get(inputs)?;
                if imputed.len() != 1 && imputed.len() != numbers.len() {
                    let told = format!("has {} elements, the imputer has {} numbers", numbers.len(), imputed.len());
                    return Err(refuse(name, told));
                }
                for (position, number) in numbers.iter_mut().enumerate().filter(|(_, x)| self.missing.is(**x)) {
                    *number = if let [only] = **imputed { only } else { imputed[position] };
                }
                return output.give_shaped(numbers, shape);
            }
            (Imputed::Dictionary(imputed), _) => {
                let entry = |(key, number): &(Label, f64)| {
                    let none = || refuse(name, format!("the value of `{key}` is missing, and nothing stands for it"));
                    let number = match self.missing.is(*number) {
                        true => *imputed.get(&key.into()).ok_or_else(none)?,
                        false => *number,
                    };
                    Ok((key.clone(), number))
                };
                let entries = ports::dictionary(inputs, name)?.iter().map(entry);
                Value::Dictionary(entries.collect::<Result<_, Error>>()?)
            }
            (Imputed::String(_), Some(CheckedValue::String(text)))
                if self.missing != Missing::String((*text).to_owned()) =>
            {
                Value::String((*text).to_owned())
            }
            (Imputed::Double(_) | Imputed::Int64(_), Some(CheckedValue::Double(number)))
                if !self.missing.is(*number) =>
            {
                Value::Double(*number)
            }
            (Imputed::Double(_) | Imputed::Int64(_), Some(CheckedValue::Int64(number)))
                if match self.missing {
                    Missing::Int64(missing) => *number != missing,
                    _ => !self.missing.is(*number as f64),
                } =>
            {
                Value::Int64(*number)
            }
            // It is missing, or was left out.
            (Imputed::Double(imputed), _) => Value::Double(*imputed),
            (Imputed::Int64(imputed), _) => Value::Int64(*imputed),
            (Imputed::String(imputed), _) => Value::String(imputed.clone()),
        };
        Ok(vec![(self.output.name.clone(), value.deliver(&self.output)?)])
    }
}
