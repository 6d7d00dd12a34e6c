//! The types of layers: one file per family, whose table `ROWS` has a row for each type; [`FAMILIES`] lists the tables.

use coreml_model::{Fields, Layer};
use coreml_tensor::{MAX_RANK, Tensor};

use crate::builder::{Blob, Builder, tensor};
use crate::error::ConvertError;
use crate::flow::Step;
use crate::sizes::product;
use crate::weights::{Layout, weights};

mod activation;
mod convolution;
mod creation;
mod elementwise;
mod indexing;
mod matrix;
mod normalization;
mod recurrent;
mod reduction;
mod resizing;
mod shape;
mod slicing;
mod volume;

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

/// All families, by the name of the file they are in.
static FAMILIES: &[(&str, &[Row])] = &[
    ("activation", activation::ROWS),
    ("convolution", convolution::ROWS),
    ("creation", creation::ROWS),
    ("elementwise", elementwise::ROWS),
    ("indexing", indexing::ROWS),
    ("matrix", matrix::ROWS),
    ("normalization", normalization::ROWS),
    ("recurrent", recurrent::ROWS),
    ("reduction", reduction::ROWS),
    ("resizing", resizing::ROWS),
    ("shape", shape::ROWS),
    ("slicing", slicing::ROWS),
    ("volume", volume::ROWS),
];

/// Layers that decide which others are done; `flow` lowers them.
static FLOW: &[(u32, &str)] = &[
    (crate::flow::BRANCH, "branch"),
    (crate::flow::LOOP, "loop"),
    (crate::flow::BREAK, "loopBreak"),
    (crate::flow::CONTINUE, "loopContinue"),
];

/// A layer that runs code which no model file holds.
const CUSTOM: u32 = 500;

const WHY_CUSTOM: &str = "what it computes is code of the app that brings it, which no model file holds; \
                          convert the original model anew with operations that Core ML has";

/// A type of layer of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerInfo {
    /// Its number in the format.
    pub tag: u32,
    /// Its name in the format.
    pub name: &'static str,
    /// The family it belongs to, which is also the file it is in.
    pub family: &'static str,
    /// Why networks with it are refused, if they are.
    pub refused: Option<&'static str>,
}

/// Every type of layer, by family and in the order of its table.
pub fn layers() -> Vec<LayerInfo> {
    let supported = |tag, name, family| LayerInfo { tag, name, family, refused: None };
    let rows = FAMILIES.iter().flat_map(|&(family, rows)| rows.iter().map(move |row| (row, family)));
    let mut all: Vec<_> = rows.map(|(row, family)| supported(row.tag, row.name, family)).collect();
    all.extend(FLOW.iter().map(|&(tag, name)| supported(tag, name, "flow")));
    all.push(LayerInfo { tag: CUSTOM, name: "custom", family: "custom", refused: Some(WHY_CUSTOM) });
    all
}

/// Whether all layers count axes from the end, so that it makes no difference whether sequence and batch are one axis.
pub(crate) fn all_count_from_the_end(steps: &[Step<'_>]) -> Result<bool, ConvertError> {
    for Step { layer, nested, .. } in steps {
        let counts = match layer.tag {
            // Branches, loops and jumps.
            Some(605 | 615 | 620 | 625) => all_count_from_the_end(&nested[0])? && all_count_from_the_end(&nested[1])?,
            _ => counts_from_the_end(layer)?,
        };
        if !counts {
            return Ok(false);
        }
    }
    Ok(true)
}

fn counts_from_the_end(layer: &Layer<'_>) -> Result<bool, ConvertError> {
    Ok(match layer.tag {
        // Functions of elements, windows, normalisation, and shapes of old.
        Some(100..=190 | 200..=211 | 220..=280 | 301 | 330 | 345 | 350 | 600 | 660..=795 | 815..=905 | 1460) => true,
        // A constant of channels, height and width; a reshape of these.
        Some(290 | 300) => layer.fields.ints(1)?.len() == 3,
        Some(310) => layer.fields.uints(1)?.first() == Some(&0),
        Some(320) => !layer.fields.bool(100)?,
        Some(950) => (-3..0).contains(&layer.fields.int(1)?),
        _ => false,
    })
}

/// A layer being lowered.
pub(crate) struct Context<'a> {
    builder: &'a mut Builder,
    layer: &'a Layer<'a>,
    fields: Fields<'a>,
    inputs: Vec<Blob>,
    /// As many axes as all blobs of the network have, if they do.
    axes: Option<i32>,
}

