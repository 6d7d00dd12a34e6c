//! Convolution, pooling and padding over height and width.

use coreml_tensor::Tensor;

use super::{Context, Lowered, Row, int, ints, row, size};
use crate::builder::{Arg, Blob, Builder};
use crate::error::ConvertError;

pub(super) static ROWS: &[Row] = &[
    row(100, "convolution", convolution),
    row(120, "pooling", pooling),
    row(200, "padding", |c| {
        let x = c.input(0)?;
        let (_, [top, bottom, left, right]) = borders(c, 10)?;
        let (mode, value) = match (c.fields.has(2)?, c.fields.has(3)?) {
            (true, _) => ("reflect", 0.0),
            (_, true) => ("replicate", 0.0),
            _ => ("constant", c.fields.message(1)?.unwrap_or_default().float(1)?),
        };
        let inputs = vec![
            ("x", x.into()),
            ("pad", vec![top, bottom, left, right].into()),
            ("mode", mode.into()),
            ("constant_val", value.into()),
        ];
        Ok(vec![c.builder.op("pad", x.rank, inputs)])
    }),
];

/// Amounts at the top, bottom, left and right of the `BorderAmounts` in field `number`, and whether there are any.
fn borders(c: &Context<'_>, number: u32) -> Result<(bool, [i32; 4]), ConvertError> {
    let edges = c.fields.message(number)?.unwrap_or_default().messages(10)?;
    amounts(&edges)
}

