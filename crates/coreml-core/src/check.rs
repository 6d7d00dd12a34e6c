//! Checks inputs against the interface, so that no backend ever sees a caller's mistake.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use coreml_model::{
    ArrayFeature, ColorLayout, DictionaryKey, Feature, FeatureKind, ImageFeature, Interface, ShapeConstraint, SizeRange,
};
use coreml_tensor::{DType, Shape, Tensor, TensorView};
use smallvec::{SmallVec, smallvec};

use crate::error::{Error, ErrorKind};
use crate::image::{self, PreparedImage};
use crate::inputs::{Input, Inputs};
use crate::outputs::{self, Label};

/// Inputs that fit an interface: every input feature has a value of its type, in the interface's order.
#[derive(Debug)]
pub struct CheckedInputs<'a> {
    entries: Vec<(&'a str, CheckedValue<'a>)>,
    /// Positions in the order of the names, if there are many and a value is asked for by name.
    by_name: OnceLock<Vec<usize>>,
}

/// Up to this many names, a linear search is as fast as an index.
const FEW: usize = 16;

/// A value that fits its feature.
#[derive(Debug)]
#[non_exhaustive]
pub enum CheckedValue<'a> {
    /// A multi-array with an allowed shape and elements of the feature's kind. Borrowed from the caller.
    Tensor(TensorView<'a>),
    /// A multi-array made here: the default for an optional one that was left out, or the caller's numbers in the
    /// feature's type.
    Made(Tensor),
    /// An image feature's pixels as bytes.
    Image(PreparedImage<'a>),
    /// An image feature's pixels as floating-point planes 1×C×H×W in the feature's colour order.
    Planes(TensorView<'a>),
    /// A string.
    String(&'a str),
    /// A 64-bit integer.
    Int64(i64),
    /// A double.
    Double(f64),
    /// Numbers by label.
    Dictionary(&'a [(Label, f64)]),
    /// Labels.
    Sequence(&'a [Label]),
    /// An optional feature, other than an array, that was left out.
    Absent,
}

impl<'a> CheckedInputs<'a> {
    pub(crate) fn new(entries: Vec<(&'a str, CheckedValue<'a>)>) -> Self {
        Self { entries, by_name: OnceLock::new() }
    }

    /// Names and values, in the interface's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a str, &CheckedValue<'a>)> {
        self.entries.iter().map(|(name, value)| (*name, value))
    }

    /// The value of the feature `name`.
    pub fn get(&self, name: &str) -> Option<&CheckedValue<'a>> {
        if self.entries.len() <= FEW {
            return self.entries.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        }
        let by_name = self.by_name.get_or_init(|| {
            let mut positions: Vec<_> = (0..self.entries.len()).collect();
            positions.sort_by_key(|&position| self.entries[position].0);
            positions
        });
        let found = by_name.partition_point(|&position| self.entries[position].0 < name);
        let (known, value) = &self.entries[*by_name.get(found)?];
        (*known == name).then_some(value)
    }
}

/// Checks `inputs` against `interface`, prepares pictures and fills in optional arrays that were left out.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] names the feature and says what it takes: it is unknown, given twice or missing, has a
/// wrong type, rank, shape or data type, or is an image with a NaN or infinity.
pub fn check<'a>(interface: &'a Interface, inputs: &'a Inputs<'_>) -> Result<CheckedInputs<'a>, Error> {
    let features = &interface.inputs;
    let mut given: SmallVec<[Option<&Input<'_>>; 4]> = smallvec![None; features.len()];
    let by_name = OnceCell::new();
    for (i, (name, input)) in inputs.entries().iter().enumerate() {
        // Most callers know the order.
        let in_order = features.get(i).is_some_and(|feature| feature.name == *name);
        let position = if in_order { Some(i) } else { position(interface, &by_name, name) };
        let position = position.ok_or_else(|| wrong(name, unknown(interface, name)))?;
        if given[position].replace(input).is_some() {
            return Err(wrong(name, "is given twice".into()));
        }
    }
    let entry = |(feature, given): (&'a Feature, Option<&'a Input<'_>>)| {
        let value = match given {
            Some(input) => value(feature, input)?,
            None if feature.optional => default(feature)?,
            None => return Err(wrong(&feature.name, format!("is missing; it takes {}", describe(&feature.kind)))),
        };
        Ok((feature.name.as_str(), value))
    };
    Ok(CheckedInputs::new(features.iter().zip(given).map(entry).collect::<Result<_, _>>()?))
}

/// Where the feature `name` is among the inputs; `by_name` is made when there are many and it is asked for.
fn position<'a>(interface: &'a Interface, by_name: &OnceCell<BTreeMap<&'a str, usize>>, name: &str) -> Option<usize> {
    let features = &interface.inputs;
    if features.len() <= FEW {
        return features.iter().position(|feature| feature.name == name);
    }
    let positions = || features.iter().enumerate().rev().map(|(i, feature)| (feature.name.as_str(), i)).collect();
    by_name.get_or_init(positions).get(name).copied()
}

pub(crate) fn wrong(feature: &str, message: String) -> Error {
    Error::feature(ErrorKind::InvalidInput, feature, message)
}

fn unknown(interface: &Interface, name: &str) -> String {
    let known: Vec<_> = interface.inputs.iter().map(|feature| feature.name.as_str()).collect();
    let close = known.iter().map(|known| (edits(known, name), known)).min().filter(|&(edits, _)| edits <= 2);
    let hint = close.map_or(String::new(), |(_, known)| format!(" Did you mean `{known}`?"));
    let listed: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
    format!("the model has no such input; it takes {}.{hint}", listed.join(", "))
}

/// How many letters must be inserted, removed or replaced to turn one name into the other.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

pub(crate) fn default<'a>(feature: &Feature) -> Result<CheckedValue<'a>, Error> {
    let FeatureKind::MultiArray(array) = &feature.kind else { return Ok(CheckedValue::Absent) };
    let bad = |message: String| Error::feature(ErrorKind::InvalidModel, &feature.name, message);
    let shape = Shape::try_new(&array.shape).map_err(|error| bad(error.to_string()))?;
    let filled = match array.default {
        Some(value) if value != 0.0 => {
            let values = Tensor::new(shape, vec![value; shape.count()]).map_err(|error| bad(error.to_string()))?;
            outputs::cast(values.view(), array.dtype)
                .ok_or_else(|| bad(format!("there are no defaults of type {}", array.dtype)))?
        }
        _ => Tensor::try_zeros(array.dtype, shape).map_err(|error| bad(error.to_string()))?,
    };
    Ok(CheckedValue::Made(filled))
}

fn value<'a>(feature: &'a Feature, input: &'a Input<'_>) -> Result<CheckedValue<'a>, Error> {
    match (&feature.kind, input.as_tensor()) {
        (FeatureKind::MultiArray(array), Some(view)) => {
            let view = one_element_vector(array, view);
            if let Some(problem) = shape_problem(array, &view) {
                return Err(wrong(&feature.name, problem));
            }
            return elements(feature, array, view);
        }
        (FeatureKind::Int64 | FeatureKind::Double, Some(view)) if view.shape().count() == 1 => {
            let number = match (&feature.kind, view.as_slice::<i64>()) {
                (FeatureKind::Int64, Some(&[number])) => Some(CheckedValue::Int64(number)),
                (FeatureKind::Int64, _) => {
                    view.to_f64_vec().first().and_then(|&number| exact_int64(number)).map(CheckedValue::Int64)
                }
                (_, Some(&[number])) => exact_double(number).map(CheckedValue::Double),
                _ => view.to_f64_vec().first().copied().map(CheckedValue::Double),
            };
            return number.ok_or_else(|| inexact(feature));
        }
        (FeatureKind::Image(image), Some(view)) => {
            return pixels(image, view).map_err(|problem| wrong(&feature.name, problem));
        }
        _ => {}
    }
    match (&feature.kind, input) {
        (FeatureKind::Image(image), Input::Image(picture)) => {
            let prepared = picture.prepare(image).map_err(|error| wrong(&feature.name, error.to_string()))?;
            Ok(CheckedValue::Image(prepared))
        }
        (FeatureKind::String, Input::String(value)) => Ok(CheckedValue::String(value)),
        (FeatureKind::Int64, Input::Int64(value)) => Ok(CheckedValue::Int64(*value)),
        (FeatureKind::Double, Input::Double(value)) => Ok(CheckedValue::Double(*value)),
        (FeatureKind::Int64, Input::Double(value)) => {
            exact_int64(*value).map(CheckedValue::Int64).ok_or_else(|| inexact(feature))
        }
        (FeatureKind::Double, Input::Int64(value)) => {
            exact_double(*value).map(CheckedValue::Double).ok_or_else(|| inexact(feature))
        }
        (FeatureKind::Dictionary(keys), Input::Dictionary(entries)) => {
            labels_fit(feature, *keys, entries.iter().map(|(label, _)| label))?;
            Ok(CheckedValue::Dictionary(entries))
        }
        (FeatureKind::Sequence(elements), Input::Sequence(labels)) => {
            labels_fit(feature, *elements, labels)?;
            Ok(CheckedValue::Sequence(labels))
        }
        (kind, input) => {
            let message = format!("takes {}, {} was given", describe(kind), input.describe());
            Err(wrong(&feature.name, message))
        }
    }
}

