//! The protocol between host and worker, strictly in turns: two lengths, then that many bytes of JSON and that many of
//! numbers.
//!
//! Neither side trusts the other's messages: it may have died in the middle of one.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use coreml_core::{
    CheckedInputs, CheckedValue, ComputeUnits, DeviceShare, Error, ErrorKind, Label, LoadOptions, ModelInfo, Outputs,
    OwnedInputs, OwnedValue, Placement, PreparedImage, Value,
};
use coreml_model::ColorLayout;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::numbers::{Extent, Incoming, Outgoing, Placed, malformed};

/// Longer messages are nonsense: numbers are not among what they hold.
const LONGEST: usize = 64 << 20;
/// More numbers are nonsense, too.
const MOST: u64 = 64 << 30;
/// So much is made room for before it has come.
const AT_ONCE: usize = 16 << 20;

/// What the host asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first message: what to load. The package must have this [fingerprint](coreml_model::Fingerprint).
    Load { backend: String, package: PathBuf, fingerprint: String, images: Images, options: Options },
    /// A prediction, on the state of this number.
    Predict { inputs: Vec<(String, Item)>, state: Option<u64> },
    /// A new state of this number.
    NewState(u64),
    /// What a state holds in one feature.
    ReadState { state: u64, name: String },
    /// Replaces that.
    WriteState { state: u64, name: String, contents: Placed },
    /// The states of these numbers are not needed any more. Not answered.
    DropStates(Vec<u64>),
}

/// Inputs that the host declared to be images.
pub(crate) type Images = Vec<(String, ColorLayout)>;

/// What the worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Loaded(Loaded),
    Outputs(Vec<(String, Item)>),
    State(Placed),
    Done,
    Failed { kind: String, feature: Option<String>, operation: Option<String>, message: String },
}

/// A [`ModelInfo`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Loaded {
    steps: usize,
    threads: usize,
    isa: String,
    workspace_bytes: usize,
    plan: String,
    /// Operations; then those on CPU, GPU and Neural Engine with their shares of the cost.
    placement: Option<(usize, [Share; 3])>,
    neural_engine_bytes: Option<u64>,
}

/// Operations, and their share of the cost.
type Share = (usize, Option<f64>);

/// A value; its numbers follow the message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Item {
    Tensor(Placed),
    Image {
        width: usize,
        height: usize,
        channels: usize,
        pixels: Extent,
    },
    /// An image output, or the planes of an image input.
    Planes(Placed),
    String(String),
    Int64(i64),
    /// The bits: JSON has no NaN.
    Double(u64),
    Dictionary(Vec<(Name, u64)>),
    Sequence(Vec<Name>),
    Absent,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Name {
    String(String),
    Int64(i64),
}

/// The lengths of a message and of its numbers.
const HEAD: usize = 16;

pub(crate) fn send(mut to: impl Write, message: &impl Serialize, numbers: &Outgoing<'_>) -> io::Result<()> {
    let mut bytes = vec![0; HEAD];
    serde_json::to_writer(&mut bytes, message)?;
    let len = bytes.len() - HEAD;
    if len > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"));
    }
    bytes[..8].copy_from_slice(&(len as u64).to_le_bytes());
    bytes[8..HEAD].copy_from_slice(&(numbers.len() as u64).to_le_bytes());
    to.write_all(&bytes)?;
    numbers.parts().iter().try_for_each(|part| to.write_all(part))
}

pub(crate) fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<(T, Incoming)> {
    let mut len = || {
        let mut len = [0; 8];
        from.read_exact(&mut len).map(|()| u64::from_le_bytes(len))
    };
    let (message, numbers) = (len()?, len()?);
    if message > LONGEST as u64 || numbers > MOST {
        return Err(malformed("a message without end"));
    }
    let message = take(&mut from, message)?;
    let numbers = Incoming(take(&mut from, numbers)?);
    Ok((serde_json::from_slice(&message)?, numbers))
}

