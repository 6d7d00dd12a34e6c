//! The types of layers, one file per family, one row of [`ROWS`] each.

use coreml_model::{Fields, Layer};

use crate::Blobs;
use crate::builder::{Blob, Builder};
use crate::error::ConvertError;

mod activation;
mod convolution;
mod elementwise;
mod indexing;
mod matrix;
mod normalization;
mod shape;

/// One type of layer.
pub(crate) struct Row {
    /// Its number in the format.
    tag: u32,
    name: &'static str,
    lower: fn(&mut Context<'_>) -> Lowered,
}

/// The blobs a layer gives, in order.
type Lowered = Result<Vec<Blob>, ConvertError>;

const fn row(tag: u32, name: &'static str, lower: fn(&mut Context<'_>) -> Lowered) -> Row {
    Row { tag, name, lower }
}

/// All families.
static ROWS: &[&[Row]] = &[
    activation::ROWS,
    convolution::ROWS,
    elementwise::ROWS,
    indexing::ROWS,
    matrix::ROWS,
    normalization::ROWS,
    shape::ROWS,
];

/// A layer being lowered.
pub(crate) struct Context<'a> {
    builder: &'a mut Builder,
    layer: &'a Layer<'a>,
    fields: Fields<'a>,
    inputs: Vec<Blob>,
}

impl Context<'_> {
    /// Input `i`, which the layer must have.
    fn input(&self, i: usize) -> Result<Blob, ConvertError> {
        let missing = || ConvertError::invalid(format!("has {} inputs, {} are needed", self.inputs.len(), i + 1));
        self.inputs.get(i).copied().ok_or_else(missing)
    }

    /// The rank of the result as the converter noted it, for layers whose own parameters do not tell.
    fn noted_rank(&self) -> Result<usize, ConvertError> {
        let rank = self.layer.noted_rank.and_then(|rank| usize::try_from(rank).ok());
        rank.ok_or_else(|| ConvertError::unsupported("the number of axes of the result is not told by the file"))
    }

    /// A size from the file.
    fn size(&self, number: u32) -> Result<usize, ConvertError> {
        size(self.fields.uint(number)?)
    }

    /// `default` where the file has 0, which stands for "not set".
    fn float_or(&self, number: u32, default: f32) -> Result<f32, ConvertError> {
        let value = self.fields.float(number)?;
        Ok(if value == 0.0 { default } else { value })
    }
}

fn size(value: u64) -> Result<usize, ConvertError> {
    let size = usize::try_from(value).ok().filter(|_| i32::try_from(value).is_ok());
    size.ok_or_else(|| ConvertError::invalid(format!("{value} is not a size")))
}

/// An integer parameter as operations take it.
fn int(value: impl TryInto<i32> + Copy + std::fmt::Display) -> Result<i32, ConvertError> {
    value.try_into().map_err(|_| ConvertError::invalid(format!("{value} is out of range")))
}

fn ints<T: TryInto<i32> + Copy + std::fmt::Display>(values: &[T]) -> Result<Vec<i32>, ConvertError> {
    values.iter().map(|&value| int(value)).collect()
}

/// `axis` counted from the front.
fn axis(axis: i64, rank: usize) -> Result<usize, ConvertError> {
    let resolved = usize::try_from(axis).ok().or_else(|| rank.checked_sub(usize::try_from(axis.unsigned_abs()).ok()?));
    let resolved = resolved.filter(|&axis| axis < rank);
    resolved.ok_or_else(|| ConvertError::invalid(format!("axis {axis} is out of range for {rank} axes")))
}

/// Adds what a layer computes to the program and its results to the blobs.
pub(crate) fn lower<'a>(builder: &mut Builder, blobs: &mut Blobs<'a>, layer: &Layer<'a>) -> Result<(), ConvertError> {
    let Some(tag) = layer.tag else {
        return Err(ConvertError::unsupported("is of no type that this library knows"));
    };
    if tag == 500 {
        let class = layer.fields.text(10)?.escape_debug();
        let message = format!(
            "`{class}` is a custom layer: what it computes is code of the app that brings it, which no model file holds; \
             convert the original model anew with operations that Core ML has"
        );
        return Err(ConvertError::unsupported(message));
    }
    let row = ROWS.iter().flat_map(|rows| rows.iter()).find(|row| row.tag == tag);
    let row = row.ok_or_else(|| ConvertError::unsupported(format!("layers of type {tag} are not supported yet")))?;
    let known = |name: &&str| {
        let blob = blobs.get(name).copied();
        blob.ok_or_else(|| {
            ConvertError::invalid(format!("takes `{}`, which nothing before gives", name.escape_debug()))
        })
    };
    let inputs = layer.inputs.iter().map(known).collect::<Result<_, _>>()?;
    let mut context = Context { builder, layer, fields: layer.fields, inputs };
    let given = (row.lower)(&mut context).map_err(|error| error.within(&format!("`{}`", row.name)))?;
    if given.len() < layer.outputs.len() {
        let message = format!("`{}`: gives {} blobs, the file names {}", row.name, given.len(), layer.outputs.len());
        return Err(ConvertError::invalid(message));
    }
    for (&name, blob) in layer.outputs.iter().zip(given) {
        blobs.insert(name, blob);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_one_row() {
        let mut tags: Vec<_> = ROWS.iter().flat_map(|rows| rows.iter()).map(|row| row.tag).collect();
        let count = tags.len();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), count);
    }

    #[test]
    fn axes_count_from_either_end() {
        assert_eq!(axis(-1, 3), Ok(2));
        assert_eq!(axis(0, 3), Ok(0));
        assert!(axis(3, 3).is_err() && axis(-4, 3).is_err() && axis(i64::MIN, 3).is_err());
    }
}