/// An array with an allowed shape, in elements that the feature takes.
pub(crate) fn elements<'a>(
    feature: &Feature,
    array: &ArrayFeature,
    view: TensorView<'a>,
) -> Result<CheckedValue<'a>, Error> {
    if fits(view, array.dtype) {
        return Ok(CheckedValue::Tensor(view));
    }
    exactly(view, array.dtype).map(CheckedValue::Made).ok_or_else(|| {
        let (wanted, given) = (array.dtype, view.dtype());
        let problem = format!("takes elements of type {wanted}; the {given} elements given do not all fit it");
        wrong(&feature.name, problem)
    })
}

/// The integer as a double, if a double holds it.
pub(crate) fn exact_double(number: i64) -> Option<f64> {
    // Compared in 128 bits: 2^63 as an i64 would be its neighbour.
    ((number as f64) as i128 == i128::from(number)).then_some(number as f64)
}

/// The double as an integer, if it is one that fits.
pub(crate) fn exact_int64(number: f64) -> Option<i64> {
    let whole = number as i128;
    (whole as f64 == number).then(|| i64::try_from(whole).ok()).flatten()
}

fn inexact(feature: &Feature) -> Error {
    wrong(&feature.name, format!("takes {}, which does not hold the number given", describe(&feature.kind)))
}