fn take(from: &mut impl Read, len: u64) -> io::Result<Vec<u8>> {
    let expected = usize::try_from(len).map_err(|_| malformed("too many bytes"))?;
    let mut bytes = Vec::with_capacity(expected.min(AT_ONCE));
    from.take(len).read_to_end(&mut bytes)?;
    if bytes.len() < expected {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

impl From<&Label> for Name {
    fn from(label: &Label) -> Self {
        match label {
            Label::String(name) => Self::String(name.to_string()),
            Label::Int64(number) => Self::Int64(*number),
        }
    }
}

impl From<Name> for Label {
    fn from(name: Name) -> Self {
        match name {
            Name::String(name) => Self::String(name.into()),
            Name::Int64(number) => Self::Int64(number),
        }
    }
}

fn dictionary(entries: &[(Label, f64)]) -> Item {
    Item::Dictionary(entries.iter().map(|(label, value)| (label.into(), value.to_bits())).collect())
}

fn entries(entries: Vec<(Name, u64)>) -> Vec<(Label, f64)> {
    entries.into_iter().map(|(name, bits)| (name.into(), f64::from_bits(bits))).collect()
}

pub(crate) fn put_inputs<'a>(
    inputs: &'a CheckedInputs<'_>,
    numbers: &mut Outgoing<'a>,
) -> io::Result<Vec<(String, Item)>> {
    let item = |(name, value): (&str, &'a CheckedValue<'_>)| {
        let item = match value {
            CheckedValue::Tensor(view) => Item::Tensor(numbers.put(*view)),
            CheckedValue::Made(tensor) => Item::Tensor(numbers.put(tensor.view())),
            CheckedValue::Planes(view) => Item::Planes(numbers.put(*view)),
            CheckedValue::Image(image) => {
                let PreparedImage { width, height, channels, ref pixels } = *image;
                Item::Image { width, height, channels, pixels: numbers.put_bytes(pixels) }
            }
            CheckedValue::String(value) => Item::String((*value).to_owned()),
            CheckedValue::Int64(value) => Item::Int64(*value),
            CheckedValue::Double(value) => Item::Double(value.to_bits()),
            CheckedValue::Dictionary(entries) => dictionary(entries),
            CheckedValue::Sequence(labels) => Item::Sequence(labels.iter().map(Name::from).collect()),
            CheckedValue::Absent => Item::Absent,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "a value of a type unknown here")),
        };
        Ok((name.to_owned(), item))
    };
    inputs.iter().map(item).collect()
}

pub(crate) fn take_inputs(items: Vec<(String, Item)>, numbers: &Incoming) -> io::Result<OwnedInputs> {
    let value = |(name, item): (String, Item)| {
        let value = match item {
            Item::Tensor(placed) => OwnedValue::Tensor(numbers.tensor(&placed)?),
            Item::Planes(placed) => OwnedValue::Planes(numbers.tensor(&placed)?),
            Item::Image { width, height, channels, pixels } => {
                let pixels = numbers.bytes(pixels)?.to_vec();
                if width.checked_mul(height).and_then(|n| n.checked_mul(channels)) != Some(pixels.len()) {
                    return Err(malformed("an image of another size than it says"));
                }
                OwnedValue::Image(PreparedImage { width, height, channels, pixels: pixels.into() })
            }
            Item::String(value) => OwnedValue::String(value),
            Item::Int64(value) => OwnedValue::Int64(value),
            Item::Double(bits) => OwnedValue::Double(f64::from_bits(bits)),
            Item::Dictionary(items) => OwnedValue::Dictionary(entries(items)),
            Item::Sequence(names) => OwnedValue::Sequence(names.into_iter().map(Label::from).collect()),
            Item::Absent => OwnedValue::Absent,
        };
        Ok((name, value))
    };
    Ok(OwnedInputs::new(items.into_iter().map(value).collect::<io::Result<_>>()?))
}

pub(crate) fn put_outputs<'a>(outputs: &'a Outputs, numbers: &mut Outgoing<'a>) -> io::Result<Vec<(String, Item)>> {
    let item = |(name, value): (&str, &'a Value)| {
        let item = match value {
            Value::Tensor(tensor) => Item::Tensor(numbers.put(tensor.view())),
            Value::Image(tensor) => Item::Planes(numbers.put(tensor.view())),
            Value::String(value) => Item::String(value.clone()),
            Value::Int64(value) => Item::Int64(*value),
            Value::Double(value) => Item::Double(value.to_bits()),
            Value::Dictionary(entries) => dictionary(entries),
            Value::Sequence(labels) => Item::Sequence(labels.iter().map(Name::from).collect()),
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "a value of a type unknown here")),
        };
        Ok((name.to_owned(), item))
    };
    outputs.iter().map(item).collect()
}

