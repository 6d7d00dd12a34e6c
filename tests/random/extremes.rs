//! Programs on infinities, NaN, the largest and the smallest numbers: all plans must give these in the same places.
//!
//! These programs do not accumulate rounding errors, so the bound is a fraction of each element and need not be measured:
//! they have any number of operations that do not round, and one that does, on exact operands.

use coreml_anywhere::model::Opset;
use coreml_anywhere::tensor::{DType, Data};
use coreml_testing::random::Random;

use crate::builder::{Builder, Case, Made, Op, scalar};
use crate::elementwise::{INTEGERS, Maker, broadcast, broadcast_operand, extreme, order};
use crate::generate::{outputs, shape};
use crate::shapes::{PLACES, SHAPES};

static OWN: &[Maker] = &[function, function, function, arithmetic, arithmetic, least_or_most, extreme, order];

/// Numbers at the ends of the range of single precision, and some that are not.
const ENDS: &[f32] = &[
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-40,
    -1e-45,
    -0.0,
    0.0,
    1e30,
    -1e30,
    2e9,
    -2_147_483_648.0,
    100.0,
    -100.0,
    -30.0,
    20.0,
    0.5,
    -1.0,
    1.0,
    2.0,
];

pub(crate) fn program(seed: u64) -> Case {
    let mut b = Builder::new(Random::new(seed), DType::Float32, Opset::Ios17, 2000);
    for _ in 0..b.random.between(1, 3) {
        let shape = shape(&mut b);
        let values = (0..shape.iter().product()).map(|_| *b.random.of(ENDS)).collect();
        b.input(&shape, Data::Float32(values));
        // The size of numbers is no reason here to leave an operation out, or to make its result smaller.
        b.scope.iter_mut().for_each(|val| val.most = 1.0);
    }
    let mut attempts = 0;
    while b.operations() < 12 && attempts < 100 {
        attempts += 1;
        let family = *b.random.of(&[OWN, OWN, OWN, SHAPES, PLACES, INTEGERS]);
        let maker = *b.random.of(family);
        maker(&mut b);
        b.scope.iter_mut().filter(|val| val.is_float()).for_each(|val| val.most = 1.0);
    }
    let outputs = outputs(&mut b);
    b.finish(outputs, 1)
}

/// Functions of one number.
fn function(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.exact)?;
    let kinds = [
        "sigmoid",
        "tanh",
        "silu",
        "gelu",
        "erf",
        "softplus",
        "softsign",
        "exp",
        "exp2",
        "atan",
        "square",
        "sqrt",
        "relu",
        "relu6",
        "abs",
        "clip",
        "threshold",
        "leaky_relu",
        "elu",
    ];
    let kind = *b.random.of(&kinds);
    let op = Op::new(kind).with("x", &x);
    let op = match kind {
        "elu" | "leaky_relu" => op.with("alpha", scalar(x.dtype, 0.25)),
        "clip" => op.with("alpha", scalar(x.dtype, -0.5)).with("beta", scalar(x.dtype, 0.75)),
        "threshold" => op.with("alpha", scalar(x.dtype, 0.125)),
        "gelu" => op.with("mode", *b.random.of(&["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"])),
        _ => op,
    };
    let exact = matches!(kind, "relu" | "relu6" | "abs" | "clip" | "threshold");
    b.one(op, Made { exact, ..x.rounded(1.0) });
    Some(())
}

/// Two numbers to one.
fn arithmetic(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.exact)?;
    let y = broadcast_operand(b, &x).filter(|val| val.exact)?;
    let shape = broadcast(&x.shape, &y.shape)?;
    let kind = *b.random.of(&["add", "sub", "mul", "real_div"]);
    let y = match kind {
        // `relu` and its like may give either zero, which a division turns into opposite infinities.
        "real_div" => b.one(Op::new("abs").with("x", &y), y.shaped(&y.shape)),
        _ => y,
    };
    b.one(Op::new(kind).with("x", &x).with("y", &y), Made { exact: false, ..x.shaped(&shape) });
    Some(())
}

fn least_or_most(b: &mut Builder) -> Option<()> {
    let x = b.pick(|val| val.is_float() && val.rank() > 0)?;
    if b.random.once_in(2) {
        let y = broadcast_operand(b, &x)?;
        let shape = broadcast(&x.shape, &y.shape)?;
        let kind = *b.random.of(&["maximum", "minimum"]);
        let op = Op::new(kind).with("x", &x).with("y", &y);
        b.one(op, Made { exact: x.exact && y.exact, ..x.shaped(&shape) });
    } else {
        let axis = b.random.below(x.rank());
        let mut shape = x.shape.clone();
        shape[axis] = 1;
        let kind = *b.random.of(&["reduce_max", "reduce_min"]);
        let op = Op::new(kind).with("x", &x);
        b.one(op.with("axes", &[axis as i32][..]).with("keep_dims", true), x.shaped(&shape));
    }
    Some(())
}
