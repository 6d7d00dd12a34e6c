//! Combines requests into one prediction along their first dimension, and splits its answer again.
//!
//! A model is batched only if it answers two requests together as it answers each alone, which is tried when it is
//! loaded.

use coreml_anywhere::model::{ArrayFeature, FeatureKind, Interface, ShapeConstraint};
use coreml_anywhere::tensor::{Shape, Tensor};
use coreml_anywhere::{Inputs, Outputs, Session, Value};

use crate::protocol::{Content, NamedTensor};

/// Whether the model's inputs are arrays whose first dimension may vary.
pub(super) fn has_batch(interface: &Interface) -> bool {
    let varies = |array: &ArrayFeature| match &array.constraint {
        ShapeConstraint::Range(sizes) => sizes.first().is_some_and(|size| size.max != Some(size.min)),
        ShapeConstraint::Enumerated(shapes) => shapes
            .iter()
            .any(|shape| shape.first().is_some_and(|&rows| rows != shapes[0].first().copied().unwrap_or(rows))),
        _ => false,
    };
    let mut arrays = interface.inputs.iter().map(|feature| match &feature.kind {
        FeatureKind::MultiArray(array) => varies(array),
        _ => false,
    });
    interface.states.is_empty()
        && !interface.inputs.is_empty()
        && arrays.all(|varies| varies)
        && interface.outputs.iter().all(|feature| matches!(feature.kind, FeatureKind::MultiArray(_)))
}

/// Whether the model takes this many rows of inputs like `like`.
pub(super) fn admits(interface: &Interface, like: &[NamedTensor], rows: usize) -> bool {
    like.iter().all(|tensor| {
        let Some(FeatureKind::MultiArray(array)) = interface.input(&tensor.name).map(|feature| &feature.kind) else {
            return false;
        };
        match &array.constraint {
            ShapeConstraint::Range(sizes) => sizes.first().is_some_and(|size| size.contains(rows)),
            ShapeConstraint::Enumerated(shapes) => {
                let own = tensor.content.shape();
                shapes.iter().any(|shape| shape.first() == Some(&rows) && shape.get(1..) == own.get(1..))
            }
            _ => false,
        }
    })
}

/// Whether both can be rows of one prediction.
pub(super) fn alike(one: &[NamedTensor], other: &[NamedTensor]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| match (&one.content, &other.content) {
            (Content::Numbers(a), Content::Numbers(b)) => {
                let (a_dims, b_dims) = (a.shape(), b.shape());
                one.name == other.name
                    && a.dtype() == b.dtype()
                    && a_dims.dims().get(1..) == b_dims.dims().get(1..)
                    && !a_dims.dims().is_empty()
            }
            _ => false,
        })
}

/// The tensors of all requests combined, one for each input; `None` if they cannot be combined.
pub(super) fn together(parts: &[&[NamedTensor]]) -> Option<Inputs<'static>> {
    let first = parts.first()?;
    let mut inputs = Inputs::new();
    for (position, tensor) in first.iter().enumerate() {
        let tensors = parts.iter().map(|part| match &part.get(position)?.content {
            Content::Numbers(numbers) => Some(numbers),
            Content::Strings(..) => None,
        });
        let joined = join(&tensors.collect::<Option<Vec<_>>>()?)?;
        inputs = inputs.owned_tensor(&tensor.name, joined);
    }
    Some(inputs)
}

fn join(tensors: &[&Tensor]) -> Option<Tensor> {
    let first = tensors.first()?;
    let rows = tensors.iter().try_fold(0usize, |sum, tensor| sum.checked_add(*tensor.shape().dims().first()?))?;
    let mut bytes = Vec::with_capacity(tensors.iter().map(|tensor| tensor.view().as_bytes().len()).sum());
    tensors.iter().for_each(|tensor| bytes.extend_from_slice(tensor.view().as_bytes()));
    Tensor::from_bytes(first.dtype(), with_rows(first.shape(), rows)?, &bytes).ok()
}