/// Keys of dictionaries and elements of sequences are all strings or all integers.
fn labels_fit<'a>(
    feature: &Feature,
    wanted: DictionaryKey,
    labels: impl IntoIterator<Item = &'a Label>,
) -> Result<(), Error> {
    let fits = |label: &&Label| matches!(label, Label::String(_)) == (wanted == DictionaryKey::String);
    match labels.into_iter().find(|label| !fits(label)) {
        None => Ok(()),
        Some(label) => {
            let message = format!("takes {}, `{label}` is not of that type", describe(&feature.kind));
            Err(wrong(&feature.name, message))
        }
    }
}

/// What a feature takes, in words.
pub fn describe(kind: &FeatureKind) -> String {
    match kind {
        FeatureKind::Int64 => "an integer".into(),
        FeatureKind::Double => "a double".into(),
        FeatureKind::String => "a string".into(),
        FeatureKind::Dictionary(keys) => format!("a dictionary by {}", label_words(*keys)),
        FeatureKind::Sequence(elements) => format!("a sequence of {}", label_words(*elements)),
        FeatureKind::MultiArray(array) | FeatureKind::State(array) => {
            format!("a {} tensor of shape {}", array.dtype, describe_shape(array))
        }
        FeatureKind::Image(image) => {
            let color = match image.color {
                ColorLayout::Grayscale => "8-bit grey",
                ColorLayout::GrayscaleFloat16 => "half-precision grey",
                ColorLayout::Rgb => "RGB",
                ColorLayout::Bgr => "BGR",
                _ => "another colour layout",
            };
            let sizes = match &image.constraint {
                ShapeConstraint::Enumerated(sizes) => {
                    let sizes: Vec<_> = sizes.iter().map(|[w, h]| format!("{w} x {h}")).collect();
                    sizes.join(" or ")
                }
                ShapeConstraint::Range([w, h]) => format!("{} x {}", range(w), range(h)),
                _ => format!("{} x {}", image.width, image.height),
            };
            format!("an image, {color}, {sizes}")
        }
        _ => "a value of a type this version does not know".into(),
    }
}

