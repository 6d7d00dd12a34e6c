//! The library's errors as Python exceptions.

use coreml_anywhere::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// `coreml_anywhere.errors.KINDS`: exception classes by [`ErrorKind::name`].
static KINDS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// The exception for `error`, with what it is about as attributes.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    instance(py, error).map_or_else(|failed| failed, PyErr::from_value)
}

/// As [`exception`], not raised: it is shown in the attempts of a prediction.
pub(crate) fn instance<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let kinds = KINDS.get_or_try_init(py, || {
        let kinds = py.import("coreml_anywhere.errors")?.getattr("KINDS")?;
        Ok::<_, PyErr>(kinds.cast_into::<PyDict>()?.unbind())
    })?;
    let class = kinds.bind(py).as_any().get_item(error.kind().name())?;
    let about = PyDict::new(py);
    about.set_item("feature", error.about_feature())?;
    about.set_item("operation", error.about_operation())?;
    about.set_item("retry_after", error.retry_after().map(|wait| wait.as_secs_f64()))?;
    class.call((error.to_string(),), Some(&about))
}

/// What the caller did wrong with the feature `name`.
pub(crate) fn wrong(py: Python<'_>, name: &str, message: impl Into<String>) -> PyErr {
    exception(py, &Error::feature(ErrorKind::InvalidInput, name, message))
}
