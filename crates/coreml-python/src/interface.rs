//! A model's inputs and outputs, from which `coreml_anywhere.interface` makes classes.

use coreml_anywhere::model::{
    ArrayFeature, ColorLayout, DictionaryKey, Feature, FeatureKind, ImageFeature, Interface, ShapeConstraint, SizeRange,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

pub(crate) fn dict<'py>(py: Python<'py>, interface: &Interface) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    for (name, features) in
        [("inputs", &interface.inputs), ("outputs", &interface.outputs), ("states", &interface.states)]
    {
        let list = PyList::empty(py);
        for of in features {
            list.append(feature(py, of)?)?;
        }
        all.set_item(name, list)?;
    }
    all.set_item("predicted_feature", &interface.predicted_feature)?;
    all.set_item("predicted_probabilities", &interface.predicted_probabilities)?;
    Ok(all)
}

fn feature<'py>(py: Python<'py>, feature: &Feature) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("name", &feature.name)?;
    fields.set_item("optional", feature.optional)?;
    fields.set_item("description", &feature.description)?;
    fields.set_item("takes", coreml_anywhere::describe(&feature.kind))?;
    let kind = match &feature.kind {
        FeatureKind::Int64 => "int64",
        FeatureKind::Double => "double",
        FeatureKind::String => "string",
        FeatureKind::Image(image) => {
            describe_image(&fields, image)?;
            "image"
        }
        FeatureKind::MultiArray(array) => {
            describe_array(&fields, array)?;
            "multi_array"
        }
        FeatureKind::State(array) => {
            describe_array(&fields, array)?;
            "state"
        }
        FeatureKind::Dictionary(keys) => {
            fields.set_item("labels", labels(*keys))?;
            "dictionary"
        }
        FeatureKind::Sequence(elements) => {
            fields.set_item("labels", labels(*elements))?;
            "sequence"
        }
        _ => "unknown",
    };
    fields.set_item("kind", kind)?;
    Ok(fields)
}

fn labels(labels: DictionaryKey) -> &'static str {
    if labels == DictionaryKey::String { "string" } else { "int64" }
}

fn describe_array(fields: &Bound<'_, PyDict>, array: &ArrayFeature) -> PyResult<()> {
    fields.set_item("dtype", array.dtype.name())?;
    fields.set_item("shape", &array.shape)?;
    match &array.constraint {
        ShapeConstraint::Enumerated(shapes) => fields.set_item("enumerated", shapes),
        ShapeConstraint::Range(ranges) => fields.set_item("ranges", ranges.iter().map(bounds).collect::<Vec<_>>()),
        _ => Ok(()),
    }
}

/// Sizes as `(height, width)`, as of arrays.
fn describe_image(fields: &Bound<'_, PyDict>, image: &ImageFeature) -> PyResult<()> {
    let color = match image.color {
        ColorLayout::Rgb => "rgb",
        ColorLayout::Bgr => "bgr",
        ColorLayout::Grayscale => "gray",
        ColorLayout::GrayscaleFloat16 => "gray_f16",
        _ => "unknown",
    };
    fields.set_item("color", color)?;
    fields.set_item("shape", [image.height, image.width])?;
    match &image.constraint {
        ShapeConstraint::Enumerated(sizes) => {
            fields.set_item("enumerated", sizes.iter().map(|&[w, h]| [h, w]).collect::<Vec<_>>())
        }
        ShapeConstraint::Range([w, h]) => fields.set_item("ranges", [bounds(h), bounds(w)]),
        _ => Ok(()),
    }
}

fn bounds(range: &SizeRange) -> (usize, Option<usize>) {
    (range.min, range.max)
}
