//! Inputs from Python objects.
//!
//! Arrays with the memory layout that the library needs are borrowed, and [`Held`] keeps the borrow alive while the
//! prediction computes; NumPy copies all others once.

use std::borrow::Cow;
use std::path::PathBuf;

use coreml_anywhere::model::{FeatureKind, Interface};
use coreml_anywhere::tensor::{DType, Shape, Tensor, TensorView, f16};
use coreml_anywhere::{Image, Inputs, Label, cast};
use numpy::{PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::error::{exception, wrong};

/// A value of one feature, with what it borrows from Python.
pub(crate) enum Held<'py> {
    Array(Array<'py>),
    Converted(Tensor),
    Picture(Picture<'py>),
    File(Image<'static>),
    String(String),
    Int64(i64),
    Double(f64),
    Dictionary(Vec<(Label, f64)>),
    Sequence(Vec<Label>),
}

/// 8-bit pixels of a PIL image.
pub(crate) struct Picture<'py> {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Bound<'py, PyBytes>,
}

/// The element types, once for all places that go through them. They are tried in this order: the usual ones come first.
macro_rules! for_elements {
    ($each:ident) => {
        $each! {
            Float32: f32, UInt8: u8, Int32: i32, Float16: f16, Float64: f64, Int64: i64, Bool: bool, Int8: i8, Int16: i16,
            UInt16: u16, UInt32: u32, UInt64: u64
        }
    };
}

macro_rules! define_array {
    ($($name:ident: $ty:ty),*) => {
        /// A NumPy array in row-major order, of an element type of the library's.
        pub(crate) enum Array<'py> {
            $($name(PyReadonlyArrayDyn<'py, $ty>)),*
        }

        impl<'py> Array<'py> {
            /// The array, if it has such elements in such order.
            fn of(array: &Bound<'py, PyUntypedArray>) -> Option<Self> {
                $(if let Ok(array) = array.cast::<PyArrayDyn<$ty>>() {
                    return array.is_c_contiguous().then(|| array.try_readonly().ok().map(Self::$name)).flatten();
                })*
                None
            }

            fn dims(&self) -> &[usize] {
                match self { $(Self::$name(array) => array.shape()),* }
            }

            /// Its elements where they lie.
            pub(crate) fn view(&self, py: Python<'_>) -> PyResult<TensorView<'_>> {
                let invalid = |message: String| {
                    exception(py, &coreml_anywhere::Error::new(coreml_anywhere::ErrorKind::InvalidInput, message))
                };
                let shape = Shape::try_new(self.dims()).map_err(|error| invalid(error.to_string()))?;
                match self {
                    $(Self::$name(array) => {
                        TensorView::new(shape, array.as_slice()?).map_err(|error| invalid(error.to_string()))
                    })*
                }
            }
        }
    };
}
for_elements!(define_array);

/// The values of `given`, converted as their features want them; see [`Session::predict`](crate::session::Session) for
/// `convert`.
pub(crate) fn hold<'py>(
    interface: &Interface,
    given: &Bound<'py, PyDict>,
    convert: bool,
) -> PyResult<Vec<(String, Held<'py>)>> {
    let py = given.py();
    let entry = |(name, value): (Bound<'py, PyAny>, Bound<'py, PyAny>)| {
        let name: String = name.extract().map_err(|_| wrong(py, &name.to_string(), "the name is not a string"))?;
        let kind = interface.input(&name).map(|feature| &feature.kind);
        let mut held = value_of(&name, kind, &value)?;
        if let (true, Some(FeatureKind::MultiArray(array)), Held::Array(given)) = (convert, kind, &held) {
            let view = given.view(py)?;
            if let Some(tensor) = truncated(view, array.dtype) {
                held = Held::Converted(tensor);
            }
        }
        Ok((name, held))
    };
    given.iter().map(entry).collect()
}

/// The elements as `dtype` if they are of another sort, fractions cut off.
fn truncated(view: TensorView<'_>, dtype: DType) -> Option<Tensor> {
    if view.dtype().is_float() == dtype.is_float() && view.dtype().size() <= dtype.size() {
        return None;
    }
    if !view.dtype().is_float() || dtype.is_float() {
        return cast(view, if dtype == DType::Float16 { DType::Float32 } else { dtype });
    }
    let mut whole = view.to_f64_vec();
    whole.iter_mut().for_each(|value| *value = value.trunc());
    cast(Tensor::new(view.shape(), whole).ok()?.view(), dtype)
}

/// Lends the values to a prediction.
pub(crate) fn inputs<'a>(py: Python<'_>, held: &'a [(String, Held<'_>)]) -> PyResult<Inputs<'a>> {
    let mut inputs = Inputs::new();
    for (name, value) in held {
        inputs = match value {
            Held::Array(array) => inputs.tensor(name, array.view(py)?),
            Held::Converted(tensor) => inputs.tensor(name, tensor),
            Held::File(image) => inputs.image(name, image),
            Held::Picture(picture) => {
                let (width, height, pixels) = (picture.width, picture.height, Cow::Borrowed(picture.pixels.as_bytes()));
                let image = match picture.channels {
                    1 => Image::gray8(width, height, pixels),
                    3 => Image::rgb8(width, height, pixels),
                    _ => Image::rgba8(width, height, pixels),
                };
                inputs.image(name, image.map_err(|error| exception(py, &error))?)
            }
            Held::String(text) => inputs.string(name, text),
            Held::Int64(number) => inputs.int64(name, *number),
            Held::Double(number) => inputs.double(name, *number),
            Held::Dictionary(entries) => inputs.dictionary(name, entries.iter().cloned()),
            Held::Sequence(labels) => inputs.sequence(name, labels.iter().cloned()),
        };
    }
    Ok(inputs)
}

