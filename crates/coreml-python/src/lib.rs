//! The native part of the Python package `coreml_anywhere`: sessions, states and the conversion of values.
//!
//! The public API is written in Python, in `python/coreml_anywhere`; this module connects it to the library.
#![forbid(unsafe_code)]

use pyo3::prelude::*;

mod error;
mod exit;
mod files;
mod interface;
mod outputs;
mod session;
mod signals;
mod structure;
mod values;

/// Sessions, states and conversions; use `coreml_anywhere` instead.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    exit::register(module)?;
    module.add_class::<session::Session>()?;
    module.add_class::<session::State>()?;
    module.add_function(wrap_pyfunction!(files::write_compiled, module)?)?;
    module.add_function(wrap_pyfunction!(structure::structure, module)?)
}
