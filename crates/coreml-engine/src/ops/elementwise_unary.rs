//! Element-wise functions of one tensor, and `cast`.
//!
//! A function is a row: its exact form, computed in `f64`, and the kernel that replaces it in the optimised plan.
//! Semantics: coremltools `elementwise_unary`. `round` rounds half to even, `sign(0)` is 0, `inverse`, `log` and `rsqrt`
//! add their epsilon to the argument. Functions that map integers to integers have an integer form, which wraps; for the
//! others integers are computed in `f64`, which holds every `i32`, and the result saturates.

use coreml_kernels::Activation;
use coreml_kernels::elementwise::{Unary, activate, activate_in_place, unary, unary_in_place};
use coreml_model::Opset;
use coreml_tensor::DType;

use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Param, Types, constant, input};
use crate::value::{Kind, Type};

/// A function of one number, with up to two parameters.
pub(crate) type Oracle = fn(f64, [f64; 2]) -> f64;

/// Applies a function to every element.
#[derive(Debug)]
pub(crate) struct Pointwise {
    pub(crate) oracle: Oracle,
    pub(crate) parameters: [f64; 2],
    pub(crate) kernel: Option<Fast>,
    /// What is computed of integers, if not what the oracle says.
    pub(crate) ints: Option<fn(i32) -> i32>,
}

/// The kernel that stands in for a function.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fast {
    Activation(Activation),
    Unary(Unary),
    /// `after * activation(before * x)`
    Scaled {
        before: f32,
        activation: Activation,
        after: f32,
    },
}

impl Pointwise {
    /// The function as one that products can apply to what they store.
    pub(crate) fn activation(&self) -> Option<Activation> {
        match self.kernel? {
            Fast::Activation(activation) => Some(activation),
            Fast::Unary(_) | Fast::Scaled { .. } => None,
        }
    }
}