fn value_of<'py>(name: &str, kind: Option<&FeatureKind>, value: &Bound<'py, PyAny>) -> PyResult<Held<'py>> {
    let py = value.py();
    let is_image = matches!(kind, Some(FeatureKind::Image(_)));
    let is_array = matches!(kind, Some(FeatureKind::MultiArray(_)));
    if let Ok(array) = value.cast::<PyUntypedArray>() {
        return untyped(name, array).map(Held::Array);
    }
    if let Ok(text) = value.cast::<PyString>() {
        let text = text.to_cow()?.into_owned();
        return if is_image { open(py, name, text.into()) } else { Ok(Held::String(text)) };
    }
    if is_image && value.hasattr("__fspath__")? {
        return open(py, name, value.extract::<PathBuf>()?);
    }
    if value.is_instance_of::<PyInt>() && !is_array {
        return value.extract().map(Held::Int64).map_err(|_| wrong(py, name, "is an integer of more than 64 bits"));
    }
    if value.is_instance_of::<PyFloat>() && !is_array {
        return value.extract().map(Held::Double);
    }
    if let Ok(entries) = value.cast::<PyDict>() {
        let entry = |(key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>)| {
            let number = value.extract::<f64>().map_err(|_| {
                wrong(py, name, format!("is a dictionary with a value that is no number but a {}", type_of(&value)))
            })?;
            Ok((label(name, &key)?, number))
        };
        return entries.iter().map(entry).collect::<PyResult<_>>().map(Held::Dictionary);
    }
    if matches!(kind, Some(FeatureKind::Sequence(_))) {
        if let Ok(items) = value.cast::<PyList>() {
            return items.iter().map(|item| label(name, &item)).collect::<PyResult<_>>().map(Held::Sequence);
        }
        if let Ok(items) = value.cast::<PyTuple>() {
            return items.iter().map(|item| label(name, &item)).collect::<PyResult<_>>().map(Held::Sequence);
        }
    }
    if value.hasattr("mode")? && value.hasattr("tobytes")? && value.hasattr("size")? {
        return picture(name, value);
    }
    array(name, value).map(Held::Array)
}

fn open<'py>(py: Python<'py>, name: &str, path: PathBuf) -> PyResult<Held<'py>> {
    Image::open(path).map(Held::File).map_err(|error| wrong(py, name, error.message()))
}

fn label(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Label> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Label::String(text.to_cow()?.as_ref().into()));
    }
    let no_label =
        |_| wrong(value.py(), name, format!("has a label that is no string or integer but a {}", type_of(value)));
    value.extract().map(Label::Int64).map_err(no_label)
}

/// A PIL image: grey, RGB and RGBA as they are, floating-point pixels as an array, all others as RGB.
fn picture<'py>(name: &str, image: &Bound<'py, PyAny>) -> PyResult<Held<'py>> {
    let mode: String = image.getattr("mode")?.extract()?;
    let (image, channels) = match mode.as_str() {
        "L" => (image.clone(), 1),
        "RGB" => (image.clone(), 3),
        "RGBA" => (image.clone(), 4),
        "F" => return array(name, image).map(Held::Array),
        _ => (image.call_method1("convert", ("RGB",))?, 3),
    };
    let (width, height) = image.getattr("size")?.extract()?;
    let pixels = image.call_method0("tobytes")?.cast_into::<PyBytes>()?;
    Ok(Held::Picture(Picture { width, height, channels, pixels }))
}

/// Anything that NumPy makes an array of.
pub(crate) fn array<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    let py = value.py();
    let made = py.import("numpy")?.call_method1("asarray", (value,));
    let made = made.map_err(|error| wrong(py, name, format!("is a {}, not an array: {error}", type_of(value))))?;
    let array = made.cast_into::<PyUntypedArray>()?;
    untyped(name, &array).map_err(|error| {
        let none = array.dtype().to_string() == "object";
        if none { wrong(py, name, format!("is a {}, which is no value of a feature", type_of(value))) } else { error }
    })
}

/// The array in row-major order and the machine's byte order, copied if it was not.
fn untyped<'py>(name: &str, array: &Bound<'py, PyUntypedArray>) -> PyResult<Array<'py>> {
    if let Some(found) = Array::of(array) {
        return Ok(found);
    }
    let py = array.py();
    let order = PyDict::new(py);
    order.set_item("order", "C")?;
    order.set_item("copy", true)?;
    let native = array.dtype().call_method1("newbyteorder", ("=",))?;
    let copied = array.call_method("astype", (native,), Some(&order))?.cast_into::<PyUntypedArray>()?;
    Array::of(&copied)
        .ok_or_else(|| wrong(py, name, format!("is an array of {}, which no feature takes", array.dtype())))
}

fn type_of(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "value".to_owned(), |name| name.to_string())
}
