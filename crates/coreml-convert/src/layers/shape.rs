//! Layers that move elements: reshaping, joining, cutting, filling, reducing.

use super::{Context, Lowered, Row, axis, int, ints, row, size};
use crate::builder::{Blob, tensor};
use crate::error::ConvertError;
use crate::weights::{Layout, weights};

pub(super) static ROWS: &[Row] = &[
    row(300, "reshape", |c| {
        let x = four_axes(c)?;
        let mut target = ints(&c.fields.ints(1)?)?;
        if target.len() == 3 {
            target.insert(0, -1);
        }
        let &[sequence, channels, height, width] = target.as_slice() else {
            return Err(ConvertError::invalid("the target shape must have 3 or 4 axes"));
        };
        if c.fields.uint(2)? == 0 {
            return Ok(vec![c.builder.reshape(x, target)]);
        }
        let last = c.builder.transpose(x, vec![0, 2, 3, 1]);
        let last = c.builder.reshape(last, vec![sequence, height, width, channels]);
        Ok(vec![c.builder.transpose(last, vec![0, 3, 1, 2])])
    }),
    row(301, "flatten", |c| {
        let mut x = four_axes(c)?;
        if c.fields.uint(1)? == 1 {
            x = c.builder.transpose(x, vec![0, 2, 3, 1]);
        }
        let flat = c.builder.op("flatten2d", 2, vec![("x", x.into()), ("axis", 1.into())]);
        Ok(vec![c.builder.op("expand_dims", 4, vec![("x", flat.into()), ("axes", vec![2, 3].into())])])
    }),
    row(310, "permute", |c| {
        let x = four_axes(c)?;
        let perm = ints(&c.fields.uints(1)?)?;
        Ok(vec![c.builder.transpose(x, perm)])
    }),
    row(320, "concat", |c| {
        let rank = c.input(0)?.rank;
        let along = if c.fields.bool(100)? { 0 } else { axis(-3, rank)? };
        concat(c, along, false)
    }),
    row(330, "split", |c| {
        let (x, parts) = (c.input(0)?, c.size(1)?);
        split(c, x, axis(-3, x.rank)?, int(parts)?, parts)
    }),
    row(350, "slice", |c| {
        let x = c.input(0)?;
        let along = match c.fields.uint(4)? {
            0 => -3,
            1 => -2,
            _ => -1,
        };
        let along = axis(along, x.rank)?;
        let (begin, end) = (int(c.fields.int(1)?)?, int(c.fields.int(2)?)?);
        let stride = int(c.fields.uint(3)?.max(1))?;
        let only =
            |value: i32, other: i32| (0..x.rank).map(|i| if i == along { value } else { other }).collect::<Vec<_>>();
        let open: Vec<bool> = (0..x.rank).map(|i| i != along).collect();
        let inputs = vec![
            ("x", x.into()),
            ("begin", only(begin, 0).into()),
            ("end", only(end, 0).into()),
            ("stride", only(stride, 1).into()),
            ("begin_mask", open.clone().into()),
            ("end_mask", open.into()),
        ];
        Ok(vec![c.builder.op("slice_by_index", x.rank, inputs)])
    }),
    row(345, "reorganizeData", |c| {
        let x = four_axes(c)?;
        let block = int(c.size(2)?)?;
        let (kind, parameter) = match c.fields.uint(1)? {
            0 => ("space_to_depth", "block_size"),
            1 => ("depth_to_space", "block_size"),
            _ => ("pixel_shuffle", "upscale_factor"),
        };
        Ok(vec![c.builder.op(kind, 4, vec![("x", x.into()), (parameter, block.into())])])
    }),
    row(290, "loadConstant", |c| {
        let mut shape = c.fields.uints(1)?.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let values = weights(c.fields.message(2)?.unwrap_or_default(), Layout::rows(&shape)?)?;
        shape.insert(0, 1);
        Ok(vec![c.builder.constant(tensor(&shape, values)?)])
    }),
    row(1070, "loadConstantND", |c| {
        let shape = c.fields.uints(1)?.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let values = weights(c.fields.message(2)?.unwrap_or_default(), Layout::rows(&shape)?)?;
        Ok(vec![c.builder.constant(tensor(&shape, values)?)])
    }),
    row(985, "transpose", |c| {
        let x = c.input(0)?;
        let axes = c.fields.ints(1)?.into_iter().map(|i| int(axis(i, x.rank)?)).collect::<Result<Vec<_>, _>>()?;
        Ok(vec![c.builder.transpose(x, axes)])
    }),
    row(980, "concatND", |c| {
        let along = axis(c.fields.int(1)?, c.input(0)?.rank)?;
        let interleave = c.fields.bool(2)?;
        concat(c, along, interleave)
    }),
    row(925, "stack", |c| {
        let rank = c.input(0)?.rank + 1;
        let along = int(axis(c.fields.int(1)?, rank)?)?;
        let values = crate::builder::Arg::Blobs(c.inputs.clone());
        Ok(vec![c.builder.op("stack", rank, vec![("values", values), ("axis", along.into())])])
    }),
    row(975, "splitND", |c| {
        let x = c.input(0)?;
        let along = axis(c.fields.int(1)?, x.rank)?;
        let sizes = ints(&c.fields.uints(3)?)?;
        if sizes.is_empty() {
            let parts = c.size(2)?;
            return split(c, x, along, int(parts)?, parts);
        }
        let ranks = vec![x.rank; sizes.len()];
        let inputs = vec![("x", x.into()), ("split_sizes", sizes.into()), ("axis", int(along)?.into())];
        Ok(c.builder.many("split", &ranks, inputs))
    }),
    row(1125, "expandDims", |c| {
        let x = c.input(0)?;
        let axes = c.fields.ints(1)?;
        let rank = x.rank + axes.len();
        let axes = axes.into_iter().map(|i| int(axis(i, rank)?)).collect::<Result<Vec<_>, _>>()?;
        Ok(vec![c.builder.op("expand_dims", rank, vec![("x", x.into()), ("axes", axes.into())])])
    }),
    row(1120, "squeeze", |c| {
        let x = c.input(0)?;
        let axes = c.fields.ints(1)?;
        if c.fields.bool(2)? || axes.is_empty() {
            // What is left is told by the sizes, which only the converter knew; it is never nothing.
            return match c.noted_rank()?.max(1) {
                1 => Ok(vec![c.builder.reshape(x, vec![-1])]),
                rank => Ok(vec![c.builder.op("squeeze", rank, vec![("x", x.into())])]),
            };
        }
        if axes.len() >= x.rank {
            return Ok(vec![c.builder.reshape(x, vec![-1])]);
        }
        let axes = axes.into_iter().map(|i| int(axis(i, x.rank)?)).collect::<Result<Vec<_>, _>>()?;
        let rank = x.rank - axes.len();
        Ok(vec![c.builder.op("squeeze", rank, vec![("x", x.into()), ("axes", axes.into())])])
    }),
    row(1130, "flattenTo2D", |c| {
        let x = c.input(0)?;
        let along = int(c.fields.int(1)?)?;
        Ok(vec![c.builder.op("flatten2d", 2, vec![("x", x.into()), ("axis", along.into())])])
    }),
    row(1140, "reshapeStatic", |c| {
        let (x, shape) = (c.input(0)?, ints(&c.fields.ints(1)?)?);
        Ok(vec![c.builder.reshape(x, shape)])
    }),
    row(1135, "reshapeLike", |c| {
        let (x, like) = (c.input(0)?, c.input(1)?);
        let shape = c.builder.op("shape", 1, vec![("x", like.into())]);
        Ok(vec![c.builder.op("reshape", like.rank, vec![("x", x.into()), ("shape", shape.into())])])
    }),
    row(1065, "getShape", |c| {
        let x = c.input(0)?;
        let shape = c.builder.op("shape", 1, vec![("x", x.into())]);
        Ok(vec![c.builder.cast(shape, "fp32")])
    }),
    row(960, "reverse", |c| {
        let x = c.input(0)?;
        let flags = c.fields.uints(1)?.into_iter().enumerate();
        let axes = flags.filter(|&(_, flag)| flag != 0).map(|(i, _)| int(i)).collect::<Result<Vec<_>, _>>()?;
        if axes.is_empty() {
            return Ok(vec![c.builder.unary("identity", x)]);
        }
        Ok(vec![c.builder.op("reverse", x.rank, vec![("x", x.into()), ("axes", axes.into())])])
    }),
    row(995, "sliceStatic", |c| {
        let x = c.input(0)?;
        let masks = |number: u32| -> Result<Vec<bool>, ConvertError> {
            let mut masks: Vec<bool> = c.fields.uints(number)?.into_iter().map(|flag| flag != 0).collect();
            masks.resize(x.rank, false);
            Ok(masks)
        };
        let (begin_mask, end_mask, squeeze) = (masks(2)?, masks(4)?, masks(6)?);
        let numbers = |number: u32| ints(&c.fields.ints(number)?);
        let (begin, end, stride) = (numbers(1)?, numbers(3)?, numbers(5)?);
        let dropped = squeeze.iter().filter(|&&mask| mask).count();
        let inputs = vec![
            ("x", x.into()),
            ("begin", begin.into()),
            ("end", end.into()),
            ("stride", stride.into()),
            ("begin_mask", begin_mask.into()),
            ("end_mask", end_mask.into()),
            ("squeeze_mask", squeeze.into()),
        ];
        let slice = c.builder.op("slice_by_index", x.rank - dropped, inputs);
        Ok(vec![if dropped == x.rank { c.builder.reshape(slice, vec![-1]) } else { slice }])
    }),
    row(920, "tile", |c| {
        let x = c.input(0)?;
        let mut reps = ints(&c.fields.uints(1)?)?;
        if c.inputs.len() > 1 || reps.len() > x.rank {
            return Err(ConvertError::unsupported("with other counts than one for each axis is not supported yet"));
        }
        while reps.len() < x.rank {
            reps.insert(0, 1);
        }
        Ok(vec![c.builder.op("tile", x.rank, vec![("x", x.into()), ("reps", reps.into())])])
    }),
    row(1105, "broadcastToStatic", |c| {
        let shape = ints(&c.fields.uints(1)?)?;
        let zeros = c.builder.op("fill", shape.len(), vec![("shape", shape.into()), ("value", 0.0.into())]);
        let x = c.input(0)?;
        Ok(vec![c.builder.binary("add", x, zeros)])
    }),
    row(1100, "broadcastToLike", |c| {
        let (x, like) = (c.input(0)?, c.input(1)?);
        let inputs = vec![("ref_tensor", like.into()), ("value", 0.0.into())];
        let zeros = c.builder.op("fill_like", like.rank, inputs);
        Ok(vec![c.builder.binary("add", x, zeros)])
    }),
    row(1080, "fillLike", |c| {
        let (x, value) = (c.input(0)?, c.fields.float(1)?);
        Ok(vec![c.builder.op("fill_like", x.rank, vec![("ref_tensor", x.into()), ("value", value.into())])])
    }),
    row(1085, "fillStatic", |c| {
        let (value, shape) = (c.fields.float(1)?, ints(&c.fields.uints(2)?)?);
        Ok(vec![c.builder.op("fill", shape.len(), vec![("shape", shape.into()), ("value", value.into())])])
    }),
    row(1155, "constantPad", |c| {
        let x = c.input(0)?;
        if c.inputs.len() > 1 || c.fields.bool(3)? {
            return Err(ConvertError::unsupported("to a size or by amounts of run time is not supported yet"));
        }
        let (value, pad) = (c.fields.float(1)?, ints(&c.fields.uints(2)?)?);
        let inputs =
            vec![("x", x.into()), ("pad", pad.into()), ("mode", "constant".into()), ("constant_val", value.into())];
        Ok(vec![c.builder.op("pad", x.rank, inputs)])
    }),
    row(1005, "slidingWindows", |c| {
        let x = c.input(0)?;
        let along = int(axis(c.fields.int(1)?, x.rank)?)?;
        let (window, step) = (int(c.fields.uint(2)?)?, int(c.fields.uint(3)?)?);
        let inputs = vec![("x", x.into()), ("axis", along.into()), ("size", window.into()), ("stride", step.into())];
        Ok(vec![c.builder.op("sliding_windows", x.rank + 1, inputs)])
    }),
    row(965, "reverseSeq", |c| {
        let (x, lengths) = (c.input(0)?, c.input(1)?);
        let batch = int(axis(c.fields.int(1)?, x.rank)?)?;
        let sequence = int(axis(c.fields.int(2)?, x.rank)?)?;
        let lengths = c.builder.cast(lengths, "int32");
        let inputs = vec![
            ("x", x.into()),
            ("lengths", lengths.into()),
            ("seq_axis", sequence.into()),
            ("batch_axis", batch.into()),
        ];
        Ok(vec![c.builder.op("reverse_sequence", x.rank, inputs)])
    }),
    row(190, "crop", |c| {
        let x = c.input(0)?;
        if c.inputs.len() > 1 || x.rank < 2 {
            return Err(ConvertError::unsupported("to the size of a second blob is not supported yet"));
        }
        let edges = c.fields.message(1)?.unwrap_or_default().messages(10)?;
        let (mut begin, mut end) = (vec![0; x.rank], vec![0; x.rank]);
        let mut open = vec![true; x.rank];
        for (edge, at) in edges.iter().zip(x.rank - 2..x.rank) {
            begin[at] = int(edge.uint(1)?)?;
            end[at] = -int(edge.uint(2)?)?;
            open[at] = end[at] == 0;
        }
        let inputs = vec![("x", x.into()), ("begin", begin.into()), ("end", end.into()), ("end_mask", open.into())];
        Ok(vec![c.builder.op("slice_by_index", x.rank, inputs)])
    }),
    row(280, "reduce", |c| {
        let x = c.input(0)?;
        let axes = match c.fields.uint(3)? {
            0 => vec![-3, -2, -1],
            1 => vec![-2, -1],
            2 => vec![-3],
            3 => vec![-2],
            _ => vec![-1],
        };
        let epsilon = c.float_or(2, 1e-6)?;
        let kind = match c.fields.uint(1)? {
            0 => "reduce_sum",
            1 => "reduce_mean",
            2 => "reduce_prod",
            3 => {
                // A sum of logarithms, unlike `reduceLogSum`.
                let inputs = vec![("x", x.into()), ("epsilon", epsilon.into())];
                let logarithms = c.builder.op("log", x.rank, inputs);
                return Ok(vec![c.builder.reduce("reduce_sum", logarithms, axes)]);
            }
            4 => "reduce_sum_square",
            5 => "reduce_l1_norm",
            6 => "reduce_l2_norm",
            7 => "reduce_max",
            8 => "reduce_min",
            _ => {
                let inputs = vec![("x", x.into()), ("axis", axes[0].into()), ("keep_dims", true.into())];
                let found = c.builder.op("reduce_argmax", x.rank, inputs);
                return Ok(vec![c.builder.cast(found, "fp32")]);
            }
        };
        Ok(vec![c.builder.reduce(kind, x, axes)])
    }),
    row(1270, "reduceSum", |c| reduce(c, "reduce_sum")),
    row(1280, "reduceMean", |c| reduce(c, "reduce_mean")),
    row(1275, "reduceProd", |c| reduce(c, "reduce_prod")),
    row(1260, "reduceMax", |c| reduce(c, "reduce_max")),
    row(1265, "reduceMin", |c| reduce(c, "reduce_min")),
    row(1250, "reduceL1", |c| reduce(c, "reduce_l1_norm")),
    row(1255, "reduceL2", |c| reduce(c, "reduce_l2_norm")),
    row(1290, "reduceSumSquare", |c| reduce(c, "reduce_sum_square")),
    row(1285, "reduceLogSum", |c| reduce(c, "reduce_log_sum")),
    row(1295, "reduceLogSumExp", |c| reduce(c, "reduce_log_sum_exp")),
];

