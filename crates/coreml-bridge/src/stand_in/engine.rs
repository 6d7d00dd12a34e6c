//! An [`Engine`] behind the stand-in's C interface. Panics are caught here: none may cross into Swift.

use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr::{null, null_mut};

use coreml_core::{Inputs, Label, ModelState, Value, check};
use coreml_model::{
    ArrayFeature, ColorLayout, DictionaryKey, Feature, FeatureKind, ImageFeature, ShapeConstraint, SizeRange,
};
use coreml_tensor::{DataView, Element, Shape, Tensor, TensorView, f16};
use parking_lot::Mutex;

use super::ffi::{cmlb_standin_engine, cmlb_standin_install};
use super::{Engine, EngineModel};
use crate::failure::text;
use crate::ffi::{
    CMLB_KIND_ARRAY, CMLB_KIND_DICTIONARY, CMLB_KIND_DOUBLE, CMLB_KIND_IMAGE, CMLB_KIND_INT64, CMLB_KIND_NONE,
    CMLB_KIND_SEQUENCE, CMLB_KIND_STATE, CMLB_KIND_STRING, CMLB_PIXELS_GRAY8, CMLB_PIXELS_GRAY16F, CMLB_PIXELS_RGB8,
    CMLB_ROLE_INPUT, CMLB_ROLE_OUTPUT, CMLB_ROLE_STATE, CMLB_SHAPES_ENUMERATED, CMLB_SHAPES_FIXED, CMLB_SHAPES_RANGE,
    cmlb_description, cmlb_feature, cmlb_operation, cmlb_range, cmlb_value,
};
use crate::handles::slice;
use crate::types::{self, with_element};

/// Installs an engine for the rest of the process: models that it opened may outlive the next one.
pub(super) fn install(engine: Box<dyn Engine>) {
    /// Where leak finders see them.
    static KEPT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let context: *mut Box<dyn Engine> = Box::into_raw(Box::new(engine));
    KEPT.lock().push(context.expose_provenance());
    let table = cmlb_standin_engine {
        context: context.cast(),
        open,
        describe,
        operations,
        predict,
        make_state,
        close_state,
        close,
    };
    // SAFETY: the table is copied; the engine in it is never freed.
    unsafe { cmlb_standin_install(&table) }
}

/// Runs `body`, and writes the text of an error or panic to `message`.
///
/// # Safety
/// `message` has room for `capacity` characters.
unsafe fn guarded(message: *mut c_char, capacity: usize, body: impl FnOnce() -> Result<(), String>) -> i32 {
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| Err("the engine panicked".into()));
    let Err(told) = result else { return 0 };
    let told = CString::new(told.replace('\0', " ")).unwrap_or_default();
    let bytes = told.as_bytes();
    let count = bytes.len().min(capacity.saturating_sub(1));
    if capacity > 0 {
        // SAFETY: `count + 1` characters fit by this function's own contract.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), message, count);
            *message.add(count) = 0;
        }
    }
    -1
}

/// A model as the stand-in holds it.
type Opened = Box<dyn EngineModel>;

