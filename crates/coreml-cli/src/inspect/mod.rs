//! `coreml inspect`: a model at each stage on its way to an executable plan.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use coreml_anywhere::model::{Content, Feature, Interface, Limits, Package, Program, Stage as Model};
use coreml_anywhere::{Backend, CpuBackend, CpuOptions, Error, Session, as_program, describe};
use serde_json::{Value as Json, json};

use self::graph::Target;
use self::weights::Weights;
use self::work::{Operations, Work};
use crate::failure::Failure;
use crate::figures::{count, size};
use crate::table;

mod graph;
mod weights;
mod work;

/// Show what a model is, takes and gives, or its program and plan
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The model: an .mlpackage or .mlmodelc folder, or an .mlmodel file
    model: PathBuf,
    /// The function to show, of a model that has several
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// What to show; without it the package, or with --graph the plan
    #[arg(long, value_enum)]
    stage: Option<Stage>,
    /// Draw the operations of the program or the plan into a file, as its name ends: .svg, .dot for Graphviz, or .html to move
    /// about, search and look at the details of each
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    graph: Option<PathBuf>,
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

impl Arguments {
    /// Which operations `--graph` draws.
    fn drawn(&self) -> Result<graph::Of, Failure> {
        match self.stage {
            None | Some(Stage::Plan) => Ok(graph::Of::Plan),
            Some(Stage::Program) => Ok(graph::Of::Program),
            Some(other) => {
                let message = format!("--graph draws the stages program and plan, not {}", other.name());
                Err(Failure::usage(message))
            }
        }
    }
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let graph = arguments
        .graph
        .as_deref()
        .map(|path| Ok::<_, Failure>((Target::new(path)?, arguments.drawn()?)))
        .transpose()?;
    let package = outline(&arguments.model)?;
    let interface = package.interface(arguments.function.as_deref()).map_err(Error::from)?.clone();
    if let Some((target, of)) = graph {
        let written = graph::draw(package, &interface, arguments.function.as_deref(), of, &target)?;
        writeln!(out, "{written}")?;
        return Ok(());
    }
    let stage = arguments.stage.unwrap_or(Stage::Package);
    let text = match stage {
        Stage::Package => return Ok(whole(package, &interface, arguments, out)?),
        Stage::Program => programs(&package),
        Stage::Graph => plan(package, arguments.function.as_deref(), CpuOptions::reference())?,
        Stage::Plan => plan(package, arguments.function.as_deref(), CpuOptions::default())?,
    };
    if arguments.json {
        let report = json!({"schema": "coreml-anywhere.stage/1", "stage": stage.name(), "text": text});
        writeln!(out, "{report:#}")?;
    } else {
        write!(out, "{text}")?;
    }
    Ok(())
}

/// What the file says, what its weights take and what a prediction asks for.
fn whole(package: Package, interface: &Interface, arguments: &Arguments, out: &mut impl Write) -> std::io::Result<()> {
    let function = arguments.function.as_deref();
    let leaves: Vec<_> = package.model().leaves().into_iter().map(Leaf::new).collect();
    let (weights, operations) = (Weights::of(&leaves), Operations::of(&leaves));
    drop(leaves);
    if arguments.json {
        let mut report = summary(&package, interface, function);
        report["weights"] = weights.json();
        report["operations"] = operations.json();
        report["plan"] = Work::of(package, function).json();
        return writeln!(out, "{report:#}");
    }
    overview(&package, interface, out)?;
    weights.print(out)?;
    operations.print(out)?;
    Work::of(package, function).print(out)
}

/// A model that is no pipeline.
struct Leaf<'a> {
    stage: &'a Model,
    /// What its layers become, of a neural network.
    lowered: Option<Result<Program, Error>>,
}

impl<'a> Leaf<'a> {
    fn new(stage: &'a Model) -> Self {
        Self { stage, lowered: stage.network().map(|_| as_program(stage, false)) }
    }

    /// Its program, without functions if it has none.
    fn program(&self) -> Result<&Program, &Error> {
        self.lowered.as_ref().map_or_else(|| Ok(self.stage.program()), Result::as_ref)
    }
}

/// The package, as much of it as there is: without its weights a model can be looked at all the same.
pub(crate) fn outline(path: &Path) -> Result<Package, Failure> {
    let package = Package::outline(path, &Limits::default()).map_err(Error::from)?;
    if let Some(error) = package.missing_weights() {
        crate::console::note(format_args!("warning: shown without weights, which cannot be read: {error}"));
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
        ("size", file_size(package.size_bytes())),
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

fn file_size(bytes: u64) -> String {
    let whole = format!("{} bytes", count(bytes));
    if bytes < 1000 { whole } else { format!("{} ({whole})", size(bytes)) }
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
