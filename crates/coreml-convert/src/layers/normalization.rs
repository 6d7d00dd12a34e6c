//! Normalisation by statistics from the file or from the blob, and softmax.

use super::{Context, Lowered, Row, axis, row, size};
use crate::builder::{Blob, tensor};
use crate::error::ConvertError;
use crate::weights::{Layout, weights};

pub(super) static ROWS: &[Row] = &[
    row(160, "batchnorm", batchnorm),
    row(165, "mvn", |c| {
        let x = c.input(0)?;
        let axes = if c.fields.bool(1)? { vec![-3, -2, -1] } else { vec![-2, -1] };
        let epsilon = c.float_or(3, 1e-6)?;
        let scaled = c.fields.bool(2)?;
        Ok(vec![standardise(c, x, &axes, scaled.then_some(epsilon))])
    }),
    row(170, "l2normalize", |c| {
        let (x, epsilon) = (c.input(0)?, c.float_or(1, 1e-6)?);
        let squares = c.builder.reduce("reduce_sum_square", x, vec![-3, -2, -1]);
        let inputs = vec![("x", squares.into()), ("epsilon", epsilon.into())];
        let factor = c.builder.op("rsqrt", x.rank, inputs);
        Ok(vec![c.builder.binary("mul", x, factor)])
    }),
    row(175, "softmax", |c| softmax(c, -3)),
    row(950, "softmaxND", |c| {
        let axis = c.fields.int(1)?;
        softmax(c, axis)
    }),
    row(180, "lrn", |c| {
        let (x, outer) = c.image()?;
        let (alpha, beta, k) = (c.fields.float(1)?, c.fields.float(2)?, c.float_or(4, 1.0)?);
        let size = super::int(c.size(3)?)?;
        let inputs = vec![
            ("x", x.into()),
            ("size", size.into()),
            ("alpha", alpha.into()),
            ("beta", beta.into()),
            ("k", k.into()),
        ];
        let y = c.builder.op("local_response_norm", 4, inputs);
        Ok(vec![c.outer(y, outer)])
    }),
    row(1350, "layerNormalization", |c| {
        let x = c.input(0)?;
        let shape = c.fields.ints(1)?.into_iter().map(|n| size(n.cast_unsigned())).collect::<Result<Vec<_>, _>>()?;
        let layout = Layout::rows(&shape)?;
        let gamma = weights(c.fields.message(3)?.unwrap_or_default(), layout)?;
        let beta = weights(c.fields.message(4)?.unwrap_or_default(), layout)?;
        let axes: Vec<i32> = (0..shape.len()).map(|i| -1 - i as i32).rev().collect();
        let epsilon = c.float_or(2, 1e-5)?;
        let inputs = vec![
            ("x", x.into()),
            ("gamma", tensor(&shape, gamma)?.into()),
            ("beta", tensor(&shape, beta)?.into()),
            ("axes", axes.into()),
            ("epsilon", epsilon.into()),
        ];
        Ok(vec![c.builder.op("layer_norm", x.rank, inputs)])
    }),
];

fn softmax(c: &mut Context<'_>, along: i64) -> Lowered {
    let x = c.input(0)?;
    let axis = super::int(axis(along, x.rank)?)?;
    Ok(vec![c.builder.op("softmax", x.rank, vec![("x", x.into()), ("axis", axis.into())])])
}

/// x less its mean along `axes`, divided by the deviation if there is an `epsilon` for it.
fn standardise(c: &mut Context<'_>, x: Blob, axes: &[i32], epsilon: Option<f32>) -> Blob {
    let mean = c.builder.reduce("reduce_mean", x, axes.to_vec());
    let centred = c.builder.binary("sub", x, mean);
    let Some(epsilon) = epsilon else { return centred };
    let squares = c.builder.unary("square", centred);
    let variance = c.builder.reduce("reduce_mean", squares, axes.to_vec());
    let factor = c.builder.op("rsqrt", x.rank, vec![("x", variance.into()), ("epsilon", epsilon.into())]);
    c.builder.binary("mul", centred, factor)
}

fn batchnorm(c: &mut Context<'_>) -> Lowered {
    let x = c.input(0)?;
    let channels = c.size(1)?;
    let epsilon = c.float_or(10, 1e-5)?;
    let read =
        |number: u32| c.fields.message(number)?.map(|params| weights(params, Layout::rows(&[channels])?)).transpose();
    let (gamma, beta) = (read(15)?, read(16)?);
    let computed = c.fields.bool(5)?;
    let instance = c.fields.bool(6)?;
    let vector = |values: Vec<f32>, rank: usize| {
        if rank == 1 { tensor(&[channels], values) } else { tensor(&[channels, 1, 1], values) }
    };
    if computed || instance {
        // Over the batch, too, unless each instance is normalised by itself.
        let axes =
            if instance { vec![-2, -1] } else { (0..x.rank as i32).filter(|&i| i + 3 != x.rank as i32).collect() };
        let normal = standardise(c, x, &axes, Some(epsilon));
        // A number of channels from the file allocates nothing by itself: what is missing is left out.
        let scaled = match gamma {
            Some(gamma) => c.builder.binary("mul", normal, vector(gamma, 3)?),
            None => normal,
        };
        return Ok(vec![match beta {
            Some(beta) => c.builder.binary("add", scaled, vector(beta, 3)?),
            None => scaled,
        }]);
    }
    let missing = |what: &str| ConvertError::invalid(format!("has no {what}"));
    let (mean, variance) = (read(17)?.ok_or_else(|| missing("mean"))?, read(18)?.ok_or_else(|| missing("variance"))?);
    let (gamma, beta) = (gamma.unwrap_or_else(|| vec![1.0; channels]), beta.unwrap_or_else(|| vec![0.0; channels]));
    if x.rank == 4 {
        let inputs = vec![
            ("x", x.into()),
            ("mean", vector(mean, 1)?.into()),
            ("variance", vector(variance, 1)?.into()),
            ("gamma", vector(gamma, 1)?.into()),
            ("beta", vector(beta, 1)?.into()),
            ("epsilon", epsilon.into()),
        ];
        return Ok(vec![c.builder.op("batch_norm", 4, inputs)]);
    }
    let scale: Vec<f32> =
        gamma.iter().zip(&variance).map(|(gamma, variance)| gamma / (variance + epsilon).sqrt()).collect();
    let shift = scale.iter().zip(&mean).zip(&beta).map(|((scale, mean), beta)| beta - mean * scale).collect();
    let scaled = c.builder.binary("mul", x, vector(scale, 3)?);
    Ok(vec![c.builder.binary("add", scaled, vector(shift, 3)?)])
}
