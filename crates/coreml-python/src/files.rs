//! Compiled models.

use std::path::{Path, PathBuf};

use coreml_anywhere::model::{Content, Limits, NewModel, Package};
use coreml_anywhere::{Error, ErrorKind, as_program};
use pyo3::prelude::*;

use crate::error::exception;

/// Writes the compiled form of the model at `source` as the new folder `target`. Whether it did: models that are not ML
/// Programs have no compiled form that this library writes.
#[pyfunction]
pub(crate) fn write_compiled(py: Python<'_>, source: PathBuf, target: PathBuf) -> PyResult<bool> {
    py.detach(|| write(&source, &target)).map_err(|error| exception(py, &error))
}

fn write(source: &Path, target: &Path) -> Result<bool, Error> {
    let package = Package::open_with(source, &Limits::default())?;
    if !matches!(package.model().content(), Content::Program(_)) {
        return Ok(false);
    }
    let model = NewModel::of(&package, |stage| as_program(stage, false))?;
    model
        .write_compiled(target)
        .map_err(|error| Error::new(ErrorKind::Unavailable, format!("cannot write {}: {error}", target.display())))?;
    Ok(true)
}
