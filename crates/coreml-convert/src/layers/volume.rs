//! Windows over depth, height and width.

use super::convolution::{Deconvolution, deconvolution};
use super::{Context, Lowered, Row, int, ints, row, size};
use crate::error::ConvertError;

pub(super) static ROWS: &[Row] = &[
    row(1471, "convolution3d", convolution),
    row(1465, "pooling3d", |c| {
        let x = volume(c)?;
        let kernel = ints(&[c.size(2)?, c.size(3)?, c.size(4)?])?;
        let strides = three(c, [5, 6, 7], 1)?;
        let (pad_type, pad) = padding(c, 15, [8, 9, 10, 11, 12, 13])?;
        let mut inputs = vec![
            ("x", x.into()),
            ("kernel_sizes", kernel.into()),
            ("strides", strides.into()),
            ("pad_type", pad_type.into()),
            ("pad", pad.into()),
        ];
        let kind = match c.fields.uint(1)? {
            0 => "max_pool",
            1 => {
                inputs.push(("exclude_padding_from_average", c.fields.bool(14)?.into()));
                "avg_pool"
            }
            other => return Err(ConvertError::unsupported(format!("of kind {other}, which is not known"))),
        };
        Ok(vec![c.builder.op(kind, 5, inputs)])
    }),
    row(1466, "globalPooling3d", |c| {
        let x = volume(c)?;
        let kind = if c.fields.uint(1)? == 0 { "reduce_max" } else { "reduce_mean" };
        Ok(vec![c.builder.reduce(kind, x, vec![2, 3, 4])])
    }),
];

/// The first input, whose axes must be batch, channels, depth, height and width.
fn volume(c: &Context<'_>) -> Result<crate::builder::Blob, ConvertError> {
    let x = c.input(0)?;
    if x.rank == 5 {
        Ok(x)
    } else {
        Err(ConvertError::invalid(format!("of a blob with {} axes, 5 are needed", x.rank)))
    }
}

/// Three numbers, each `default` where the file has 0.
fn three(c: &Context<'_>, numbers: [u32; 3], default: usize) -> Result<Vec<i32>, ConvertError> {
    numbers.iter().map(|&number| int(c.size(number)?.max(default))).collect()
}

/// The type of padding, and the amounts before and after each axis.
fn padding(c: &Context<'_>, kind: u32, amounts: [u32; 6]) -> Result<(&'static str, Vec<i32>), ConvertError> {
    let amounts = amounts.iter().map(|&number| int(c.size(number)?)).collect::<Result<Vec<_>, _>>()?;
    match c.fields.uint(kind)? {
        0 => Ok(("custom", amounts)),
        1 => Ok(("valid", vec![0; 6])),
        2 => Ok(("same", vec![0; 6])),
        other => Err(ConvertError::unsupported(format!("with padding of kind {other}, which is not known"))),
    }
}

fn convolution(c: &mut Context<'_>) -> Lowered {
    let x = volume(c)?;
    let (outputs, inputs) = (c.size(1)?, c.size(2)?);
    let groups = c.size(10)?.max(1);
    let kernel = [c.size(20)?, c.size(21)?, c.size(22)?];
    let (strides, dilations) = (three(c, [31, 32, 33], 1)?, three(c, [40, 41, 42], 1)?);
    let (pad_type, pad) = padding(c, 70, [80, 81, 82, 83, 84, 85])?;
    let bias = if c.fields.bool(50)? { Some(c.weights(61, &[outputs])?) } else { None };
    if !c.fields.bool(86)? {
        let weight = c.weights(60, &[&[outputs, inputs / groups], &kernel[..]].concat())?;
        let mut arguments = vec![
            ("x", x.into()),
            ("weight", weight.into()),
            ("strides", strides.into()),
            ("pad_type", pad_type.into()),
            ("pad", pad.into()),
            ("dilations", dilations.into()),
            ("groups", int(groups)?.into()),
        ];
        arguments.extend(bias.map(|bias| ("bias", bias.into())));
        return Ok(vec![c.builder.op("conv", 5, arguments)]);
    }
    let weight = c.weights_along(60, &[&[inputs, outputs / groups], &kernel[..]].concat(), 1)?;
    let wanted = c.fields.uints(87)?.into_iter().map(|n| int(size(n)?)).collect::<Result<Vec<_>, _>>()?;
    let same = pad_type == "same";
    let window = Deconvolution {
        x,
        weight,
        bias,
        strides,
        dilations,
        groups: int(groups)?,
        pad,
        same,
        heavy_start: false,
        wanted,
    };
    Ok(vec![deconvolution(c.builder, window)?])
}
