//! Compiled models: folders with the program as MIL text, as Core ML's compiler makes them.
//!
//! Core ML itself needs other files, whose format is not public. Two facts about them are used: the first four bytes of
//! `coremldata.bin` are the format's number for the type of model, and it contains the model's description as a message
//! of the format, preceded by its length.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;
use serde::Deserialize;

use super::Metadata;
use super::blob::{BlobStore, Source, Weights};
use super::files::Files;
use super::fingerprint::{Contents, Fingerprint};
use super::impostor::impostor;
use crate::budget;
use crate::decode::{self, Decoded, description, pipeline};
use crate::element::array_code;
use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::interface::Interface;
use crate::limits::Limits;
use crate::mil::{self, Flexible};
use crate::program::{Dim, Function, Program, TensorType, ValueType};
use crate::proto::{self, array_type, dictionary_feature, feature_type, state_feature};
use crate::stage::{Content, Stage};

/// The program of a compiled model.
pub(crate) const PROGRAM: &str = "model.mil";
/// Its description, among other things.
pub(crate) const DATA: &str = "coremldata.bin";
/// What tools say of it.
const METADATA: &str = "metadata.json";
/// A neural network.
const ESPRESSO: &str = "model.espresso.net";

/// Whether the folder is a compiled model.
pub(crate) fn is_compiled(files: &Files, folder: &Path) -> bool {
    let has = |name: &str| files.is_file(&folder.join(name));
    [PROGRAM, DATA, ESPRESSO].into_iter().any(has)
        || folder.extension().is_some_and(|extension| extension == "mlmodelc")
}

/// What was read of a compiled model.
pub(crate) struct Compiled {
    pub(crate) decoded: Decoded,
    pub(crate) size_bytes: u64,
    pub(crate) missing_weights: Option<ReadError>,
    pub(crate) fingerprint: Fingerprint,
    /// Whether the folder says what the model takes and gives; else the program alone tells.
    pub(crate) described: bool,
    pub(crate) compiler: Compiler,
}

/// Who made a compiled model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compiler {
    /// Core ML's compiler, as far as the files show.
    CoreMl,
    /// This library, or another tool that left out the file that Core ML reads first; Core ML cannot load the folder.
    Another,
}

/// Reads the compiled model at `root`.
pub(crate) fn read(files: &Files, root: &Path, limits: &Limits, weights: Weights) -> Result<Compiled, ReadError> {
    let contents = Contents::default();
    let mut reader =
        Reader { files, root, limits, weights, size_bytes: 0, missing_weights: None, contents, ours: false };
    let head = reader.head(root)?;
    let described = head.as_ref().is_some_and(|head| head.description.is_some());
    let has_program = files.is_file(&root.join(PROGRAM));
    let decoded = if !has_program && head.as_ref().is_some_and(|head| matches!(head.kind, 200..=202)) {
        reader.pipeline(head.unwrap_or_default())?
    } else {
        let (model, interfaces, metadata) = reader.program(root)?;
        Decoded { specification_version: newest(&model), metadata, model, interfaces }
    };
    let Reader { size_bytes, missing_weights, contents, ours, .. } = reader;
    let compiler = if ours || !files.is_file(&root.join(DATA)) { Compiler::Another } else { Compiler::CoreMl };
    Ok(Compiled { decoded, size_bytes, missing_weights, fingerprint: contents.fingerprint(), described, compiler })
}

struct Reader<'a> {
    files: &'a Files,
    root: &'a Path,
    limits: &'a Limits,
    weights: Weights,
    size_bytes: u64,
    missing_weights: Option<ReadError>,
    contents: Contents,
    /// Whether this library wrote a part of the model.
    ours: bool,
}