fn label_words(labels: DictionaryKey) -> &'static str {
    if labels == DictionaryKey::String { "strings" } else { "integers" }
}

fn describe_shape(array: &ArrayFeature) -> String {
    match &array.constraint {
        ShapeConstraint::Enumerated(shapes) => {
            shapes.iter().map(|shape| format!("{shape:?}")).collect::<Vec<_>>().join(" or ")
        }
        ShapeConstraint::Range(ranges) => {
            format!("[{}]", ranges.iter().map(range).collect::<Vec<_>>().join(", "))
        }
        _ if array.shape.is_empty() => "any".into(),
        ShapeConstraint::Sequences => {
            let rest: String = array.shape.iter().map(|size| format!(", {size}")).collect();
            let ones = if array.shape.len() == 1 { ", 1, 1" } else { "" };
            format!("{:?} or [sequence, batch{rest}{ones}]", array.shape)
        }
        _ => format!("{:?}", array.shape),
    }
}

fn range(range: &SizeRange) -> String {
    match range.max {
        Some(max) if max == range.min => max.to_string(),
        Some(max) => format!("{}..{max}", range.min),
        None => format!("{}..", range.min),
    }
}

/// A tensor without dimensions in the place of one element in a row, which is how the format describes scalars.
fn one_element_vector<'a>(array: &ArrayFeature, view: TensorView<'a>) -> TensorView<'a> {
    let vector = Shape::from([1]);
    if view.shape().rank() == 0 && admits(array, vector) { view.reshape(vector).unwrap_or(view) } else { view }
}

/// Whether a backend can take these elements for a feature of type `dtype` as they are: of the same kind, and none beyond
/// the range of the type. Floating-point elements may be rounded, but not become infinite.
fn fits(view: TensorView<'_>, dtype: DType) -> bool {
    let sort = |dtype: DType| (dtype.is_float(), dtype == DType::Bool);
    if sort(view.dtype()) != sort(dtype) {
        return false;
    }
    let in_range = |least: f64, most: f64| {
        let mut inside = true;
        // Not a number, and infinities, are what they are in every type.
        view.for_each_f64(|value| inside &= !value.is_finite() || (least..=most).contains(&value));
        inside
    };
    match (view.dtype(), dtype) {
        (given, declared) if given == declared => true,
        // Half precision is computed in single.
        (DType::Float64, DType::Float32 | DType::Float16) => in_range(f64::from(f32::MIN), f64::from(f32::MAX)),
        (_, DType::Int8) => in_range(f64::from(i8::MIN), f64::from(i8::MAX)),
        (DType::Int64 | DType::UInt64 | DType::UInt32, DType::Int32) => {
            in_range(f64::from(i32::MIN), f64::from(i32::MAX))
        }
        _ => true,
    }
}

/// Elements of another kind as `dtype`, if all of them keep their value.
pub(crate) fn exactly(view: TensorView<'_>, dtype: DType) -> Option<Tensor> {
    let converted = outputs::cast(view, dtype)?;
    (converted.view().to_f64_vec() == view.to_f64_vec()).then_some(converted)
}

