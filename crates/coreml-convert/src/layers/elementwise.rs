//! Functions of each element, of one blob or of several that broadcast.

use super::{Context, Lowered, Row, row};
use crate::builder::{Arg, Blob};
use crate::error::ConvertError;

pub(super) static ROWS: &[Row] = &[
    row(230, "add", |c| several(c, "add")),
    row(231, "multiply", |c| several(c, "mul")),
    row(240, "average", |c| {
        let sum = fold(c, "add")?;
        let count = c.inputs.len() as f32;
        Ok(vec![c.builder.binary("real_div", sum, count)])
    }),
    row(260, "max", |c| Ok(vec![fold(c, "maximum")?])),
    row(261, "min", |c| Ok(vec![fold(c, "minimum")?])),
    row(270, "dot", |c| {
        let (a, b) = (c.input(0)?, c.input(1)?);
        let product = c.builder.binary("mul", a, b);
        let mut dot = c.builder.reduce("reduce_sum", product, vec![-3, -2, -1]);
        if c.fields.bool(1)? {
            for x in [a, b] {
                let norm = c.builder.reduce("reduce_l2_norm", x, vec![-3, -2, -1]);
                dot = c.builder.binary("real_div", dot, norm);
            }
        }
        Ok(vec![dot])
    }),
    row(880, "addBroadcastable", |c| two(c, "add")),
    row(905, "subtractBroadcastable", |c| two(c, "sub")),
    row(900, "multiplyBroadcastable", |c| two(c, "mul")),
    row(890, "divideBroadcastable", |c| two(c, "real_div")),
    row(875, "maxBroadcastable", |c| two(c, "maximum")),
    row(870, "minBroadcastable", |c| two(c, "minimum")),
    row(865, "modBroadcastable", |c| two(c, "mod")),
    row(895, "floorDivBroadcastable", |c| two(c, "floor_div")),
    row(885, "powBroadcastable", |c| two(c, "pow")),
    row(815, "equal", |c| compare(c, "equal", 1)),
    row(820, "notEqual", |c| compare(c, "not_equal", 1)),
    row(825, "lessThan", |c| compare(c, "less", 2)),
    row(827, "lessEqual", |c| compare(c, "less_equal", 2)),
    row(830, "greaterThan", |c| compare(c, "greater", 2)),
    row(832, "greaterEqual", |c| compare(c, "greater_equal", 2)),
    row(855, "logicalAnd", |c| logic(c, "logical_and")),
    row(840, "logicalOr", |c| logic(c, "logical_or")),
    row(845, "logicalXor", |c| logic(c, "logical_xor")),
    row(850, "logicalNot", |c| {
        let x = c.input(0)?;
        let is_zero = c.builder.binary("equal", x, 0.0);
        Ok(vec![c.builder.cast(is_zero, "fp32")])
    }),
    row(1330, "whereBroadcastable", |c| {
        let (condition, a, b) = (c.input(0)?, c.input(1)?, c.input(2)?);
        let condition = c.builder.binary("not_equal", condition, 0.0);
        let rank = condition.rank.max(a.rank).max(b.rank);
        Ok(vec![c.builder.op("select", rank, vec![("cond", condition.into()), ("a", a.into()), ("b", b.into())])])
    }),
    row(665, "ceil", |c| one(c, "ceil")),
    row(670, "floor", |c| one(c, "floor")),
    row(685, "round", |c| one(c, "round")),
    row(680, "sign", |c| one(c, "sign")),
    row(700, "exp2", |c| one(c, "exp2")),
    row(710, "sin", |c| one(c, "sin")),
    row(715, "cos", |c| one(c, "cos")),
    row(720, "tan", |c| one(c, "tan")),
    row(730, "asin", |c| one(c, "asin")),
    row(735, "acos", |c| one(c, "acos")),
    row(740, "atan", |c| one(c, "atan")),
    row(750, "sinh", |c| one(c, "sinh")),
    row(755, "cosh", |c| one(c, "cosh")),
    row(760, "tanh", |c| one(c, "tanh")),
    row(770, "asinh", |c| {
        // sign(x) ln(|x| + sqrt(x² + 1)): no digits are lost for negative x.
        let x = c.input(0)?;
        let (sign, size) = (c.builder.unary("sign", x), c.builder.unary("abs", x));
        let logarithm = inverse_hyperbolic(c, size, 1.0);
        Ok(vec![c.builder.binary("mul", sign, logarithm)])
    }),
    row(775, "acosh", |c| {
        let x = c.input(0)?;
        Ok(vec![inverse_hyperbolic(c, x, -1.0)])
    }),
    row(780, "atanh", |c| one(c, "atanh")),
    row(790, "erf", |c| one(c, "erf")),
    row(600, "copy", |c| one(c, "identity")),
];

fn one(c: &mut Context<'_>, kind: &str) -> Lowered {
    let x = c.input(0)?;
    Ok(vec![c.builder.unary(kind, x)])
}

fn two(c: &mut Context<'_>, kind: &str) -> Lowered {
    let (x, y) = (c.input(0)?, c.input(1)?);
    Ok(vec![c.builder.binary(kind, x, y)])
}

/// All inputs, from left to right.
fn fold(c: &mut Context<'_>, kind: &str) -> Result<Blob, ConvertError> {
    let first = c.input(0)?;
    let rest = c.inputs.split_off(1);
    let result = rest.iter().fold(first, |sum, &x| c.builder.binary(kind, sum, x));
    c.inputs.extend(rest);
    Ok(result)
}

/// All inputs, or the only one and the number `alpha`.
fn several(c: &mut Context<'_>, kind: &str) -> Lowered {
    if c.inputs.len() == 1 {
        let (x, alpha) = (c.input(0)?, c.fields.float(1)?);
        return Ok(vec![c.builder.binary(kind, x, alpha)]);
    }
    Ok(vec![fold(c, kind)?])
}

/// Truth is 1 or 0, as everything is a float in networks.
fn compare(c: &mut Context<'_>, kind: &str, alpha: u32) -> Lowered {
    let x = c.input(0)?;
    let y = match c.inputs.get(1) {
        Some(&y) => Arg::from(y),
        None => Arg::from(c.fields.float(alpha)?),
    };
    let truth = c.builder.binary(kind, x, y);
    Ok(vec![c.builder.cast(truth, "fp32")])
}

fn logic(c: &mut Context<'_>, kind: &str) -> Lowered {
    let (x, y) = (c.input(0)?, c.input(1)?);
    let x = c.builder.binary("not_equal", x, 0.0);
    let y = c.builder.binary("not_equal", y, 0.0);
    let truth = c.builder.binary(kind, x, y);
    Ok(vec![c.builder.cast(truth, "fp32")])
}

/// ln(x + sqrt(x² + one)).
fn inverse_hyperbolic(c: &mut Context<'_>, x: Blob, one: f32) -> Blob {
    let square = c.builder.unary("square", x);
    let shifted = c.builder.binary("add", square, one);
    let root = c.builder.unary("sqrt", shifted);
    let sum = c.builder.binary("add", x, root);
    c.builder.op("log", x.rank, vec![("x", sum.into()), ("epsilon", 0.0.into())])
}