/// The first input, which must have the four axes sequence, channels, height and width.
fn four_axes(c: &Context<'_>) -> Result<Blob, ConvertError> {
    let x = c.input(0)?;
    if x.rank == 4 {
        return Ok(x);
    }
    Err(ConvertError::unsupported(format!("of a blob with {} axes, only 4 are supported yet", x.rank)))
}

fn concat(c: &mut Context<'_>, along: usize, interleave: bool) -> Lowered {
    let rank = c.input(0)?.rank;
    let values = crate::builder::Arg::Blobs(c.inputs.clone());
    let inputs = vec![("values", values), ("axis", int(along)?.into()), ("interleave", interleave.into())];
    Ok(vec![c.builder.op("concat", rank, inputs)])
}

fn split(c: &mut Context<'_>, x: Blob, along: usize, parts: i32, count: usize) -> Lowered {
    // As many results as the file names, or it is refused: a number from the file allocates nothing by itself.
    if count != c.layer.outputs.len() {
        return Err(ConvertError::invalid(format!("splits into {count}, names {}", c.layer.outputs.len())));
    }
    let inputs = vec![("x", x.into()), ("num_splits", parts.into()), ("axis", int(along)?.into())];
    Ok(c.builder.many("split", &vec![x.rank; count], inputs))
}

/// The reductions of exact shapes: along `axes` or all.
fn reduce(c: &mut Context<'_>, kind: &str) -> Lowered {
    let x = c.input(0)?;
    let keep = c.fields.bool(2)?;
    let given = c.fields.ints(1)?;
    let axes: Vec<usize> = if c.fields.bool(3)? || given.is_empty() {
        (0..x.rank).collect()
    } else {
        given.into_iter().map(|i| axis(i, x.rank)).collect::<Result<_, _>>()?
    };
    let rank = if keep { x.rank } else { x.rank.saturating_sub(axes.len()) };
    let inputs = vec![("x", x.into()), ("axes", ints(&axes)?.into()), ("keep_dims", keep.into())];
    let reduced = c.builder.op(kind, rank, inputs);
    // There are no blobs without axes.
    Ok(vec![if rank == 0 { c.builder.reshape(reduced, vec![1]) } else { reduced }])
}
