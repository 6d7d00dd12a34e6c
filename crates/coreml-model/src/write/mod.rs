//! Writes models: packages, and compiled models in the form this library reads them.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Cursor, Seek, Write};
use std::path::Path;

use prost::Message;

use crate::interface::{Interface, ShapeConstraint};
use crate::mil;
use crate::package::{Metadata, Package};
use crate::program::{Opset, Program};
use crate::proto::{self, model::Kind};

mod interface;
mod program;
mod weights;

/// A model to be written.
#[derive(Debug, Clone)]
pub struct NewModel<'a> {
    /// What its author says about it.
    pub metadata: Metadata,
    /// Its programs: one, or the members of a pipeline in the order they run.
    pub members: Vec<NewProgram<'a>>,
    /// What a pipeline takes and gives; of a single program, its own interfaces tell.
    pub pipeline: Option<&'a Interface>,
}

/// A program to be written.
#[derive(Debug, Clone)]
pub struct NewProgram<'a> {
    /// The program.
    pub program: &'a Program,
    /// What its functions take and give, by name.
    pub interfaces: BTreeMap<String, &'a Interface>,
    /// The function that runs when none is named.
    pub default_function: String,
}

/// Where the weights of packages lie, below the model file.
const WEIGHTS: &str = "weights/weight.bin";

impl<'a> NewModel<'a> {
    /// The model as `package` has it; `None` if a member is not a program.
    pub fn of(package: &'a Package) -> Option<Self> {
        let stages = package.stages();
        let several = stages.len() > 1;
        let member = |stage: &'a crate::package::Stage| {
            let program = stage.program();
            let name = stage.default_function().to_owned();
            let interfaces = if several {
                BTreeMap::from([(name.clone(), stage.interface())])
            } else {
                let functions = package.functions().map(str::to_owned);
                functions.filter_map(|name| Some((name.clone(), package.interface(Some(&name)).ok()?))).collect()
            };
            let is_program = !program.functions.is_empty();
            is_program.then_some(NewProgram { program, interfaces, default_function: name })
        };
        let members = stages.iter().map(member).collect::<Option<_>>()?;
        let pipeline = if several { package.interface(None).ok() } else { None };
        Some(Self { metadata: package.metadata().clone(), members, pipeline })
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

    /// Writes an `.mlmodelc` folder, which must not exist: the program as MIL text, its weights, and the description. It is not
    /// what Apple's compiler makes: files that only Core ML reads are not in it.
    ///
    /// # Errors
    /// As [`NewModel::write_package`]; of a pipeline, whose compiled form is not known well enough.
    pub fn write_compiled(&self, path: &Path) -> io::Result<()> {
        let [member] = self.members.as_slice() else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "pipelines are not written as compiled models yet"));
        };
        fs::create_dir(path)?;
        let weights = path.join(WEIGHTS);
        fs::create_dir_all(weights.parent().unwrap_or(path))?;
        let (model, any) = self.encode(BufWriter::new(File::create(&weights)?), WEIGHTS)?;
        if !any {
            fs::remove_dir_all(path.join("weights"))?;
        }
        let description = model.description.unwrap_or_default();
        let Some(Kind::MlProgram(program)) = &model.kind else { return Ok(()) };
        let attributes = |name: &str| member.interfaces.get(name).map_or_else(String::new, |of| flexible(of));
        fs::write(path.join("model.mil"), mil::text(program, attributes))?;
        fs::write(path.join("coremldata.bin"), compiled_description(model.specification_version, &description))
    }

    /// The model file, and whether there are weights.
    fn encode(&self, weights: impl Write + Seek, file: &str) -> io::Result<(proto::Model, bool)> {
        let weights = weights::WeightFile::new(weights)?;
        let mut encoder = program::Encoder { weights, file: format!("@model_path/{file}") };
        let models = self.members.iter().map(|member| member.encode(&mut encoder, &self.metadata));
        let mut models = models.collect::<io::Result<Vec<_>>>()?;
        let model = match (self.pipeline, models.pop()) {
            (None, Some(only)) if models.is_empty() => only,
            (Some(interface), Some(last)) => {
                models.push(last);
                proto::Model {
                    specification_version: models.iter().map(|model| model.specification_version).max().unwrap_or(0),
                    description: Some(interface::description(interface, &self.metadata)),
                    kind: Some(Kind::Pipeline(proto::Pipeline { models })),
                }
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "a model has one program or is a pipeline")),
        };
        Ok((model, encoder.weights.finish()?))
    }
}

impl NewProgram<'_> {
    fn encode<W: Write + Seek>(
        &self,
        encoder: &mut program::Encoder<W>,
        metadata: &Metadata,
    ) -> io::Result<proto::Model> {
        let functions = self.program.functions.iter();
        let functions = functions.map(|(name, function)| Ok((name.clone(), encoder.function(function)?)));
        let functions = functions.collect::<io::Result<BTreeMap<_, _>>>()?;
        let newest = self.program.functions.values().map(|function| function.opset).max().unwrap_or(Opset::Ios15);
        let description = match (self.interfaces.len(), self.interfaces.values().next()) {
            (1, Some(only)) if self.program.functions.len() == 1 && self.default_function == "main" => {
                interface::description(only, metadata)
            }
            _ => proto::Description {
                functions: self.interfaces.iter().map(|(name, of)| interface::function(name, of)).collect(),
                default_function: self.default_function.clone(),
                metadata: Some(interface::metadata(metadata)),
                ..proto::Description::default()
            },
        };
        Ok(proto::Model {
            specification_version: newest.specification_version(),
            description: Some(description),
            kind: Some(Kind::MlProgram(proto::Program { version: 1, functions })),
        })
    }
}

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
fn flexible(interface: &Interface) -> String {
    use crate::interface::FeatureKind;

    let (mut defaults, mut ranges, mut enumerated) = (Vec::new(), Vec::new(), Vec::new());
    for feature in &interface.inputs {
        let FeatureKind::MultiArray(array) = &feature.kind else { continue };
        let name = mil::Quoted(&feature.name);
        match &array.constraint {
            ShapeConstraint::Fixed => continue,
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
        let ty = format!("tuple<string, dict<string, {value}>>");
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
        entries.push(entry("EnumeratedShapes", "dict<string, tensor<int32, [?]>>", &enumerated));
    }
    if entries.is_empty() {
        return String::new();
    }
    let (types, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    format!(" [FlexibleShapeInformation = tuple<{}>(({}))]", types.join(", "), values.join(", "))
}

/// The description as a compiled model has it: behind a head that says what type of model it is.
fn compiled_description(version: i32, description: &proto::Description) -> Vec<u8> {
    const ML_PROGRAM: u32 = 502;
    let description = description.encode_to_vec();
    let mut bytes = Vec::new();
    bytes.extend(ML_PROGRAM.to_le_bytes());
    bytes.extend(version.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(u64::try_from(description.len()).unwrap_or(0).to_le_bytes());
    bytes.extend(description);
    bytes
}
