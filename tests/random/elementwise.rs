//! Element-wise operations, comparisons, integers, reductions, orders.

use coreml_anywhere::model::Argument;
use coreml_anywhere::tensor::{DType, Data};

use crate::builder::{Builder, Given, Made, Op, Val, constant, floats, scalar};

/// One operation, or a few that belong together. `None` if there is nothing that it could be done with.
pub(crate) type Maker = fn(&mut Builder) -> Option<()>;

pub(crate) static ELEMENTWISE: &[Maker] =
    &[activation, activation, function, of_positive, binary, binary, binary, prelu, cast];
pub(crate) static INTEGERS: &[Maker] = &[integers, integers, compare, compare, logic, select, select, rounding];
pub(crate) static REDUCTIONS: &[Maker] = &[reduce, reduce, softmax, extreme, order, cumsum];

/// What does not change the bits of numbers that it takes over.
const EXACT: &[&str] = &["relu", "abs", "relu6", "clip", "threshold"];

fn activation(b: &mut Builder) -> Option<()> {
    let x = b.float()?;
    let kinds = [
        "relu",
        "abs",
        "relu6",
        "clip",
        "threshold",
        "sigmoid",
        "tanh",
        "silu",
        "gelu",
        "erf",
        "softplus",
        "softsign",
        "elu",
        "leaky_relu",
        "sigmoid_hard",
        "scaled_tanh",
        "linear_activation",
    ];
    let kind = *b.random.of(&kinds);
    let (dtype, mut most) = (x.dtype, x.most);
    let op = Op::new(kind).with("x", &x);
    let op = match kind {
        "sigmoid" | "tanh" | "erf" | "softsign" => {
            most = 1.0;
            op
        }
        "sigmoid_hard" => {
            most = 1.0;
            op.with("alpha", scalar(dtype, 0.25)).with("beta", scalar(dtype, 0.375))
        }
        "scaled_tanh" | "linear_activation" => {
            most = 1.5 * most + 0.5;
            op.with("alpha", scalar(dtype, 1.5)).with("beta", scalar(dtype, 0.5))
        }
        "elu" | "leaky_relu" => op.with("alpha", scalar(dtype, *b.random.of(&[0.25, 0.1, 1.0]))),
        "clip" => op.with("alpha", scalar(dtype, -0.5)).with("beta", scalar(dtype, 0.75)),
        "threshold" => op.with("alpha", scalar(dtype, 0.125)),
        "gelu" => op.with("mode", *b.random.of(&["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"])),
        _ => op,
    };
    let exact = x.exact && EXACT.contains(&kind);
    b.one(op, Made { exact, ..x.rounded(most) });
    Some(())
}

/// Functions that are steep or undefined somewhere, of numbers where they are not.
fn function(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.most <= 8.0)?;
    let kind = *b.random.of(&["exp", "exp2", "sin", "cos", "atan", "sinh", "cosh", "square"]);
    let most = match kind {
        "exp" | "sinh" | "cosh" => x.most.exp(),
        "exp2" => x.most.exp2(),
        "square" => x.most * x.most,
        _ => x.most.min(1.5),
    };
    b.one(Op::new(kind).with("x", &x), x.rounded(most));
    Some(())
}

/// Functions of numbers that are made to lie in their domain.
fn of_positive(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.most <= 1000.0)?;
    let positive = b.one(Op::new("abs").with("x", &x), x.shaped(&x.shape));
    let positive = b.one(Op::new("add").with("x", &positive).with("y", scalar(x.dtype, 0.5)), x.rounded(x.most + 0.5));
    let op = |kind: &str| Op::new(kind).with("x", &positive);
    let most = positive.most;
    let (op, most) = match b.random.below(7) {
        0 => (op("sqrt"), most.sqrt()),
        1 => (op("rsqrt").with("epsilon", scalar(x.dtype, 1e-3)), 1.5),
        2 => (op("log").with("epsilon", scalar(x.dtype, 1e-3)), 3.0),
        3 => (op("inverse").with("epsilon", scalar(x.dtype, 1e-3)), 2.0),
        4 => (op("pow").with("y", scalar(x.dtype, *b.random.of(&[0.5, 1.5, -1.0]))), most.powf(1.5).max(2.0)),
        5 => {
            let other = broadcast_operand(b, &positive)?;
            let shape = broadcast(&positive.shape, &other.shape)?;
            let op = Op::new("real_div").with("x", &other).with("y", &positive);
            b.one(op, Made { exact: false, most: 2.0 * other.most, ..positive.shaped(&shape) });
            return Some(());
        }
        _ => {
            // Between -0.9 and 0.9.
            let bounded = b.one(Op::new("softsign").with("x", &x), x.rounded(1.0));
            let bounded = b.one(Op::new("mul").with("x", &bounded).with("y", scalar(x.dtype, 0.875)), x.rounded(0.875));
            let kind = *b.random.of(&["asin", "acos", "atanh", "tan"]);
            b.one(Op::new(kind).with("x", &bounded), x.rounded(3.0));
            return Some(());
        }
    };
    b.one(op, positive.rounded(most));
    Some(())
}

