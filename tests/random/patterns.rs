//! Patterns that converters write as several operations and passes of the optimised plan recognise: whole, in parts,
//! and with something else in between.

use crate::builder::{Builder, Made, Op, Val, scalar};
use crate::elementwise::{Maker, broadcast};
use crate::products::{Conv, Padding, conv, image, linear_to, normalized};
use crate::shapes::transposed;

pub(crate) static PATTERNS: &[Maker] = &[
    gated,
    gated,
    hard_swish,
    residual,
    residual,
    inverted_bottleneck,
    inverted_bottleneck,
    heads,
    written_norm,
    channels_last,
    gated_halves,
    padded_conv,
    excitation,
];

fn unary(b: &mut Builder, kind: &str, x: &Val, most: f32) -> Val {
    b.one(Op::new(kind).with("x", x), x.rounded(most))
}

fn both(b: &mut Builder, kind: &str, x: &Val, y: &Val) -> Option<Val> {
    let shape = broadcast(&x.shape, &y.shape)?;
    let most = if kind == "mul" { x.most * y.most } else { x.most + y.most };
    let (x, y) = if b.random.once_in(2) { (x, y) } else { (y, x) };
    Some(b.one(Op::new(kind).with("x", x).with("y", y), Made { exact: false, most, ..x.shaped(&shape) }))
}

fn gated(b: &mut Builder) -> Option<()> {
    let x = b.float()?;
    let gate = unary(b, "sigmoid", &x, 1.0);
    both(b, "mul", &x, &gate)?;
    Some(())
}

fn hard_swish(b: &mut Builder) -> Option<()> {
    let x = b.float()?;
    let limited = match b.random.once_in(2) && x.exact {
        true => {
            b.one(Op::new("thresholded_relu").with("x", &x).with("alpha", scalar(x.dtype, -3.0)), x.shaped(&x.shape))
        }
        false => x.clone(),
    };
    let op = Op::new("sigmoid_hard").with("x", &limited).with("alpha", scalar(x.dtype, 1.0 / 6.0));
    let gate = b.one(op.with("beta", scalar(x.dtype, 0.5)), x.rounded(1.0));
    both(b, "mul", &limited, &gate)?;
    Some(())
}

fn maybe_activation(b: &mut Builder, x: Val) -> Val {
    match b.random.below(5) {
        0 => unary(b, "relu", &x, x.most),
        1 => unary(b, "relu6", &x, 6.0),
        2 => {
            let gate = unary(b, "sigmoid", &x, 1.0);
            both(b, "mul", &x, &gate).unwrap_or(x)
        }
        _ => x,
    }
}

fn square(cout: usize, groups: usize, size: usize, spatial: usize) -> Conv {
    Conv {
        cout,
        groups,
        kernel: vec![size; spatial],
        stride: vec![1; spatial],
        dilation: vec![1; spatial],
        padding: Padding::Same,
    }
}

/// A product plus what went into it, or plus another product.
fn residual(b: &mut Builder) -> Option<()> {
    if b.random.once_in(2) {
        let x = image(b)?;
        let size = *b.random.of(&[1, 3]);
        let (channels, spatial) = (x.shape[1], x.rank() - 2);
        let y = conv(b, &x, &square(channels, 1, size, spatial))?;
        let y = if b.random.once_in(3) { normalized(b, &y) } else { y };
        let y = maybe_activation(b, y);
        let other = if b.random.once_in(3) { conv(b, &x, &square(channels, 1, 1, spatial))? } else { x };
        let sum = both(b, "add", &y, &other)?;
        maybe_activation(b, sum);
    } else {
        let x = b.pick(|val| val.is_float() && (2..=4).contains(&val.rank()))?;
        let outputs = *x.shape.last()?;
        let y = linear_to(b, &x, outputs)?;
        let y = maybe_activation(b, y);
        let sum = both(b, "add", &y, &x)?;
        maybe_activation(b, sum);
    }
    Some(())
}

/// Wider, each channel by itself, narrower again: the blocks of networks for telephones.
fn inverted_bottleneck(b: &mut Builder) -> Option<()> {
    let x = image(b)?;
    let (channels, spatial) = (x.shape[1], x.rank() - 2);
    let wide = channels * b.random.between(1, 4);
    let first = *b.random.of(&[1, 1, 3]);
    let y = conv(b, &x, &square(wide, 1, first, spatial))?;
    let y = maybe_activation(b, y);
    let (size, step) = (*b.random.of(&[3, 5]), b.random.between(1, 2));
    let y = conv(b, &y, &Conv { stride: vec![step; spatial], ..square(wide, wide, size, spatial) })?;
    let y = maybe_activation(b, y);
    if b.random.once_in(4) {
        return Some(());
    }
    let y = conv(b, &y, &square(channels, 1, 1, spatial))?;
    if y.shape == x.shape {
        both(b, "add", &y, &x)?;
    }
    Some(())
}

