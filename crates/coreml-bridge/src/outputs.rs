//! A prediction's results as our outputs: multi-arrays of known shape in memory allocated beforehand, the rest from the
//! bridge's values. Everything is checked against the interface before memory is read; what Core ML says is not enough.

use std::ffi::{CStr, CString, c_void};

use coreml_core::{Error, ErrorKind, Label, Outputs, Value, cast};
use coreml_model::{ArrayFeature, Feature, FeatureKind, Interface, ShapeConstraint};
use coreml_tensor::{DType, Data, Element, Shape, Tensor, f16};
use half::slice::HalfFloatSliceExt;

use crate::failure::text;
use crate::ffi::{
    CMLB_KIND_ARRAY, CMLB_KIND_DICTIONARY, CMLB_KIND_DOUBLE, CMLB_KIND_IMAGE, CMLB_KIND_INT64, CMLB_KIND_NONE,
    CMLB_KIND_SEQUENCE, CMLB_KIND_STRING, CMLB_OUTPUT_ELSEWHERE, CMLB_PIXELS_GRAY8, CMLB_PIXELS_GRAY16F,
    CMLB_PIXELS_RGB8, cmlb_output, cmlb_value,
};
use crate::handles::{PredictionHandle, slice};
use crate::types::{self, with_element};

/// What is known of the outputs before any prediction.
#[derive(Debug)]
pub(crate) struct Wanted {
    outputs: Vec<WantedOutput>,
    /// A classifier's classes, in the model's order.
    labels: Vec<Label>,
}

#[derive(Debug)]
struct WantedOutput {
    feature: Feature,
    name: CString,
    /// The dense form, for multi-arrays whose shape is known.
    dense: Option<Dense>,
}

#[derive(Debug)]
struct Dense {
    raw_type: i32,
    shape: Shape,
    sizes: Vec<i64>,
}

/// Memory for the outputs of one prediction.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) raw: Vec<cmlb_output>,
    /// One for each of `raw`.
    data: Vec<Data>,
}

impl Wanted {
    pub(crate) fn new(interface: &Interface, labels: Vec<Label>) -> Result<Self, Error> {
        let output = |feature: &Feature| {
            Ok(WantedOutput { name: c_name(&feature.name)?, dense: dense(&feature.kind), feature: feature.clone() })
        };
        Ok(Self { outputs: interface.outputs.iter().map(output).collect::<Result<_, Error>>()?, labels })
    }

    /// Fresh memory for the dense outputs.
    pub(crate) fn places(&self) -> Places {
        let mut places = Places { raw: Vec::with_capacity(self.outputs.len()), data: Vec::new() };
        for output in &self.outputs {
            let Some(dense) = &output.dense else { continue };
            let Some((mut data, byte_count)) = zeros(dense) else { continue };
            places.raw.push(cmlb_output {
                name: output.name.as_ptr(),
                data: start(&mut data),
                byte_count,
                shape: dense.sizes.as_ptr(),
                rank: dense.sizes.len(),
                r#type: dense.raw_type,
                came: CMLB_OUTPUT_ELSEWHERE,
            });
            // Moving the vector leaves its elements where they are.
            places.data.push(data);
        }
        places
    }

    /// No memory: every output comes as a value.
    pub(crate) fn no_places(&self) -> Places {
        Places { raw: Vec::new(), data: Vec::new() }
    }

    /// The outputs, from the memory they were written to or from the bridge's values.
    ///
    /// # Errors
    /// [`ErrorKind::Fault`] when one is missing, of another type than declared, or of a shape that is not admitted.
    pub(crate) fn collect(&self, places: Places, rest: Option<&PredictionHandle>) -> Result<Outputs, Error> {
        let rest = rest.map_or(&[][..], PredictionHandle::values);
        let mut written = places.raw.iter().zip(places.data);
        let entry = |output: &WantedOutput| {
            let feature = &output.feature;
            let fault = |message: String| Error::feature(ErrorKind::Fault, &feature.name, message);
            // Places were made for the dense outputs, in this order; a batch has none.
            if let Some(dense) = &output.dense
                && let Some((raw, data)) = written.next()
                && raw.came != CMLB_OUTPUT_ELSEWHERE
            {
                let tensor = Tensor::from_data(dense.shape, data).map_err(|error| fault(error.to_string()))?;
                return Ok((feature.name.clone(), Value::Tensor(declared(tensor))));
            }
            // SAFETY: the values live as long as their prediction; names end in NUL.
            let named = |value: &&cmlb_value| unsafe { CStr::from_ptr(value.name) } == output.name.as_c_str();
            let value = rest.iter().find(named);
            let value = value.ok_or_else(|| fault("Core ML's answer does not have it".into()))?;
            // SAFETY: by the header, values of a prediction are complete and live as long as it.
            let value = unsafe { self.value(feature, value) }.map_err(fault)?;
            Ok((feature.name.clone(), value))
        };
        Ok(Outputs::new(self.outputs.iter().map(entry).collect::<Result<_, Error>>()?))
    }

