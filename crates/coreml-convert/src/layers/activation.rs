//! Activations: functions of one number, some with parameters for each channel.

use coreml_model::Fields;

use super::{Context, Lowered, Row, row};
use crate::builder::{Blob, tensor};
use crate::error::ConvertError;
use crate::weights::{Layout, weights};

pub(super) static ROWS: &[Row] = &[
    row(130, "activation", activation),
    row(1460, "clampedReLU", |c| {
        let (alpha, beta) = (c.fields.float(1)?, c.fields.float(2)?);
        with(c, "clamped_relu", Some(alpha), Some(beta))
    }),
    row(795, "gelu", |c| {
        let x = c.input(0)?;
        let mode = match c.fields.uint(1)? {
            0 => "EXACT",
            1 => "TANH_APPROXIMATION",
            _ => "SIGMOID_APPROXIMATION",
        };
        Ok(vec![c.builder.op("gelu", x.rank, vec![("x", x.into()), ("mode", mode.into())])])
    }),
    row(660, "clip", |c| {
        let (low, high) = (c.fields.float(1)?, c.fields.float(2)?);
        with(c, "clip", Some(low), Some(high))
    }),
    row(220, "unary", unary),
];

/// An operation with the parameters `alpha` and `beta`.
fn with(c: &mut Context<'_>, kind: &str, alpha: Option<f32>, beta: Option<f32>) -> Lowered {
    let x = c.input(0)?;
    let mut inputs = vec![("x", x.into())];
    inputs.extend(alpha.map(|alpha| ("alpha", alpha.into())));
    inputs.extend(beta.map(|beta| ("beta", beta.into())));
    Ok(vec![c.builder.op(kind, x.rank, inputs)])
}

fn activation(c: &mut Context<'_>) -> Lowered {
    let Some(tag) = c.fields.numbers()?.last().copied() else {
        return Err(ConvertError::invalid("is of no type that this library knows"));
    };
    let function = c.fields.message(tag)?.unwrap_or_default();
    let (alpha, beta) = match tag {
        5 | 31 | 41 => (Some(function.float(1)?), Some(function.float(2)?)),
        15 | 20 | 50 => (Some(function.float(1)?), None),
        _ => (None, None),
    };
    let kind = match tag {
        5 => "linear_activation",
        10 => "relu",
        15 => "leaky_relu",
        20 => "thresholded_relu",
        25 => return prelu(c, function),
        30 => "tanh",
        31 => "scaled_tanh",
        40 => "sigmoid",
        41 => "sigmoid_hard",
        50 => "elu",
        60 => "softsign",
        70 => "softplus",
        71 => return parametric_softplus(c, function),
        _ => return Err(ConvertError::unsupported(format!("has a function of number {tag}, which is not known"))),
    };
    with(c, kind, alpha, beta)
}

/// A parameter of one number or one for each channel, which are the third axis from the end.
fn per_channel(function: Fields<'_>, number: u32) -> Result<coreml_tensor::Tensor, ConvertError> {
    let params = function.message(number)?.unwrap_or_default();
    // How many there are is told by nothing but the weights.
    let count = match (params.bytes(2)?.len(), params.floats(1)?.len()) {
        (0, floats) => floats,
        (bytes, _) => bytes / 2,
    };
    let values = weights(params, Layout::rows(&[count])?)?;
    if count == 1 { tensor(&[1], values) } else { tensor(&[count, 1, 1], values) }
}

/// max(x, 0) + alpha min(x, 0), at any rank.
fn prelu(c: &mut Context<'_>, function: Fields<'_>) -> Lowered {
    let x = c.input(0)?;
    let alpha = per_channel(function, 1)?;
    let positive = c.builder.unary("relu", x);
    let negative = c.builder.binary("minimum", x, 0.0);
    let negative = c.builder.binary("mul", negative, alpha);
    Ok(vec![c.builder.binary("add", positive, negative)])
}

fn parametric_softplus(c: &mut Context<'_>, function: Fields<'_>) -> Lowered {
    let x = c.input(0)?;
    let (alpha, beta) = (per_channel(function, 1)?, per_channel(function, 2)?);
    let scaled = c.builder.binary("mul", x, beta);
    let soft = c.builder.unary("softplus", scaled);
    Ok(vec![c.builder.binary("mul", soft, alpha)])
}

fn unary(c: &mut Context<'_>) -> Lowered {
    let x = c.input(0)?;
    let (alpha, epsilon) = (c.fields.float(2)?, c.float_or(3, 1e-6)?);
    let (shift, scale) = (c.fields.float(4)?, c.float_or(5, 1.0)?);
    let x = if scale == 1.0 && shift == 0.0 {
        x
    } else {
        let inputs = vec![("x", x.into()), ("alpha", scale.into()), ("beta", shift.into())];
        c.builder.op("linear_activation", x.rank, inputs)
    };
    let b = &mut *c.builder;
    let guarded = |kind: &str, b: &mut crate::builder::Builder, x: Blob| {
        b.op(kind, x.rank, vec![("x", x.into()), ("epsilon", epsilon.into())])
    };
    Ok(vec![match c.fields.uint(1)? {
        0 => b.unary("sqrt", x),
        1 => guarded("rsqrt", b, x),
        2 => guarded("inverse", b, x),
        3 => b.binary("pow", x, alpha),
        4 => b.unary("exp", x),
        5 => guarded("log", b, x),
        6 => b.unary("abs", x),
        7 => b.binary("maximum", x, alpha),
        other => {
            return Err(ConvertError::unsupported(format!("has a function of number {other}, which is not known")));
        }
    }])
}