fn amounts(edges: &[coreml_model::Fields<'_>]) -> Result<(bool, [i32; 4]), ConvertError> {
    let mut amounts = [0; 4];
    for (pair, edge) in amounts.chunks_mut(2).zip(edges) {
        pair.copy_from_slice(&[int(size(edge.uint(1)?)?)?, int(size(edge.uint(2)?)?)?]);
    }
    Ok((amounts != [0; 4], amounts))
}

/// The padding of a window: its type and amounts, from the fields `valid` and `same`.
fn padding(c: &Context<'_>, valid: u32, same: u32) -> Result<(&'static str, [i32; 4]), ConvertError> {
    if let Some(same) = c.fields.message(same)? {
        let heavy_at_top = same.uint(1)? == 1;
        return Ok((if heavy_at_top { "same_lower" } else { "same" }, [0; 4]));
    }
    let edges = c.fields.message(valid)?.unwrap_or_default().message(1)?.unwrap_or_default().messages(10)?;
    let (any, amounts) = amounts(&edges)?;
    Ok((if any { "custom" } else { "valid" }, amounts))
}

/// Two sizes, or the same `default` twice where the file has none.
pub(super) fn pair(c: &Context<'_>, number: u32, default: i32) -> Result<[i32; 2], ConvertError> {
    match *c.fields.uints(number)? {
        [] => Ok([default; 2]),
        [height, width] => Ok([int(height)?, int(width)?]),
        _ => Err(ConvertError::invalid(format!("field {number} must have two sizes"))),
    }
}

/// A transposed convolution, over two axes or three.
pub(super) struct Deconvolution {
    pub(super) x: Blob,
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    pub(super) strides: Vec<i32>,
    pub(super) dilations: Vec<i32>,
    pub(super) groups: i32,
    /// Cut off before and after each axis.
    pub(super) pad: Vec<i32>,
    /// So much is cut off instead that `stride` times the size is left.
    pub(super) same: bool,
    /// Of an odd amount more is cut off at the start than at the end.
    pub(super) heavy_start: bool,
    /// The sizes that shall be left instead, if not empty.
    pub(super) wanted: Vec<i32>,
}

pub(super) fn deconvolution(b: &mut Builder, window: Deconvolution) -> Result<Blob, ConvertError> {
    let Deconvolution { x, weight, bias, strides, dilations, groups, mut pad, same, heavy_start, wanted } = window;
    let rank = x.rank;
    let kernel: Vec<i32> = ints(weight.shape().get(2..).unwrap_or_default())?;
    let channels = weight.shape().get(1).map_or(Ok(0), |&channels| int(channels))?.saturating_mul(groups);
    let known = wanted.is_empty();
    // What is cut off does not depend on the size of x, unless sizes are wanted.
    let mut missing = vec![0; pad.len()];
    if !known {
        pad.fill(0);
    } else if same {
        for axis in 0..kernel.len() {
            let span = i64::from(kernel[axis] - 1) * i64::from(dilations[axis]) + 1;
            let total = int(span - i64::from(strides[axis]))?;
            let (small, large) = (total.div_euclid(2), total - total.div_euclid(2));
            let ends = if heavy_start { [large, small] } else { [small, large] };
            for (at, end) in ends.into_iter().enumerate() {
                pad[2 * axis + at] = end.max(0);
                missing[2 * axis + at] = (-end).max(0);
            }
        }
    }
    let mut inputs = vec![
        ("x", x.into()),
        ("weight", weight.into()),
        ("strides", strides.into()),
        ("pad_type", "custom".into()),
        ("pad", pad.into()),
        ("dilations", dilations.into()),
        ("groups", groups.into()),
    ];
    if known && missing.iter().all(|&amount| amount == 0) {
        inputs.extend(bias.map(|bias| ("bias", bias.into())));
        return Ok(b.op("conv_transpose", rank, inputs));
    }
    // The bias belongs to what is added, too.
    let mut y = b.op("conv_transpose", rank, inputs);
    let padded = |b: &mut Builder, y: Blob, amounts: Arg| {
        b.op(
            "pad",
            rank,
            vec![("x", y.into()), ("pad", amounts), ("mode", "constant".into()), ("constant_val", 0.0.into())],
        )
    };
    if known {
        y = padded(b, y, missing.into());
    } else {
        if wanted.len() + 2 != rank {
            return Err(ConvertError::invalid(format!("has {} wanted sizes for {} axes", wanted.len(), rank - 2)));
        }
        let full = b.sizes(y, 2, rank);
        let wanted = b.integers(wanted);
        let total = b.binary("sub", full, wanted);
        let small = b.binary("floor_div", total, 2);
        let large = b.binary("sub", total, small);
        let [start, end] = if heavy_start { [large, small] } else { [small, large] };
        let zero = b.integers(vec![0; rank - 2]);
        let added = [start, end].map(|amount| {
            let added = b.binary("sub", zero, amount);
            b.binary("maximum", added, 0)
        });
        let added = b.op("stack", 2, vec![("values", Arg::Blobs(added.to_vec())), ("axis", 1.into())]);
        let added = b.reshape(added, vec![-1]);
        y = padded(b, y, added.into());
        let (first, all) = (b.integers(vec![0; 2]), b.integers(vec![-1; 2]));
        let start = b.binary("maximum", start, 0);
        let begin = b.joined(vec![first, start]);
        let sizes = b.joined(vec![all, wanted]);
        y = b.op("slice_by_size", rank, vec![("x", y.into()), ("begin", begin.into()), ("size", sizes.into())]);
    }
    let Some(bias) = bias else { return Ok(y) };
    let bias = b.constant(bias);
    let bias = b.reshape(bias, [&[channels][..], &vec![1; rank - 2]].concat());
    Ok(b.binary("add", y, bias))
}

fn convolution(c: &mut Context<'_>) -> Lowered {
    let (x, outer) = c.image()?;
    let (outputs, kernel_channels) = (c.size(1)?, c.size(2)?);
    let groups = c.size(10)?.max(1);
    let [height, width] = pair(c, 20, 3)?;
    let (strides, dilations) = (pair(c, 30, 1)?, pair(c, 40, 1)?);
    let (pad_type, pad) = padding(c, 50, 51)?;
    let bias = if c.fields.bool(70)? { Some(c.weights(91, &[outputs])?) } else { None };
    let kernel = [size(height as u64)?, size(width as u64)?];
    if c.fields.bool(60)? {
        if c.inputs.len() > 1 {
            return Err(ConvertError::invalid("a deconvolution has weights of its own"));
        }
        let weight = c.weights_along(90, &[&[kernel_channels, outputs / groups], &kernel[..]].concat(), 1)?;
        let wanted = c.fields.uints(100)?.into_iter().map(int).collect::<Result<Vec<_>, _>>()?;
        let window = Deconvolution {
            x,
            weight,
            bias,
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
            groups: int(groups)?,
            pad: pad.to_vec(),
            same: pad_type.starts_with("same"),
            heavy_start: pad_type == "same_lower",
            wanted,
        };
        let y = deconvolution(c.builder, window)?;
        return Ok(vec![c.outer(y, outer)]);
    }
    let weight = match c.inputs.get(1) {
        Some(&weight) => Arg::from(weight),
        None => c.weights(90, &[&[outputs, kernel_channels], &kernel[..]].concat())?.into(),
    };
    let mut inputs = vec![
        ("x", x.into()),
        ("weight", weight),
        ("strides", strides.to_vec().into()),
        ("pad_type", pad_type.into()),
        ("pad", pad.to_vec().into()),
        ("dilations", dilations.to_vec().into()),
        ("groups", int(groups)?.into()),
    ];
    inputs.extend(bias.map(|bias| ("bias", bias.into())));
    let y = c.builder.op("conv", 4, inputs);
    Ok(vec![c.outer(y, outer)])
}

fn pooling(c: &mut Context<'_>) -> Lowered {
    let kind = c.fields.uint(1)?;
    if c.fields.bool(60)? {
        let x = c.input(0)?;
        let reduction = match kind {
            0 => "reduce_max",
            1 => "reduce_mean",
            _ => "reduce_l2_norm",
        };
        return Ok(vec![c.builder.reduce(reduction, x, vec![-2, -1])]);
    }
    let (x, outer) = c.image()?;
    let (kernel, strides) = (pair(c, 10, 3)?, pair(c, 20, 1)?);
    let (mut pad_type, mut pad) = padding(c, 30, 31)?;
    let last_pixel = c.fields.message(32)?;
    if let Some(amounts) = last_pixel {
        let amounts = amounts.uints(10)?;
        let at = |i: usize| amounts.get(i).map_or(Ok(0), |&amount| int(amount));
        (pad_type, pad) = ("custom", [at(0)?, at(0)?, at(1)?, at(1)?]);
    }
    let mut inputs = vec![
        ("x", x.into()),
        ("kernel_sizes", kernel.to_vec().into()),
        ("strides", strides.to_vec().into()),
        ("pad_type", pad_type.into()),
        ("pad", pad.to_vec().into()),
        ("ceil_mode", last_pixel.is_some().into()),
    ];
    let kind = match kind {
        0 => "max_pool",
        1 => {
            inputs.push(("exclude_padding_from_average", c.fields.bool(50)?.into()));
            "avg_pool"
        }
        _ => "l2_pool",
    };
    let mut y = c.builder.op(kind, 4, inputs);
    // Where there is padding on one axis, no window of the other begins beyond the end either.
    for axis in [0, 1] {
        if last_pixel.is_some() && pad != [0; 4] && pad[2 * axis] == 0 && strides[axis] > kernel[axis] {
            let at = 2 + axis;
            let size = c.builder.sizes(x, at, at + 1);
            let up = c.builder.binary("add", size, strides[axis] - 1);
            let begun = c.builder.binary("floor_div", up, strides[axis]);
            let windows = c.builder.sizes(y, at, at + 1);
            let windows = c.builder.binary("minimum", windows, begun);
            let (before, after) = (c.builder.integers(vec![-1; at]), c.builder.integers(vec![-1; 3 - at]));
            let sizes = c.builder.joined(vec![before, windows, after]);
            let inputs = vec![("x", y.into()), ("begin", vec![0; 4].into()), ("size", sizes.into())];
            y = c.builder.op("slice_by_size", 4, inputs);
        }
    }
    Ok(vec![c.outer(y, outer)])
}
