//! Layers that reduce axes: sums, means, extrema, norms.

use super::{Context, Lowered, Row, axis, ints, row};

pub(super) static ROWS: &[Row] = &[
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
