//! `coreml inspect`: a model at each stage on its way to an executable plan.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use coreml_anywhere::model::{Content, Feature, Interface, Limits, Package, Stage as Model};
use coreml_anywhere::{Backend, CpuBackend, CpuOptions, Error, Session, describe};
use serde_json::{Value as Json, json};

use crate::failure::Failure;
use crate::table;
use crate::tame::Tame;

/// Show what a model is, takes and gives, or its program and plan
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The model: an .mlpackage or .mlmodelc folder, or an .mlmodel file
    model: PathBuf,
    /// The function to show, of a model that has several
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// What to show
    #[arg(long, value_enum, default_value_t = Stage::Package)]
    stage: Stage,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// What the file says about itself: features, functions, author
    Package,
    /// The program as it is in the file
    Program,
    /// The CPU engine's operations before any optimisation
    Graph,
    /// The CPU engine's optimised plan
    Plan,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Program => "program",
            Self::Graph => "graph",
            Self::Plan => "plan",
        }
    }
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let package = outline(&arguments.model)?;
    let interface = package.interface(arguments.function.as_deref()).map_err(Error::from)?.clone();
    let text = match arguments.stage {
        Stage::Package if arguments.json => {
            writeln!(out, "{:#}", summary(&package, &interface, arguments.function.as_deref()))?;
            return Ok(());
        }
        Stage::Package => return Ok(overview(&package, &interface, out)?),
        Stage::Program => programs(&package),
        Stage::Graph => plan(package, arguments.function.as_deref(), CpuOptions::reference())?,
        Stage::Plan => plan(package, arguments.function.as_deref(), CpuOptions::default())?,
    };
    if arguments.json {
        let report = json!({"schema": "coreml-anywhere.stage/1", "stage": arguments.stage.name(), "text": text});
        writeln!(out, "{report:#}")?;
    } else {
        write!(out, "{text}")?;
    }
    Ok(())
}

/// The package, as much of it as there is: without its weights a model can be looked at all the same.
pub(crate) fn outline(path: &Path) -> Result<Package, Failure> {
    let package = Package::outline(path, &Limits::default()).map_err(Error::from)?;
    if let Some(error) = package.missing_weights() {
        // Nobody is left to tell where standard error is closed.
        let _ = writeln!(Tame(std::io::stderr()), "warning: shown without weights, which cannot be read: {error}");
    }
    Ok(package)
}

/// The programs of the model and its members, in the order they run.
fn programs(package: &Package) -> String {
    let leaves = package.model().leaves();
    let programs: Vec<_> = leaves.iter().filter(|model| !model.program().functions.is_empty()).collect();
    if programs.is_empty() {
        return format!("a model of type `{}` has no program\n", package.model().kind());
    }
    programs.iter().map(|model| model.program().to_string()).collect()
}

fn plan(package: Package, function: Option<&str>, options: CpuOptions) -> Result<String, Failure> {
    let mut builder = Session::builder().backends([Arc::new(CpuBackend::new(options)) as Arc<dyn Backend>]);
    if let Some(function) = function {
        builder = builder.function(function);
    }
    Ok(builder.load(package)?.info().plan)
}