impl Reader<'_> {
    /// The members lie in folders `model0`, `model1`, …
    fn pipeline(&mut self, head: Head) -> Result<Decoded, ReadError> {
        let description = head.description.ok_or_else(|| {
            ReadError::new(ReadErrorKind::Interface, "the pipeline has no description").in_file(&self.root.join(DATA))
        })?;
        let mut members = Vec::new();
        loop {
            let folder = self.root.join(format!("model{}", members.len()));
            if !self.files.is_folder(&folder) {
                break;
            }
            if members.len() >= self.limits.functions {
                return Err(ReadError::new(ReadErrorKind::Limit, "the pipeline has too many members"));
            }
            let member = self.program(&folder);
            members.push(member.within(|| format!("member {} of the pipeline", members.len() + 1))?.0);
        }
        let (interface, metadata) = pipeline::describe(description, &members)?;
        let metadata = self.metadata(self.root, metadata)?;
        let (model, interfaces, metadata) = decode::plain("pipeline", Content::Pipeline(members), interface, metadata);
        Ok(Decoded { specification_version: newest(&model), metadata, model, interfaces })
    }

    /// The program in `folder`, with the interfaces of its functions and what is said about it.
    fn program(&mut self, folder: &Path) -> Result<(Stage, BTreeMap<String, Interface>, Metadata), ReadError> {
        let head = self.head(folder)?.unwrap_or_default();
        if !self.files.is_file(&folder.join(PROGRAM)) {
            return Err(refuse(self.files, folder, head.kind));
        }
        let path = self.files.resolve(folder, PROGRAM)?;
        let bytes = self.files.read(&path, self.limits.spec_bytes)?;
        self.contents.add(&bytes);
        self.size_bytes += u64::try_from(bytes.len()).unwrap_or(0);
        if let Some(message) = impostor(&bytes) {
            return Err(ReadError::new(ReadErrorKind::Format, message).in_file(&path));
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| ReadError::new(ReadErrorKind::Format, "is not UTF-8").because(error).in_file(&path))?;
        let source = Source { files: self.files.clone(), folder: folder.to_path_buf() };
        let mut blobs = BlobStore::new(source, self.limits, self.weights);
        let parsed = mil::program(text, &mut blobs, self.limits).map_err(|error| error.in_file(&path))?;
        self.size_bytes += blobs.size_bytes();
        self.contents.add(&blobs.contents().fingerprint().to_bytes());
        self.ours |= parsed.ours;
        self.missing_weights = self.missing_weights.take().or(blobs.into_failure());
        let described = match head.description {
            Some(description) => description,
            None => describe(&parsed.program, &parsed.flexible).map_err(|error| error.in_file(&path))?,
        };
        let described = description::describe(described, &parsed.program);
        let (interfaces, function, metadata) = described.map_err(|error| error.in_file(&folder.join(DATA)))?;
        let metadata = self.metadata(folder, metadata)?;
        let interface = interfaces.get(&function).cloned();
        let interface =
            interface.ok_or_else(|| ReadError::new(ReadErrorKind::Interface, "the model has no interface"))?;
        let content = Content::Program(parsed.program);
        Ok((Stage { kind: "mlProgram", content, interface, function }, interfaces, metadata))
    }

    /// What `coremldata.bin` says, if it is there.
    fn head(&mut self, folder: &Path) -> Result<Option<Head>, ReadError> {
        if !self.files.is_file(&folder.join(DATA)) {
            return Ok(None);
        }
        let path = self.files.resolve(folder, DATA)?;
        let bytes = self.files.read(&path, self.limits.spec_bytes)?;
        self.contents.add(&bytes);
        Ok(Some(Head::of(&bytes, self.limits)))
    }

    /// What the author says, which compilers take out of the description and write beside it.
    fn metadata(&self, folder: &Path, known: Metadata) -> Result<Metadata, ReadError> {
        let path = folder.join(METADATA);
        if known != Metadata::default() || !self.files.is_file(&path) {
            return Ok(known);
        }
        let path = self.files.resolve(folder, METADATA)?;
        let json = self.files.read(&path, self.limits.manifest_bytes)?;
        // It is for people; a model whose metadata cannot be read runs all the same.
        let told: Vec<Told> = serde_json::from_slice(&json).unwrap_or_default();
        Ok(told.into_iter().next().map_or(known, |told| Metadata {
            author: told.author,
            short_description: told.short_description,
            license: told.license,
            version: told.version,
            user_defined: told.user_defined_metadata,
        }))
    }
}