/// Attention by heads, from one sequence.
fn heads(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() == 3)?;
    let [batch, length, _] = x.shape[..] else { return None };
    let (heads, width) = (b.random.between(1, 3), b.random.between(1, 9));
    let mut parts = Vec::new();
    for _ in 0..3 {
        let y = linear_to(b, &x, heads * width)?;
        let shape = [batch as i32, length as i32, heads as i32, width as i32];
        let y =
            b.one(Op::new("reshape").with("x", &y).with("shape", &shape[..]), y.shaped(&[batch, length, heads, width]));
        parts.push(transposed(b, &y, &[0, 2, 1, 3]));
    }
    let [q, k, v] = parts.try_into().ok()?;
    let made = Made { exact: false, most: q.most * k.most, ..q.shaped(&[batch, heads, length, length]) };
    if !b.fits(&made.shape) {
        return None;
    }
    let scores =
        b.one(Op::new("matmul").with("x", &q).with("y", &k).with("transpose_x", false).with("transpose_y", true), made);
    let scores =
        b.one(Op::new("mul").with("x", &scores).with("y", scalar(x.dtype, 0.25)), scores.rounded(0.25 * scores.most));
    let weights = b.one(Op::new("softmax").with("x", &scores).with("axis", -1), scores.rounded(1.0));
    let made = Made { exact: false, most: v.most, ..v.shaped(&[batch, heads, length, width]) };
    let y = b.one(Op::new("matmul").with("x", &weights).with("y", &v), made);
    let y = transposed(b, &y, &[0, 2, 1, 3]);
    let shape = [batch as i32, length as i32, (heads * width) as i32];
    b.one(Op::new("reshape").with("x", &y).with("shape", &shape[..]), y.shaped(&[batch, length, heads * width]));
    Some(())
}

/// A norm in single steps.
fn written_norm(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() >= 2 && val.most <= 100.0)?;
    let axis = if b.random.once_in(3) { 1 } else { x.rank() as i32 - 1 };
    let mut shape = x.shape.clone();
    shape[axis as usize] = 1;
    let mean = |b: &mut Builder, x: &Val| {
        let op = Op::new("reduce_mean").with("x", x).with("axes", &[axis][..]).with("keep_dims", true);
        b.one(op, Made { exact: false, ..x.shaped(&shape) })
    };
    let middle = mean(b, &x);
    let centred = b.one(Op::new("sub").with("x", &x).with("y", &middle), x.rounded(2.0 * x.most));
    let squares = unary(b, "square", &centred, centred.most * centred.most);
    let variance = mean(b, &squares);
    let epsilon = scalar(x.dtype, 1e-2);
    let variance = b.one(Op::new("add").with("x", &variance).with("y", epsilon), variance.rounded(variance.most));
    let normal = if b.random.once_in(2) {
        let factor =
            b.one(Op::new("rsqrt").with("x", &variance).with("epsilon", scalar(x.dtype, 1e-5)), variance.rounded(10.0));
        b.one(Op::new("mul").with("x", &centred).with("y", &factor), x.rounded(4.0))
    } else {
        let deviation = unary(b, "sqrt", &variance, variance.most.sqrt());
        b.one(Op::new("real_div").with("x", &centred).with("y", &deviation), x.rounded(4.0))
    };
    let gamma = b.weights(x.dtype, &[*x.shape.last()?], 1.0);
    b.one(Op::new("mul").with("x", &normal).with("y", gamma), normal.rounded(4.0));
    Some(())
}

/// A program's own way to channels-last and back, with something in between.
fn channels_last(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() == 4)?;
    let y = transposed(b, &x, &[0, 2, 3, 1]);
    let outputs = *b.random.of(&[1, 4, 8]);
    let y = if b.random.once_in(2) { linear_to(b, &y, outputs)? } else { unary(b, "tanh", &y, 1.0) };
    transposed(b, &y, &[0, 3, 1, 2]);
    Some(())
}

/// One half as the gate of the other.
fn gated_halves(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.shape.iter().any(|size| size.is_multiple_of(2)))?;
    let axis = x.shape.iter().position(|size| size.is_multiple_of(2))?;
    let mut shape = x.shape.clone();
    shape[axis] /= 2;
    let op = Op::new("split").with("x", &x).with("num_splits", 2).with("axis", axis as i32);
    let halves = b.emit(op, vec![x.shaped(&shape), x.shaped(&shape)]);
    let gate = unary(b, "sigmoid", &halves[1], 1.0);
    both(b, "mul", &halves[0], &gate)?;
    Some(())
}

/// Padding of its own before a convolution or a pool.
fn padded_conv(b: &mut Builder) -> Option<()> {
    let x = image(b)?;
    let spatial = x.rank() - 2;
    let amounts: Vec<usize> = (0..2 * spatial).map(|_| b.random.below(3)).collect();
    let mut shape = x.shape.clone();
    for axis in 0..spatial {
        shape[axis + 2] += amounts[2 * axis] + amounts[2 * axis + 1];
    }
    let numbers: Vec<i32> = amounts.iter().map(|&amount| amount as i32).collect();
    let op = Op::new("pad").with("x", &x).with("pad", &numbers[..]).with("mode", "constant");
    let padded = b.one(op.with("constant_val", scalar(x.dtype, 0.0)), x.shaped(&shape));
    let padding = if b.random.once_in(2) { Padding::Valid } else { Padding::Same };
    let (cout, size, step) = (b.random.between(1, 9), b.random.between(1, 3), b.random.between(1, 2));
    conv(b, &padded, &Conv { stride: vec![step; spatial], padding, ..square(cout, 1, size, spatial) })?;
    Some(())
}

/// Each channel by what all of it comes to.
fn excitation(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() == 4)?;
    let [n, c, ..] = x.shape[..] else { return None };
    let keep = b.random.once_in(2);
    let shape = if keep { vec![n, c, 1, 1] } else { vec![n, c] };
    let op = Op::new("reduce_mean").with("x", &x).with("axes", &[2, 3][..]).with("keep_dims", keep);
    let y = b.one(op, Made { exact: false, ..x.shaped(&shape) });
    if !keep {
        linear_to(b, &y, c)?;
        return Some(());
    }
    let y = conv(b, &y, &square(c, 1, 1, 2))?;
    let gate = unary(b, "sigmoid", &y, 1.0);
    both(b, "mul", &x, &gate)?;
    Some(())
}