fn overview(package: &Package, interface: &Interface, out: &mut impl Write) -> std::io::Result<()> {
    let metadata = package.metadata();
    let mut facts = vec![
        ("size", format!("{} bytes", package.size_bytes())),
        ("specification", format!("version {}", package.specification_version())),
        ("type", package.model().kind().to_owned()),
    ];
    let said = [
        ("description", &metadata.short_description),
        ("author", &metadata.author),
        ("license", &metadata.license),
        ("version", &metadata.version),
    ];
    facts.extend(said.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, text.clone())));
    for (name, function) in &package.program().functions {
        let default = if name == package.default_function() { ", the default" } else { "" };
        let operations = function.body.operations.len();
        facts.push(("function", format!("{name}: {operations} operations, {}{default}", function.opset)));
    }
    if !package.is_described() {
        let unknown =
            "by the program alone; which inputs are images it does not say, --image-input NAME=rgb of `run` does";
        facts.push(("interface", unknown.to_owned()));
    }
    let rows: Vec<_> = facts.into_iter().map(|(name, text)| vec![name.into(), text]).collect();
    table::print(out, &rows)?;
    if let Content::Pipeline(members) = package.model().content() {
        writeln!(out, "\nmembers")?;
        let mut rows = Vec::new();
        member_rows(members, "  ", &mut rows);
        table::print(out, &rows)?;
    }
    let sections = [("inputs", &interface.inputs), ("outputs", &interface.outputs), ("states", &interface.states)];
    for (title, features) in sections {
        if features.is_empty() {
            continue;
        }
        writeln!(out, "\n{title}")?;
        let row = |feature: &Feature| {
            let optional = if feature.optional { ", may be left out" } else { "" };
            vec![
                format!("  {}", feature.name),
                format!("{}{optional}", describe(&feature.kind)),
                feature.description.clone(),
            ]
        };
        table::print(out, &features.iter().map(row).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// A line for each member of a pipeline, those of a pipeline within it below it.
fn member_rows(members: &[Model], indent: &str, rows: &mut Vec<Vec<String>>) {
    let names =
        |features: &[Feature]| features.iter().map(|feature| feature.name.as_str()).collect::<Vec<_>>().join(", ");
    for (i, member) in members.iter().enumerate() {
        let Interface { inputs, outputs, .. } = member.interface();
        let passes = format!("{} -> {}", names(inputs), names(outputs));
        rows.push(vec![format!("{indent}{}", i + 1), member.kind().to_owned(), passes]);
        if let Content::Pipeline(inner) = member.content() {
            member_rows(inner, &format!("{indent}{}.", i + 1), rows);
        }
    }
}

/// A feature in fields, and its type in words.
fn feature_json(feature: &Feature) -> Json {
    let mut fields = json!(feature);
    fields["type"] = describe(&feature.kind).into();
    fields
}

/// A model's features and, of a pipeline, its members.
fn member_json(model: &Model) -> Json {
    let features = |features: &[Feature]| -> Vec<Json> { features.iter().map(feature_json).collect() };
    let Interface { inputs, outputs, .. } = model.interface();
    let members: Vec<_> = match model.content() {
        Content::Pipeline(members) => members.iter().map(member_json).collect(),
        _ => Vec::new(),
    };
    json!({"type": model.kind(), "inputs": features(inputs), "outputs": features(outputs), "members": members})
}

fn summary(package: &Package, interface: &Interface, function: Option<&str>) -> Json {
    let features = |features: &[Feature]| -> Vec<Json> { features.iter().map(feature_json).collect() };
    let functions: Vec<_> = package
        .program()
        .functions
        .iter()
        .map(|(name, function)| {
            json!({"name": name, "opset": function.opset.name(), "operations": function.body.operations.len()})
        })
        .collect();
    let metadata = package.metadata();
    json!({
        "schema": "coreml-anywhere.package/1",
        "path": package.path(),
        "size_bytes": package.size_bytes(),
        "fingerprint": package.fingerprint().to_string(),
        "specification_version": package.specification_version(),
        "type": package.model().kind(),
        "described": package.is_described(),
        "members": member_json(package.model())["members"],
        "function": function.unwrap_or(package.default_function()),
        "functions": functions,
        "inputs": features(&interface.inputs),
        "outputs": features(&interface.outputs),
        "states": features(&interface.states),
        "predicted_feature": interface.predicted_feature,
        "predicted_probabilities": interface.predicted_probabilities,
        "metadata": {
            "author": metadata.author, "description": metadata.short_description,
            "license": metadata.license, "version": metadata.version, "user_defined": metadata.user_defined,
        },
    })
}
