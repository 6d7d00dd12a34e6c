//! Layers that take parts of blobs.

use super::{Context, Lowered, Row, axis, int, ints, row};
use crate::builder::Arg;
use crate::error::ConvertError;

pub(super) static ROWS: &[Row] = &[
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
    row(1005, "slidingWindows", |c| {
        let x = c.input(0)?;
        let along = int(axis(c.fields.int(1)?, x.rank)?)?;
        let (window, step) = (int(c.fields.uint(2)?)?, int(c.fields.uint(3)?)?);
        let inputs = vec![("x", x.into()), ("axis", along.into()), ("size", window.into()), ("stride", step.into())];
        Ok(vec![c.builder.op("sliding_windows", x.rank + 1, inputs)])
    }),
    row(995, "sliceStatic", |c| {
        let bounds = [fixed(c, 1)?, fixed(c, 3)?, fixed(c, 5)?];
        slice(c, bounds, [2, 4, 6])
    }),
    row(1000, "sliceDynamic", |c| {
        // What is no input is a field.
        let begin = c.integers(1)?.into();
        let end = if c.inputs.len() > 2 { c.integers(2)?.into() } else { fixed(c, 3)? };
        let stride = if c.inputs.len() > 3 { c.integers(3)?.into() } else { fixed(c, 5)? };
        slice(c, [begin, end, stride], [2, 4, 6])
    }),
    row(1470, "sliceBySize", |c| {
        let x = c.input(0)?;
        let along = axis(c.fields.int(3)?, x.rank)?;
        let size = int(c.fields.int(2)?)?;
        let begin = c.number(1)?;
        let begin = c.builder.reshape(begin, vec![1]);
        let (before, after) = (c.builder.integers(vec![0; along]), c.builder.integers(vec![0; x.rank - along - 1]));
        let begin = c.builder.joined(vec![before, begin, after]);
        let sizes: Vec<i32> = (0..x.rank).map(|i| if i == along { size } else { -1 }).collect();
        let inputs = vec![("x", x.into()), ("begin", begin.into()), ("size", sizes.into())];
        Ok(vec![c.builder.op("slice_by_size", x.rank, inputs)])
    }),
    row(190, "crop", crop),
];

/// The integers in field `number`.
fn fixed(c: &Context<'_>, number: u32) -> Result<Arg, ConvertError> {
    Ok(ints(&c.fields.ints(number)?)?.into())
}

/// Rows and columns, by amounts cut off each side or by an offset and the size of the second input.
fn crop(c: &mut Context<'_>) -> Lowered {
    let x = c.input(0)?;
    let inner = x.rank.checked_sub(2).ok_or_else(|| ConvertError::invalid("of a blob without height and width"))?;
    if let Some(&like) = c.inputs.get(1) {
        if like.rank < 2 {
            return Err(ConvertError::invalid("to a blob without height and width"));
        }
        let offsets = ints(&c.fields.uints(5)?)?;
        let offset = |i: usize| offsets.get(i).copied().unwrap_or(0);
        let begin: Vec<i32> = (0..x.rank).map(|i| if i < inner { 0 } else { offset(i - inner) }).collect();
        let outer = c.builder.integers(vec![-1; inner]);
        let wanted = c.builder.sizes(like, like.rank - 2, like.rank);
        let sizes = c.builder.joined(vec![outer, wanted]);
        let inputs = vec![("x", x.into()), ("begin", begin.into()), ("size", sizes.into())];
        return Ok(vec![c.builder.op("slice_by_size", x.rank, inputs)]);
    }
    let edges = c.fields.message(1)?.unwrap_or_default().messages(10)?;
    let (mut begin, mut end) = (vec![0; x.rank], vec![0; x.rank]);
    let mut open = vec![true; x.rank];
    for (edge, at) in edges.iter().zip(inner..x.rank) {
        begin[at] = int(edge.uint(1)?)?;
        end[at] = -int(edge.uint(2)?)?;
        open[at] = end[at] == 0;
    }
    let inputs = vec![("x", x.into()), ("begin", begin.into()), ("end", end.into()), ("end_mask", open.into())];
    Ok(vec![c.builder.op("slice_by_index", x.rank, inputs)])
}

/// Begin, end and stride of each axis, as far as there are any; `masks` are the fields that say where begin and end are
/// open and which axes go, and with run-time values the inputs from 4 on.
fn slice(c: &mut Context<'_>, [begin, end, stride]: [Arg; 3], masks: [u32; 3]) -> Lowered {
    let x = c.input(0)?;
    let mut inputs = vec![("x", x.into()), ("begin", begin), ("end", end), ("stride", stride)];
    let computed = c.inputs.len() > 3;
    let mut dropped = Some(0);
    for (i, (name, number)) in ["begin_mask", "end_mask", "squeeze_mask"].into_iter().zip(masks).enumerate() {
        let is_squeeze = name == "squeeze_mask";
        if c.inputs.len() > 4 + i {
            let mask = c.input(4 + i)?;
            let set = c.builder.binary("not_equal", mask, 0.0);
            inputs.push((name, c.builder.cast(set, "int32").into()));
            dropped = dropped.filter(|_| !is_squeeze);
            continue;
        }
        let mut mask: Vec<i32> = c.fields.uints(number)?.into_iter().map(|flag| i32::from(flag != 0)).collect();
        mask.resize(x.rank, 0);
        if is_squeeze {
            dropped = Some(mask.iter().filter(|&&squeezed| squeezed != 0).count());
        }
        inputs.push((name, mask.into()));
    }
    let kind = if computed { "neural_network:slice" } else { "slice_by_index" };
    let rank = c.expected_rank(dropped.map(|dropped| x.rank - dropped))?;
    let slice = c.builder.op(kind, rank, inputs);
    Ok(vec![if rank == 0 { c.builder.reshape(slice, vec![-1]) } else { c.ranked(slice) }])
}