fn with_rows(shape: Shape, rows: usize) -> Option<Shape> {
    let mut dims = shape.dims().to_vec();
    *dims.first_mut()? = rows;
    Shape::try_new(&dims).ok()
}

/// The answer to each of the requests with these numbers of rows; `None` if an output does not have a row for each.
pub(super) fn apart(outputs: &Outputs, rows: &[usize]) -> Option<Vec<Outputs>> {
    let all: usize = rows.iter().sum();
    let mut parts: Vec<Vec<(String, Value)>> = rows.iter().map(|_| Vec::new()).collect();
    for (name, value) in outputs.iter() {
        let Value::Tensor(tensor) = value else { return None };
        if tensor.shape().dims().first() != Some(&all) || all == 0 {
            return None;
        }
        let bytes = tensor.view().as_bytes();
        let (row, mut start) = (bytes.len() / all, 0);
        for (part, &rows) in parts.iter_mut().zip(rows) {
            let own = &bytes[start..start + rows * row];
            let tensor = Tensor::from_bytes(tensor.dtype(), with_rows(tensor.shape(), rows)?, own).ok()?;
            part.push((name.to_owned(), Value::Tensor(tensor)));
            start += rows * row;
        }
    }
    Some(parts.into_iter().map(Outputs::new).collect())
}

/// Whether the model answers two requests together as it answers them alone, to the precision of its arithmetic.
pub(super) fn agrees(session: &Session) -> bool {
    let interface = session.interface();
    let made = |seed: usize| {
        interface.inputs.iter().map(|feature| made(&feature.name, &feature.kind, seed)).collect::<Option<Vec<_>>>()
    };
    let (Some(one), Some(other)) = (made(1), made(2)) else { return false };
    let rows = |tensors: &[NamedTensor]| tensors.first().and_then(|tensor| tensor.content.shape().first().copied());
    let (Some(rows), true) = (rows(&one), alike(&one, &other)) else { return false };
    // Sizes that the model does not take cannot be tried, and will not be asked for.
    if !admits(interface, &one, 2 * rows) {
        return false;
    }
    let predict = |parts: &[&[NamedTensor]]| session.predict(&together(parts)?).ok();
    let (Some(a), Some(b), Some(both)) = (predict(&[&one]), predict(&[&other]), predict(&[&one, &other])) else {
        return false;
    };
    let Some(parts) = apart(&both, &[rows, rows]) else { return false };
    parts.iter().zip([&a, &b]).all(|(part, alone)| {
        part.iter().zip(alone.iter()).all(|((_, part), (_, alone))| match (part, alone) {
            (Value::Tensor(part), Value::Tensor(alone)) => close(part, alone),
            _ => false,
        })
    })
}

/// Numbers for an input that depend on where they are, on its default shape.
fn made(name: &str, kind: &FeatureKind, seed: usize) -> Option<NamedTensor> {
    let FeatureKind::MultiArray(array) = kind else { return None };
    let shape = Shape::try_new(&array.shape).ok()?;
    // Small integers: what is an index is more often than not one.
    let value = |i: usize| {
        if array.dtype.is_float() { ((i * 7 + seed * 13) % 17) as f64 / 8.0 - 1.0 } else { ((i + seed) % 2) as f64 }
    };
    let values = Tensor::new(shape, (0..shape.count()).map(value).collect()).ok()?;
    let tensor = coreml_anywhere::cast(values.view(), array.dtype)?;
    Some(NamedTensor { name: name.to_owned(), content: Content::Numbers(tensor), parameters: Default::default() })
}

fn close(one: &Tensor, other: &Tensor) -> bool {
    let (a, b) = (one.view().to_f64_vec(), other.view().to_f64_vec());
    let largest = b.iter().fold(1e-6f64, |largest, value| largest.max(value.abs()));
    one.shape() == other.shape()
        && a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-4 * largest || (a.is_nan() && b.is_nan()))
}
