//! From messages to a validated [`Program`] and its [`Interface`]s.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::budget;
use crate::classic::ClassicModel;
use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::interface::{FeatureKind, Interface, ShapeConstraint};
use crate::limits::Limits;
use crate::neural_network::NeuralNetwork;
use crate::package::Metadata;
use crate::package::blob::BlobStore;
use crate::package::impostor::impostor;
use crate::package::link::{self, Linked};
use crate::program::Program;
use crate::proto;
use crate::stage::{Content, Stage};
use crate::wire::Fields;

mod constant;
pub(crate) mod description;
mod function;
pub(crate) mod kinds;
pub(crate) mod pipeline;
mod types;

pub(crate) use self::function::{Filed, FiledArgument, FiledBlock, FiledValue, FunctionReader};
use self::kinds::Sorted;

/// The newest specification this library knows: iOS 26.
const NEWEST_SPECIFICATION: i32 = 10;

/// What a specification file holds.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) specification_version: i32,
    pub(crate) metadata: Metadata,
    pub(crate) model: Stage,
    pub(crate) interfaces: BTreeMap<String, Interface>,
}

/// A model, the interfaces of its functions and its metadata.
type Described = (Stage, BTreeMap<String, Interface>, Metadata);

/// Decodes the specification and reads the constants it refers to.
pub(crate) fn model(spec: &Bytes, blobs: &mut BlobStore, limits: &Limits) -> Result<Decoded, ReadError> {
    let model = message(spec, limits)?;
    let specification_version = model.specification_version;
    let (model, interfaces, metadata) = stage(model, blobs, limits)?;
    Ok(Decoded { specification_version, metadata, model, interfaces })
}

/// The messages of a specification, which costs no more than `limits` grants.
fn message(spec: &Bytes, limits: &Limits) -> Result<proto::Model, ReadError> {
    if spec.is_empty() {
        return Err(ReadError::new(ReadErrorKind::Format, "the model file is empty"));
    }
    if let Some(message) = impostor(spec) {
        return Err(ReadError::new(ReadErrorKind::Format, message));
    }
    budget::check(spec, limits)?;
    proto::Model::decode(spec.clone())
        .map_err(|error| ReadError::new(ReadErrorKind::Format, "is not a Core ML model").because(error))
}

/// The model that a linked model stands for.
fn linked(bytes: &[u8], blobs: &mut BlobStore, limits: &Limits) -> Result<Stage, ReadError> {
    let file = Fields::new(bytes).message(1)?.unwrap_or_default();
    let parameter = |number: u32| file.message(number)?.unwrap_or_default().text(1);
    let Linked { path, spec, blobs: mut inner } = link::open(blobs, parameter(1)?, parameter(2)?, limits)?;
    let read = message(&spec, limits).and_then(|model| stage(model, &mut inner, limits));
    let (model, ..) = read.map_err(|error| error.in_file(&path))?;
    inner.contents().add(&spec);
    blobs.absorb(inner);
    Ok(model)
}

fn stage(model: proto::Model, blobs: &mut BlobStore, limits: &Limits) -> Result<Described, ReadError> {
    let version = model.specification_version;
    let Some(kind) = model.kind else {
        if version == 0 {
            return Err(ReadError::new(ReadErrorKind::Format, "is not a Core ML model"));
        }
        let message = format!(
            "a model of specification version {version} has no type that this library knows; \
             it knows those up to version {NEWEST_SPECIFICATION}"
        );
        return Err(ReadError::new(ReadErrorKind::Unsupported, message));
    };
    let (kind, sorted) = kinds::sort(kind);
    // What is refused for its type says more than its version does.
    if let Sorted::Refused(error) = sorted {
        return Err(error);
    }
    if version > NEWEST_SPECIFICATION {
        let message = format!(
            "specification version {version} is newer than {NEWEST_SPECIFICATION}, the newest this library knows"
        );
        return Err(ReadError::new(ReadErrorKind::Unsupported, message));
    }
    let missing = || ReadError::new(ReadErrorKind::Interface, "the model has no description");
    let description = |description: Option<proto::Description>| description.ok_or_else(missing);
    let content = match sorted {
        Sorted::Program(program) => {
            let program = self::program(program, blobs, limits)?;
            let (interfaces, function, metadata) = description::describe(description(model.description)?, &program)?;
            let interface = interfaces.get(&function).cloned();
            let none = || ReadError::new(ReadErrorKind::Interface, "the model has no interface");
            let interface = interface.ok_or_else(none)?;
            return Ok((Stage { kind, content: Content::Program(program), interface, function }, interfaces, metadata));
        }
        Sorted::Pipeline(pipeline) => {
            let members = pipeline::members(pipeline, |member| Ok(stage(member, blobs, limits)?.0))?;
            let (interface, metadata) = pipeline::describe(description(model.description)?, &members)?;
            return Ok(plain(kind, Content::Pipeline(members), interface, metadata));
        }
        Sorted::Network(network, bytes) => Content::NeuralNetwork(NeuralNetwork::new(network, bytes, limits)?),
        Sorted::Classic(tag, bytes) => Content::Classic(ClassicModel::new(tag, kind, bytes)?),
        // A pipeline of one: what the link's own description says must fit what it leads to.
        Sorted::Linked(bytes) => {
            let members = vec![linked(&bytes, blobs, limits)?];
            let (interface, metadata) = pipeline::describe(description(model.description)?, &members)?;
            return Ok(plain(kind, Content::Pipeline(members), interface, metadata));
        }
        Sorted::Refused(error) => return Err(error),
    };
    let (mut interface, metadata) = description::plain(description(model.description)?)?;
    if let Content::NeuralNetwork(network) = &content
        && network.is_five_axes()?
    {
        admit_sequences(&mut interface);
    }
    Ok(plain(kind, content, interface, metadata))
}

/// Arrays of a network whose blobs have five axes may have them, too, unless their feature says what else they may be.
fn admit_sequences(interface: &mut Interface) {
    for feature in &mut interface.inputs {
        if let FeatureKind::MultiArray(array) = &mut feature.kind
            && matches!(array.shape.len(), 1 | 3)
            && array.constraint == ShapeConstraint::Fixed
        {
            array.constraint = ShapeConstraint::Sequences;
        }
    }
}

/// A model without functions.
pub(crate) fn plain(kind: &'static str, content: Content, interface: Interface, metadata: Metadata) -> Described {
    let function = description::MAIN.to_owned();
    let interfaces = BTreeMap::from([(function.clone(), interface.clone())]);
    (Stage { kind, content, interface, function }, interfaces, metadata)
}

fn program(program: proto::Program, blobs: &mut BlobStore, limits: &Limits) -> Result<Program, ReadError> {
    if program.version != 1 {
        let message = format!("program version {} is not 1, the only one this library knows", program.version);
        return Err(ReadError::new(ReadErrorKind::Unsupported, message));
    }
    if program.functions.is_empty() {
        return Err(ReadError::new(ReadErrorKind::Program, "the program has no functions"));
    }
    let functions = program
        .functions
        .into_iter()
        .map(|(name, function)| {
            let function =
                function::function(function, blobs, limits).within(|| format!("function {}", quote(&name)))?;
            Ok((name, function))
        })
        .collect::<Result<_, ReadError>>()?;
    Ok(Program { functions })
}
