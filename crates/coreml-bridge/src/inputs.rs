//! Checked inputs as the ABI's values: borrowed where type and layout allow, converted where they do not.

use std::borrow::Cow;
use std::ffi::{CString, c_char, c_void};
use std::ptr::null;

use coreml_core::{CheckedInputs, CheckedValue, Error, ErrorKind, Label, cast};
use coreml_model::{ArrayFeature, ColorLayout, DictionaryKey, Feature, FeatureKind, ImageFeature, Interface};
use coreml_tensor::{DType, DataView, Tensor, TensorView, f16};
use half::slice::HalfFloatSliceExt;

use crate::ffi::{
    CMLB_KIND_ARRAY, CMLB_KIND_DICTIONARY, CMLB_KIND_DOUBLE, CMLB_KIND_IMAGE, CMLB_KIND_INT64, CMLB_KIND_SEQUENCE,
    CMLB_KIND_STRING, CMLB_PIXELS_GRAY16F, CMLB_PIXELS_RGB8, cmlb_value,
};
use crate::types::{self, with_element};

/// The values of one prediction, with all that their pointers refer to.
#[derive(Debug, Default)]
pub(crate) struct Given<'a> {
    pub(crate) values: Vec<cmlb_value>,
    /// What the pointers point to, besides the caller's own memory. Moving these moves no heap memory.
    shapes: Vec<Box<[i64]>>,
    tensors: Vec<Tensor>,
    bytes: Vec<Cow<'a, [u8]>>,
    halves: Vec<Vec<f16>>,
    texts: Vec<CString>,
    text_lists: Vec<Vec<*const c_char>>,
    numbers: Vec<Vec<i64>>,
    doubles: Vec<Vec<f64>>,
}

impl<'a> Given<'a> {
    /// The inputs in the interface's order; `names` are its input names.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for what Core ML has no form for.
    pub(crate) fn new(interface: &Interface, names: &[CString], inputs: &'a CheckedInputs<'_>) -> Result<Self, Error> {
        let mut given = Self { values: Vec::with_capacity(names.len()), ..Self::default() };
        for ((feature, name), (_, checked)) in interface.inputs.iter().zip(names).zip(inputs.iter()) {
            let unsupported = |message: String| Error::feature(ErrorKind::Unsupported, &feature.name, message);
            if let Some(value) = given.value(feature, checked).map_err(unsupported)? {
                given.values.push(cmlb_value { name: name.as_ptr(), ..value });
            }
        }
        Ok(given)
    }

    fn value(&mut self, feature: &Feature, checked: &'a CheckedValue<'_>) -> Result<Option<cmlb_value>, String> {
        let value = match (&feature.kind, checked) {
            (_, CheckedValue::Absent) => return Ok(None),
            (FeatureKind::MultiArray(array), CheckedValue::Tensor(view)) => self.array(array, *view)?,
            (FeatureKind::MultiArray(array), CheckedValue::Made(tensor)) => self.array(array, tensor.view())?,
            (FeatureKind::Image(image), CheckedValue::Image(picture)) => {
                let bytes = Cow::Borrowed(&*picture.pixels);
                self.pixels(image, [picture.height, picture.width, picture.channels], bytes)
            }
            (FeatureKind::Image(image), CheckedValue::Planes(planes)) => self.planes(image, *planes)?,
            (_, CheckedValue::String(text)) => {
                cmlb_value { kind: CMLB_KIND_STRING, text: self.text(text)?, ..cmlb_value::default() }
            }
            (_, &CheckedValue::Int64(int64_value)) => {
                cmlb_value { kind: CMLB_KIND_INT64, int64_value, ..cmlb_value::default() }
            }
            (_, &CheckedValue::Double(double_value)) => {
                cmlb_value { kind: CMLB_KIND_DOUBLE, double_value, ..cmlb_value::default() }
            }
            (FeatureKind::Dictionary(key), CheckedValue::Dictionary(entries)) => {
                let keyed = self.keys(*key, entries.iter().map(|(label, _)| label))?;
                self.doubles.push(entries.iter().map(|&(_, value)| value).collect());
                let values = self.doubles.last().map_or(null(), Vec::as_ptr);
                cmlb_value { kind: CMLB_KIND_DICTIONARY, values, ..keyed }
            }
            (FeatureKind::Sequence(key), CheckedValue::Sequence(labels)) => {
                cmlb_value { kind: CMLB_KIND_SEQUENCE, ..self.keys(*key, labels.iter())? }
            }
            _ => return Err("is of a type that Core ML has no form for".into()),
        };
        Ok(Some(value))
    }

