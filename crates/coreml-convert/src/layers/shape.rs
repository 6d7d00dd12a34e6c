//! Layers that move elements: reshaping, reordering, joining, splitting, repeating, padding.

use super::{Context, Lowered, Row, axis, int, ints, row};
use crate::builder::{Arg, Blob};
use crate::error::ConvertError;

pub(super) static ROWS: &[Row] = &[
    row(300, "reshape", reshape),
    row(301, "flatten", |c| {
        let (mut x, outer) = c.image()?;
        if c.fields.uint(1)? == 1 {
            x = c.builder.transpose(x, vec![0, 2, 3, 1]);
        }
        let flat = c.builder.op("flatten2d", 2, vec![("x", x.into()), ("axis", 1.into())]);
        let flat = c.builder.expand_dims(flat, vec![2, 3]);
        Ok(vec![c.outer(flat, outer)])
    }),
    row(310, "permute", |c| {
        let x = c.input(0)?;
        let order = c.fields.uints(1)?.into_iter().map(|i| axis(int(i)?.into(), 4)).collect::<Result<Vec<_>, _>>()?;
        if order.len() != 4 {
            return Err(ConvertError::invalid("must order the four axes sequence, channels, height and width"));
        }
        match x.rank {
            4 => Ok(vec![c.builder.transpose(x, ints(&order)?)]),
            5 => {
                // The batch stays second.
                let place = |i: usize| if i == 0 { 0 } else { i as i32 + 1 };
                let order = [place(order[0]), 1, place(order[1]), place(order[2]), place(order[3])];
                Ok(vec![c.builder.transpose(x, order.to_vec())])
            }
            3 if order[0] == 0 => {
                let order = order[1..].iter().map(|&i| i as i32 - 1).collect();
                Ok(vec![c.builder.transpose(x, order)])
            }
            rank => Err(ConvertError::unsupported(format!("of a blob with {rank} axes"))),
        }
    }),
    row(340, "sequenceRepeat", |c| {
        let x = c.input(0)?;
        let mut reps = vec![1; x.rank];
        reps[axis(-5, x.rank)?] = int(c.fields.uint(1)?.max(1))?;
        Ok(vec![c.builder.op("tile", x.rank, vec![("x", x.into()), ("reps", reps.into())])])
    }),
    row(345, "reorganizeData", |c| {
        let (x, outer) = c.image()?;
        let block = int(c.size(2)?)?;
        let (kind, parameter) = match c.fields.uint(1)? {
            0 => ("space_to_depth", "block_size"),
            1 => ("depth_to_space", "block_size"),
            _ => ("pixel_shuffle", "upscale_factor"),
        };
        let y = c.builder.op(kind, 4, vec![("x", x.into()), (parameter, block.into())]);
        Ok(vec![c.outer(y, outer)])
    }),
    row(920, "tile", |c| {
        let x = c.input(0)?;
        let (reps, count) = match c.inputs.len() {
            1 => {
                let reps = ints(&c.fields.uints(1)?)?;
                (c.builder.integers(reps.clone()), reps.len())
            }
            _ => c.vector(1)?,
        };
        // As many counts as axes: the shorter of both is continued in front.
        let rank = x.rank.max(count);
        let ones = c.builder.integers(vec![1; rank - count]);
        let reps = c.builder.joined(vec![ones, reps]);
        let x = if rank > x.rank { c.builder.expand_dims(x, (0..(rank - x.rank) as i32).collect()) } else { x };
        Ok(vec![c.builder.op("tile", rank, vec![("x", x.into()), ("reps", reps.into())])])
    }),
    row(1155, "constantPad", |c| {
        let x = c.input(0)?;
        let mut pad = match c.inputs.len() {
            1 => {
                let pad = ints(&c.fields.uints(2)?)?;
                c.builder.integers(pad)
            }
            _ => c.integers(1)?,
        };
        if c.fields.bool(3)? {
            // Each number is a wanted size, or 0 for none: what is missing to it.
            let sizes = c.builder.sizes(x, 0, x.rank);
            let twice = c.builder.op("stack", 2, vec![("values", Arg::Blobs(vec![sizes; 2])), ("axis", 1.into())]);
            let twice = c.builder.reshape(twice, vec![-1]);
            let missing = c.builder.binary("sub", pad, twice);
            pad = c.builder.binary("maximum", missing, 0);
        }
        let value = c.fields.float(1)?;
        let inputs =
            vec![("x", x.into()), ("pad", pad.into()), ("mode", "constant".into()), ("constant_val", value.into())];
        Ok(vec![c.builder.op("pad", x.rank, inputs)])
    }),
    row(1120, "squeeze", |c| {
        let x = c.input(0)?;
        let axes = c.fields.ints(1)?;
        if c.fields.bool(2)? || axes.is_empty() {
            // What is left is told by the sizes; it is never nothing.
            let sizes = c.builder.assumed(x);
            let known = sizes.iter().all(Option::is_some);
            let left = known.then(|| sizes.iter().filter(|&&size| size != Some(1)).count());
            let squeezed = match c.expected_rank(left)?.max(1) {
                1 => c.builder.reshape(x, vec![-1]),
                rank => c.builder.op("squeeze", rank, vec![("x", x.into())]),
            };
            return Ok(vec![c.ranked(squeezed)]);
        }
        if axes.len() >= x.rank {
            return Ok(vec![c.builder.reshape(x, vec![-1])]);
        }
        let axes = axes.into_iter().map(|i| int(axis(i, x.rank)?)).collect::<Result<Vec<_>, _>>()?;
        let squeezed = c.builder.squeeze(x, axes);
        Ok(vec![c.ranked(squeezed)])
    }),
    row(1145, "reshapeDynamic", |c| {
        let x = c.input(0)?;
        let (sizes, rank) = c.vector(1)?;
        let shaped = c.builder.shaped(x, sizes, rank);
        Ok(vec![c.ranked(shaped)])
    }),
    row(1150, "rankPreservingReshape", |c| {
        // As in ML Programs, 0 keeps a size.
        let (x, shape) = (c.input(0)?, ints(&c.fields.ints(1)?)?);
        if shape.len() != x.rank {
            return Err(ConvertError::invalid(format!("to {} sizes of a blob with {} axes", shape.len(), x.rank)));
        }
        Ok(vec![c.builder.reshape(x, shape)])
    }),
    row(320, "concat", |c| {
        let rank = c.input(0)?.rank;
        let along = axis(if c.fields.bool(100)? { -5 } else { -3 }, rank)?;
        concat(c, along, false)
    }),
    row(330, "split", |c| {
        let (x, parts) = (c.input(0)?, c.size(1)?);
        split(c, x, axis(-3, x.rank)?, int(parts)?, parts)
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
        let values = Arg::Blobs(c.inputs.clone());
        Ok(vec![c.builder.op("stack", rank, vec![("values", values), ("axis", along.into())])])
    }),
    row(975, "splitND", |c| {
        let x = c.input(0)?;
        let along = axis(c.fields.int(1)?, x.rank)?;
        let mut sizes = ints(&c.fields.uints(3)?)?;
        if sizes.is_empty() {
            let parts = c.size(2)?;
            let size = c.builder.assumed(x).get(along).copied().flatten();
            let Some(size) = size.filter(|&size| parts > 0 && size % parts != 0) else {
                return split(c, x, along, int(parts)?, parts);
            };
            if parts != c.layer.outputs.len() {
                return Err(ConvertError::invalid(format!("splits into {parts}, names {}", c.layer.outputs.len())));
            }
            // The first ones are larger by one.
            sizes = (0..parts).map(|i| int(size / parts + usize::from(i < size % parts))).collect::<Result<_, _>>()?;
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
];

fn concat(c: &mut Context<'_>, along: usize, interleave: bool) -> Lowered {
    let rank = c.input(0)?.rank;
    let values = Arg::Blobs(c.inputs.clone());
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

/// To channels, height and width with the outer axes as they are, or to these and the sequence.
fn reshape(c: &mut Context<'_>) -> Lowered {
    let target = ints(&c.fields.ints(1)?)?;
    let (mut x, outer, sequence, [channels, height, width]) = match *target.as_slice() {
        [channels, height, width] => {
            let (x, outer) = c.image()?;
            (x, Some(outer), -1, [channels, height, width])
        }
        [sequence, channels, height, width] => (c.input(0)?, None, sequence, [channels, height, width]),
        _ => return Err(ConvertError::invalid("the target shape must have 3 or 4 axes")),
    };
    // The batch, where there is one, comes first so that the other axes lie together.
    let batch = x.rank == 5;
    let (first, last) = if batch { (vec![1, 0, 2, 3, 4], vec![0, 1, 3, 4, 2]) } else { (Vec::new(), vec![0, 2, 3, 1]) };
    let dims = |b: &mut crate::builder::Builder, x: Blob, inner: [i32; 3]| {
        let sizes = [&[sequence], &inner[..]].concat();
        if !batch {
            return b.reshape(x, sizes);
        }
        let sizes = b.integers(sizes);
        let own = b.sizes(x, 0, 1);
        let sizes = b.joined(vec![own, sizes]);
        b.shaped(x, sizes, 5)
    };
    if batch {
        x = c.builder.transpose(x, first.clone());
    }
    let mut y = if c.fields.uint(2)? == 0 {
        dims(c.builder, x, [channels, height, width])
    } else {
        if x.rank < 4 {
            return Err(ConvertError::unsupported(format!("of a blob with {} axes, channels last", x.rank)));
        }
        let moved = c.builder.transpose(x, last);
        let shaped = dims(c.builder, moved, [height, width, channels]);
        c.builder.transpose(shaped, if batch { vec![0, 1, 4, 2, 3] } else { vec![0, 3, 1, 2] })
    };
    if batch {
        y = c.builder.transpose(y, first);
    }
    Ok(vec![match outer {
        Some(outer) => c.outer(y, outer),
        None => y,
    }])
}