/// The shape that both stretch to.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    let both = (0..rank).map(|i| match (dim(a, i), dim(b, i)) {
        (x, y) if x == y => Some(x),
        (1, y) => Some(y),
        (x, 1) => Some(x),
        _ => None,
    });
    both.collect()
}

/// Another operand for a binary operation with `x`: a value that fits, or a constant with fewer or shorter axes.
pub(crate) fn broadcast_operand(b: &mut Builder, x: &Val) -> Option<Val> {
    let limit = b.limit;
    if !b.random.once_in(3) {
        let fits = |val: &Val| {
            val.dtype == x.dtype
                && broadcast(&val.shape, &x.shape).is_some_and(|shape| shape.iter().product::<usize>() <= limit)
        };
        if let Some(other) = b.pick(fits) {
            return Some(other);
        }
    }
    let first = b.random.below(x.rank() + 1);
    let mut shape = x.shape[first..].to_vec();
    for size in &mut shape {
        if b.random.once_in(3) {
            *size = 1;
        }
    }
    let count: usize = shape.iter().product();
    let random = &mut b.random;
    let constant = match x.dtype {
        DType::Int32 => constant(&shape, Data::Int32((0..count).map(|_| random.below(19) as i32 - 9).collect())),
        DType::Bool => constant(&shape, Data::Bool((0..count).map(|_| random.once_in(2)).collect())),
        dtype => floats(dtype, &shape, (0..count).map(|_| random.float()).collect()),
    };
    let most = if x.dtype == DType::Int32 { 9.0 } else { 1.0 };
    let val = b.constant(constant, &shape, most);
    b.scope.pop();
    Some(val)
}

fn binary(b: &mut Builder) -> Option<()> {
    let x = b.float()?;
    let y = broadcast_operand(b, &x)?;
    let kind = *b.random.of(&["add", "add", "sub", "mul", "mul", "maximum", "minimum"]);
    let (exact, most) = match kind {
        "add" | "sub" => (false, x.most + y.most),
        "mul" => (false, x.most * y.most),
        _ => (x.exact && y.exact, x.most.max(y.most)),
    };
    let (x, y) = if b.random.once_in(2) { (x, y) } else { (y, x) };
    let shape = broadcast(&x.shape, &y.shape)?;
    b.one(Op::new(kind).with("x", &x).with("y", &y), Made { exact, most, ..x.shaped(&shape) });
    Some(())
}

fn prelu(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && (3..=5).contains(&val.rank()))?;
    let alpha = b.weights(x.dtype, &[x.shape[1]], 0.5);
    b.one(Op::new("prelu").with("x", &x).with("alpha", alpha), x.rounded(x.most));
    Some(())
}

fn cast(b: &mut Builder) -> Option<()> {
    // Half precision rounds so coarsely that what was rounded before would be a coin toss.
    let x = b.pick(|val| val.exact && val.most < 1000.0)?;
    let to = *b.random.of(&[DType::Float16, DType::Float32, DType::Int32, DType::Bool]);
    let name = if to == DType::Bool { "bool" } else { to.name() };
    if to == x.dtype {
        return None;
    }
    b.one(Op::new("cast").with("x", &x).with("dtype", name), Made { dtype: to, ..x.shaped(&x.shape) });
    Some(())
}

fn integers(b: &mut Builder) -> Option<()> {
    let x = match b.pick(Val::is_int) {
        Some(x) => x,
        None => as_integers(b)?,
    };
    let y = broadcast_operand(b, &x)?;
    let kind = *b.random.of(&["add", "sub", "mul", "maximum", "minimum", "floor_div", "mod", "real_div"]);
    let shape = broadcast(&x.shape, &y.shape)?;
    b.one(Op::new(kind).with("x", &x).with("y", &y), Made { most: x.most * y.most.max(2.0), ..x.shaped(&shape) });
    Some(())
}

