//! Products with matrices, tables of embeddings, scales and biases.

use super::{Context, Lowered, Row, int, row, size};
use crate::builder::{Blob, tensor};
use crate::error::ConvertError;
use crate::weights::{Layout, weights};

pub(super) static ROWS: &[Row] = &[
    row(140, "innerProduct", inner_product),
    row(1045, "batchedMatmul", batched_matmul),
    row(150, "embedding", |c| {
        let x = c.input(0)?;
        let outer = x.rank.checked_sub(3).ok_or_else(|| ConvertError::invalid("of a blob without channels"))?;
        let (vocabulary, width) = (c.size(1)?, c.size(2)?);
        let ids = indices(c, x, outer);
        let found = embedding(c, ids, [vocabulary, width], c.fields.bool(10)?)?;
        Ok(vec![c.builder.expand_dims(found, vec![-2, -1])])
    }),
    row(1040, "embeddingND", |c| {
        let x = c.input(0)?;
        let (vocabulary, width) = (c.size(1)?, c.size(2)?);
        let last = x.rank.checked_sub(1).ok_or_else(|| ConvertError::invalid("of a blob without axes"))?;
        let ids = indices(c, x, last);
        Ok(vec![embedding(c, ids, [vocabulary, width], c.fields.bool(3)?)?])
    }),
    row(245, "scale", |c| {
        let x = c.input(0)?;
        let scale = aligned(c, 1, 2)?;
        let scaled = c.builder.binary("mul", x, scale);
        if !c.fields.bool(3)? {
            return Ok(vec![scaled]);
        }
        let bias = aligned(c, 4, 5)?;
        Ok(vec![c.builder.binary("add", scaled, bias)])
    }),
    row(250, "bias", |c| {
        let x = c.input(0)?;
        let bias = aligned(c, 1, 2)?;
        Ok(vec![c.builder.binary("add", x, bias)])
    }),
];

/// `x` without all axes but the first `rank`, which have one element each.
fn indices(c: &mut Context<'_>, x: Blob, rank: usize) -> Blob {
    let shape = c.builder.sizes(x, 0, rank);
    let ids = c.builder.shaped(x, shape, rank);
    let sizes = c.builder.assumed(x);
    c.builder.assume(ids, Some(sizes[..rank].to_vec()));
    ids
}

/// The vector of each id, on a new last axis.
fn embedding(
    c: &mut Context<'_>,
    ids: Blob,
    [vocabulary, width]: [usize; 2],
    has_bias: bool,
) -> Result<Blob, ConvertError> {
    let table = transposed(c, 20, [width, vocabulary])?;
    let ids = c.builder.cast(ids, "int32");
    let table = c.builder.constant(tensor(&[vocabulary, width], table)?);
    let inputs = vec![("x", table.into()), ("indices", ids.into()), ("axis", 0.into())];
    let found = c.builder.op("gather", ids.rank + 1, inputs);
    if !has_bias {
        return Ok(found);
    }
    let bias = c.weights(21, &[width])?;
    Ok(c.builder.binary("add", found, bias))
}

/// Weights of a shape that is aligned with channels, height and width.
fn aligned(c: &Context<'_>, shape: u32, values: u32) -> Result<coreml_tensor::Tensor, ConvertError> {
    let mut dims = c.fields.uints(shape)?.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let values = weights(c.fields.message(values)?.unwrap_or_default(), Layout::rows(&dims)?)?;
    if dims.len() == 1 && dims != [1] {
        dims.extend([1, 1]);
    }
    tensor(&dims, values)
}

/// A stored matrix with its axes exchanged.
fn transposed(c: &Context<'_>, number: u32, [rows, columns]: [usize; 2]) -> Result<Vec<f32>, ConvertError> {
    let stored = weights(c.fields.message(number)?.unwrap_or_default(), Layout::rows(&[rows, columns])?)?;
    Ok((0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column)).map(|at| stored[at]).collect())
}

fn inner_product(c: &mut Context<'_>) -> Lowered {
    let x = c.input(0)?;
    let (inputs, outputs) = (c.size(1)?, c.size(2)?);
    let weight = weights(c.fields.message(20)?.unwrap_or_default(), Layout::rows(&[outputs, inputs])?)?;
    let bias = if c.fields.bool(10)? {
        Some(weights(c.fields.message(21)?.unwrap_or_default(), Layout::rows(&[outputs])?)?)
    } else {
        None
    };
    // From four axes on, the last three are the channels.
    let flat = match x.rank {
        1..=3 => x,
        0 => return Err(ConvertError::invalid("of a blob without axes")),
        rank => {
            let outer = c.builder.sizes(x, 0, rank - 3);
            let channels = c.builder.integers(vec![int(inputs)?]);
            let shape = c.builder.joined(vec![outer, channels]);
            let flat = c.builder.shaped(x, shape, rank - 2);
            let sizes = c.builder.assumed(x);
            c.builder.assume(flat, Some([&sizes[..rank - 3], &[Some(inputs)]].concat()));
            flat
        }
    };
    let mut arguments = vec![("x", flat.into()), ("weight", tensor(&[outputs, inputs], weight)?.into())];
    if let Some(bias) = bias {
        arguments.push(("bias", tensor(&[outputs], bias)?.into()));
    }
    let product = c.builder.op("linear", flat.rank, arguments);
    if x.rank < 4 {
        return Ok(vec![product]);
    }
    Ok(vec![c.builder.expand_dims(product, vec![-2, -1])])
}

fn batched_matmul(c: &mut Context<'_>) -> Lowered {
    let mut x = c.input(0)?;
    if let Some(&other) = c.inputs.get(1) {
        let mut y = other;
        // Vectors become matrices and stay so.
        if x.rank == 1 {
            x = c.builder.op("expand_dims", 2, vec![("x", x.into()), ("axes", vec![0].into())]);
        }
        if y.rank == 1 {
            y = c.builder.op("expand_dims", 2, vec![("x", y.into()), ("axes", vec![1].into())]);
        }
        let inputs = vec![
            ("x", x.into()),
            ("y", y.into()),
            ("transpose_x", c.fields.bool(1)?.into()),
            ("transpose_y", c.fields.bool(2)?.into()),
        ];
        return Ok(vec![c.builder.op("matmul", x.rank.max(y.rank), inputs)]);
    }
    let (rows, columns) = (c.size(5)?, c.size(6)?);
    // Stored by columns: transposed.
    let weight = weights(c.fields.message(8)?.unwrap_or_default(), Layout::rows(&[columns, rows])?)?;
    let weight = tensor(&[columns, rows], weight)?;
    let inputs = vec![("x", x.into()), ("y", weight.into()), ("transpose_y", true.into())];
    let product = c.builder.op("matmul", x.rank.max(2), inputs);
    if !c.fields.bool(7)? {
        return Ok(vec![product]);
    }
    let bias = weights(c.fields.message(9)?.unwrap_or_default(), Layout::rows(&[columns])?)?;
    Ok(vec![c.builder.binary("add", product, tensor(&[columns], bias)?)])
}