pub(crate) fn take_outputs(items: Vec<(String, Item)>, numbers: &Incoming) -> io::Result<Outputs> {
    let value = |(name, item): (String, Item)| {
        let value = match item {
            Item::Tensor(placed) => Value::Tensor(numbers.tensor(&placed)?),
            Item::Planes(placed) => Value::Image(numbers.tensor(&placed)?),
            Item::String(value) => Value::String(value),
            Item::Int64(value) => Value::Int64(value),
            Item::Double(bits) => Value::Double(f64::from_bits(bits)),
            Item::Dictionary(items) => Value::Dictionary(entries(items)),
            Item::Sequence(names) => Value::Sequence(names.into_iter().map(Label::from).collect()),
            Item::Image { .. } | Item::Absent => {
                return Err(malformed("an output of a type that only inputs have"));
            }
        };
        Ok((name, value))
    };
    Ok(Outputs::new(items.into_iter().map(value).collect::<io::Result<_>>()?))
}

impl From<&Error> for Reply {
    fn from(error: &Error) -> Self {
        Self::Failed {
            kind: error.kind().name().into(),
            feature: error.about_feature().map(Into::into),
            operation: error.about_operation().map(Into::into),
            message: error.message().into(),
        }
    }
}

/// The error that a worker reported.
pub(crate) fn error(kind: &str, feature: Option<&str>, operation: Option<&str>, message: String) -> Error {
    let kind = ErrorKind::from_name(kind).unwrap_or(ErrorKind::Bug);
    match (feature, operation) {
        (Some(feature), _) => Error::feature(kind, feature, message),
        (None, Some(operation)) => Error::operation(kind, operation, message),
        (None, None) => Error::new(kind, message),
    }
}

impl From<ModelInfo> for Reply {
    fn from(info: ModelInfo) -> Self {
        let ModelInfo { steps, threads, isa, workspace_bytes, plan, placement, neural_engine_bytes } = info;
        let placement = placement.map(|Placement { operations, cpu, gpu, neural_engine }| {
            (operations, [cpu, gpu, neural_engine].map(|share| (share.operations, share.cost)))
        });
        Self::Loaded(Loaded { steps, threads, isa, workspace_bytes, plan, placement, neural_engine_bytes })
    }
}

impl From<Loaded> for ModelInfo {
    fn from(loaded: Loaded) -> Self {
        let Loaded { steps, threads, isa, workspace_bytes, plan, placement, neural_engine_bytes } = loaded;
        let placement = placement.map(|(operations, shares)| {
            let [cpu, gpu, neural_engine] = shares.map(|(operations, cost)| DeviceShare { operations, cost });
            Placement { operations, cpu, gpu, neural_engine }
        });
        Self { steps, threads, isa, workspace_bytes, plan, placement, neural_engine_bytes }
    }
}

/// The options that a request to load carries.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    function: Option<String>,
    units: i32,
    threads: usize,
    max_memory: Option<usize>,
    max_loop_rounds: Option<u64>,
}

impl From<&LoadOptions> for Options {
    fn from(options: &LoadOptions) -> Self {
        Self {
            function: options.function.clone(),
            units: options.compute_units.raw_value(),
            threads: options.threads,
            max_memory: options.max_memory,
            max_loop_rounds: options.max_loop_rounds,
        }
    }
}

impl From<Options> for LoadOptions {
    fn from(carried: Options) -> Self {
        let mut options = Self::default();
        options.function = carried.function;
        options.compute_units = ComputeUnits::from_raw_value(carried.units).unwrap_or_default();
        options.threads = carried.threads;
        options.max_memory = carried.max_memory;
        options.max_loop_rounds = carried.max_loop_rounds;
        options
    }
}
