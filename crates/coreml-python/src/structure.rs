//! What a model is made of, for compute plans.

use std::path::PathBuf;

use coreml_anywhere::Error;
use coreml_anywhere::model::{Argument, Block, Content, Function, Limits, Package, Stage};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::error::exception;

/// The model at `path` as nested dictionaries: functions with their blocks and operations, or what it is instead.
#[pyfunction]
pub(crate) fn structure(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let package = py.detach(|| Package::open_with(path, &Limits::default()));
    let package = package.map_err(|error| exception(py, &Error::from(error)))?;
    stage(py, package.model())
}

fn stage<'py>(py: Python<'py>, stage_of: &Stage) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    match stage_of.content() {
        Content::Program(program) => {
            found.set_item("kind", "program")?;
            let functions = PyDict::new(py);
            for (name, of) in &program.functions {
                functions.set_item(name, function(py, of)?)?;
            }
            found.set_item("functions", functions)?;
        }
        Content::NeuralNetwork(network) => {
            found.set_item("kind", "neural_network")?;
            let layers = PyList::empty(py);
            let all = network.layers().map_err(|error| exception(py, &Error::from(error)))?;
            for layer in all {
                layers.append((layer.name, layer.tag, layer.inputs, layer.outputs))?;
            }
            found.set_item("layers", layers)?;
        }
        Content::Pipeline(members) => {
            found.set_item("kind", "pipeline")?;
            let models = PyList::empty(py);
            for member in members {
                models.append(stage(py, member)?)?;
            }
            found.set_item("models", models)?;
        }
        _ => found.set_item("kind", "other")?,
    }
    Ok(found)
}

fn function<'py>(py: Python<'py>, function: &Function) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    let inputs: Vec<&str> = function.inputs.iter().map(|&id| function.value(id).name.as_str()).collect();
    found.set_item("inputs", inputs)?;
    found.set_item("block", block(py, function, &function.body)?)?;
    Ok(found)
}

fn block<'py>(py: Python<'py>, function: &Function, of: &Block) -> PyResult<Bound<'py, PyDict>> {
    let names = |ids: &[_]| -> Vec<String> { ids.iter().map(|&id| function.value(id).name.to_string()).collect() };
    let operations = PyList::empty(py);
    for operation in &of.operations {
        let inputs = PyDict::new(py);
        for (name, arguments) in &operation.inputs {
            let names: Vec<Option<&str>> = arguments
                .iter()
                .map(|argument| match argument {
                    Argument::Value(id) => Some(function.value(*id).name.as_str()),
                    Argument::Constant(_) => None,
                })
                .collect();
            inputs.set_item(name.as_str(), names)?;
        }
        let blocks = PyList::empty(py);
        for inner in &operation.blocks {
            blocks.append(block(py, function, inner)?)?;
        }
        operations.append((operation.kind.as_str(), inputs, names(&operation.outputs), blocks))?;
    }
    let found = PyDict::new(py);
    found.set_item("inputs", names(&of.inputs))?;
    found.set_item("outputs", names(&of.outputs))?;
    found.set_item("operations", operations)?;
    Ok(found)
}
