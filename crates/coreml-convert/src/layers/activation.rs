//! Activations: functions of one number, some with parameters for each channel.

use coreml_model::Fields;
use coreml_tensor::Tensor;

use super::{Context, Lowered, Row, row};
use crate::builder::{Blob, Builder, tensor};
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
    let x = c.input(0)?;
    let fields = c.fields;
    Ok(vec![apply(c.builder, fields, x, 2)?])
}

/// The `activation` of `x`, whose channels are followed by so many axes; in a recurrent layer, which has no others, by none.
pub(super) fn apply(b: &mut Builder, activation: Fields<'_>, x: Blob, inner: usize) -> Result<Blob, ConvertError> {
    let Some(tag) = activation.numbers()?.last().copied() else {
        return Err(ConvertError::invalid("is of no type that this library knows"));
    };
    let function = activation.message(tag)?.unwrap_or_default();
    let (mut alpha, mut beta) = match tag {
        5 | 31 | 41 => (Some(function.float(1)?), Some(function.float(2)?)),
        15 | 20 | 50 => (Some(function.float(1)?), None),
        _ => (None, None),
    };
    // Recurrent layers come without parameters, and mean these.
    if inner == 0 && (alpha, beta) == (Some(0.0), Some(0.0)) {
        (alpha, beta) = match tag {
            5 => (Some(1.0), Some(0.0)),
            41 => (Some(0.2), Some(0.5)),
            _ => (Some(1.0), Some(1.0)),
        };
    }
    let kind = match tag {
        5 => "linear_activation",
        10 => "relu",
        15 => "leaky_relu",
        20 => "thresholded_relu",
        25 => {
            let alpha = per_channel(b, x, function, 1, inner)?;
            return Ok(prelu(b, x, alpha));
        }
        30 => "tanh",
        31 => "scaled_tanh",
        40 => "sigmoid",
        41 => "sigmoid_hard",
        50 => "elu",
        60 => "softsign",
        70 => "softplus",
        71 => {
            let (alpha, beta) = (per_channel(b, x, function, 1, inner)?, per_channel(b, x, function, 2, inner)?);
            let scaled = b.binary("mul", x, beta);
            let soft = b.unary("softplus", scaled);
            return Ok(b.binary("mul", soft, alpha));
        }
        _ => return Err(ConvertError::unsupported(format!("has a function of number {tag}, which is not known"))),
    };
    let mut inputs = vec![("x", x.into())];
    inputs.extend(alpha.map(|alpha| ("alpha", alpha.into())));
    inputs.extend(beta.map(|beta| ("beta", beta.into())));
    Ok(b.op(kind, x.rank, inputs))
}

/// A parameter of one number or one for each channel of `x`, which so many axes follow.
fn per_channel(b: &Builder, x: Blob, function: Fields<'_>, number: u32, inner: usize) -> Result<Tensor, ConvertError> {
    let params = function.message(number)?.unwrap_or_default();
    // How many there are is told by nothing but the weights; quantised ones may end in bits that are none.
    let count = match (params.bytes(2)?.len(), params.bytes(30)?.len(), params.floats(1)?.len()) {
        (0, 0, floats) => floats,
        (0, bytes, _) => {
            let bits = params.message(40)?.unwrap_or_default().uint(1)?.clamp(1, 8) as usize;
            let channels = x.rank.checked_sub(inner + 1).and_then(|axis| b.assumed(x).get(axis).copied().flatten());
            let fits = |count: &usize| count.checked_mul(bits).is_some_and(|bits| bits.div_ceil(8) == bytes);
            let count = channels.into_iter().chain([1]).find(fits);
            count.ok_or_else(|| {
                ConvertError::unsupported("has quantised parameters for a number of channels not known")
            })?
        }
        (bytes, ..) => bytes / 2,
    };
    let values = weights(params, Layout::rows(&[count])?)?;
    if count == 1 { tensor(&[1], values) } else { tensor(&[&[count][..], &vec![1; inner]].concat(), values) }
}

/// max(x, 0) + alpha min(x, 0), at any rank.
fn prelu(b: &mut Builder, x: Blob, alpha: Tensor) -> Blob {
    let positive = b.unary("relu", x);
    let negative = b.binary("minimum", x, 0.0);
    let negative = b.binary("mul", negative, alpha);
    b.binary("add", positive, negative)
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
    let guarded =
        |kind: &str, b: &mut Builder, x: Blob| b.op(kind, x.rank, vec![("x", x.into()), ("epsilon", epsilon.into())]);
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
