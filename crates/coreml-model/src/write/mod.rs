//! Writes models: packages, and compiled models in the form this library reads them.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Cursor, Seek, Write};
use std::path::Path;

use prost::Message;

use crate::classic::ClassicModel;
use crate::decode::description::MAIN;
use crate::interface::{Interface, ShapeConstraint};
use crate::mil;
use crate::package::{DATA, Metadata, PROGRAM, Package};
use crate::program::{Opset, Program};
use crate::proto::{self, model::Kind};
use crate::stage::{Content, Stage};

mod interface;
mod program;
mod weights;

/// A model to be written: a file's, or a member of a pipeline.
#[derive(Debug)]
pub struct NewModel<'a> {
    /// What it is.
    pub content: NewContent<'a>,
    /// The inputs and outputs of its functions, by name; a model without functions has one, `main`.
    pub interfaces: BTreeMap<String, &'a Interface>,
    /// The function that runs when none is named.
    pub default_function: String,
    /// What its author says about it.
    pub metadata: Metadata,
}

/// The contents to write.
#[derive(Debug)]
pub enum NewContent<'a> {
    /// An ML Program.
    Program(Cow<'a, Program>),
    /// A model of a classic type, as it is.
    Classic(&'a ClassicModel),
    /// Models that run in this order.
    Pipeline(Vec<NewModel<'a>>),
}

/// Where the weights of packages lie, below the model file.
const WEIGHTS: &str = "weights/weight.bin";

impl<'a> NewModel<'a> {
    /// The model of `package`, with each neural network in it replaced by the result of `lower`.
    ///
    /// # Errors
    /// Those of `lower`.
    pub fn of<E>(package: &'a Package, mut lower: impl FnMut(&'a Stage) -> Result<Program, E>) -> Result<Self, E> {
        let mut model = Self::of_stage(package.model(), &mut lower)?;
        let interface = |name: &str| Some((name.to_owned(), package.interface(Some(name)).ok()?));
        model.interfaces = package.functions().filter_map(interface).collect();
        model.metadata = package.metadata().clone();
        Ok(model)
    }

    fn of_stage<E>(stage: &'a Stage, lower: &mut impl FnMut(&'a Stage) -> Result<Program, E>) -> Result<Self, E> {
        let content = match stage.content() {
            Content::Program(program) => NewContent::Program(Cow::Borrowed(program)),
            Content::NeuralNetwork(_) => NewContent::Program(Cow::Owned(lower(stage)?)),
            Content::Classic(classic) => NewContent::Classic(classic),
            Content::Pipeline(members) => {
                let members = members.iter().map(|member| Self::of_stage(member, lower));
                NewContent::Pipeline(members.collect::<Result<_, _>>()?)
            }
        };
        Ok(Self {
            content,
            interfaces: BTreeMap::from([(stage.default_function().to_owned(), stage.interface())]),
            default_function: stage.default_function().to_owned(),
            metadata: Metadata::default(),
        })
    }

    /// Writes an `.mlpackage` folder, which must not exist.
    ///
    /// # Errors
    /// When the system refuses, or a constant cannot be written.
    pub fn write_package(&self, path: &Path) -> io::Result<()> {
        let folder = path.join("Data").join("com.apple.CoreML");
        fs::create_dir(path)?;
        let weights = folder.join(WEIGHTS);
        fs::create_dir_all(weights.parent().unwrap_or(&folder))?;
        let (model, any) = self.encode(BufWriter::new(File::create(&weights)?), WEIGHTS)?;
        if !any {
            fs::remove_dir_all(folder.join("weights"))?;
        }
        fs::write(folder.join("model.mlmodel"), model.encode_to_vec())?;
        fs::write(path.join("Manifest.json"), manifest(any))
    }

    /// The contents of a model file, and of the weight file that it refers to as `@model_path/weights/weight.bin`.
    ///
    /// # Errors
    /// When a constant cannot be written.
    pub fn to_parts(&self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut weights = Cursor::new(Vec::new());
        let (model, _) = self.encode(&mut weights, WEIGHTS)?;
        Ok((model.encode_to_vec(), weights.into_inner()))
    }

    /// Writes an `.mlmodelc` folder, which must not exist: the program as MIL text, its weights, and the description; of a
    /// pipeline, such a folder for each member. It differs from what Apple's compiler makes: files that only Core ML reads are
    /// missing.
    ///
    /// # Errors
    /// As [`NewModel::write_package`]; for classic models and pipelines within pipelines, whose compiled form is not known well
    /// enough.
    pub fn write_compiled(&self, path: &Path) -> io::Result<()> {
        let is_program = |model: &NewModel<'_>| matches!(model.content, NewContent::Program(_));
        match &self.content {
            NewContent::Program(_) => self.write_compiled_program(path).map(drop),
            NewContent::Pipeline(members) if members.iter().all(is_program) => {
                fs::create_dir(path)?;
                let mut newest = OLDEST;
                for (i, member) in members.iter().enumerate() {
                    newest = newest.max(member.write_compiled_program(&path.join(format!("model{i}")))?);
                }
                let described = compiled_description(PIPELINE, newest, &self.plain_description().unwrap_or_default());
                fs::write(path.join(DATA), described)
            }
            _ => {
                let message = "only ML Programs, and pipelines of them, are written as compiled models";
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
        }
    }

    /// The folder of one program; the version of the format that it needs.
    fn write_compiled_program(&self, path: &Path) -> io::Result<i32> {
        fs::create_dir(path)?;
        let weights = path.join(WEIGHTS);
        fs::create_dir_all(weights.parent().unwrap_or(path))?;
        let (model, any) = self.encode(BufWriter::new(File::create(&weights)?), WEIGHTS)?;
        if !any {
            fs::remove_dir_all(path.join("weights"))?;
        }
        let version = model.specification_version;
        let description = model.description.unwrap_or_default();
        let Some(Kind::MlProgram(program)) = &model.kind else { return Ok(version) };
        let scalars = mil::Scalars::of(version);
        let attributes = |name: &str| self.interfaces.get(name).map_or_else(String::new, |of| flexible(of, scalars));
        fs::write(path.join(PROGRAM), mil::text(program, scalars, attributes))?;
        fs::write(path.join(DATA), compiled_description(ML_PROGRAM, version, &description))?;
        Ok(version)
    }

    /// The description of a model that has one function.
    fn plain_description(&self) -> Option<proto::Description> {
        self.interfaces.values().next().map(|interface| interface::description(interface, &self.metadata))
    }

    /// The model file, and whether there are weights.
    fn encode(&self, weights: impl Write + Seek, file: &str) -> io::Result<(proto::Model, bool)> {
        let weights = weights::WeightFile::new(weights)?;
        let mut encoder = program::Encoder { weights, file: format!("@model_path/{file}") };
        let model = self.message(&mut encoder)?;
        Ok((model, encoder.weights.finish()?))
    }

    fn message<W: Write + Seek>(&self, encoder: &mut program::Encoder<W>) -> io::Result<proto::Model> {
        let plain = self.plain_description();
        match &self.content {
            NewContent::Program(program) => {
                let functions = program.functions.iter();
                let functions = functions.map(|(name, function)| Ok((name.clone(), encoder.function(function)?)));
                let functions = functions.collect::<io::Result<BTreeMap<_, _>>>()?;
                let newest = program.functions.values().map(|function| function.opset).max().unwrap_or(Opset::Ios15);
                let described = self.interfaces.iter().map(|(name, of)| interface::function(name, of));
                let description = match plain {
                    Some(plain) if program.functions.len() == 1 && self.default_function == MAIN => plain,
                    _ => proto::Description {
                        functions: described.collect(),
                        default_function: self.default_function.clone(),
                        metadata: Some(interface::metadata(&self.metadata)),
                        ..proto::Description::default()
                    },
                };
                Ok(proto::Model {
                    specification_version: newest.specification_version(),
                    description: Some(description),
                    kind: Some(Kind::MlProgram(proto::Program { version: 1, functions })),
                })
            }
            NewContent::Classic(classic) => {
                // The number of its type says which field of a model it is.
                let mut bytes = Vec::new();
                prost::encoding::bytes::encode(classic.tag(), &classic.bytes().to_vec(), &mut bytes);
                let model = proto::Model::decode(bytes.as_slice()).map_err(io::Error::other)?;
                Ok(proto::Model { specification_version: OLDEST, description: plain, ..model })
            }
            NewContent::Pipeline(members) => {
                let models = members.iter().map(|member| member.message(encoder));
                let models = models.collect::<io::Result<Vec<_>>>()?;
                // A pipeline is as new as its newest member.
                let newest = models.iter().map(|model| model.specification_version).max().unwrap_or(OLDEST);
                let models = models.into_iter().map(|model| proto::Model { specification_version: newest, ..model });
                let pipeline = proto::Pipeline { models: models.collect(), ..proto::Pipeline::default() };
                Ok(proto::Model {
                    specification_version: newest,
                    description: plain,
                    kind: Some(Kind::Pipeline(pipeline)),
                })
            }
        }
    }
}

/// The version of models of classic types, which have not changed since 2019.
const OLDEST: i32 = 4;

fn manifest(weights: bool) -> String {
    // Identifiers only have to differ from each other.
    let item = |id: &str, name: &str, path: &str, description: &str| {
        format!(
            "    \"{id}\": {{\n      \"author\": \"com.apple.CoreML\",\n      \"description\": \"{description}\",\n      \
             \"name\": \"{name}\",\n      \"path\": \"com.apple.CoreML/{path}\"\n    }}"
        )
    };
    let model = "00000000-0000-4000-8000-000000000001";
    let mut items = vec![item(model, "model.mlmodel", "model.mlmodel", "CoreML Model Specification")];
    if weights {
        let id = "00000000-0000-4000-8000-000000000002";
        items.insert(0, item(id, "weights", "weights", "CoreML Model Weights"));
    }
    format!(
        "{{\n  \"fileFormatVersion\": \"1.0.0\",\n  \"itemInfoEntries\": {{\n{}\n  }},\n  \"rootModelIdentifier\": \
         \"{model}\"\n}}\n",
        items.join(",\n")
    )
}

/// The shapes that inputs may have, as an attribute of the function.
fn flexible(interface: &Interface, scalars: mil::Scalars) -> String {
    use crate::interface::FeatureKind;

    let string = scalars.of_type("string");
    let (mut defaults, mut ranges, mut enumerated) = (Vec::new(), Vec::new(), Vec::new());
    for feature in &interface.inputs {
        let FeatureKind::MultiArray(array) = &feature.kind else { continue };
        let name = mil::Quoted(&feature.name);
        match &array.constraint {
            ShapeConstraint::Fixed | ShapeConstraint::Sequences => continue,
            ShapeConstraint::Range(of) => {
                let bounds = of.iter().map(|range| {
                    format!("[{}, {}]", range.min, range.max.map_or_else(|| "-1".to_owned(), |max| max.to_string()))
                });
                ranges.push(format!("{{{name}, [{}]}}", bounds.collect::<Vec<_>>().join(", ")));
            }
            ShapeConstraint::Enumerated(shapes) => {
                for (i, shape) in shapes.iter().enumerate() {
                    enumerated.push(format!("{{\"{i}\", {{{{{name}, {shape:?}}}}}}}"));
                }
            }
        }
        defaults.push(format!("{{{name}, {:?}}}", array.shape));
    }
    let entry = |key: &str, value: &str, entries: &[String]| {
        let ty = format!("tuple<{string}, dict<{string}, {value}>>");
        (ty, format!("(\"{key}\", {{{}}})", entries.join(", ")))
    };
    let mut entries = Vec::new();
    if !defaults.is_empty() {
        entries.push(entry("DefaultShapes", "tensor<int32, [?]>", &defaults));
    }
    if !ranges.is_empty() {
        entries.push(entry("RangeDims", "list<tensor<int32, [2]>, ?>", &ranges));
    }
    if !enumerated.is_empty() {
        entries.push(entry("EnumeratedShapes", &format!("dict<{string}, tensor<int32, [?]>>"), &enumerated));
    }
    if entries.is_empty() {
        return String::new();
    }
    let (types, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    format!(" [FlexibleShapeInformation = tuple<{}>(({}))]", types.join(", "), values.join(", "))
}

// The numbers that the format has for types of models.
const ML_PROGRAM: u32 = 502;
const PIPELINE: u32 = 202;

/// The description as a compiled model has it: behind a head that says what type of model it is.
fn compiled_description(kind: u32, version: i32, description: &proto::Description) -> Vec<u8> {
    let description = description.encode_to_vec();
    let mut bytes = Vec::new();
    bytes.extend(kind.to_le_bytes());
    bytes.extend(version.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(u64::try_from(description.len()).unwrap_or(0).to_le_bytes());
    bytes.extend(description);
    bytes
}