/// Integers made of what there is.
pub(crate) fn as_integers(b: &mut Builder) -> Option<Val> {
    if let Some(x) = b.pick(Val::is_int) {
        return Some(x);
    }
    let x = b.pick(|val| val.exact && val.is_float() && val.most < 1000.0)?;
    let wide = b.one(
        Op::new("mul").with("x", &x).with("y", scalar(x.dtype, 8.0)),
        Made { most: 8.0 * x.most, ..x.shaped(&x.shape) },
    );
    Some(b.one(
        Op::new("cast").with("x", &wide).with("dtype", "int32"),
        Made { dtype: DType::Int32, ..wide.shaped(&wide.shape) },
    ))
}

/// Indices of this shape for an axis of `size` elements; some count from the end.
pub(crate) fn indices(b: &mut Builder, shape: &[usize], size: usize) -> Argument {
    let count: usize = shape.iter().product();
    if b.random.once_in(2)
        && let Some(x) = b.pick(|val| val.is_int() && val.count() == count)
    {
        let dims: Vec<i32> = shape.iter().map(|&dim| dim as i32).collect();
        let x = b.one(Op::new("reshape").with("x", &x).with("shape", &dims[..]), x.shaped(shape));
        let modulo = Op::new("mod").with("x", &x).with("y", size as i32);
        return b.one(modulo, Made { most: size as f32, ..x.shaped(shape) }).id.argument();
    }
    let random = &mut b.random;
    let one = |_| random.below(2 * size) as i32 - size as i32;
    constant(shape, Data::Int32((0..count).map(one).collect())).argument()
}

fn compare(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.exact && val.dtype != DType::Bool)?;
    let y = exact_operand(b, &x)?;
    let kind = *b.random.of(&["equal", "not_equal", "greater", "greater_equal", "less", "less_equal"]);
    let shape = broadcast(&x.shape, &y.shape)?;
    b.one(Op::new(kind).with("x", &x).with("y", &y), Made { dtype: DType::Bool, shape, exact: true, most: 1.0 });
    Some(())
}

fn exact_operand(b: &mut Builder, x: &Val) -> Option<Val> {
    (0..4).find_map(|_| broadcast_operand(b, x).filter(|val| val.exact))
}

fn logic(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.dtype == DType::Bool)?;
    if b.random.once_in(3) {
        b.one(Op::new("logical_not").with("x", &x), x.shaped(&x.shape));
        return Some(());
    }
    let y = broadcast_operand(b, &x)?;
    let kind = *b.random.of(&["logical_and", "logical_or", "logical_xor"]);
    let shape = broadcast(&x.shape, &y.shape)?;
    b.one(Op::new(kind).with("x", &x).with("y", &y), x.shaped(&shape));
    Some(())
}

fn select(b: &mut Builder) -> Option<()> {
    let condition = b.pick(|val| val.dtype == DType::Bool)?;
    let limit = b.limit;
    let fits = |val: &Val| {
        val.dtype != DType::Bool
            && broadcast(&val.shape, &condition.shape).is_some_and(|shape| shape.iter().product::<usize>() <= limit)
    };
    let x = b.pick(fits)?;
    let y = broadcast_operand(b, &x)?;
    let shape = broadcast(&broadcast(&x.shape, &y.shape)?, &condition.shape)?;
    if !b.fits(&shape) {
        return None;
    }
    let made = Made { exact: x.exact && y.exact, most: x.most.max(y.most), ..x.shaped(&shape) };
    b.one(Op::new("select").with("cond", &condition).with("a", &x).with("b", &y), made);
    Some(())
}

fn rounding(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.exact)?;
    let kind = *b.random.of(&["floor", "ceil", "round", "sign", "thresholded_relu"]);
    let op = Op::new(kind).with("x", &x);
    let op = if kind == "thresholded_relu" { op.with("alpha", scalar(x.dtype, 0.25)) } else { op };
    b.one(op, Made { most: x.most + 1.0, ..x.shaped(&x.shape) });
    Some(())
}

