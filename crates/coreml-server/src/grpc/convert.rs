//! Converts between gRPC messages and the protocol's requests and answers.

use bytes::Bytes;
use coreml_anywhere::tensor::{DType, Data, Tensor};

use super::generated::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor, model_infer_response::InferOutputTensor,
};
use crate::protocol::{
    Content, Datatype, InferRequest, InferResponse, NamedTensor, Parameter, Parameters, WantedOutput, binary, shape,
};
use crate::refusal::Refusal;

type Messages = std::collections::BTreeMap<String, InferParameter>;

/// # Errors
/// When the message is not what the protocol says.
pub(super) fn request(message: ModelInferRequest) -> Result<InferRequest, Refusal> {
    let raw = message.raw_input_contents;
    if !raw.is_empty() && raw.len() != message.inputs.len() {
        let (raw, inputs) = (raw.len(), message.inputs.len());
        return Err(Refusal::invalid(format!("there are {raw} raw_input_contents for {inputs} inputs")));
    }
    let mut raw = raw.into_iter();
    let inputs = message.inputs.into_iter().map(|input| tensor(input, raw.next())).collect::<Result<_, _>>()?;
    let outputs = message.outputs.into_iter();
    let outputs = outputs.map(|output| WantedOutput::new(output.name, &parameters(output.parameters)?));
    Ok(InferRequest {
        id: Some(message.id).filter(|id| !id.is_empty()),
        parameters: parameters(message.parameters)?,
        inputs,
        outputs: outputs.collect::<Result<_, _>>()?,
        binary_outputs: true,
    })
}

fn parameters(messages: Messages) -> Result<Parameters, Refusal> {
    let parameter = |(name, message): (String, InferParameter)| {
        let value = match message.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => Parameter::Signed(value),
            Some(ParameterChoice::Uint64Param(value)) => Parameter::Unsigned(value),
            Some(ParameterChoice::DoubleParam(value)) => Parameter::Double(value),
            Some(ParameterChoice::StringParam(value)) => Parameter::Text(value),
            None => return Err(Refusal::invalid(format!("the parameter {name} has no value"))),
        };
        Ok((name, value))
    };
    messages.into_iter().map(parameter).collect()
}

fn tensor(input: InferInputTensor, raw: Option<Bytes>) -> Result<NamedTensor, Refusal> {
    let InferInputTensor { name, datatype, shape, contents, .. } = input;
    let unknown = || Refusal::tensor(&name, format!("there is no datatype {datatype:?}"));
    let datatype = Datatype::from_name(&datatype).ok_or_else(unknown)?;
    let size =
        |&size: &i64| usize::try_from(size).map_err(|_| Refusal::tensor(&name, format!("a size of {size} is none")));
    let dims = shape.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let content = match (raw, contents) {
        (Some(raw), None) => binary::read(&name, datatype, &dims, raw)?,
        (Some(_), Some(_)) => return Err(Refusal::tensor(&name, "has both contents and raw_input_contents")),
        (None, contents) => typed(&name, datatype, &dims, contents.unwrap_or_default())?,
    };
    Ok(NamedTensor { name, content, parameters: Parameters::new() })
}

/// A tensor whose elements are in the field for its datatype.
fn typed(name: &str, datatype: Datatype, dims: &[usize], contents: InferTensorContents) -> Result<Content, Refusal> {
    if !datatype.has_text() {
        return Err(Refusal::tensor(name, format!("{} has no typed contents; send it raw", datatype.name())));
    }
    let shape = shape(name, dims)?;
    let Some(dtype) = datatype.dtype() else {
        let strings = contents.bytes_contents;
        if strings.len() != shape.count() {
            return Err(Refusal::tensor(name, format!("has {} strings, its shape {dims:?} others", strings.len())));
        }
        return Ok(Content::Strings(dims.to_vec(), strings));
    };
    // Small integers come in 32 bits each.
    macro_rules! narrow {
        ($variant:ident, $values:expr) => {
            Data::$variant(
                $values
                    .into_iter()
                    .map(|value| {
                        value.try_into().map_err(|_| {
                            Refusal::tensor(name, format!("{value} is not an integer of {}", datatype.name()))
                        })
                    })
                    .collect::<Result<_, Refusal>>()?,
            )
        };
    }
    let data = match dtype {
        DType::Bool => Data::Bool(contents.bool_contents),
        DType::Int8 => narrow!(Int8, contents.int_contents),
        DType::Int16 => narrow!(Int16, contents.int_contents),
        DType::Int32 => Data::Int32(contents.int_contents),
        DType::Int64 => Data::Int64(contents.int64_contents),
        DType::UInt8 => narrow!(UInt8, contents.uint_contents),
        DType::UInt16 => narrow!(UInt16, contents.uint_contents),
        DType::UInt32 => Data::UInt32(contents.uint_contents),
        DType::UInt64 => Data::UInt64(contents.uint64_contents),
        DType::Float32 => Data::Float32(contents.fp32_contents),
        DType::Float64 => Data::Float64(contents.fp64_contents),
        _ => return Err(Refusal::tensor(name, format!("{} is not read", datatype.name()))),
    };
    Tensor::from_data(shape, data).map(Content::Numbers).map_err(|error| Refusal::tensor(name, error))
}

/// The message that an answer is.
pub(super) fn response(response: InferResponse) -> ModelInferResponse {
    let mut raw = Vec::with_capacity(response.outputs.len());
    let outputs = response.outputs.into_iter().map(|NamedTensor { name, content, parameters }| {
        let mut bytes = Vec::new();
        binary::write(&content, &mut bytes);
        raw.push(bytes.into());
        let shape = content.shape().into_iter().map(|size| i64::try_from(size).unwrap_or(i64::MAX)).collect();
        let datatype = content.datatype().name().to_owned();
        InferOutputTensor { name, datatype, shape, parameters: messages(parameters), contents: None }
    });
    ModelInferResponse {
        model_name: response.model,
        model_version: response.version,
        id: response.id.unwrap_or_default(),
        parameters: messages(response.parameters),
        outputs: outputs.collect(),
        raw_output_contents: raw,
    }
}

fn messages(parameters: Parameters) -> Messages {
    let message = |(name, parameter): (String, Parameter)| {
        let choice = match parameter {
            Parameter::Bool(value) => ParameterChoice::BoolParam(value),
            Parameter::Unsigned(value) => ParameterChoice::Uint64Param(value),
            Parameter::Signed(value) => ParameterChoice::Int64Param(value),
            Parameter::Double(value) => ParameterChoice::DoubleParam(value),
            Parameter::Text(value) => ParameterChoice::StringParam(value),
        };
        (name, InferParameter { parameter_choice: Some(choice) })
    };
    parameters.into_iter().map(message).collect()
}
