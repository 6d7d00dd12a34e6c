//! Turns the protocol's tensors into a model's inputs, and a model's outputs into the protocol's tensors.

use bytes::Bytes;
use coreml_anywhere::model::{DictionaryKey, FeatureKind, Interface};
use coreml_anywhere::tensor::{DType, Tensor};
use coreml_anywhere::{Image, Inputs, Label, Outputs, Value};

use super::{Content, NamedTensor, Parameter, Parameters, WantedOutput, classification};
use crate::refusal::{Refusal, Why};

/// A request's tensors as inputs of a model. Mistakes that the model's own check finds are left to it.
///
/// # Errors
/// When a tensor cannot be what its feature takes.
pub(crate) fn inputs(interface: &Interface, tensors: Vec<NamedTensor>) -> Result<Inputs<'static>, Refusal> {
    tensors.into_iter().try_fold(Inputs::new(), |inputs, tensor| input(interface, inputs, tensor))
}

fn input(interface: &Interface, inputs: Inputs<'static>, tensor: NamedTensor) -> Result<Inputs<'static>, Refusal> {
    let NamedTensor { name, content, .. } = tensor;
    let kind = interface.input(&name).map(|feature| &feature.kind);
    Ok(match (kind, content) {
        (Some(FeatureKind::Image(_)), Content::Strings(_, files)) => {
            let image = Image::from_bytes(one(&name, &files)?).map_err(|error| {
                let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
                Refusal::tensor(&name, format!("{error}{cause}"))
            })?;
            inputs.image(name, image)
        }
        (Some(FeatureKind::Image(_)), Content::Numbers(pixels)) => inputs.owned_tensor(name, without_batch(pixels)),
        (Some(FeatureKind::Dictionary(keys)), Content::Strings(_, strings)) => {
            let entries = dictionary(&name, *keys, one(&name, &strings)?)?;
            inputs.dictionary(name, entries)
        }
        (Some(FeatureKind::Sequence(DictionaryKey::String)), Content::Strings(_, strings)) => {
            let labels = strings.iter().map(|string| Ok(Label::String(text(&name, string)?.into())));
            let labels = labels.collect::<Result<Vec<_>, Refusal>>()?;
            inputs.sequence(name, labels)
        }
        (Some(FeatureKind::Sequence(DictionaryKey::Int64)), Content::Numbers(numbers)) => {
            let numbers = numbers.as_slice::<i64>().ok_or_else(|| Refusal::tensor(&name, "takes INT64"))?;
            let labels: Vec<_> = numbers.iter().copied().map(Label::Int64).collect();
            inputs.sequence(name, labels)
        }
        (Some(FeatureKind::MultiArray(_) | FeatureKind::Int64 | FeatureKind::Double), Content::Strings(..)) => {
            return Err(Refusal::tensor(&name, "takes numbers, not BYTES"));
        }
        // Strings of their own, and names that the model does not know, about which its check knows best.
        (_, Content::Strings(_, strings)) => {
            let string = text(&name, one(&name, &strings)?)?.to_owned();
            inputs.string(name, string)
        }
        (_, Content::Numbers(numbers)) => inputs.owned_tensor(name, numbers),
    })
}

/// Clients with a batch in mind send a picture as a batch of one.
fn without_batch(pixels: Tensor) -> Tensor {
    match *pixels.shape().dims() {
        [1, height, width, channels] if pixels.dtype() == DType::UInt8 => {
            let picture = pixels.clone().reshape([height, width, channels].into());
            picture.unwrap_or(pixels)
        }
        _ => pixels,
    }
}

fn one<'a>(name: &str, strings: &'a [Bytes]) -> Result<&'a Bytes, Refusal> {
    match strings {
        [string] => Ok(string),
        _ => Err(Refusal::tensor(name, format!("takes one byte string, not {}", strings.len()))),
    }
}

fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::tensor(name, "is not UTF-8"))
}

/// A dictionary, which the protocol does not have: one byte string that is a JSON object.
fn dictionary(name: &str, keys: DictionaryKey, json: &[u8]) -> Result<Vec<(Label, f64)>, Refusal> {
    let entries: std::collections::BTreeMap<String, f64> = serde_json::from_slice(json)
        .map_err(|error| Refusal::tensor(name, format!("takes a JSON object of numbers: {error}")))?;
    let label = |key: String| match keys {
        DictionaryKey::Int64 => key
            .parse()
            .map(Label::Int64)
            .map_err(|_| Refusal::tensor(name, format!("its keys are integers, {key:?} is none"))),
        _ => Ok(Label::String(key.into())),
    };
    entries.into_iter().map(|(key, value)| Ok((label(key)?, value))).collect()
}

/// The outputs that are wanted, in the order asked for; all of them if none is named.
///
/// # Errors
/// When the model has no such output, or classes are asked of something that has none.
pub(crate) fn outputs(outputs: Outputs, wanted: &[WantedOutput]) -> Result<Vec<NamedTensor>, Refusal> {
    if wanted.is_empty() {
        let all = outputs.into_entries().into_iter();
        return all.map(|(name, value)| output(&WantedOutput { name, ..WantedOutput::default() }, value)).collect();
    }
    wanted.iter().map(|wanted| output(wanted, outputs.get(&wanted.name)?.clone())).collect()
}

fn output(wanted: &WantedOutput, value: Value) -> Result<NamedTensor, Refusal> {
    let mut parameters = Parameters::new();
    if let (true, Value::Dictionary(entries)) = (wanted.labels, &value) {
        let labels: Vec<_> = entries.iter().map(|(label, _)| label.to_string()).collect();
        parameters.insert("labels".into(), Parameter::Text(serde_json::json!(labels).to_string()));
    }
    let content = match wanted.classes {
        Some(most) => classification::classes(&wanted.name, &value, most)?,
        None => content(&wanted.name, value)?,
    };
    Ok(NamedTensor { name: wanted.name.clone(), content, parameters })
}

fn content(name: &str, value: Value) -> Result<Content, Refusal> {
    let string = |label: &Label| Bytes::from(label.to_string());
    let one = |tensor: Tensor| tensor.reshape([1].into());
    let tensor = match value {
        Value::Tensor(tensor) | Value::Image(tensor) => Ok(tensor),
        Value::Int64(number) => one(Tensor::scalar(number)),
        Value::Double(number) => one(Tensor::scalar(number)),
        Value::Dictionary(entries) => {
            let values: Vec<f64> = entries.iter().map(|(_, value)| *value).collect();
            Tensor::new([values.len()].into(), values)
        }
        Value::String(string) => return Ok(Content::Strings(vec![1], vec![string.into()])),
        Value::Sequence(labels) => {
            return Ok(Content::Strings(vec![labels.len()], labels.iter().map(string).collect()));
        }
        other => {
            let message = format!("output `{name}`: a {} has no form in the protocol", other.describe());
            return Err(Refusal::new(Why::Unsupported, message));
        }
    };
    tensor.map(Content::Numbers).map_err(|error| Refusal::new(Why::Failed, format!("output `{name}`: {error}")))
}