unsafe extern "C" fn open(
    context: *mut c_void,
    path: *const c_char,
    function: *const c_char,
    model: *mut *mut c_void,
    message: *mut c_char,
    capacity: usize,
) -> i32 {
    // SAFETY: the header's contract: the context is the engine installed, the texts end in NUL, the places are there.
    unsafe {
        guarded(message, capacity, || {
            let engine = &*context.cast::<Box<dyn Engine>>();
            let function = (!function.is_null()).then(|| text(function));
            let opened: Opened = engine.open(Path::new(&text(path)), function.as_deref())?;
            *model = Box::into_raw(Box::new(opened)).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn close(model: *mut c_void) {
    // SAFETY: the model came from `open`, and is closed once.
    drop(unsafe { Box::from_raw(model.cast::<Opened>()) });
}

unsafe extern "C" fn make_state(model: *mut c_void) -> *mut c_void {
    // SAFETY: the model came from `open` and is alive.
    let model = unsafe { &*model.cast::<Opened>() };
    let made = catch_unwind(AssertUnwindSafe(|| model.new_state()));
    made.ok().and_then(Result::ok).map_or(null_mut(), |state| Box::into_raw(Box::new(state)).cast())
}

unsafe extern "C" fn close_state(state: *mut c_void) {
    // SAFETY: the state came from `make_state`, and is closed once.
    drop(unsafe { Box::from_raw(state.cast::<ModelState>()) });
}

/// Memory that a description or a value points into, kept until it has been handed over.
#[derive(Default)]
struct Kept {
    texts: Vec<CString>,
    numbers: Vec<Box<[i64]>>,
    ranges: Vec<Box<[cmlb_range]>>,
    lists: Vec<Box<[*const c_char]>>,
    doubles: Vec<Box<[f64]>>,
    halves: Vec<Box<[f16]>>,
}

impl Kept {
    fn text(&mut self, text: &str) -> *const c_char {
        self.texts.push(CString::new(text.replace('\0', " ")).unwrap_or_default());
        self.texts.last().map_or(null(), |text| text.as_ptr())
    }

    fn numbers(&mut self, numbers: impl IntoIterator<Item = i64>) -> *const i64 {
        self.numbers.push(numbers.into_iter().collect());
        self.numbers.last().map_or(null(), |numbers| numbers.as_ptr())
    }

    fn sizes(&mut self, sizes: &[usize]) -> *const i64 {
        self.numbers(sizes.iter().map(|&size| size as i64))
    }

    /// Labels as a list of texts or of numbers; the other is NULL.
    fn labels<'l>(&mut self, labels: impl Iterator<Item = &'l Label>) -> (*const *const c_char, *const i64, i32) {
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        for label in labels {
            match label {
                Label::String(label) => texts.push(self.text(label)),
                Label::Int64(label) => numbers.push(*label),
            }
        }
        if numbers.is_empty() {
            self.lists.push(texts.into());
            return (self.lists.last().map_or(null(), |list| list.as_ptr()), null(), CMLB_KIND_STRING);
        }
        (null(), self.numbers(numbers), CMLB_KIND_INT64)
    }
}

unsafe extern "C" fn describe(
    model: *mut c_void,
    sink: *mut c_void,
    tell: unsafe extern "C" fn(*mut c_void, *const cmlb_description),
) {
    // SAFETY: the model came from `open` and is alive.
    let model = unsafe { &*model.cast::<Opened>() };
    let (interface, labels) = (model.interface(), model.labels());
    let mut kept = Kept::default();
    let mut features = Vec::new();
    let lists = [
        (&interface.inputs, CMLB_ROLE_INPUT),
        (&interface.outputs, CMLB_ROLE_OUTPUT),
        (&interface.states, CMLB_ROLE_STATE),
    ];
    for (list, role) in lists {
        features.extend(list.iter().map(|feature| cmlb_feature { role, ..raw_feature(feature, &mut kept) }));
    }
    let mut description = cmlb_description {
        features: features.as_ptr(),
        feature_count: features.len(),
        predicted_feature: interface.predicted_feature.as_ref().map_or(null(), |name| kept.text(name)),
        predicted_probabilities: interface.predicted_probabilities.as_ref().map_or(null(), |name| kept.text(name)),
        ..cmlb_description::default()
    };
    if !labels.is_empty() {
        (description.label_texts, description.label_numbers, _) = kept.labels(labels.iter());
        description.label_count = labels.len();
    }
    // SAFETY: what the description points to lives in `features` and `kept`.
    unsafe { tell(sink, &description) }
}

fn raw_feature(feature: &Feature, kept: &mut Kept) -> cmlb_feature {
    let key = |key: DictionaryKey| if key == DictionaryKey::String { CMLB_KIND_STRING } else { CMLB_KIND_INT64 };
    let name = kept.text(&feature.name);
    let optional = i32::from(feature.optional);
    let made = match &feature.kind {
        FeatureKind::Int64 => cmlb_feature { kind: CMLB_KIND_INT64, ..cmlb_feature::default() },
        FeatureKind::Double => cmlb_feature { kind: CMLB_KIND_DOUBLE, ..cmlb_feature::default() },
        FeatureKind::String => cmlb_feature { kind: CMLB_KIND_STRING, ..cmlb_feature::default() },
        FeatureKind::Dictionary(of) => {
            cmlb_feature { kind: CMLB_KIND_DICTIONARY, key_kind: key(*of), ..cmlb_feature::default() }
        }
        FeatureKind::Sequence(of) => {
            cmlb_feature { kind: CMLB_KIND_SEQUENCE, key_kind: key(*of), ..cmlb_feature::default() }
        }
        FeatureKind::MultiArray(array) => raw_array(array, CMLB_KIND_ARRAY, kept),
        FeatureKind::State(array) => raw_array(array, CMLB_KIND_STATE, kept),
        FeatureKind::Image(image) => raw_image(image, kept),
        _ => cmlb_feature::default(),
    };
    let shapes = if made.shapes == 0 { CMLB_SHAPES_FIXED } else { made.shapes };
    cmlb_feature { name, optional, shapes, ..made }
}

fn raw_range(range: &SizeRange) -> cmlb_range {
    cmlb_range { minimum: range.min as i64, maximum: range.max.map_or(-1, |max| max as i64) }
}

fn raw_array(array: &ArrayFeature, kind: i32, kept: &mut Kept) -> cmlb_feature {
    let (shape, rank) = (kept.sizes(&array.shape), array.shape.len());
    let data_type = types::raw_type(array.dtype).unwrap_or_default();
    let made = cmlb_feature { kind, data_type, shape, rank, ..cmlb_feature::default() };
    match &array.constraint {
        ShapeConstraint::Enumerated(all) => {
            let enumerated = kept.numbers(all.iter().flatten().map(|&size| size as i64));
            cmlb_feature { shapes: CMLB_SHAPES_ENUMERATED, enumerated, enumerated_count: all.len(), ..made }
        }
        ShapeConstraint::Range(all) => {
            kept.ranges.push(all.iter().map(raw_range).collect());
            let ranges = kept.ranges.last().map_or(null(), |ranges| ranges.as_ptr());
            cmlb_feature { shapes: CMLB_SHAPES_RANGE, ranges, ..made }
        }
        _ => made,
    }
}

fn raw_image(image: &ImageFeature, kept: &mut Kept) -> cmlb_feature {
    let pixel_format = match image.color {
        ColorLayout::Grayscale => 0x4C30_3038,
        ColorLayout::GrayscaleFloat16 => 0x4C30_3068,
        _ => 0x4247_5241,
    };
    let shape = kept.sizes(&[image.height, image.width]);
    let made = cmlb_feature { kind: CMLB_KIND_IMAGE, pixel_format, shape, rank: 2, ..cmlb_feature::default() };
    match &image.constraint {
        ShapeConstraint::Enumerated(all) => {
            let enumerated = kept.numbers(all.iter().flat_map(|&[w, h]| [h as i64, w as i64]));
            cmlb_feature { shapes: CMLB_SHAPES_ENUMERATED, enumerated, enumerated_count: all.len(), ..made }
        }
        ShapeConstraint::Range([w, h]) => {
            kept.ranges.push([raw_range(h), raw_range(w)].into());
            let ranges = kept.ranges.last().map_or(null(), |ranges| ranges.as_ptr());
            cmlb_feature { shapes: CMLB_SHAPES_RANGE, ranges, ..made }
        }
        _ => made,
    }
}

unsafe extern "C" fn operations(
    model: *mut c_void,
    sink: *mut c_void,
    tell: unsafe extern "C" fn(*mut c_void, *const cmlb_operation),
) {
    // SAFETY: the model came from `open` and is alive.
    let model = unsafe { &*model.cast::<Opened>() };
    for planned in model.operations() {
        let mut kept = Kept::default();
        let operation = cmlb_operation {
            operator_name: kept.text(&planned.operator),
            output_name: kept.text(&planned.output),
            preferred: planned.preferred.unwrap_or(-1),
            supported: planned.preferred.map_or(0, |device| 1 | 1 << device),
            cost: planned.cost.unwrap_or(f64::NAN),
        };
        // SAFETY: what the operation points to lives in `kept`.
        unsafe { tell(sink, &operation) }
    }
}

unsafe extern "C" fn predict(
    model: *mut c_void,
    state: *mut c_void,
    inputs: *const cmlb_value,
    count: usize,
    sink: *mut c_void,
    tell: unsafe extern "C" fn(*mut c_void, *const cmlb_value),
    message: *mut c_char,
    capacity: usize,
) -> i32 {
    // SAFETY: the header's contract: the model came from `open`, the state from `make_state`, the inputs are complete and live
    // for the call, and nobody else uses the state meanwhile.
    unsafe {
        guarded(message, capacity, || {
            let model = &*model.cast::<Opened>();
            let state = (!state.is_null()).then(|| &mut *state.cast::<ModelState>());
            let given = slice(inputs, count).iter().try_fold(Inputs::new(), |given, value| input(given, value))?;
            let checked = check(model.interface(), &given).map_err(|error| error.to_string())?;
            let outputs = model.predict(&checked, state)?;
            for (name, value) in outputs.iter() {
                let mut kept = Kept::default();
                let name = kept.text(name);
                let raw = output(value, &mut kept)?;
                tell(sink, &cmlb_value { name, ..raw });
            }
            Ok(())
        })
    }
}

/// # Safety
/// The value is complete and lives as long as the inputs.
unsafe fn input<'a>(given: Inputs<'a>, value: &cmlb_value) -> Result<Inputs<'a>, String> {
    // SAFETY: by this function's own contract, throughout.
    unsafe {
        let name = CStr::from_ptr(value.name).to_string_lossy();
        let sizes: Vec<usize> = slice(value.shape, value.rank).iter().map(|&size| size as usize).collect();
        let shape = Shape::try_new(&sizes).map_err(|error| error.to_string())?;
        Ok(match value.kind {
            CMLB_KIND_NONE => given,
            CMLB_KIND_INT64 => given.int64(name, value.int64_value),
            CMLB_KIND_DOUBLE => given.double(name, value.double_value),
            CMLB_KIND_STRING => given.string(name, text(value.text)),
            CMLB_KIND_ARRAY => {
                let dtype = types::dtype(value.r#type).ok_or("an unknown data type")?;
                let view =
                    with_element!(dtype, T => view::<T>(shape, value), return Err("an unknown data type".into()));
                given.tensor(name, view?)
            }
            CMLB_KIND_IMAGE => {
                let &[height, width, _] = sizes.as_slice() else { return Err("an image without a size".into()) };
                let tensor = match value.r#type {
                    CMLB_PIXELS_RGB8 => view::<u8>(shape, value)?,
                    CMLB_PIXELS_GRAY8 => view::<u8>([height, width].into(), value)?,
                    CMLB_PIXELS_GRAY16F => view::<f16>([1, 1, height, width].into(), value)?,
                    _ => return Err("unknown pixels".into()),
                };
                given.tensor(name, tensor)
            }
            CMLB_KIND_DICTIONARY => {
                given.dictionary(name, labels(value).into_iter().zip(slice(value.values, value.count).iter().copied()))
            }
            CMLB_KIND_SEQUENCE => given.sequence(name, labels(value)),
            _ => return Err(format!("`{name}` is of an unknown kind")),
        })
    }
}

/// # Safety
/// The value's elements are of type `T`, aligned, dense, and live as long as the view.
unsafe fn view<'a, T: Element>(shape: Shape, value: &cmlb_value) -> Result<TensorView<'a>, String> {
    // SAFETY: by this function's own contract.
    let elements = unsafe { slice(value.data.cast::<T>(), value.byte_count / size_of::<T>()) };
    TensorView::new(shape, elements).map_err(|error| error.to_string())
}

/// # Safety
/// The value is complete.
unsafe fn labels(value: &cmlb_value) -> Vec<Label> {
    // SAFETY: by this function's own contract.
    unsafe {
        if value.r#type == CMLB_KIND_STRING {
            return slice(value.key_texts, value.count).iter().map(|&key| Label::String(text(key).into())).collect();
        }
        slice(value.key_numbers, value.count).iter().map(|&key| Label::Int64(key)).collect()
    }
}