/// Whether a value of these dimensions is one of the feature's.
pub(crate) fn admits(array: &ArrayFeature, dims: Shape) -> bool {
    match &array.constraint {
        ShapeConstraint::Enumerated(shapes) => shapes.iter().any(|shape| shape == &*dims) || array.shape == *dims,
        ShapeConstraint::Range(ranges) => {
            ranges.len() == dims.rank() && ranges.iter().zip(dims.iter()).all(|(range, &size)| range.contains(size))
        }
        ShapeConstraint::Sequences => array.shape == *dims || is_sequence_of(&array.shape, dims),
        // Declared without a shape, an array may have any.
        _ => array.shape.is_empty() || array.shape == *dims,
    }
}

/// Whether `dims` are sequence, batch, channels, height and width, for a feature that declares `[C]` or `[C, H, W]`.
fn is_sequence_of(declared: &[usize], dims: Shape) -> bool {
    match (declared, &*dims) {
        (&[c], &[_, _, channels, 1, 1]) => c == channels,
        (declared, [_, _, rest @ ..]) => declared.len() == 3 && declared == rest,
        _ => false,
    }
}

fn shape_problem(array: &ArrayFeature, view: &TensorView<'_>) -> Option<String> {
    let dims = view.shape();
    if !admits(array, dims) {
        let rank = if dims.rank() == array.shape.len() { "" } else { " (another rank)" };
        return Some(format!("takes the shape {}, {dims} was given{rank}", describe_shape(array)));
    }
    None
}