/// Some of the axes, as an operation takes them, and the shape without them.
pub(crate) fn some_axes(b: &mut Builder, shape: &[usize], keep: bool) -> (Vec<i32>, Vec<usize>) {
    let rank = shape.len();
    let last = b.random.once_in(3);
    let chosen: Vec<usize> = match (last, rank) {
        (_, 0) => Vec::new(),
        (true, _) => vec![rank - 1],
        (false, 4) if b.random.once_in(2) => vec![2, 3],
        _ => {
            let mut axes: Vec<usize> = (0..rank).filter(|_| b.random.once_in(2)).collect();
            if axes.is_empty() {
                axes.push(b.random.below(rank));
            }
            axes
        }
    };
    let result = (0..rank).filter_map(|axis| match (chosen.contains(&axis), keep) {
        (false, _) => Some(shape[axis]),
        (true, true) => Some(1),
        (true, false) => None,
    });
    let result = result.collect();
    let negative = b.random.once_in(2);
    let axes = chosen.iter().map(|&axis| axis as i32 - if negative { rank as i32 } else { 0 });
    (axes.collect(), result)
}

fn reduce(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.dtype != DType::Bool && val.rank() > 0)?;
    let keep = b.random.once_in(2);
    let (axes, shape) = some_axes(b, &x.shape, keep);
    let kinds: &[&str] = match x.is_float() {
        true if x.most <= 8.0 => &[
            "reduce_sum",
            "reduce_mean",
            "reduce_mean",
            "reduce_max",
            "reduce_min",
            "reduce_l1_norm",
            "reduce_l2_norm",
            "reduce_sum_square",
            "reduce_log_sum_exp",
        ],
        true => &["reduce_mean", "reduce_max", "reduce_min"],
        false => &["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"],
    };
    let kind = *b.random.of(kinds);
    let several = (x.count() / shape.iter().product::<usize>()) as f32;
    let most = match kind {
        // Sums of random numbers.
        "reduce_sum" | "reduce_l2_norm" => x.most * several.sqrt(),
        "reduce_l1_norm" => x.most * several,
        "reduce_sum_square" => x.most * x.most * several,
        _ => x.most + 5.0,
    };
    let exact = x.exact && (x.is_int() || matches!(kind, "reduce_max" | "reduce_min"));
    let op = Op::new(kind).with("x", &x).with("axes", &axes[..]).with("keep_dims", keep);
    b.one(op, Made { exact, most, ..x.shaped(&shape) });
    Some(())
}

fn softmax(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() > 0)?;
    let axis = if b.random.once_in(2) { -1 } else { b.random.below(x.rank()) as i32 };
    b.one(Op::new("softmax").with("x", &x).with("axis", axis), x.rounded(1.0));
    Some(())
}

/// The place of the largest or smallest element.
pub(crate) fn extreme(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.exact && val.dtype != DType::Bool && val.rank() > 0)?;
    let (axis, keep) = (b.random.below(x.rank()), b.random.once_in(2));
    let mut shape = x.shape.clone();
    let most = shape[axis] as f32;
    if keep {
        shape[axis] = 1;
    } else {
        shape.remove(axis);
    }
    let kind = *b.random.of(&["reduce_argmax", "reduce_argmin"]);
    let op = Op::new(kind).with("x", &x);
    b.one(op.with("axis", axis as i32).with("keep_dims", keep), Made { dtype: DType::Int32, shape, exact: true, most });
    Some(())
}

pub(crate) fn order(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.exact && val.dtype != DType::Bool && val.rank() > 0)?;
    let (axis, ascending) = (b.random.below(x.rank()), b.random.once_in(2));
    let places =
        |shape: &[usize]| Made { dtype: DType::Int32, shape: shape.to_vec(), exact: true, most: shape[axis] as f32 };
    if b.random.once_in(2) {
        let op = Op::new("argsort").with("x", &x).with("axis", axis as i32).with("ascending", ascending);
        b.one(op, places(&x.shape));
        return Some(());
    }
    let mut shape = x.shape.clone();
    shape[axis] = b.random.between(1, shape[axis]);
    let op = Op::new("topk").with("x", &x).with("k", shape[axis] as i32).with("axis", axis as i32);
    b.emit(op.with("ascending", ascending), vec![x.shaped(&shape), places(&shape)]);
    Some(())
}

fn cumsum(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.dtype != DType::Bool && val.rank() > 0)?;
    let axis = b.random.below(x.rank());
    let op = Op::new("cumsum").with("x", &x).with("axis", axis as i32);
    let op = op.with("exclusive", b.random.once_in(2)).with("reverse", b.random.once_in(2));
    let most = x.most * (x.shape[axis] as f32).sqrt();
    b.one(op, Made { exact: x.exact && x.is_int(), most, ..x.shaped(&x.shape) });
    Some(())
}