/// The version of the format that has the operations of all functions.
fn newest(model: &Stage) -> i32 {
    let functions = model.leaves().into_iter().flat_map(|leaf| leaf.program().functions.values());
    functions.map(|function| function.opset.specification_version()).max().unwrap_or(0)
}

/// The part of `metadata.json` that says what `coremldata.bin` does not.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Told {
    author: String,
    short_description: String,
    license: String,
    version: String,
    user_defined_metadata: BTreeMap<String, String>,
}

/// Why a compiled model without a program is refused.
fn refuse(files: &Files, folder: &Path, kind: u32) -> ReadError {
    if kind == 502 {
        let message = format!("has no {PROGRAM}; a compiled ML Program has one");
        return ReadError::new(ReadErrorKind::Format, message).in_file(folder);
    }
    let espresso = files.is_file(&folder.join(ESPRESSO));
    let what = match kind {
        403 | 303 | 500 => "neural network",
        _ if espresso => "neural network",
        200..=202 => "pipeline within a pipeline",
        610 => "non-maximum suppression",
        0 => "model whose type cannot be told",
        _ => "model of another type than ML Program",
    };
    let message = format!(
        "is a compiled {what}, whose file format is not public; use the .mlmodel or .mlpackage it was compiled from"
    );
    ReadError::new(ReadErrorKind::Unsupported, message).in_file(folder)
}

/// What `coremldata.bin` says.
#[derive(Default)]
struct Head {
    /// The number that the format has for the type of model; 0 if the file does not say it.
    kind: u32,
    description: Option<proto::Description>,
}

/// Places of the file where a description is looked for, at most.
const TRIES: usize = 64;

impl Head {
    fn of(bytes: &[u8], limits: &Limits) -> Self {
        let kind = bytes.first_chunk().map_or(0, |&kind| u32::from_le_bytes(kind));
        // A message behind its length that ends within the file: of several, the longest that describes something.
        let mut found: Vec<&[u8]> = Vec::new();
        for (position, length) in bytes.array_windows::<8>().enumerate() {
            let length = u64::from_le_bytes(*length);
            let message = bytes.get(position + 8..).and_then(|rest| rest.get(..usize::try_from(length).ok()?));
            // The first fields: inputs, outputs, functions.
            if let Some(message) = message
                && matches!(message, [0x0a | 0x52, _, _, ..] | [0xa2, 0x01, ..])
            {
                found.push(message);
                if found.len() == TRIES {
                    break;
                }
            }
        }
        found.sort_by_key(|message| std::cmp::Reverse(message.len()));
        let description = found.into_iter().find_map(|message| description_in(message, limits));
        Self { kind, description }
    }
}

