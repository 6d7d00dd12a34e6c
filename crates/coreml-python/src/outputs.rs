//! Outputs as Python objects.

use coreml_anywhere::tensor::{DType, Element, Tensor, f16};
use coreml_anywhere::{Error, ErrorKind, Label, Outputs, Value};
use numpy::PyArray;
use numpy::ndarray::ArrayD;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PyString};

use crate::error::exception;

pub(crate) fn dict<'py>(py: Python<'py>, outputs: Outputs) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    for (name, value) in outputs.into_entries() {
        all.set_item(name, object(py, value)?)?;
    }
    Ok(all)
}

fn object(py: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Value::Tensor(tensor) | Value::Image(tensor) => array(py, tensor)?,
        Value::String(string) => PyString::new(py, &string).into_any(),
        Value::Int64(value) => PyInt::new(py, value).into_any(),
        Value::Double(value) => PyFloat::new(py, value).into_any(),
        Value::Dictionary(entries) => {
            let all = PyDict::new(py);
            for (key, value) in entries {
                all.set_item(label(py, &key), value)?;
            }
            all.into_any()
        }
        Value::Sequence(labels) => PyList::new(py, labels.iter().map(|of| label(py, of)))?.into_any(),
        other => {
            let message = format!("this version has no Python object for a {}", other.describe());
            return Err(exception(py, &Error::new(ErrorKind::Unsupported, message)));
        }
    })
}

fn label<'py>(py: Python<'py>, label: &Label) -> Bound<'py, PyAny> {
    match label {
        Label::String(text) => PyString::new(py, text).into_any(),
        Label::Int64(number) => PyInt::new(py, *number).into_any(),
    }
}

/// The tensor as a NumPy array, which takes over its elements.
pub(crate) fn array(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyAny>> {
    fn of<T: Element + numpy::Element>(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyAny>> {
        let shape = tensor.shape();
        let values = tensor.into_vec::<T>().map_err(|tensor| unknown(py, tensor.dtype()))?;
        let array = ArrayD::from_shape_vec(&shape[..], values).map_err(|_| unknown(py, T::DTYPE))?;
        Ok(PyArray::from_owned_array(py, array).into_any())
    }
    match tensor.dtype() {
        DType::Bool => of::<bool>(py, tensor),
        DType::Int8 => of::<i8>(py, tensor),
        DType::UInt8 => of::<u8>(py, tensor),
        DType::Int16 => of::<i16>(py, tensor),
        DType::UInt16 => of::<u16>(py, tensor),
        DType::Int32 => of::<i32>(py, tensor),
        DType::UInt32 => of::<u32>(py, tensor),
        DType::Int64 => of::<i64>(py, tensor),
        DType::UInt64 => of::<u64>(py, tensor),
        DType::Float16 => of::<f16>(py, tensor),
        DType::Float32 => of::<f32>(py, tensor),
        DType::Float64 => of::<f64>(py, tensor),
        other => Err(unknown(py, other)),
    }
}

fn unknown(py: Python<'_>, dtype: DType) -> PyErr {
    exception(py, &Error::new(ErrorKind::Bug, format!("there are no NumPy arrays of {dtype}")))
}