/// `y`, whose first axis is the outer ones of `x`, with these.
fn unmerged(b: &mut Builder, y: Blob, x: Blob) -> Blob {
    let outer = b.sizes(x, 0, x.rank - 3);
    let inner = b.sizes(y, 1, 4);
    let shape = b.joined(vec![outer, inner]);
    let whole = b.shaped(y, shape, x.rank);
    let (outer, inner) = (b.assumed(x), b.assumed(y));
    b.assume(whole, Some([&outer[..x.rank - 3], &inner[1..]].concat()));
    b.merge(whole, y, x);
    whole
}

/// The axes of a blob before channels, height and width.
#[derive(Debug, Clone, Copy)]
enum Outer {
    None,
    One,
    /// More than one, those of this blob.
    Of(Blob),
}

impl Context<'_> {
    /// Input `i`, which the layer must have.
    fn input(&self, i: usize) -> Result<Blob, ConvertError> {
        let missing = || ConvertError::invalid(format!("has {} inputs, {} are needed", self.inputs.len(), i + 1));
        self.inputs.get(i).copied().ok_or_else(missing)
    }

    /// The weights of field `number`, row by row, scaled along the first axis.
    fn weights(&self, number: u32, dims: &[usize]) -> Result<Tensor, ConvertError> {
        self.weights_along(number, dims, 0)
    }

    /// As [`Context::weights`], scaled along another axis.
    fn weights_along(&self, number: u32, dims: &[usize], axis: usize) -> Result<Tensor, ConvertError> {
        let params = self.fields.message(number)?.unwrap_or_default();
        tensor(dims, weights(params, Layout::axis(dims, axis)?)?)
    }

    /// The number of axes of the result where it follows from sizes: it is `followed` as far as these are, or as the
    /// converter noted it. What it is taken for must go through [`Context::ranked`].
    fn expected_rank(&self, followed: Option<usize>) -> Result<usize, ConvertError> {
        let noted = || self.layer.noted_rank.and_then(|rank| usize::try_from(rank).ok());
        let rank = followed.or_else(noted).filter(|&rank| rank <= MAX_RANK);
        rank.ok_or_else(|| ConvertError::unsupported("the number of axes of the result is not told by the file"))
    }

    /// `x`, whose rank was expected.
    fn ranked(&mut self, x: Blob) -> Blob {
        self.builder.doubt_rank(x);
        x
    }

    /// The integers in input `i`, and how many there are.
    fn vector(&mut self, i: usize) -> Result<(Blob, usize), ConvertError> {
        let x = self.input(i)?;
        let known = product(&self.builder.assumed(x));
        let length = self.expected_rank(known)?;
        Ok((self.integers(i)?, length))
    }

    /// The integers in input `i`, in a row.
    fn integers(&mut self, i: usize) -> Result<Blob, ConvertError> {
        let x = self.input(i)?;
        let integers = self.builder.cast(x, "int32");
        Ok(self.builder.reshape(integers, vec![-1]))
    }

    /// The number in input `i`, as an integer.
    fn number(&mut self, i: usize) -> Result<Blob, ConvertError> {
        let x = self.input(i)?;
        let integer = self.builder.cast(x, "int32");
        Ok(self.builder.reshape(integer, Vec::new()))
    }

    /// The first input with the four axes of images, all before channels being one, and what they were.
    fn image(&mut self) -> Result<(Blob, Outer), ConvertError> {
        let x = self.input(0)?;
        match x.rank {
            4 => Ok((x, Outer::One)),
            3 => Ok((self.builder.expand_dims(x, vec![0]), Outer::None)),
            0..=2 => Err(ConvertError::invalid(format!("of a blob with {} axes, 3 are needed at least", x.rank))),
            rank => {
                if let Some((merged, outer)) = self.builder.merged(x) {
                    return Ok((merged, Outer::Of(outer)));
                }
                let all = self.builder.integers(vec![-1]);
                let inner = self.builder.sizes(x, rank - 3, rank);
                let shape = self.builder.joined(vec![all, inner]);
                let image = self.builder.shaped(x, shape, 4);
                let sizes = self.builder.assumed(x);
                let (outer, inner) = sizes.split_at(rank - 3);
                self.builder.assume(image, Some([&[product(outer)], inner].concat()));
                self.builder.merge(x, image, x);
                Ok((image, Outer::Of(x)))
            }
        }
    }

    /// The counterpart of [`Context::image`]: `y`, whose last three axes may have other sizes, with the outer axes.
    fn outer(&mut self, y: Blob, outer: Outer) -> Blob {
        match outer {
            Outer::One => y,
            Outer::None => self.builder.squeeze(y, vec![0]),
            Outer::Of(x) => unmerged(self.builder, y, x),
        }
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
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, ConvertError> {
    let resolved = usize::try_from(axis).ok().or_else(|| rank.checked_sub(usize::try_from(axis.unsigned_abs()).ok()?));
    let resolved = resolved.filter(|&axis| axis < rank);
    resolved.ok_or_else(|| ConvertError::invalid(format!("axis {axis} is out of range for {rank} axes")))
}

/// Adds a layer's operations to the program, and returns its results.
pub(crate) fn lower<'a>(
    builder: &mut Builder,
    axes: Option<i32>,
    layer: &Layer<'a>,
    inputs: Vec<Blob>,
) -> Result<Vec<Blob>, ConvertError> {
    let Some(tag) = layer.tag else {
        return Err(ConvertError::unsupported("is of no type that this library knows"));
    };
    if tag == CUSTOM {
        let class = layer.fields.text(10)?.escape_debug();
        return Err(ConvertError::unsupported(format!("`{class}` is a custom layer: {WHY_CUSTOM}")));
    }
    let row = FAMILIES.iter().flat_map(|(_, rows)| rows.iter()).find(|row| row.tag == tag);
    let row = row.ok_or_else(|| ConvertError::unsupported(format!("is of type {tag}, which is not known")))?;
    let mut inputs: Vec<_> = inputs.into_iter().map(|blob| builder.ranked(blob)).collect();
    // What was computed with the outer axes merged goes on so as long as it makes no difference: windows in a row need no
    // reshapes between them.
    let mut outer = None;
    if counts_from_the_end(layer)?
        && let Some(merged) = inputs.iter().map(|&x| builder.merged(x)).collect::<Option<Vec<_>>>()
        && let Some(&(_, first)) = merged.first()
        && merged.iter().all(|(_, outer)| outer.id == first.id)
    {
        inputs = merged.into_iter().map(|(blob, _)| blob).collect();
        outer = Some(first);
    }
    let mut context = Context { builder, layer, fields: layer.fields, inputs, axes };
    let mut given = (row.lower)(&mut context).map_err(|error| error.within(&format!("`{}`", row.name)))?;
    if given.len() < layer.outputs.len() {
        let message = format!("`{}`: gives {} blobs, the file names {}", row.name, given.len(), layer.outputs.len());
        return Err(ConvertError::invalid(message));
    }
    if let Some(outer) = outer {
        given = given.into_iter().map(|blob| unmerged(builder, blob, outer)).collect();
    }
    // More the engine has no tensors for, and what is lowered grows with them.
    if given.iter().any(|blob| blob.rank > MAX_RANK) {
        return Err(ConvertError::unsupported(format!("`{}`: gives a blob with more than {MAX_RANK} axes", row.name)));
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The types of layers of the format, by their number in `NeuralNetworkLayer`.
    const FORMAT: &[u32] = &[
        100, 120, 130, 140, 150, 160, 165, 170, 175, 180, 190, 200, 210, 211, 212, 220, 230, 231, 240, 245, 250, 260,
        261, 270, 280, 290, 300, 301, 310, 320, 330, 340, 345, 350, 400, 410, 420, 430, 500, 600, 605, 615, 620, 625,
        635, 640, 660, 665, 670, 680, 685, 700, 710, 715, 720, 730, 735, 740, 750, 755, 760, 770, 775, 780, 790, 795,
        815, 820, 825, 827, 830, 832, 840, 845, 850, 855, 865, 870, 875, 880, 885, 890, 895, 900, 905, 920, 925, 930,
        935, 940, 945, 950, 952, 954, 960, 965, 975, 980, 985, 995, 1000, 1005, 1015, 1020, 1025, 1040, 1045, 1065,
        1070, 1080, 1085, 1090, 1100, 1105, 1110, 1120, 1125, 1130, 1135, 1140, 1145, 1150, 1155, 1170, 1175, 1180,
        1190, 1195, 1200, 1210, 1215, 1220, 1230, 1250, 1255, 1260, 1265, 1270, 1275, 1280, 1285, 1290, 1295, 1313,
        1315, 1320, 1325, 1330, 1350, 1400, 1450, 1455, 1460, 1461, 1465, 1466, 1470, 1471,
    ];

    #[test]
    fn every_type_of_the_format_has_one_row() {
        let mut tags: Vec<_> = layers().iter().map(|layer| layer.tag).collect();
        tags.sort_unstable();
        assert_eq!(tags, FORMAT);
    }

    #[test]
    fn axes_count_from_either_end() {
        assert_eq!(axis(-1, 3), Ok(2));
        assert_eq!(axis(0, 3), Ok(0));
        assert!(axis(3, 3).is_err() && axis(-4, 3).is_err() && axis(i64::MIN, 3).is_err());
    }
}