    fn shape(&mut self, sizes: &[usize]) -> (*const i64, usize) {
        let sizes: Box<[i64]> = sizes.iter().map(|&size| size as i64).collect();
        let found = (sizes.as_ptr(), sizes.len());
        self.shapes.push(sizes);
        found
    }

    fn text(&mut self, text: &str) -> Result<*const c_char, String> {
        let owned = CString::new(text).map_err(|_| "holds a text with a NUL in it, which C cannot express")?;
        let pointer = owned.as_ptr();
        self.texts.push(owned);
        Ok(pointer)
    }

    /// A multi-array: the caller's own memory if it has the declared type, a converted copy otherwise.
    fn array(&mut self, feature: &ArrayFeature, view: TensorView<'_>) -> Result<cmlb_value, String> {
        let raw = types::raw_type(feature.dtype);
        let raw = raw.ok_or_else(|| format!("Core ML has no multi-arrays of {}", feature.dtype))?;
        let (data, byte_count) = match view.data() {
            data if data.dtype() == feature.dtype => memory(data),
            DataView::Float32(values) if feature.dtype == DType::Float16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                let found = memory(DataView::Float16(&halves));
                self.halves.push(halves);
                found
            }
            _ => {
                let converted = cast(view, feature.dtype);
                let converted = converted.ok_or_else(|| format!("no {} can be made of it", feature.dtype))?;
                let found = memory(converted.view().data());
                self.tensors.push(converted);
                found
            }
        };
        if byte_count == 0 {
            return Err("has no elements; Core ML takes no empty multi-arrays".into());
        }
        let (shape, rank) = self.shape(&view.shape());
        Ok(cmlb_value { kind: CMLB_KIND_ARRAY, r#type: raw, data, byte_count, shape, rank, ..cmlb_value::default() })
    }

    /// An image of bytes, channels innermost.
    fn pixels(&mut self, feature: &ImageFeature, size: [usize; 3], bytes: Cow<'a, [u8]>) -> cmlb_value {
        let layout = types::pixels(feature.color);
        if layout == CMLB_PIXELS_GRAY16F {
            return self.gray16f(size, bytes.iter().map(|&byte| f16::from_f32(f32::from(byte))).collect());
        }
        let (data, byte_count) = (bytes.as_ptr().cast_mut().cast(), bytes.len());
        self.bytes.push(bytes);
        let (shape, rank) = self.shape(&size);
        cmlb_value { kind: CMLB_KIND_IMAGE, r#type: layout, data, byte_count, shape, rank, ..cmlb_value::default() }
    }

    fn gray16f(&mut self, size: [usize; 3], halves: Vec<f16>) -> cmlb_value {
        let (data, byte_count) = memory(DataView::Float16(&halves));
        self.halves.push(halves);
        let (shape, rank) = self.shape(&size);
        let kind = CMLB_KIND_IMAGE;
        cmlb_value { kind, r#type: CMLB_PIXELS_GRAY16F, data, byte_count, shape, rank, ..cmlb_value::default() }
    }

    /// An image of floating-point planes 1 x C x H x W: Core ML has bytes for all but half-precision grey.
    fn planes(&mut self, feature: &ImageFeature, planes: TensorView<'_>) -> Result<cmlb_value, String> {
        let shape = planes.shape();
        let &[_, channels, height, width] = &*shape else { return Err(format!("has planes of shape {shape}")) };
        let values = planes.to_f64_vec();
        let layout = types::pixels(feature.color);
        if layout == CMLB_PIXELS_GRAY16F {
            return Ok(self.gray16f([height, width, 1], values.into_iter().map(f16::from_f64).collect()));
        }
        if !values.iter().all(|&value| (0.0..=255.0).contains(&value) && value.fract() == 0.0) {
            return Err("holds pixels between whole numbers of 0 to 255; Core ML's images are bytes".into());
        }
        let reversed = layout == CMLB_PIXELS_RGB8 && feature.color == ColorLayout::Bgr;
        let area = height * width;
        let plane = |channel: usize| if reversed { channels - 1 - channel } else { channel };
        let places = (0..area).flat_map(|i| (0..channels).map(move |channel| (i, channel)));
        let bytes: Vec<u8> = places.map(|(i, channel)| values[plane(channel) * area + i] as u8).collect();
        Ok(self.pixels(feature, [height, width, channels], Cow::Owned(bytes)))
    }

    /// The keys of a dictionary or the elements of a sequence.
    fn keys<'l>(
        &mut self,
        key: DictionaryKey,
        labels: impl ExactSizeIterator<Item = &'l Label>,
    ) -> Result<cmlb_value, String> {
        let count = labels.len();
        if key == DictionaryKey::String {
            let pointer = |label: &Label| match label {
                Label::String(text) => self.text(text),
                Label::Int64(number) => Err(format!("takes texts, not the number {number}")),
            };
            let texts = labels.map(pointer).collect::<Result<Vec<_>, _>>()?;
            let key_texts = texts.as_ptr();
            self.text_lists.push(texts);
            return Ok(cmlb_value { r#type: CMLB_KIND_STRING, key_texts, count, ..cmlb_value::default() });
        }
        let number = |label: &Label| match label {
            Label::Int64(number) => Ok(*number),
            Label::String(text) => Err(format!("takes numbers, not the text `{text}`")),
        };
        let numbers = labels.map(number).collect::<Result<Vec<_>, _>>()?;
        let key_numbers = numbers.as_ptr();
        self.numbers.push(numbers);
        Ok(cmlb_value { r#type: CMLB_KIND_INT64, key_numbers, count, ..cmlb_value::default() })
    }
}

/// The memory of elements; nothing for types that multi-arrays cannot have.
fn memory(data: DataView<'_>) -> (*mut c_void, usize) {
    let view = |bytes: usize, pointer: *const c_void| (pointer.cast_mut(), bytes);
    match data {
        DataView::Float64(values) => view(size_of_val(values), values.as_ptr().cast()),
        DataView::Float32(values) => view(size_of_val(values), values.as_ptr().cast()),
        DataView::Float16(values) => view(size_of_val(values), values.as_ptr().cast()),
        DataView::Int32(values) => view(size_of_val(values), values.as_ptr().cast()),
        DataView::Int8(values) => view(size_of_val(values), values.as_ptr().cast()),
        _ => (std::ptr::null_mut(), 0),
    }
}

/// Zeros for every input, for a first prediction; `None` where a feature has no obvious value.
pub(crate) fn zeros(interface: &Interface) -> Option<Vec<(String, Tensor)>> {
    let zero = |feature: &Feature| {
        let tensor = match &feature.kind {
            FeatureKind::MultiArray(array) => {
                let shape = coreml_tensor::Shape::try_new(&array.shape).ok()?;
                with_element!(array.dtype, T => Some(Tensor::zeros(<T as coreml_tensor::Element>::DTYPE, shape)), None)?
            }
            FeatureKind::Image(image) if image.color == ColorLayout::Rgb || image.color == ColorLayout::Bgr => {
                Tensor::zeros(DType::UInt8, [image.height, image.width, 3].into())
            }
            FeatureKind::Image(image) => Tensor::zeros(DType::UInt8, [image.height, image.width].into()),
            _ => return None,
        };
        Some((feature.name.clone(), tensor))
    };
    interface.inputs.iter().filter(|feature| !feature.optional).map(zero).collect()
}