fn output(value: &Value, kept: &mut Kept) -> Result<cmlb_value, String> {
    let none = cmlb_value::default();
    Ok(match value {
        Value::Int64(int64_value) => cmlb_value { kind: CMLB_KIND_INT64, int64_value: *int64_value, ..none },
        Value::Double(double_value) => cmlb_value { kind: CMLB_KIND_DOUBLE, double_value: *double_value, ..none },
        Value::String(string) => cmlb_value { kind: CMLB_KIND_STRING, text: kept.text(string), ..none },
        Value::Tensor(tensor) => {
            let raw = types::raw_type(tensor.dtype()).ok_or("a data type that Core ML has not")?;
            cmlb_value { kind: CMLB_KIND_ARRAY, r#type: raw, ..elements(tensor, kept) }
        }
        Value::Image(tensor) => image(tensor, kept),
        Value::Dictionary(entries) => {
            let (key_texts, key_numbers, keys) = kept.labels(entries.iter().map(|(label, _)| label));
            kept.doubles.push(entries.iter().map(|&(_, value)| value).collect());
            let values = kept.doubles.last().map_or(null(), |values| values.as_ptr());
            let count = entries.len();
            cmlb_value { kind: CMLB_KIND_DICTIONARY, r#type: keys, key_texts, key_numbers, values, count, ..none }
        }
        Value::Sequence(labels) => {
            let (key_texts, key_numbers, keys) = kept.labels(labels.iter());
            cmlb_value { kind: CMLB_KIND_SEQUENCE, r#type: keys, key_texts, key_numbers, count: labels.len(), ..none }
        }
        _ => return Err("a kind of value that Core ML has not".into()),
    })
}

fn elements(tensor: &Tensor, kept: &mut Kept) -> cmlb_value {
    let (data, byte_count): (*const c_void, usize) = match tensor.view().data() {
        DataView::Float64(values) => (values.as_ptr().cast(), size_of_val(values)),
        DataView::Float32(values) => (values.as_ptr().cast(), size_of_val(values)),
        DataView::Float16(values) => (values.as_ptr().cast(), size_of_val(values)),
        DataView::Int32(values) => (values.as_ptr().cast(), size_of_val(values)),
        DataView::Int8(values) => (values.as_ptr().cast(), size_of_val(values)),
        DataView::UInt8(values) => (values.as_ptr().cast(), size_of_val(values)),
        _ => (null(), 0),
    };
    let (shape, rank) = (kept.sizes(&tensor.shape()), tensor.shape().rank());
    cmlb_value { data: data.cast_mut(), byte_count, shape, rank, ..cmlb_value::default() }
}

fn image(tensor: &Tensor, kept: &mut Kept) -> cmlb_value {
    let (height, width) = (tensor.shape()[0], tensor.shape()[1]);
    let (channels, layout) = if tensor.shape().rank() == 3 { (3, CMLB_PIXELS_RGB8) } else { (1, CMLB_PIXELS_GRAY8) };
    let mut made = cmlb_value { r#type: layout, ..elements(tensor, kept) };
    if let Some(floats) = tensor.as_slice::<f32>() {
        kept.halves.push(floats.iter().map(|&float| f16::from_f32(float)).collect());
        let halves = kept.halves.last().map_or(&[][..], |halves| halves);
        made.r#type = CMLB_PIXELS_GRAY16F;
        (made.data, made.byte_count) = (halves.as_ptr().cast_mut().cast(), size_of_val(halves));
    }
    (made.shape, made.rank) = (kept.sizes(&[height, width, channels]), 3);
    cmlb_value { kind: CMLB_KIND_IMAGE, ..made }
}