/// The larger; NaN if either is, other than `f64::max` has it.
pub(crate) fn larger(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller; NaN if either is.
pub(crate) fn smaller(a: f64, b: f64) -> f64 {
    if a < b || a.is_nan() { a } else { b }
}

const X: &[Param] = &[input("x")];
const X_EPSILON: &[Param] = &[input("x"), constant("epsilon").optional()];

/// A row without parameters.
macro_rules! plain {
    ($name:literal, $oracle:expr) => {
        plain!($name, $oracle, None)
    };
    ($name:literal, $oracle:expr, $kernel:expr) => {
        plain!($name, $oracle, $kernel, None)
    };
    ($name:literal, $oracle:expr, $kernel:expr, $ints:expr) => {
        OpSpec {
            name: $name,
            since: Opset::Ios15,
            params: X,
            bind: Bind::Node(|_| {
                let oracle = |x, _| ($oracle)(x);
                Ok(Box::new(Pointwise { oracle, parameters: [0.0; 2], kernel: $kernel, ints: $ints }))
            }),
        }
    };
}

/// A row with an epsilon.
macro_rules! with_epsilon {
    ($name:literal, $default:literal, $oracle:expr, $kernel:ident) => {
        OpSpec {
            name: $name,
            since: Opset::Ios15,
            params: X_EPSILON,
            bind: Bind::Node(|args| {
                let epsilon = args.float("epsilon", $default)?;
                Ok(Box::new(Pointwise {
                    oracle: |x, [epsilon, _]| ($oracle)(x + epsilon),
                    parameters: [epsilon.into(), 0.0],
                    kernel: Some(Fast::Unary(Unary::$kernel { epsilon })),
                    ints: None,
                }))
            }),
        }
    };
}

pub(crate) static OPS: &[OpSpec] = &[
    plain!("abs", f64::abs, Some(Fast::Unary(Unary::Abs)), Some(i32::wrapping_abs)),
    plain!("acos", f64::acos, Some(Fast::Unary(Unary::Acos))),
    plain!("asin", f64::asin, Some(Fast::Unary(Unary::Asin))),
    plain!("atan", f64::atan, Some(Fast::Unary(Unary::Atan))),
    plain!("atanh", f64::atanh, Some(Fast::Unary(Unary::Atanh))),
    plain!("ceil", f64::ceil, Some(Fast::Unary(Unary::Ceil))),
    plain!("cos", f64::cos, Some(Fast::Unary(Unary::Cos))),
    plain!("cosh", f64::cosh, Some(Fast::Unary(Unary::Cosh))),
    plain!("erf", coreml_kernels::reference::erf, Some(Fast::Activation(Activation::Erf))),
    plain!("exp", f64::exp, Some(Fast::Activation(Activation::Exp))),
    plain!("exp2", f64::exp2, Some(Fast::Unary(Unary::Exp2))),
    plain!("floor", f64::floor, Some(Fast::Unary(Unary::Floor))),
    plain!("round", f64::round_ties_even, Some(Fast::Unary(Unary::Round))),
    plain!("sign", |x: f64| if x == 0.0 { 0.0 } else { x.signum() }, Some(Fast::Unary(Unary::Sign))),
    plain!("sin", f64::sin, Some(Fast::Unary(Unary::Sin))),
    plain!("sinh", f64::sinh, Some(Fast::Unary(Unary::Sinh))),
    plain!("sqrt", f64::sqrt, Some(Fast::Unary(Unary::Sqrt))),
    plain!("square", |x: f64| x * x, Some(Fast::Unary(Unary::Square)), Some(|x| x.wrapping_mul(x))),
    plain!("tan", f64::tan, Some(Fast::Unary(Unary::Tan))),
    plain!("tanh", f64::tanh, Some(Fast::Activation(Activation::Tanh))),
    with_epsilon!("inverse", 1e-4, |x: f64| 1.0 / x, Inverse),
    with_epsilon!("log", 1e-45, f64::ln, Log),
    with_epsilon!("rsqrt", 1e-12, |x: f64| 1.0 / x.sqrt(), Rsqrt),
    OpSpec {
        name: "clip",
        since: Opset::Ios15,
        params: &[input("x"), constant("alpha"), constant("beta")],
        bind: Bind::Node(bind_clip),
    },
    OpSpec {
        name: "threshold",
        since: Opset::Ios15,
        params: &[input("x"), constant("alpha")],
        bind: Bind::Node(|args| {
            let alpha = args.float("alpha", 0.0)?;
            Ok(Box::new(Pointwise {
                oracle: |x, [alpha, _]| larger(x, alpha),
                parameters: [alpha.into(), 0.0],
                kernel: Some(Fast::Activation(Activation::Clip { lo: alpha, hi: f32::INFINITY })),
                ints: None,
            }))
        }),
    },
    OpSpec { name: "logical_not", since: Opset::Ios15, params: X, bind: Bind::Node(|_| Ok(Box::new(LogicalNot))) },
    OpSpec { name: "cast", since: Opset::Ios15, params: &[input("x"), constant("dtype")], bind: Bind::Node(bind_cast) },
];

fn bind_clip(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let (lo, hi) = (args.float("alpha", f32::NEG_INFINITY)?, args.float("beta", f32::INFINITY)?);
    if lo.is_nan() || hi.is_nan() || lo > hi {
        return Err(OpError::parameter("alpha", format!("{lo} is not below beta, {hi}")));
    }
    Ok(Box::new(Pointwise {
        oracle: |x, [lo, hi]| smaller(larger(x, lo), hi),
        parameters: [lo.into(), hi.into()],
        kernel: Some(Fast::Activation(Activation::Clip { lo, hi })),
        ints: None,
    }))
}

impl Op for Pointwise {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        Ok(vec![ins.ty(0)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let ty = ins.ty(0);
        if ty.kind == Kind::Float {
            match (self.kernel.filter(|_| !env.reference), ins.is_out(0)) {
                (Some(Fast::Activation(kernel)), true) => activate_in_place(env.isa, env.pool, kernel, outs.f32(0)),
                (Some(Fast::Activation(kernel)), false) => activate(env.isa, env.pool, kernel, ins.f32(0), outs.f32(0)),
                (Some(Fast::Unary(kernel)), true) => unary_in_place(env.isa, env.pool, kernel, outs.f32(0)),
                (Some(Fast::Unary(kernel)), false) => unary(env.isa, env.pool, kernel, ins.f32(0), outs.f32(0)),
                (Some(Fast::Scaled { before, activation, after }), in_place) => {
                    let out = outs.f32(0);
                    if in_place {
                        out.iter_mut().for_each(|x| *x *= before);
                    } else {
                        out.iter_mut().zip(ins.f32(0)).for_each(|(out, &x)| *out = before * x);
                    }
                    activate_in_place(env.isa, env.pool, activation, out);
                    out.iter_mut().for_each(|x| *x *= after);
                }
                (None, in_place) => {
                    if !in_place {
                        outs.f32(0).copy_from_slice(ins.f32(0));
                    }
                    outs.f32(0).iter_mut().for_each(|x| *x = (self.oracle)(f64::from(*x), self.parameters) as f32);
                }
            }
        } else {
            if !ins.is_out(0) {
                outs.i32(0).copy_from_slice(ins.i32(0));
            }
            match self.ints {
                Some(ints) => outs.i32(0).iter_mut().for_each(|x| *x = ints(*x)),
                None => outs.i32(0).iter_mut().for_each(|x| *x = (self.oracle)(f64::from(*x), self.parameters) as i32),
            }
        }
        Ok(())
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }

    fn permuted(&self, _perm: &[usize]) -> Option<Box<dyn Op>> {
        Some(Box::new(Self { ..*self }))
    }
}

#[derive(Debug)]
struct LogicalNot;

impl Op for LogicalNot {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        if ins.ty(0).kind == Kind::Float {
            return Err(OpError::parameter("x", "must be boolean"));
        }
        Ok(vec![Type::new(Kind::Bool, ins.shape(0))])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        for (slot, &x) in outs.i32(0).iter_mut().zip(ins.i32(0)) {
            *slot = i32::from(x == 0);
        }
        Ok(())
    }
}

/// Converts between kinds. A cast to `fp16` rounds, which is what the program asks for, though the result stays in an
/// `f32` as all floats do; other casts between floats change nothing.
#[derive(Debug)]
pub(crate) struct Cast {
    to: DType,
}

fn bind_cast(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let name = args.str("dtype", "")?;
    let to = DType::from_name(name).ok_or_else(|| OpError::parameter("dtype", format!("`{name}` is not a type")))?;
    Ok(Box::new(Cast { to }))
}

impl Cast {
    /// The range of the narrower integers, which saturate.
    fn range(&self) -> (i32, i32) {
        match self.to {
            DType::Int8 => (i8::MIN.into(), i8::MAX.into()),
            DType::UInt8 => (0, u8::MAX.into()),
            DType::Int16 => (i16::MIN.into(), i16::MAX.into()),
            DType::UInt16 => (0, u16::MAX.into()),
            DType::UInt32 | DType::UInt64 => (0, i32::MAX),
            _ => (i32::MIN, i32::MAX),
        }
    }
}

impl Op for Cast {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        Ok(vec![Type::new(Kind::of(self.to), ins.shape(0))])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let (lo, hi) = self.range();
        match (ins.ty(0).kind, Kind::of(self.to)) {
            (Kind::Float, Kind::Float) => {
                let half = self.to == DType::Float16;
                match (half, ins.is_out(0)) {
                    (true, true) => unary_in_place(env.isa, env.pool, Unary::RoundToHalf, outs.f32(0)),
                    (true, false) => unary(env.isa, env.pool, Unary::RoundToHalf, ins.f32(0), outs.f32(0)),
                    (false, true) => {}
                    (false, false) => outs.f32(0).copy_from_slice(ins.f32(0)),
                }
            }
            (Kind::Float, to) => {
                for (slot, &x) in outs.i32(0).iter_mut().zip(ins.f32(0)) {
                    // `as` truncates towards zero, saturates and turns NaN into 0.
                    *slot = if to == Kind::Bool { i32::from(x != 0.0) } else { (x as i32).clamp(lo, hi) };
                }
            }
            (_, Kind::Float) => {
                for (slot, &x) in outs.f32(0).iter_mut().zip(ins.i32(0)) {
                    *slot = x as f32;
                }
                if self.to == DType::Float16 {
                    unary_in_place(env.isa, env.pool, Unary::RoundToHalf, outs.f32(0));
                }
            }
            (_, to) => {
                for (slot, &x) in outs.i32(0).iter_mut().zip(ins.i32(0)) {
                    *slot = if to == Kind::Bool { i32::from(x != 0) } else { x.clamp(lo, hi) };
                }
            }
        }
        Ok(())
    }

    fn same_elements(&self) -> Option<usize> {
        // Only between floats, which the plan checks by comparing kinds.
        matches!(self.to, DType::Float32 | DType::Float64).then_some(0)
    }

    fn in_place(&self) -> Option<usize> {
        // The plan offers this only where input and output are of one kind.
        (self.to == DType::Float16).then_some(0)
    }

    fn permuted(&self, _perm: &[usize]) -> Option<Box<dyn Op>> {
        Some(Box::new(Self { ..*self }))
    }
}
