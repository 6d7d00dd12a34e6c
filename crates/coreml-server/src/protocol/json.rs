//! Inference requests and answers as JSON, followed by tensors in binary form.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use coreml_anywhere::tensor::{Data, DataView, Tensor};
use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::binary::Reader;
use super::object::Object;
use super::{Content, Datatype, InferRequest, InferResponse, NamedTensor, Parameter, Parameters, WantedOutput, binary};
use crate::refusal::Refusal;

#[derive(Deserialize)]
struct Request<'a> {
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(borrow)]
    inputs: Vec<Object<InputTensor<'a>>>,
    #[serde(default)]
    outputs: Vec<Object<OutputRequest>>,
}

#[derive(Deserialize)]
struct InputTensor<'a> {
    name: String,
    shape: Vec<usize>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputRequest {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// Reads a request whose first `json` bytes are JSON, and the others its binary tensors.
///
/// # Errors
/// When it is not what the protocol says.
pub(crate) fn read(body: &Bytes, json: usize) -> Result<InferRequest, Refusal> {
    let text = body.get(..json).ok_or_else(|| Refusal::invalid("the JSON is told to be longer than the request"))?;
    let Object(request): Object<Request<'_>> = serde_json::from_slice(text)
        .map_err(|error| Refusal::invalid(format!("the request is not understood: {error}")))?;
    let mut rest = Reader::new(body.slice(json..));
    let inputs =
        request.inputs.into_iter().map(|Object(input)| read_tensor(input, &mut rest)).collect::<Result<_, _>>()?;
    rest.end()?;
    let binary_outputs = match request.parameters.get("binary_data_output") {
        None => false,
        Some(Parameter::Bool(binary)) => *binary,
        Some(_) => return Err(Refusal::invalid("the parameter binary_data_output is true or false")),
    };
    let wanted = |Object(output): Object<OutputRequest>| WantedOutput::new(output.name, &output.parameters);
    Ok(InferRequest {
        id: request.id,
        parameters: request.parameters,
        inputs,
        outputs: request.outputs.into_iter().map(wanted).collect::<Result<_, _>>()?,
        binary_outputs,
    })
}

fn read_tensor(input: InputTensor<'_>, rest: &mut Reader) -> Result<NamedTensor, Refusal> {
    let name = input.name;
    let unknown = || Refusal::tensor(&name, format!("there is no datatype {:?}", input.datatype));
    let datatype = Datatype::from_name(&input.datatype).ok_or_else(unknown)?;
    let content = match (input.parameters.get("binary_data_size").map(Parameter::as_u64), input.data) {
        (Some(Some(size)), None) => {
            let bytes = usize::try_from(size).ok().and_then(|size| rest.take(size));
            let bytes = bytes.ok_or_else(|| Refusal::tensor(&name, format!("there are no {size} bytes of it")))?;
            binary::read(&name, datatype, &input.shape, bytes)?
        }
        (None, Some(data)) => read_data(&name, datatype, &input.shape, data.get())?,
        (None, None) => return Err(Refusal::tensor(&name, "has no data")),
        (Some(None), _) => return Err(Refusal::tensor(&name, "the parameter binary_data_size is a number of bytes")),
        (Some(_), Some(_)) => return Err(Refusal::tensor(&name, "has data both as JSON and in binary form")),
    };
    Ok(NamedTensor { name, content, parameters: Parameters::new() })
}

fn read_data(name: &str, datatype: Datatype, dims: &[usize], json: &str) -> Result<Content, Refusal> {
    if !datatype.has_text() {
        let message = format!("{} has no form in JSON; send it in binary form, or as FP32", datatype.name());
        return Err(Refusal::tensor(name, message));
    }
    let shape = super::shape(name, dims)?;
    let Some(dtype) = datatype.dtype() else {
        let strings = elements::<String>(name, dims, shape.count(), json)?;
        return Ok(Content::Strings(dims.to_vec(), strings.into_iter().map(Bytes::from).collect()));
    };
    macro_rules! read {
        ($($variant:ident)*) => {
            match dtype {
                $(coreml_anywhere::tensor::DType::$variant => Data::$variant(elements(name, dims, shape.count(), json)?),)*
                _ => return Err(Refusal::tensor(name, format!("{} is not read", datatype.name()))),
            }
        };
    }
    let data = read!(Bool UInt8 UInt16 UInt32 UInt64 Int8 Int16 Int32 Int64 Float32 Float64);
    Tensor::from_data(shape, data).map(Content::Numbers).map_err(|error| Refusal::tensor(name, error))
}

/// The elements of a tensor, which are flat or nested as its shape is.
fn elements<T: Leaf>(name: &str, dims: &[usize], count: usize, json: &str) -> Result<Vec<T>, Refusal> {
    // An element takes two characters at least, so that the shape alone does not get memory.
    let mut values = Vec::with_capacity(count.min(json.len() / 2 + 1));
    let mut reader = serde_json::Deserializer::from_str(json);
    let nest = Nest { dims, count, depth: 0, values: &mut values };
    nest.deserialize(&mut reader).map_err(|error| Refusal::tensor(name, error))?;
    if values.len() != count {
        let message = format!("has {} elements, its shape {dims:?} has {count}", values.len());
        return Err(Refusal::tensor(name, message));
    }
    Ok(values)
}

/// Something that is an element of a tensor.
trait Leaf: Sized {
    const WHAT: &'static str;
    fn of_integer(_: i128) -> Option<Self> {
        None
    }
    fn of_double(_: f64) -> Option<Self> {
        None
    }
    fn of_bool(_: bool) -> Option<Self> {
        None
    }
    fn of_text(_: &str) -> Option<Self> {
        None
    }
}

macro_rules! integer_leaves {
    ($($ty:ty: $what:literal),*) => {$(
        impl Leaf for $ty {
            const WHAT: &'static str = $what;
            fn of_integer(value: i128) -> Option<Self> {
                value.try_into().ok()
            }
        }
    )*};
}
integer_leaves!(u8: "an integer of UINT8", u16: "an integer of UINT16", u32: "an integer of UINT32",
    u64: "an integer of UINT64", i8: "an integer of INT8", i16: "an integer of INT16", i32: "an integer of INT32",
    i64: "an integer of INT64");

impl Leaf for f32 {
    const WHAT: &'static str = "a number of FP32";
    fn of_integer(value: i128) -> Option<Self> {
        Some(value as Self)
    }
    fn of_double(value: f64) -> Option<Self> {
        // What is finite stays so.
        Some(value as Self).filter(|single| single.is_finite())
    }
}

impl Leaf for f64 {
    const WHAT: &'static str = "a number";
    fn of_integer(value: i128) -> Option<Self> {
        Some(value as Self)
    }
    fn of_double(value: f64) -> Option<Self> {
        Some(value)
    }
}

impl Leaf for bool {
    const WHAT: &'static str = "true or false";
    fn of_integer(value: i128) -> Option<Self> {
        [(0, false), (1, true)].into_iter().find_map(|(known, meant)| (known == value).then_some(meant))
    }
    fn of_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Leaf for String {
    const WHAT: &'static str = "a string";
    fn of_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// Reads an element, or a list of such, into `values`.
struct Nest<'a, T> {
    dims: &'a [usize],
    count: usize,
    depth: usize,
    values: &'a mut Vec<T>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Element,
    List,
}

impl<'de, T: Leaf> DeserializeSeed<'de> for Nest<'_, T> {
    type Value = Found;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<T: Leaf> Nest<'_, T> {
    fn push<E: serde::de::Error>(self, value: Option<T>, told: impl fmt::Display) -> Result<Found, E> {
        let value = value.ok_or_else(|| E::custom(format!("{told} is not {}", T::WHAT)))?;
        if self.depth == 0 {
            return Err(E::custom("data is a list"));
        }
        if self.values.len() == self.count {
            return Err(E::custom(format!("has more elements than its shape {:?}", self.dims)));
        }
        self.values.push(value);
        Ok(Found::Element)
    }
}

impl<'de, T: Leaf> Visitor<'de> for Nest<'_, T> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a list of such", T::WHAT)
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Found, E> {
        self.push(T::of_integer(value.into()), value)
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Found, E> {
        self.push(T::of_integer(value.into()), value)
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Found, E> {
        self.push(T::of_double(value), format_args!("{value:?}"))
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Found, E> {
        self.push(T::of_bool(value), value)
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Found, E> {
        self.push(T::of_text(value), format_args!("{value:?}"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        let Nest { dims, count, depth, values } = self;
        if depth > 0 && depth >= dims.len() {
            return Err(A::Error::custom(format!("is nested deeper than its shape {dims:?}")));
        }
        let (mut children, mut kind) = (0usize, None);
        while let Some(child) = list.next_element_seed(Nest { dims, count, depth: depth + 1, values: &mut *values })? {
            if *kind.get_or_insert(child) != child {
                return Err(A::Error::custom("mixes elements and lists"));
            }
            children += 1;
        }
        let is_flat = depth == 0 && kind != Some(Found::List);
        let is_last = depth + 1 == dims.len();
        if !is_flat && (dims.get(depth) != Some(&children) || (kind == Some(Found::Element)) && !is_last) {
            return Err(A::Error::custom(format!("is not nested as its shape {dims:?} says")));
        }
        Ok(Found::List)
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    parameters: &'a Parameters,
    outputs: Vec<AnswerTensor<'a>>,
}

#[derive(Serialize)]
struct AnswerTensor<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    parameters: Parameters,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

/// The elements of a tensor as a list.
struct Elements<'a>(&'a Content);

impl Serialize for Elements<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Content::Strings(_, strings) => {
                serializer.collect_seq(strings.iter().map(|string| String::from_utf8_lossy(string)))
            }
            Content::Numbers(tensor) => match tensor.view().data() {
                DataView::Bool(values) => serializer.collect_seq(values),
                DataView::UInt8(values) => serializer.collect_seq(values),
                DataView::UInt16(values) => serializer.collect_seq(values),
                DataView::UInt32(values) => serializer.collect_seq(values),
                DataView::UInt64(values) => serializer.collect_seq(values),
                DataView::Int8(values) => serializer.collect_seq(values),
                DataView::Int16(values) => serializer.collect_seq(values),
                DataView::Int32(values) => serializer.collect_seq(values),
                DataView::Int64(values) => serializer.collect_seq(values),
                DataView::Float16(values) => serializer.collect_seq(values.iter().map(|value| value.to_f32())),
                DataView::Float32(values) => serializer.collect_seq(values),
                DataView::Float64(values) => serializer.collect_seq(values),
                _ => Err(serde::ser::Error::custom("elements of an unknown type")),
            },
        }
    }
}

/// An answer's bytes; with the length of the JSON among them if binary tensors follow it. JSON cannot express numbers
/// that are not finite: in JSON, and only there, they are `null`.
///
/// # Errors
/// When a tensor has elements that the protocol does not know.
pub(crate) fn write(response: &InferResponse, request: &Asked) -> Result<(Vec<u8>, Option<usize>), Refusal> {
    let mut behind = Vec::new();
    let mut outputs = Vec::with_capacity(response.outputs.len());
    for output in &response.outputs {
        let mut parameters = output.parameters.clone();
        let data = if request.is_binary(&output.name) {
            let size = binary::write(&output.content, &mut behind);
            parameters.insert("binary_data_size".into(), Parameter::Unsigned(size as u64));
            None
        } else {
            Some(Elements(&output.content))
        };
        let (datatype, shape) = (output.content.datatype().name(), output.content.shape());
        outputs.push(AnswerTensor { name: &output.name, datatype, shape, parameters, data });
    }
    let answer = Answer {
        model_name: &response.model,
        model_version: &response.version,
        id: response.id.as_deref(),
        parameters: &response.parameters,
        outputs,
    };
    let failed = |error: serde_json::Error| Refusal::new(crate::refusal::Why::Failed, error.to_string());
    let mut body = serde_json::to_vec(&answer).map_err(failed)?;
    let json = (request.any_binary(response)).then_some(body.len());
    body.append(&mut behind);
    Ok((body, json))
}

/// Which outputs were asked for in binary form.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    named: Vec<(String, bool)>,
    others: bool,
}

impl Asked {
    pub(crate) fn of(request: &InferRequest) -> Self {
        let named = request.outputs.iter();
        let named =
            named.map(|output| (output.name.clone(), output.binary.unwrap_or(request.binary_outputs))).collect();
        Self { named, others: request.binary_outputs }
    }

    fn is_binary(&self, name: &str) -> bool {
        self.named.iter().find(|(known, _)| known == name).map_or(self.others, |(_, binary)| *binary)
    }

    fn any_binary(&self, response: &InferResponse) -> bool {
        response.outputs.iter().any(|output| self.is_binary(&output.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(datatype: &str, shape: &str, data: &str) -> Result<Content, String> {
        let body = format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}"#);
        let length = body.len();
        let mut request = read(&body.into(), length).map_err(|refusal| refusal.message)?;
        Ok(request.inputs.remove(0).content)
    }

    fn floats(shape: &str, json: &str) -> Result<Vec<f32>, String> {
        match data("FP32", shape, json)? {
            Content::Numbers(tensor) => Ok(tensor.into_vec().unwrap()),
            Content::Strings(..) => unreachable!(),
        }
    }

    #[test]
    fn data_is_flat_or_nested_as_its_shape() {
        assert_eq!(floats("[2,2]", "[1,2.5,-3,4]").unwrap(), [1.0, 2.5, -3.0, 4.0]);
        assert_eq!(floats("[2,2]", "[[1,2],[3,4]]").unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(floats("[0]", "[]").unwrap(), [0.0f32; 0]);
        for (shape, wrong, why) in [
            ("[2,2]", "[[1,2,3],[4]]", "not nested as its shape"),
            ("[2,2]", "[1,[2,3]]", "mixes elements and lists"),
            ("[2]", "[[1],[2]]", "nested deeper"),
            ("[2,2]", "[1,2,3]", "has 3 elements, its shape [2, 2] has 4"),
            ("[2]", "[1,2,3]", "more elements"),
            ("[1]", "1", "data is a list"),
            ("[1]", "[null]", "invalid type"),
            ("[1]", "[1e39]", "is not a number of FP32"),
            ("[1]", r#"["1"]"#, r#""1" is not a number of FP32"#),
            ("[1,1,1,1,1,1,1,1,1]", "[1]", "rank 9"),
            ("[99999999999,99999999999]", "[1]", "overflow"),
        ] {
            let told = floats(shape, wrong).unwrap_err();
            assert!(
                told.starts_with("tensor `x`: ") && told.to_lowercase().contains(&why.to_lowercase()),
                "{wrong}: {told}"
            );
        }
    }

    #[test]
    fn integers_stay_what_they_are() {
        let tensor = |content| if let Ok(Content::Numbers(tensor)) = content { Some(tensor) } else { None };
        let large = tensor(data("UINT64", "[1]", "[18446744073709551615]")).unwrap();
        assert_eq!(large.as_slice::<u64>(), Some(&[u64::MAX][..]));
        assert!(data("UINT8", "[1]", "[256]").unwrap_err().contains("256 is not an integer of UINT8"));
        assert!(data("INT32", "[1]", "[1.5]").unwrap_err().contains("1.5 is not an integer of INT32"));
        assert!(data("FP16", "[1]", "[1.5]").unwrap_err().contains("no form in JSON"));
        assert!(data("FP8", "[1]", "[1.5]").unwrap_err().contains("there is no datatype"));
    }

    #[test]
    fn binary_tensors_come_in_order_and_nothing_behind_them() {
        let json = r#"{"inputs":[
            {"name":"a","datatype":"INT16","shape":[2],"parameters":{"binary_data_size":4}},
            {"name":"b","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}]}"#;
        let body = |rest: &[u8]| Bytes::from([json.as_bytes(), rest].concat());
        let right = [1, 0, 255, 255, 2, 0, 0, 0, b'h', b'i'];
        let request = read(&body(&right), json.len()).unwrap();
        assert_eq!(request.inputs[1].content.datatype().name(), "BYTES");
        assert!(read(&body(&right[..9]), json.len()).unwrap_err().message.contains("tensor `b`"));
        assert!(read(&body(&[&right[..], &[0]].concat()), json.len()).unwrap_err().message.contains("1 bytes"));
        assert!(read(&body(&right), 100_000).is_err());
    }
}
