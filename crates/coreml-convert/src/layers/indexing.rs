//! Layers that find, order and pick elements. Blobs hold indices as floats, operations take integers.

use super::{Context, Lowered, Row, axis, int, row};
use crate::builder::{Arg, Builder};
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
        let numbers = c.builder.assumed(indices).last().copied().flatten();
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
        let (exclusive, reverse) = (c.fields.bool(2)?, c.fields.bool(3)?);
        let sum = |b: &mut Builder, along: i32| {
            let inputs = vec![
                ("x", x.into()),
                ("axis", along.into()),
                ("exclusive", exclusive.into()),
                ("reverse", reverse.into()),
            ];
            b.op("cumsum", x.rank, inputs)
        };
        if c.inputs.len() < 2 {
            let along = int(axis(c.fields.int(1)?, x.rank)?)?;
            return Ok(vec![sum(c.builder, along)]);
        }
        // The axis is computed: the sums along all axes, of which one is chosen.
        let along = c.number(1)?;
        let sums = (0..x.rank as i32).map(|along| sum(c.builder, along)).collect();
        let inputs = vec![("values", Arg::Blobs(sums)), ("axis", 0.into())];
        let sums = c.builder.op("stack", x.rank + 1, inputs);
        let inputs = vec![("x", sums.into()), ("indices", along.into()), ("axis", 0.into())];
        Ok(vec![c.builder.op("gather", x.rank, inputs)])
    }),
    row(1313, "whereNonZero", |c| {
        let x = c.input(0)?;
        let found = c.builder.op("non_zero", 2, vec![("x", x.into())]);
        Ok(vec![c.builder.cast(found, "fp32")])
    }),
    row(1025, "argMax", |c| extremum(c, "reduce_argmax")),
    row(1020, "argMin", |c| extremum(c, "reduce_argmin")),
    row(1320, "lowerTriangular", |c| {
        let k = diagonal(c)?;
        if k >= 0 { band(c, -1, k) } else { without_band(c, -1 - k, -1) }
    }),
    row(1325, "upperTriangular", |c| {
        let k = diagonal(c)?;
        if k <= 0 { band(c, -k, -1) } else { without_band(c, -1, k - 1) }
    }),
    row(1315, "matrixBandPart", |c| {
        // Below zero all diagonals are kept.
        let [lower, upper] = [c.fields.int(1)?, c.fields.int(2)?].map(|count| int(count.clamp(-1, i32::MAX.into())));
        band(c, lower?, upper?)
    }),
    row(1400, "NonMaximumSuppression", suppression),
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

/// Which diagonal a triangle ends at; beyond the size of any matrix it makes no difference.
fn diagonal(c: &Context<'_>) -> Result<i32, ConvertError> {
    const BEYOND: i64 = 1 << 30;
    int(c.fields.int(1)?.clamp(-BEYOND, BEYOND))
}

fn band(c: &mut Context<'_>, lower: i32, upper: i32) -> Lowered {
    let x = c.input(0)?;
    Ok(vec![c.builder.op("band_part", x.rank, vec![("x", x.into()), ("lower", lower.into()), ("upper", upper.into())])])
}

/// What a band leaves out, for triangles without the main diagonal.
fn without_band(c: &mut Context<'_>, lower: i32, upper: i32) -> Lowered {
    let x = c.input(0)?;
    let ones = c.builder.op("fill_like", x.rank, vec![("ref_tensor", x.into()), ("value", 1.0.into())]);
    let inputs = vec![("x", ones.into()), ("lower", lower.into()), ("upper", upper.into())];
    let inside = c.builder.op("band_part", x.rank, inputs);
    let outside = c.builder.binary("equal", inside, 0.0);
    Ok(vec![c.builder.op("select", x.rank, vec![("cond", outside.into()), ("a", x.into()), ("b", 0.0.into())])])
}

/// Boxes and their scores, and limits that inputs or else fields say.
fn suppression(c: &mut Context<'_>) -> Lowered {
    let (boxes, scores) = (c.input(0)?, c.input(1)?);
    let mut thresholds = [c.fields.float(1)?, c.fields.float(2)?].map(Arg::from);
    for (i, threshold) in thresholds.iter_mut().enumerate() {
        if let Some(&given) = c.inputs.get(2 + i) {
            *threshold = c.builder.reshape(given, Vec::new()).into();
        }
    }
    let [overlap, threshold] = thresholds;
    let max_boxes = if c.inputs.len() > 4 { c.number(4)?.into() } else { Arg::from(int(c.fields.uint(3)?)?) };
    let inputs = vec![
        ("boxes", boxes.into()),
        ("scores", scores.into()),
        ("iou_threshold", overlap),
        ("score_threshold", threshold),
        ("max_boxes", max_boxes),
        ("per_class_suppression", c.fields.bool(4)?.into()),
    ];
    let mut found = c.builder.many("neural_network:non_maximum_suppression", &[3, 3, 2, 1], inputs);
    for blob in &mut found[2..] {
        *blob = c.builder.cast(*blob, "fp32");
    }
    Ok(found)
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
