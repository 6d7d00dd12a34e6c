//! Layers that find, order and pick elements. Blobs hold indices as floats, operations take integers.

use super::{Context, Lowered, Row, axis, int, row};
use crate::builder::Arg;
use crate::error::ConvertError;

pub(super) static ROWS: &[Row] = &[
    row(930, "gather", |c| {
        let (x, indices) = (c.input(0)?, c.input(1)?);
        let along = axis(c.fields.int(1)?, x.rank)?;
        let rank = x.rank + indices.rank - 1;
        let indices = c.builder.cast(indices, "int32");
        let inputs = vec![("x", x.into()), ("indices", indices.into()), ("axis", int(along)?.into())];
        Ok(vec![c.builder.op("gather", rank, inputs)])
    }),
    row(952, "gatherAlongAxis", |c| {
        let (x, indices) = (c.input(0)?, c.input(1)?);
        let along = axis(c.fields.int(1)?, x.rank)?;
        let indices = c.builder.cast(indices, "int32");
        let inputs = vec![("x", x.into()), ("indices", indices.into()), ("axis", int(along)?.into())];
        Ok(vec![c.builder.op("gather_along_axis", x.rank, inputs)])
    }),
    row(940, "gatherND", |c| {
        let (x, indices) = (c.input(0)?, c.input(1)?);
        // As many axes of the blob are picked from as an index has numbers.
        let numbers = c.builder.assumed(indices).and_then(|sizes| *sizes.last()?);
        let followed = numbers.and_then(|numbers| (x.rank + indices.rank).checked_sub(numbers + 1));
        let rank = c.expected_rank(followed)?;
        let indices = c.builder.cast(indices, "int32");
        let found = c.builder.op("gather_nd", rank, vec![("x", x.into()), ("indices", indices.into())]);
        Ok(vec![c.ranked(found)])
    }),
    row(935, "scatter", |c| scatter(c, "scatter", Some(1), 2)),
    row(954, "scatterAlongAxis", |c| scatter(c, "scatter_along_axis", Some(1), 2)),
    row(945, "scatterND", |c| scatter(c, "scatter_nd", None, 1)),
    row(1461, "argSort", |c| {
        let x = c.input(0)?;
        let along = int(axis(c.fields.int(1)?, x.rank)?)?;
        let ascending = !c.fields.bool(2)?;
        let inputs = vec![("x", x.into()), ("axis", along.into()), ("ascending", ascending.into())];
        let order = c.builder.op("argsort", x.rank, inputs);
        Ok(vec![c.builder.cast(order, "fp32")])
    }),
    row(1015, "topK", |c| {
        let x = c.input(0)?;
        let along = int(axis(c.fields.int(1)?, x.rank)?)?;
        let k = match c.inputs.len() {
            1 => Arg::from(int(c.fields.uint(2)?)?),
            _ => Arg::from(c.number(1)?),
        };
        let ascending = c.fields.bool(3)?;
        let inputs = vec![("x", x.into()), ("k", k), ("axis", along.into()), ("ascending", ascending.into())];
        let found = c.builder.many("topk", &[x.rank, x.rank], inputs);
        Ok(vec![found[0], c.builder.cast(found[1], "fp32")])
    }),
    row(1450, "oneHot", |c| {
        let x = c.input(0)?;
        let along = int(axis(c.fields.int(2)?, x.rank + 1)?)?;
        let (on, off) = (c.fields.float(3)?, c.fields.float(4)?);
        let size = match c.inputs.len() {
            1 => int(c.fields.uint(1)?)?.into(),
            _ => Arg::from(c.number(1)?),
        };
        let indices = c.builder.cast(x, "int32");
        let inputs = vec![
            ("indices", indices.into()),
            ("one_hot_vector_size", size),
            ("axis", along.into()),
            ("on_value", on.into()),
            ("off_value", off.into()),
        ];
        Ok(vec![c.builder.op("one_hot", x.rank + 1, inputs)])
    }),
    row(1455, "cumSum", |c| {
        let x = c.input(0)?;
        if c.inputs.len() > 1 {
            return Err(ConvertError::unsupported("with an axis computed at run time is not supported yet"));
        }
        let along = int(axis(c.fields.int(1)?, x.rank)?)?;
        let (exclusive, reverse) = (c.fields.bool(2)?, c.fields.bool(3)?);
        let inputs =
            vec![("x", x.into()), ("axis", along.into()), ("exclusive", exclusive.into()), ("reverse", reverse.into())];
        Ok(vec![c.builder.op("cumsum", x.rank, inputs)])
    }),
    row(1313, "whereNonZero", |c| {
        let x = c.input(0)?;
        let found = c.builder.op("non_zero", 2, vec![("x", x.into())]);
        Ok(vec![c.builder.cast(found, "fp32")])
    }),
    row(1025, "argMax", |c| extremum(c, "reduce_argmax")),
    row(1020, "argMin", |c| extremum(c, "reduce_argmin")),
    row(1320, "lowerTriangular", |c| band(c, |k| if k >= 0 { Some((-1, k)) } else { None })),
    row(1325, "upperTriangular", |c| band(c, |k| if k <= 0 { Some((-k, -1)) } else { None })),
    row(1315, "matrixBandPart", |c| {
        let (lower, upper) = (c.fields.int(1)?, c.fields.int(2)?);
        let x = c.input(0)?;
        let inputs = vec![("x", x.into()), ("lower", int(lower)?.into()), ("upper", int(upper)?.into())];
        Ok(vec![c.builder.op("band_part", x.rank, inputs)])
    }),
];

fn extremum(c: &mut Context<'_>, kind: &str) -> Lowered {
    let x = c.input(0)?;
    if x.rank == 0 {
        return Err(ConvertError::invalid("of a blob without axes"));
    }
    let along = axis(c.fields.int(1)?, x.rank)?;
    let keep = !c.fields.bool(2)? || x.rank == 1;
    let rank = if keep { x.rank } else { x.rank - 1 };
    let inputs = vec![("x", x.into()), ("axis", int(along)?.into()), ("keep_dims", keep.into())];
    let found = c.builder.op(kind, rank, inputs);
    Ok(vec![c.builder.cast(found, "fp32")])
}

/// What a triangle from diagonal `k` on keeps below and above the main diagonal, where a band can say it.
fn band(c: &mut Context<'_>, kept: fn(i32) -> Option<(i32, i32)>) -> Lowered {
    let (x, k) = (c.input(0)?, int(c.fields.int(1)?)?);
    let Some((lower, upper)) = kept(k) else {
        return Err(ConvertError::unsupported("of a triangle without the main diagonal is not supported yet"));
    };
    Ok(vec![c.builder.op("band_part", x.rank, vec![("x", x.into()), ("lower", lower.into()), ("upper", upper.into())])])
}

/// Container, indices and updates; `axis` and `mode` are the numbers of the fields.
fn scatter(c: &mut Context<'_>, kind: &str, axis_field: Option<u32>, mode: u32) -> Lowered {
    let (x, indices, updates) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let mode = match c.fields.uint(mode)? {
        0 => "update",
        1 => "add",
        2 => "sub",
        3 => "mul",
        4 => "div",
        5 => "max",
        _ => "min",
    };
    let indices = c.builder.cast(indices, "int32");
    let mut inputs =
        vec![("data", x.into()), ("indices", indices.into()), ("updates", updates.into()), ("mode", mode.into())];
    if let Some(field) = axis_field {
        inputs.push(("axis", int(axis(c.fields.int(field)?, x.rank)?)?.into()));
    }
    Ok(vec![c.builder.op(kind, x.rank, inputs)])
}