    /// # Safety
    /// The value is as the header says, and lives for the call.
    unsafe fn value(&self, feature: &Feature, value: &cmlb_value) -> Result<Value, String> {
        // SAFETY: by this function's own contract, in all arms.
        unsafe {
            match (&feature.kind, value.kind) {
                (FeatureKind::MultiArray(array), CMLB_KIND_ARRAY) => tensor(array, value).map(Value::Tensor),
                (FeatureKind::Image(image), CMLB_KIND_IMAGE) => picture(types::pixels(image.color), value),
                (FeatureKind::Int64, CMLB_KIND_INT64) => Ok(Value::Int64(value.int64_value)),
                (FeatureKind::Double, CMLB_KIND_DOUBLE) => Ok(Value::Double(value.double_value)),
                (FeatureKind::String, CMLB_KIND_STRING) => Ok(Value::String(text(value.text))),
                (FeatureKind::Dictionary(_), CMLB_KIND_DICTIONARY) => Ok(Value::Dictionary(self.dictionary(value))),
                (FeatureKind::Sequence(_), CMLB_KIND_SEQUENCE) => Ok(Value::Sequence(keys(value))),
                (kind, CMLB_KIND_NONE) => Err(format!("came without a value; it is {}", coreml_core::describe(kind))),
                (kind, found) => Err(format!("is {}, but came as {}", coreml_core::describe(kind), kind_name(found))),
            }
        }
    }

    /// In the model's order of labels; what it does not name comes after, in the labels' own.
    ///
    /// # Safety
    /// The value is as the header says.
    unsafe fn dictionary(&self, value: &cmlb_value) -> Vec<(Label, f64)> {
        // SAFETY: by this function's own contract.
        let (keys, values) = unsafe { (keys(value), slice(value.values, value.count)) };
        let mut found: Vec<(Label, f64)> = keys.into_iter().zip(values.iter().copied()).collect();
        let positions: std::collections::HashMap<&Label, usize> =
            self.labels.iter().enumerate().map(|(position, label)| (label, position)).collect();
        found.sort_by_cached_key(|(label, _)| {
            let unnamed = match label {
                Label::String(text) => (0, text.to_string()),
                Label::Int64(number) => (*number, String::new()),
            };
            (positions.get(label).copied().unwrap_or(usize::MAX), unnamed)
        });
        found
    }
}

/// The keys of a dictionary, or the elements of a sequence, in the order in which they came.
///
/// # Safety
/// The value is as the header says.
unsafe fn keys(value: &cmlb_value) -> Vec<Label> {
    // SAFETY: by this function's own contract.
    let (texts, numbers) = unsafe { (slice(value.key_texts, value.count), slice(value.key_numbers, value.count)) };
    // SAFETY: keys are texts that end in NUL.
    let texts = texts.iter().map(|&key| Label::String(unsafe { text(key) }.into()));
    texts.chain(numbers.iter().map(|&key| Label::Int64(key))).collect()
}

pub(crate) fn c_name(name: &str) -> Result<CString, Error> {
    CString::new(name).map_err(|_| Error::feature(ErrorKind::Unsupported, name, "has a NUL in its name"))
}

fn kind_name(kind: i32) -> &'static str {
    match kind {
        CMLB_KIND_INT64 => "an integer",
        CMLB_KIND_DOUBLE => "a double",
        CMLB_KIND_STRING => "a string",
        CMLB_KIND_IMAGE => "an image",
        CMLB_KIND_ARRAY => "a multi-array",
        CMLB_KIND_DICTIONARY => "a dictionary",
        CMLB_KIND_SEQUENCE => "a sequence",
        _ => "something unknown",
    }
}

fn dense(kind: &FeatureKind) -> Option<Dense> {
    let FeatureKind::MultiArray(array) = kind else { return None };
    if array.shape.is_empty() || array.shape.contains(&0) || array.constraint != ShapeConstraint::Fixed {
        return None;
    }
    let shape = Shape::try_new(&array.shape).ok()?;
    let sizes = array.shape.iter().map(|&size| size as i64).collect();
    Some(Dense { raw_type: types::raw_type(array.dtype)?, shape, sizes })
}

fn zeros(dense: &Dense) -> Option<(Data, usize)> {
    let count = dense.shape.count();
    let dtype = types::dtype(dense.raw_type)?;
    let data = with_element!(dtype, T => T::wrap(vec![T::default(); count]), return None);
    Some((data, count * dtype.size()))
}

/// Where the elements lie.
fn start(data: &mut Data) -> *mut c_void {
    match data {
        Data::Float64(values) => values.as_mut_ptr().cast(),
        Data::Float32(values) => values.as_mut_ptr().cast(),
        Data::Float16(values) => values.as_mut_ptr().cast(),
        Data::Int32(values) => values.as_mut_ptr().cast(),
        Data::Int8(values) => values.as_mut_ptr().cast(),
        _ => std::ptr::null_mut(),
    }
}

