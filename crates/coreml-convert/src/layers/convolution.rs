//! Convolution, pooling and resizing: windows over height and width.

use super::{Context, Lowered, Row, int, row, size};
use crate::builder::{Arg, tensor};
use crate::error::ConvertError;
use crate::weights::{Layout, weights};

pub(super) static ROWS: &[Row] = &[
    row(100, "convolution", convolution),
    row(120, "pooling", pooling),
    row(210, "upsample", upsample),
    row(211, "resizeBilinear", |c| {
        let (x, outer) = c.image()?;
        let target = c.fields.uints(1)?;
        let [height, width] = target.as_slice() else { return Err(ConvertError::invalid("needs two target sizes")) };
        let mode = match c.fields.message(2)?.unwrap_or_default().uint(1)? {
            0 => "STRICT_ALIGN_CORNERS",
            1 => "ALIGN_CORNERS",
            2 => "DEFAULT",
            _ => "OFFSET_CORNERS",
        };
        let inputs = vec![
            ("x", x.into()),
            ("target_size_height", int(*height)?.into()),
            ("target_size_width", int(*width)?.into()),
            ("sampling_mode", mode.into()),
        ];
        let resized = c.builder.op("resize_bilinear", 4, inputs);
        Ok(vec![c.outer(resized, outer)])
    }),
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
fn pair(c: &Context<'_>, number: u32, default: i32) -> Result<[i32; 2], ConvertError> {
    match *c.fields.uints(number)? {
        [] => Ok([default; 2]),
        [height, width] => Ok([int(height)?, int(width)?]),
        _ => Err(ConvertError::invalid(format!("field {number} must have two sizes"))),
    }
}

fn convolution(c: &mut Context<'_>) -> Lowered {
    let (x, outer) = c.image()?;
    let (outputs, kernel_channels) = (c.size(1)?, c.size(2)?);
    let groups = c.size(10)?.max(1);
    let [height, width] = pair(c, 20, 3)?;
    let (strides, dilations) = (pair(c, 30, 1)?, pair(c, 40, 1)?);
    let (pad_type, pad) = padding(c, 50, 51)?;
    let transposed = c.fields.bool(60)?;
    let weight = match c.inputs.get(1) {
        Some(&weight) => Arg::from(weight),
        None => {
            let first = if transposed { kernel_channels } else { outputs };
            let second = if transposed { outputs / groups } else { kernel_channels };
            let dims = [first, second, size(height as u64)?, size(width as u64)?];
            let layout = Layout::axis(&dims, usize::from(transposed))?;
            tensor(&dims, weights(c.fields.message(90)?.unwrap_or_default(), layout)?)?.into()
        }
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
    if c.fields.bool(70)? {
        let bias = weights(c.fields.message(91)?.unwrap_or_default(), Layout::rows(&[outputs])?)?;
        inputs.push(("bias", tensor(&[outputs], bias)?.into()));
    }
    if !transposed {
        let y = c.builder.op("conv", 4, inputs);
        return Ok(vec![c.outer(y, outer)]);
    }
    if !c.fields.uints(100)?.is_empty() {
        return Err(ConvertError::unsupported("a deconvolution with an output shape is not supported yet"));
    }
    let y = c.builder.op("conv_transpose", 4, inputs);
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
    let y = c.builder.op(kind, 4, inputs);
    Ok(vec![c.outer(y, outer)])
}

fn upsample(c: &mut Context<'_>) -> Lowered {
    let (x, outer) = c.image()?;
    let fractional = c.fields.floats(7)?;
    let factors = match fractional.as_slice() {
        &[height, width] => [height, width],
        _ => pair(c, 1, 1)?.map(|factor| factor as f32),
    };
    let mut inputs =
        vec![("x", x.into()), ("scale_factor_height", factors[0].into()), ("scale_factor_width", factors[1].into())];
    if c.fields.uint(5)? == 0 {
        let y = c.builder.op("upsample_nearest_neighbor", 4, inputs);
        return Ok(vec![c.outer(y, outer)]);
    }
    let mode = c.fields.uint(6)?;
    inputs.push(("align_corners", (mode == 1).into()));
    inputs.push(("half_pixel_centers", (mode == 2).into()));
    let y = c.builder.op("upsample_bilinear", 4, inputs);
    Ok(vec![c.outer(y, outer)])
}