fn description_in(message: &[u8], limits: &Limits) -> Option<proto::Description> {
    // Within a model, so that its budget applies.
    let mut bytes = Vec::new();
    prost::encoding::bytes::encode(2, &message.to_vec(), &mut bytes);
    budget::check(&bytes, limits).ok()?;
    let description = proto::Description::decode(message).ok()?;
    let names = |features: &[proto::Feature]| features.iter().all(|feature| feature.r#type.is_some());
    let describes = !description.outputs.is_empty() && names(&description.outputs) && names(&description.inputs);
    (describes || description.functions.iter().any(|function| !function.outputs.is_empty())).then_some(description)
}

/// A description by what the program itself says: arrays, and the outputs of `classify`.
fn describe(program: &Program, flexible: &BTreeMap<String, Flexible>) -> Result<proto::Description, ReadError> {
    let none = Flexible::default();
    let functions = program.functions.iter().map(|(name, function)| {
        let shapes = flexible.get(name).unwrap_or(&none);
        let described = self::function(name, function, shapes);
        described.within(|| format!("function {}", quote(name)))
    });
    let functions = functions.collect::<Result<Vec<_>, _>>()?;
    let default_function = match functions.as_slice() {
        [only] => only.name.clone(),
        _ => String::new(),
    };
    Ok(proto::Description { functions, default_function, ..proto::Description::default() })
}

fn function(name: &str, function: &Function, shapes: &Flexible) -> Result<proto::FunctionDescription, ReadError> {
    let mut described = proto::FunctionDescription { name: name.to_owned(), ..proto::FunctionDescription::default() };
    for &id in &function.inputs {
        let value = function.value(id);
        let feature = feature(&value.name, &value.ty, Some(shapes))?;
        match value.ty {
            ValueType::State(_) => described.states.push(feature),
            _ => described.inputs.push(feature),
        }
    }
    for &id in &function.body.outputs {
        let value = function.value(id);
        described.outputs.push(feature(&value.name, &value.ty, None)?);
        match value.ty {
            ValueType::Strings(_) => described.predicted_feature = value.name.to_string(),
            ValueType::Dictionary(..) => described.predicted_probabilities = value.name.to_string(),
            _ => {}
        }
    }
    Ok(described)
}

fn feature(name: &str, ty: &ValueType, shapes: Option<&Flexible>) -> Result<proto::Feature, ReadError> {
    use feature_type::Kind;

    let kind = match ty {
        ValueType::Tensor(ty) => Kind::MultiArray(array(name, ty, shapes)?),
        ValueType::State(ty) => {
            let array = state_feature::Kind::Array(array(name, ty, None)?);
            Kind::State(proto::StateFeature { kind: Some(array) })
        }
        ValueType::Strings(_) => Kind::String(proto::Opaque {}),
        ValueType::Dictionary(key, _) => {
            let nothing = proto::Opaque {};
            let key = match **key {
                ValueType::Strings(_) => dictionary_feature::Key::String(nothing),
                _ => dictionary_feature::Key::Int64(nothing),
            };
            Kind::Dictionary(proto::DictionaryFeature { key: Some(key) })
        }
        other => {
            let message = format!("{} is of type {other}, which no feature has", quote(name));
            return Err(ReadError::new(ReadErrorKind::Interface, message));
        }
    };
    let r#type = Some(proto::FeatureType { optional: false, kind: Some(kind) });
    Ok(proto::Feature { name: name.to_owned(), description: String::new(), r#type })
}

fn array(name: &str, ty: &TensorType, shapes: Option<&Flexible>) -> Result<proto::ArrayType, ReadError> {
    let refuse = |message: String| ReadError::new(ReadErrorKind::Interface, format!("{}: {message}", quote(name)));
    let unknown = || refuse(format!("no feature has elements of type {}", ty.dtype));
    let data_type = array_code(ty.dtype).ok_or_else(unknown)?;
    let known: Option<Vec<i64>> = ty.dims.iter().map(fixed).collect();
    let told = shapes.and_then(|shapes| shapes.defaults.get(name)).cloned();
    let shape = match (known, told) {
        // Scalars are arrays of one element outside.
        (Some(dims), _) if dims.is_empty() => vec![1],
        (Some(dims), _) => dims,
        (None, Some(told)) if told.len() == ty.dims.len() => told,
        (None, _) if shapes.is_none() => Vec::new(),
        (None, _) => return Err(refuse("nothing tells which sizes its open dimensions may have".to_owned())),
    };
    let ranges = shapes.and_then(|shapes| shapes.ranges.get(name)).map(|ranges| {
        let range = |&[lower, upper]: &[i64; 2]| proto::SizeRange { lower: u64::try_from(lower).unwrap_or(0), upper };
        array_type::Flexibility::Range(proto::ArrayShapeRange { dims: ranges.iter().map(range).collect() })
    });
    let enumerated = shapes.and_then(|shapes| shapes.enumerated.get(name)).map(|shapes| {
        let shapes = shapes.iter().map(|dims| proto::ArrayShape { dims: dims.clone() }).collect();
        array_type::Flexibility::Enumerated(proto::ArrayShapes { shapes })
    });
    Ok(proto::ArrayType { shape, data_type, flexibility: ranges.or(enumerated), default: None })
}

fn fixed(dim: &Dim) -> Option<i64> {
    match dim {
        Dim::Fixed(size) => i64::try_from(*size).ok(),
        Dim::Unknown => None,
    }
}