/// A multi-array as this library gives it: half precision comes as `float32`.
fn declared(tensor: Tensor) -> Tensor {
    let shape = tensor.shape();
    match tensor.into_vec::<f16>() {
        Ok(halves) => {
            let mut floats = vec![0f32; halves.len()];
            halves.convert_to_f32_slice(&mut floats);
            Tensor::new(shape, floats).unwrap_or_else(|_| Tensor::zeros(DType::Float32, shape))
        }
        Err(tensor) => tensor,
    }
}

/// # Safety
/// The value is a multi-array as the header says.
unsafe fn tensor(feature: &ArrayFeature, value: &cmlb_value) -> Result<Tensor, String> {
    // SAFETY: by this function's own contract.
    let sizes = unsafe { slice(value.shape, value.rank) };
    let sizes: Option<Vec<usize>> = sizes.iter().map(|&size| usize::try_from(size).ok()).collect();
    let sizes = sizes.ok_or("came with a negative size")?;
    if !admitted(feature, &sizes) {
        let wanted = coreml_core::describe(&FeatureKind::MultiArray(feature.clone()));
        return Err(format!("is {wanted}, but came in the shape {sizes:?}"));
    }
    let shape = Shape::try_new(&sizes).map_err(|error| error.to_string())?;
    let dtype = types::dtype(value.r#type).ok_or_else(|| format!("came in the unknown type {:#x}", value.r#type))?;
    if value.byte_count != shape.count() * dtype.size() || !value.strides.is_null() {
        return Err(format!("came as {} bytes for the shape {shape}", value.byte_count));
    }
    let count = shape.count();
    // SAFETY: by the header, that many elements, dense and aligned.
    let data = with_element!(dtype, T => T::wrap(unsafe { slice(value.data.cast::<T>(), count) }.to_vec()), {
        return Err(format!("came as {dtype}"));
    });
    let tensor = declared(Tensor::from_data(shape, data).map_err(|error| error.to_string())?);
    let wanted = if feature.dtype == DType::Float16 { DType::Float32 } else { feature.dtype };
    if tensor.dtype() == wanted {
        return Ok(tensor);
    }
    cast(tensor.view(), wanted).ok_or_else(|| format!("came as {dtype}, which is no {wanted}"))
}

/// Whether an output may have these sizes. Outputs of flexible models are declared without any.
fn admitted(feature: &ArrayFeature, sizes: &[usize]) -> bool {
    match &feature.constraint {
        ShapeConstraint::Enumerated(shapes) => shapes.iter().any(|shape| shape == sizes) || feature.shape == sizes,
        ShapeConstraint::Range(ranges) => {
            let fits = |(range, &size): (&coreml_model::SizeRange, &usize)| {
                size >= range.min && range.max.is_none_or(|max| size <= max)
            };
            ranges.len() == sizes.len() && ranges.iter().zip(sizes).all(fits)
        }
        _ => feature.shape.is_empty() || feature.shape == sizes,
    }
}

/// # Safety
/// The value is an image as the header says.
unsafe fn picture(expected: i32, value: &cmlb_value) -> Result<Value, String> {
    // SAFETY: by this function's own contract.
    let sizes = unsafe { slice(value.shape, value.rank) };
    let &[height, width, channels] = sizes else { return Err("came as an image without a size".into()) };
    if value.r#type != expected {
        return Err(format!("came with pixels of kind {}, not {expected}", value.r#type));
    }
    let size = |size: i64| usize::try_from(size).map_err(|_| "came as an image of negative size");
    let (height, width, channels) = (size(height)?, size(width)?, size(channels)?);
    let (layout, bytes) = match (expected, channels) {
        (CMLB_PIXELS_RGB8, 3) => (Shape::from([height, width, 3]), 3),
        (CMLB_PIXELS_GRAY8, 1) => (Shape::from([height, width]), 1),
        (CMLB_PIXELS_GRAY16F, 1) => (Shape::from([height, width]), 2),
        _ => return Err(format!("came as an image with {channels} channels")),
    };
    if height.checked_mul(width).and_then(|area| area.checked_mul(bytes)) != Some(value.byte_count) {
        return Err(format!("came as {} bytes for an image of {height} x {width}", value.byte_count));
    }
    let image = if expected == CMLB_PIXELS_GRAY16F {
        // SAFETY: by the header, that many bytes, aligned for elements.
        let halves = unsafe { slice(value.data.cast::<f16>(), height * width) };
        Tensor::new(layout, halves.iter().map(|half| half.to_f32()).collect())
    } else {
        // SAFETY: by the header, that many bytes.
        Tensor::new(layout, unsafe { slice(value.data.cast::<u8>(), value.byte_count) }.to_vec())
    };
    image.map(Value::Image).map_err(|error| error.to_string())
}
