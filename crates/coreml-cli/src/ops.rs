//! `coreml ops`: which operations the CPU engine has, and which a model needs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use coreml_anywhere::model::{Block, Opset, Package};
use coreml_anywhere::{operations, supports};
use serde_json::json;

use crate::failure::Failure;
use crate::inspect::outline;
use crate::table;

/// List the operations of the CPU engine, or those a model needs
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The model whose operations to list; without one, all operations of the engine
    model: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    match &arguments.model {
        Some(path) => {
            let package = outline(path)?;
            match without_operations(&package) {
                Some(note) if arguments.json => {
                    let schema = "coreml-anywhere.model-ops/1";
                    let report = json!({"schema": schema, "missing": 0, "operations": [], "note": note});
                    writeln!(out, "{report:#}")?;
                }
                Some(note) => writeln!(out, "{note}")?,
                None => needed(&package, arguments.json, out)?,
            }
        }
        None => all(arguments.json, out)?,
    }
    Ok(())
}

/// Why there are no operations to tell of; `None` if there are some.
fn without_operations(package: &Package) -> Option<String> {
    let leaves = package.model().leaves();
    if leaves.iter().any(|model| model.network().is_some()) {
        let shown = "its layers become operations when it is loaded; `coreml inspect --stage plan` shows them";
        return Some(format!("a neural network: {shown}"));
    }
    let all_classic = leaves.iter().all(|model| model.classic().is_some());
    all_classic.then(|| format!("a model of type `{}`, which needs no operations", package.model().kind()))
}

fn all(as_json: bool, out: &mut impl Write) -> io::Result<()> {
    let operations = operations();
    if as_json {
        let one = |operation: &coreml_anywhere::OperationInfo| {
            let parameter = |parameter: &coreml_anywhere::ParameterInfo| json!({"name": parameter.name, "required": parameter.required, "constant": parameter.constant});
            let parameters: Vec<_> = operation.parameters.iter().map(parameter).collect();
            json!({
                "name": operation.name, "family": operation.family,
                "since": operation.since.name(), "parameters": parameters,
            })
        };
        let operations: Vec<_> = operations.iter().map(one).collect();
        return writeln!(out, "{:#}", json!({"schema": "coreml-anywhere.ops/1", "operations": operations}));
    }
    let mut rows = vec![["operation", "since", "family", "parameters"].map(String::from).to_vec()];
    for operation in &operations {
        let parameter = |parameter: &coreml_anywhere::ParameterInfo| {
            if parameter.required { parameter.name.to_owned() } else { format!("[{}]", parameter.name) }
        };
        let parameters: Vec<_> = operation.parameters.iter().map(parameter).collect();
        let cells = [operation.name, operation.since.name(), operation.family, &parameters.join(" ")];
        rows.push(cells.map(String::from).to_vec());
    }
    table::print(out, &rows)?;
    writeln!(out, "\n{} operations; parameters in brackets may be left out", operations.len())
}

fn needed(package: &Package, as_json: bool, out: &mut impl Write) -> io::Result<()> {
    let mut counts: BTreeMap<(Opset, &str), usize> = BTreeMap::new();
    for function in package.model().leaves().into_iter().flat_map(|model| model.program().functions.values()) {
        count(&function.body, function.opset, &mut counts);
    }
    let missing = counts.keys().filter(|(opset, name)| !supports(name, *opset)).count();
    if as_json {
        let one = |(&(opset, name), &count): (&(Opset, &str), &usize)| json!({"name": name, "opset": opset.name(), "count": count, "supported": supports(name, opset)});
        let operations: Vec<_> = counts.iter().map(one).collect();
        let report = json!({"schema": "coreml-anywhere.model-ops/1", "missing": missing, "operations": operations});
        return writeln!(out, "{report:#}");
    }
    let mut rows = vec![["operation", "opset", "count", "CPU engine"].map(String::from).to_vec()];
    for (&(opset, name), count) in &counts {
        let supported = if supports(name, opset) { "yes" } else { "MISSING" };
        rows.push(vec![name.into(), opset.name().into(), count.to_string(), supported.into()]);
    }
    table::print(out, &rows)?;
    match missing {
        0 => writeln!(out, "\nthe CPU engine has all {} operations", counts.len()),
        missing => writeln!(out, "\nthe CPU engine lacks {missing} of {} operations", counts.len()),
    }
}

fn count<'a>(block: &'a Block, opset: Opset, counts: &mut BTreeMap<(Opset, &'a str), usize>) {
    for operation in &block.operations {
        *counts.entry((opset, &operation.kind)).or_default() += 1;
        operation.blocks.iter().for_each(|block| count(block, opset, counts));
    }
}
