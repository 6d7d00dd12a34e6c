//! Layers that make blobs: constants, ranges, one repeated number, random numbers.

use super::{Context, Lowered, Row, ints, row, size};
use crate::builder::{Arg, Blob, Builder};
use crate::error::ConvertError;

pub(super) static ROWS: &[Row] = &[
    row(290, "loadConstant", |c| {
        let shape = c.fields.uints(1)?.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let values = c.weights(2, &shape)?;
        let constant = c.builder.constant(values);
        // Channels, height and width, which the sequence and the batch come before in the old mapping.
        Ok(vec![match c.axes {
            Some(5) => c.builder.expand_dims(constant, vec![0, 1]),
            Some(_) => c.builder.expand_dims(constant, vec![0]),
            None => constant,
        }])
    }),
    row(1070, "loadConstantND", |c| {
        let shape = c.fields.uints(1)?.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let values = c.weights(2, &shape)?;
        Ok(vec![c.builder.constant(values)])
    }),
    row(1080, "fillLike", |c| {
        let (x, value) = (c.input(0)?, c.fields.float(1)?);
        Ok(vec![c.builder.op("fill_like", x.rank, vec![("ref_tensor", x.into()), ("value", value.into())])])
    }),
    row(1085, "fillStatic", |c| {
        let (value, shape) = (c.fields.float(1)?, Shape::of_file(c, 2)?);
        Ok(vec![fill(c.builder, shape, value)])
    }),
    row(1090, "fillDynamic", |c| {
        let (value, shape) = (c.fields.float(1)?, Shape::of_input(c, 0)?);
        let filled = fill(c.builder, shape, value);
        Ok(vec![c.ranked(filled)])
    }),
    row(1105, "broadcastToStatic", |c| {
        let shape = Shape::of_file(c, 1)?;
        broadcast(c, shape)
    }),
    row(1100, "broadcastToLike", |c| {
        let shape = Shape::of_blob(c, 1)?;
        broadcast(c, shape)
    }),
    row(1110, "broadcastToDynamic", |c| {
        let shape = Shape::of_input(c, 1)?;
        broadcast(c, shape)
    }),
    row(635, "rangeStatic", |c| {
        let (end, start, step) = (c.fields.float(1)?, c.fields.float(2)?, c.float_or(3, 1.0)?);
        range(c, [end.into(), start.into(), step.into()])
    }),
    row(640, "rangeDynamic", |c| {
        let (start, step) = (c.fields.float(2)?, c.float_or(3, 1.0)?);
        let or = |i: usize, default: f32| c.inputs.get(i).map_or(Arg::from(default), |&blob| blob.into());
        let numbers = [c.input(0)?.into(), or(1, start), or(2, step)];
        range(c, numbers)
    }),
    row(1170, "randomNormalLike", |c| random(c, Shape::of_blob, "random_normal", NORMAL)),
    row(1175, "randomNormalStatic", |c| random(c, |c, _| Shape::of_file(c, 4), "random_normal", NORMAL)),
    row(1180, "randomNormalDynamic", |c| random(c, Shape::of_input, "random_normal", NORMAL)),
    row(1190, "randomUniformLike", |c| random(c, Shape::of_blob, "random_uniform", UNIFORM)),
    row(1195, "randomUniformStatic", |c| random(c, |c, _| Shape::of_file(c, 4), "random_uniform", UNIFORM)),
    row(1200, "randomUniformDynamic", |c| random(c, Shape::of_input, "random_uniform", UNIFORM)),
    row(1210, "randomBernoulliLike", |c| random(c, Shape::of_blob, "random_bernoulli", BERNOULLI)),
    row(1215, "randomBernoulliStatic", |c| random(c, |c, _| Shape::of_file(c, 3), "random_bernoulli", BERNOULLI)),
    row(1220, "randomBernoulliDynamic", |c| random(c, Shape::of_input, "random_bernoulli", BERNOULLI)),
    row(1230, "categoricalDistribution", |c| {
        let mut x = c.input(0)?;
        let logits = c.fields.bool(3)?;
        let (epsilon, temperature) = (c.float_or(4, 1e-10)?, c.float_or(5, 1.0)?);
        if logits && temperature != 1.0 {
            x = c.builder.binary("real_div", x, temperature);
        } else if !logits {
            x = c.builder.binary("add", x, epsilon);
        }
        let mode = if logits { "logits" } else { "probs" };
        let size = super::int(c.fields.int(2)?.max(1))?;
        let inputs = vec![("x", x.into()), ("mode", mode.into()), ("size", size.into()), ("seed", seed(c)?.into())];
        Ok(vec![c.builder.op("random_categorical", x.rank, inputs)])
    }),
];

/// A shape as integers, which may be computed, and how many they are.
struct Shape {
    sizes: Arg,
    rank: usize,
}

impl Shape {
    /// The one in field `number`.
    fn of_file(c: &mut Context<'_>, number: u32) -> Result<Self, ConvertError> {
        let sizes = ints(&c.fields.uints(number)?)?;
        Ok(Self { rank: sizes.len(), sizes: sizes.into() })
    }

    /// The one in the elements of input `i`.
    fn of_input(c: &mut Context<'_>, i: usize) -> Result<Self, ConvertError> {
        let (sizes, rank) = c.vector(i)?;
        Ok(Self { sizes: sizes.into(), rank })
    }

    /// That of input `i`.
    fn of_blob(c: &mut Context<'_>, i: usize) -> Result<Self, ConvertError> {
        let x = c.input(i)?;
        Ok(Self { sizes: c.builder.op("shape", 1, vec![("x", x.into())]).into(), rank: x.rank })
    }
}

fn fill(builder: &mut Builder, shape: Shape, value: f32) -> Blob {
    builder.op("fill", shape.rank, vec![("shape", shape.sizes), ("value", value.into())])
}

/// The first input with the axes of `shape`.
fn broadcast(c: &mut Context<'_>, shape: Shape) -> Lowered {
    let x = c.input(0)?;
    let ones = fill(c.builder, shape, 1.0);
    let all = c.builder.binary("mul", x, ones);
    Ok(vec![c.ranked(all)])
}

/// From the second number up to the first in steps of the third.
fn range(c: &mut Context<'_>, [end, start, step]: [Arg; 3]) -> Lowered {
    Ok(vec![c.builder.op("range_1d", 1, vec![("end", end), ("start", start), ("step", step)])])
}

const NORMAL: &[&str] = &["mean", "stddev"];
const UNIFORM: &[&str] = &["low", "high"];
const BERNOULLI: &[&str] = &["prob"];

/// Numbers of a distribution whose `parameters` are the fields from 2 on.
fn random(
    c: &mut Context<'_>,
    shape: fn(&mut Context<'_>, usize) -> Result<Shape, ConvertError>,
    kind: &str,
    parameters: &[&'static str],
) -> Lowered {
    let shape = shape(c, 0)?;
    let mut inputs = vec![("shape", shape.sizes), ("seed", seed(c)?.into())];
    for (&name, number) in parameters.iter().zip(2..) {
        inputs.push((name, c.fields.float(number)?.into()));
    }
    let numbers = c.builder.op(kind, shape.rank, inputs);
    Ok(vec![c.ranked(numbers)])
}

/// What fixes the numbers; -1 for nothing. Which numbers a seed gives is the engine's matter, so any part of it serves.
fn seed(c: &Context<'_>) -> Result<i32, ConvertError> {
    let seed = c.fields.int(1)?;
    Ok(if seed == -1 { -1 } else { (seed & 0x7fff_ffff) as i32 })
}
