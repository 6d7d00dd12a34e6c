//! Core ML's description of a model as our [`Interface`].

use coreml_core::{Error, ErrorKind, Label};
use coreml_model::{
    ArrayFeature, ColorLayout, DictionaryKey, Feature, FeatureKind, ImageFeature, Interface, ShapeConstraint, SizeRange,
};

use crate::failure::text;
use crate::ffi::{
    CMLB_KIND_ARRAY, CMLB_KIND_DICTIONARY, CMLB_KIND_DOUBLE, CMLB_KIND_IMAGE, CMLB_KIND_INT64, CMLB_KIND_SEQUENCE,
    CMLB_KIND_STATE, CMLB_KIND_STRING, CMLB_ROLE_INPUT, CMLB_ROLE_OUTPUT, CMLB_SHAPES_ENUMERATED, CMLB_SHAPES_RANGE,
    cmlb_description, cmlb_feature, cmlb_range,
};
use crate::handles::slice;
use crate::types;

/// FourCC codes of the pixel formats Core ML asks for.
const BGRA: u32 = 0x4247_5241;
const ARGB: u32 = 0x20;
const GRAY8: u32 = 0x4C30_3038;
const GRAY16F: u32 = 0x4C30_3068;

/// What Core ML says of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Description {
    pub(crate) interface: Interface,
    /// A classifier's classes, in the model's order.
    pub(crate) labels: Vec<Label>,
}

/// Reads a description.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for features of types this version does not know.
///
/// # Safety
/// The description is as the header says, and lives for the call.
pub(crate) unsafe fn read(description: &cmlb_description) -> Result<Description, Error> {
    let mut interface = Interface {
        inputs: Vec::new(),
        outputs: Vec::new(),
        states: Vec::new(),
        predicted_feature: None,
        predicted_probabilities: None,
    };
    // SAFETY: arrays and texts of the description are as the header says.
    unsafe {
        for raw in slice(description.features, description.feature_count) {
            let list = match raw.role {
                CMLB_ROLE_INPUT => &mut interface.inputs,
                CMLB_ROLE_OUTPUT => &mut interface.outputs,
                _ => &mut interface.states,
            };
            list.push(feature(raw)?);
        }
        let optional = |pointer: *const std::ffi::c_char| (!pointer.is_null()).then(|| text(pointer));
        interface.predicted_feature = optional(description.predicted_feature);
        interface.predicted_probabilities = optional(description.predicted_probabilities);
        let texts = slice(description.label_texts, description.label_count).iter().map(|&pointer| text(pointer));
        let numbers = slice(description.label_numbers, description.label_count).iter();
        let labels =
            texts.map(|text| Label::String(text.into())).chain(numbers.map(|&number| Label::Int64(number))).collect();
        Ok(Description { interface, labels })
    }
}

/// # Safety
/// The feature is as the header says.
unsafe fn feature(raw: &cmlb_feature) -> Result<Feature, Error> {
    // SAFETY: by this function's own contract.
    let (name, shape) = unsafe { (text(raw.name), slice(raw.shape, raw.rank)) };
    let bad = |message: String| Error::feature(ErrorKind::Unsupported, &name, message);
    let key = || match raw.key_kind {
        CMLB_KIND_STRING => Ok(DictionaryKey::String),
        CMLB_KIND_INT64 => Ok(DictionaryKey::Int64),
        other => Err(bad(format!("has keys of the unknown kind {other}"))),
    };
    let array = || {
        let dtype = types::dtype(raw.data_type);
        Ok::<_, Error>(ArrayFeature {
            dtype: dtype.ok_or_else(|| bad(format!("has the unknown data type {:#x}", raw.data_type)))?,
            shape: sizes(shape),
            // SAFETY: by this function's own contract.
            constraint: unsafe { constraint(raw, raw.rank) },
            default: None,
        })
    };
    let kind = match raw.kind {
        CMLB_KIND_INT64 => FeatureKind::Int64,
        CMLB_KIND_DOUBLE => FeatureKind::Double,
        CMLB_KIND_STRING => FeatureKind::String,
        CMLB_KIND_DICTIONARY => FeatureKind::Dictionary(key()?),
        CMLB_KIND_SEQUENCE => FeatureKind::Sequence(key()?),
        CMLB_KIND_ARRAY => FeatureKind::MultiArray(array()?),
        CMLB_KIND_STATE => FeatureKind::State(array()?),
        // SAFETY: by this function's own contract.
        CMLB_KIND_IMAGE => FeatureKind::Image(unsafe { image(raw, shape) }.map_err(bad)?),
        other => return Err(bad(format!("is of the unknown kind {other}"))),
    };
    Ok(Feature { name, description: String::new(), kind, optional: raw.optional == 1 })
}

fn sizes(raw: &[i64]) -> Vec<usize> {
    raw.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect()
}

fn range(raw: &cmlb_range) -> SizeRange {
    SizeRange { min: usize::try_from(raw.minimum).unwrap_or(0), max: usize::try_from(raw.maximum).ok() }
}

/// # Safety
/// The feature is as the header says; its shapes have `rank` sizes.
unsafe fn constraint(raw: &cmlb_feature, rank: usize) -> ShapeConstraint<Vec<usize>, Vec<SizeRange>> {
    match raw.shapes {
        CMLB_SHAPES_ENUMERATED => {
            // SAFETY: by this function's own contract.
            let all = unsafe { slice(raw.enumerated, raw.enumerated_count * rank) };
            ShapeConstraint::Enumerated(all.chunks(rank.max(1)).map(sizes).collect())
        }
        CMLB_SHAPES_RANGE => {
            // SAFETY: by this function's own contract.
            let ranges = unsafe { slice(raw.ranges, rank) };
            ShapeConstraint::Range(ranges.iter().map(range).collect())
        }
        _ => ShapeConstraint::Fixed,
    }
}

/// # Safety
/// The feature is as the header says.
unsafe fn image(raw: &cmlb_feature, shape: &[i64]) -> Result<ImageFeature, String> {
    let color = match raw.pixel_format {
        BGRA | ARGB => ColorLayout::Rgb,
        GRAY8 => ColorLayout::Grayscale,
        GRAY16F => ColorLayout::GrayscaleFloat16,
        other => return Err(format!("has the unknown pixel format {other:#x}")),
    };
    let &[height, width] = sizes(shape).as_slice() else { return Err("is an image without a size".into()) };
    // Heights come first on that side, widths on this.
    // SAFETY: by this function's own contract; sizes of images are two numbers.
    let constraint = match unsafe { constraint(raw, 2) } {
        ShapeConstraint::Enumerated(all) => {
            ShapeConstraint::Enumerated(all.iter().map(|size| [size[1], size[0]]).collect())
        }
        ShapeConstraint::Range(ranges) if ranges.len() == 2 => ShapeConstraint::Range([ranges[1], ranges[0]]),
        _ => ShapeConstraint::Fixed,
    };
    Ok(ImageFeature { width, height, color, constraint })
}