/// A tensor for an image feature: bytes with channels innermost, or floating-point planes.
fn pixels<'a>(image: &ImageFeature, view: TensorView<'a>) -> Result<CheckedValue<'a>, String> {
    let channels = if image::is_gray(image.color) { 1 } else { 3 };
    let admits = |height: usize, width: usize| {
        if image::admits(image, width, height) {
            Ok(())
        } else {
            Err(format!(
                "takes {}, pixels of {width} x {height} were given",
                describe(&FeatureKind::Image(image.clone()))
            ))
        }
    };
    let dims = view.shape();
    if let Some(bytes) = view.as_slice::<u8>() {
        let (height, width) = match (&*dims, channels) {
            (&[h, w], 1) | (&[h, w, 1], 1) | (&[h, w, 3], 3) => (h, w),
            (_, 1) => return Err(format!("takes bytes of shape [height, width], {dims} was given")),
            _ => return Err(format!("takes bytes of shape [height, width, 3], {dims} was given")),
        };
        admits(height, width)?;
        return Ok(CheckedValue::Image(PreparedImage { width, height, channels, pixels: Cow::Borrowed(bytes) }));
    }
    if !view.dtype().is_float() {
        return Err(format!(
            "takes uint8 pixels or floating-point planes, elements of type {} were given",
            view.dtype()
        ));
    }
    let planes = match *dims {
        [1, c, h, w] | [c, h, w] => Some([1, c, h, w]),
        [h, w] if channels == 1 => Some([1, 1, h, w]),
        _ => None,
    };
    let Some((view, [_, c, height, width])) = planes.and_then(|dims| Some((view.reshape(dims.into()).ok()?, dims)))
    else {
        return Err(format!("takes planes of shape [1, {channels}, height, width], {dims} was given"));
    };
    if c != channels {
        return Err(format!("takes {channels} planes, {c} were given"));
    }
    admits(height, width)?;
    let mut finite = true;
    view.for_each_f64(|value| finite &= value.is_finite());
    if !finite {
        return Err("holds pixels that are NaN or infinite".into());
    }
    Ok(CheckedValue::Planes(view))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(name: &str, kind: FeatureKind) -> Feature {
        Feature { name: name.into(), description: String::new(), kind, optional: false }
    }

    fn array(dtype: DType, constraint: ShapeConstraint<Vec<usize>, Vec<SizeRange>>) -> FeatureKind {
        FeatureKind::MultiArray(ArrayFeature { dtype, shape: vec![1, 4], constraint, default: None })
    }

    fn picture(color: ColorLayout) -> FeatureKind {
        FeatureKind::Image(ImageFeature { width: 3, height: 2, color, constraint: ShapeConstraint::Fixed })
    }

    fn interface(inputs: Vec<Feature>) -> Interface {
        let none = Vec::new();
        Interface {
            inputs,
            outputs: none.clone(),
            states: none,
            predicted_feature: None,
            predicted_probabilities: None,
        }
    }

    fn refusal(kind: &FeatureKind, inputs: &Inputs<'_>) -> String {
        let interface = interface(vec![feature("x", kind.clone())]);
        let error = check(&interface, inputs).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    }

    fn zeros(dtype: DType, dims: &[usize]) -> Tensor {
        Tensor::zeros(dtype, Shape::new(dims))
    }

    #[test]
    fn names_are_checked_with_a_hint() {
        let inputs = |name: &str| Inputs::new().owned_tensor(name, zeros(DType::Float32, &[1, 4]));
        let fixed = array(DType::Float32, ShapeConstraint::Fixed);
        let told = refusal(&fixed, &inputs("X"));
        assert_eq!(told, "feature `X`: the model has no such input; it takes `x`. Did you mean `x`?");
        assert!(!refusal(&fixed, &inputs("something")).contains("Did you mean"));
        assert!(refusal(&fixed, &Inputs::new()).contains("is missing; it takes a fp32 tensor of shape [1, 4]"));
        let twice = inputs("x").owned_tensor("x", zeros(DType::Float32, &[1, 4]));
        assert!(refusal(&fixed, &twice).contains("is given twice"));
    }

    #[test]
    fn many_inputs_are_found_in_any_order() {
        let count = 3 * FEW;
        let features = (0..count).map(|i| feature(&format!("x{i}"), FeatureKind::Int64)).collect();
        let interface = interface(features);
        for step in [1, 7] {
            let order = (0..count).map(|i| i * step % count);
            let inputs = order.fold(Inputs::new(), |inputs, i| inputs.int64(format!("x{i}"), i as i64));
            let checked = check(&interface, &inputs).unwrap();
            for i in 0..count {
                let found = checked.get(&format!("x{i}"));
                assert!(matches!(found, Some(CheckedValue::Int64(value)) if *value == i as i64), "{i}: {found:?}");
            }
            assert!(checked.get("y").is_none() && checked.get("").is_none());
            let twice = check(&interface, &inputs.clone().int64("x5", 5)).unwrap_err().to_string();
            assert!(twice.contains("`x5`: is given twice"), "{twice}");
            let unknown = check(&interface, &inputs.int64("z", 5)).unwrap_err().to_string();
            assert!(unknown.contains("no such input"), "{unknown}");
        }
    }

    #[test]
    fn arrays_are_checked() {
        let range = ShapeConstraint::Range(vec![SizeRange { min: 1, max: Some(1) }, SizeRange { min: 2, max: None }]);
        let enumerated = ShapeConstraint::Enumerated(vec![vec![1, 4], vec![1, 8]]);
        let halves = Tensor::new(Shape::new(&[1, 4]), vec![0.5f32; 4]).unwrap();
        // What is declared, what is given, and the words of the refusal, if it is one.
        let wide = |values: Vec<i64>| Tensor::new(Shape::new(&[1, 4]), values).unwrap();
        let double = |value: f64| Tensor::new(Shape::new(&[1, 4]), vec![value; 4]).unwrap();
        let scalar = FeatureKind::MultiArray(ArrayFeature {
            dtype: DType::Float32,
            shape: vec![1],
            constraint: ShapeConstraint::Fixed,
            default: None,
        });
        let int32 = || array(DType::Int32, ShapeConstraint::Fixed);
        let channels = FeatureKind::MultiArray(ArrayFeature {
            dtype: DType::Float32,
            shape: vec![4],
            constraint: ShapeConstraint::Sequences,
            default: None,
        });
        let sequences = "the shape [4] or [sequence, batch, 4, 1, 1], ";
        let rows: [(_, Tensor, Option<&str>); 21] = [
            (channels.clone(), zeros(DType::Float32, &[4]), None),
            (channels.clone(), zeros(DType::Float32, &[3, 2, 4, 1, 1]), None),
            (channels, zeros(DType::Float32, &[3, 2, 4, 1, 2]), Some(sequences)),
            (int32(), wide(vec![0, -1, i32::MAX.into(), i32::MIN.into()]), None),
            (int32(), wide(vec![0, 1, 2, 1 << 32]), Some("takes elements of type int32; the int64 elements")),
            (int32(), wide(vec![0, 1, 2, -(1 << 31) - 1]), Some("do not all fit it")),
            (array(DType::Float32, ShapeConstraint::Fixed), double(1e300), Some("type fp32; the fp64 elements")),
            (array(DType::Float16, ShapeConstraint::Fixed), double(-1e300), Some("do not all fit it")),
            (array(DType::Float32, ShapeConstraint::Fixed), double(f64::INFINITY), None),
            (array(DType::Float32, ShapeConstraint::Fixed), double(0.1), None),
            (scalar, Tensor::scalar(1.0f32), None),
            (array(DType::Float32, ShapeConstraint::Fixed), zeros(DType::Float16, &[1, 4]), None),
            (array(DType::Float16, ShapeConstraint::Fixed), zeros(DType::Float64, &[1, 4]), None),
            (array(DType::Int32, ShapeConstraint::Fixed), zeros(DType::UInt8, &[1, 4]), None),
            (array(DType::Int32, ShapeConstraint::Fixed), zeros(DType::Float32, &[1, 4]), None),
            (array(DType::Int32, ShapeConstraint::Fixed), halves, Some("type int32; the fp32 elements")),
            (array(DType::Float32, ShapeConstraint::Fixed), zeros(DType::Float32, &[4]), Some("(another rank)")),
            (array(DType::Float32, range.clone()), zeros(DType::Float32, &[1, 99]), None),
            (array(DType::Float32, range), zeros(DType::Float32, &[1, 1]), Some("takes the shape [1, 2..], [1, 1]")),
            (array(DType::Float32, enumerated.clone()), zeros(DType::Float32, &[1, 8]), None),
            (array(DType::Float32, enumerated), zeros(DType::Float32, &[1, 6]), Some("[1, 4] or [1, 8]")),
        ];
        for (kind, tensor, expected) in rows {
            let interface = interface(vec![feature("x", kind)]);
            let inputs = Inputs::new().tensor("x", &tensor);
            match (check(&interface, &inputs), expected) {
                (Ok(_), None) => {}
                (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{error}"),
                (found, expected) => panic!("{found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn labels_and_numbers_are_checked() {
        let given = |kind: &FeatureKind, inputs: Inputs<'_>| {
            let interface = interface(vec![feature("x", kind.clone())]);
            check(&interface, &inputs)
                .map(|checked| format!("{:?}", checked.get("x").unwrap()))
                .map_err(|e| e.to_string())
        };
        let text = || Label::String("a".into());
        let by_text = FeatureKind::Dictionary(DictionaryKey::String);
        assert!(given(&by_text, Inputs::new().dictionary("x", [(text(), 1.0)])).is_ok());
        assert!(given(&by_text, Inputs::new().dictionary("x", [])).is_ok());
        let told = given(&by_text, Inputs::new().dictionary("x", [(text(), 1.0), (Label::Int64(7), 1.0)])).unwrap_err();
        assert_eq!(told, "feature `x`: takes a dictionary by strings, `7` is not of that type");
        let numbers = FeatureKind::Sequence(DictionaryKey::Int64);
        assert!(given(&numbers, Inputs::new().sequence("x", [Label::Int64(7)])).is_ok());
        let told = given(&numbers, Inputs::new().sequence("x", [text()])).unwrap_err();
        assert_eq!(told, "feature `x`: takes a sequence of integers, `a` is not of that type");
        // Numbers become what the feature is, where that is exact.
        let (int, double) = (FeatureKind::Int64, FeatureKind::Double);
        let large = (1i64 << 53) + 1;
        assert_eq!(given(&int, Inputs::new().double("x", 3.0)), Ok("Int64(3)".into()));
        assert_eq!(given(&double, Inputs::new().int64("x", 3)), Ok("Double(3.0)".into()));
        let whole = |value: i64| Inputs::new().owned_tensor("x", Tensor::scalar(value));
        assert_eq!(given(&int, whole(large)), Ok(format!("Int64({large})")));
        assert_eq!(given(&double, Inputs::new().owned_tensor("x", Tensor::scalar(0.5f32))), Ok("Double(0.5)".into()));
        let none = "takes a double, which does not hold the number given";
        assert!(given(&double, Inputs::new().int64("x", large)).unwrap_err().contains(none));
        assert!(given(&double, whole(large)).unwrap_err().contains(none));
        assert!(given(&int, Inputs::new().double("x", 0.5)).unwrap_err().contains("takes an integer"));
    }

    #[test]
    fn pixels_are_checked() {
        let rgb = picture(ColorLayout::Rgb);
        let with = |tensor: Tensor| Inputs::new().owned_tensor("x", tensor);
        for tensor in [zeros(DType::UInt8, &[2, 3, 3]), zeros(DType::Float32, &[1, 3, 2, 3])] {
            assert!(check(&interface(vec![feature("x", rgb.clone())]), &with(tensor)).is_ok());
        }
        assert!(refusal(&rgb, &with(zeros(DType::UInt8, &[3, 2, 3]))).contains("pixels of 2 x 3 were given"));
        assert!(refusal(&rgb, &with(zeros(DType::UInt8, &[2, 3]))).contains("[height, width, 3]"));
        assert!(refusal(&rgb, &with(zeros(DType::Float32, &[1, 1, 2, 3]))).contains("takes 3 planes, 1 were given"));
        assert!(refusal(&rgb, &with(zeros(DType::Int32, &[1, 3, 2, 3]))).contains("type int32 were given"));
        let nan = Tensor::new(Shape::new(&[1, 3, 2, 3]), vec![f32::NAN; 18]).unwrap();
        assert!(refusal(&rgb, &with(nan)).contains("NaN"));
        let gray = picture(ColorLayout::Grayscale);
        for tensor in [zeros(DType::UInt8, &[2, 3]), zeros(DType::Float32, &[2, 3]), zeros(DType::Float64, &[1, 2, 3])]
        {
            let (interface, inputs) = (interface(vec![feature("x", gray.clone())]), with(tensor));
            let checked = check(&interface, &inputs).unwrap();
            match checked.get("x") {
                Some(CheckedValue::Planes(planes)) => assert_eq!(planes.shape(), Shape::new(&[1, 1, 2, 3])),
                Some(CheckedValue::Image(image)) => assert_eq!((image.width, image.height), (3, 2)),
                other => panic!("{other:?}"),
            }
        }
        assert!(refusal(&gray, &with(zeros(DType::UInt8, &[2, 3, 3]))).contains("[height, width]"));
        assert!(refusal(&gray, &Inputs::new().string("x", "y")).contains("a string was given"));
    }

    #[test]
    fn optional_arrays_are_filled_in() {
        let kind = FeatureKind::MultiArray(ArrayFeature {
            dtype: DType::Float32,
            shape: vec![2],
            constraint: ShapeConstraint::Fixed,
            default: Some(0.5),
        });
        let interface = interface(vec![Feature { optional: true, ..feature("x", kind) }]);
        let inputs = Inputs::new();
        let checked = check(&interface, &inputs).unwrap();
        let Some(CheckedValue::Made(tensor)) = checked.get("x") else { panic!("{checked:?}") };
        assert_eq!(tensor.as_slice::<f32>(), Some(&[0.5, 0.5][..]));
    }
}
