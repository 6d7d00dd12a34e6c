//! Activation functions and `softmax`.
//!
//! As in `elementwise_unary`, a function is a row with its exact form and its kernel. Semantics: coremltools
//! `activation`, also for defaults of optional parameters.

use coreml_kernels::Activation;
use coreml_model::Opset;
use coreml_tensor::MAX_RANK;

use super::elementwise_unary::{Fast, Oracle, Pointwise, larger, smaller};
use super::rows::{self, Row, row};
use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Param, Types, axis_of, constant, input, shape_of};

const X: &[Param] = &[input("x")];
const X_ALPHA: &[Param] = &[input("x"), constant("alpha")];
const X_ALPHA_BETA: &[Param] = &[input("x"), constant("alpha"), constant("beta")];

/// A row whose function takes the parameters `alpha` and `beta`, as far as it has them.
macro_rules! row {
    ($name:literal, $params:expr, $oracle:expr, $kernel:expr) => {
        OpSpec {
            name: $name,
            since: Opset::Ios15,
            params: $params,
            bind: Bind::Node(|args| pointwise(args, $oracle, $kernel)),
        }
    };
}

pub(crate) static OPS: &[OpSpec] = &[
    row!("relu", X, |x, _| larger(x, 0.0), |_, _| Some(Fast::Activation(Activation::Relu))),
    row!("relu6", X, |x, _| x.clamp(0.0, 6.0), |_, _| Some(Fast::Activation(Activation::Clip { lo: 0.0, hi: 6.0 }))),
    row!("leaky_relu", X_ALPHA, |x, [alpha, _]| if x >= 0.0 { x } else { alpha * x }, |alpha, _| {
        Some(Fast::Activation(Activation::LeakyRelu { alpha }))
    }),
    row!("elu", X_ALPHA, |x, [alpha, _]| if x >= 0.0 { x } else { alpha * x.exp_m1() }, |alpha, _| {
        Some(Fast::Activation(Activation::Elu { alpha }))
    }),
    row!("sigmoid", X, |x, _| sigmoid(x), |_, _| Some(Fast::Activation(Activation::Sigmoid))),
    row!("silu", X, |x, _| x * sigmoid(x), |_, _| Some(Fast::Activation(Activation::Silu))),
    row!("sigmoid_hard", X_ALPHA_BETA, |x, [alpha, beta]| (alpha * x + beta).clamp(0.0, 1.0), |alpha, beta| {
        Some(Fast::Activation(Activation::HardSigmoid { alpha, beta }))
    }),
    row!("softplus", X, |x, _| softplus(x), |_, _| Some(Fast::Activation(Activation::Softplus))),
    row!("softsign", X, |x, _| x / (1.0 + x.abs()), |_, _| Some(Fast::Activation(Activation::Softsign))),
    row!("scaled_tanh", X_ALPHA_BETA, |x, [alpha, beta]| alpha * (beta * x).tanh(), |alpha, beta| {
        Some(Fast::Scaled { before: beta, activation: Activation::Tanh, after: alpha })
    }),
    row!("linear_activation", X_ALPHA_BETA, |x, [alpha, beta]| alpha * x + beta, |_, _| None),
    row!(
        "clamped_relu",
        X_ALPHA_BETA,
        |x, [alpha, beta]| smaller(if x >= 0.0 { x } else { alpha * x }, beta),
        |_, _| None
    ),
    row!("thresholded_relu", X_ALPHA, |x, [alpha, _]| if x < alpha { 0.0 } else { x }, |alpha, _| {
        Some(Fast::Activation(Activation::ThresholdedRelu { alpha }))
    }),
    OpSpec {
        name: "gelu",
        since: Opset::Ios15,
        params: &[input("x"), constant("mode").optional()],
        bind: Bind::Node(bind_gelu),
    },
    OpSpec {
        name: "prelu",
        since: Opset::Ios15,
        params: &[input("x"), input("alpha")],
        bind: Bind::Node(|_| {
            let function = |x: f64, [alpha, _]: [f64; 2]| if x > 0.0 { x } else { alpha * x };
            let fast: Row<f32, f32> =
                |out, x, alpha| row(out, x, alpha, |x, alpha| if x > 0.0 { x } else { alpha * x });
            Ok(Box::new(PerChannel { function, fast: Some(fast), axis: 1, parameters: 1 }))
        }),
    },
    OpSpec {
        name: "softplus_parametric",
        since: Opset::Ios15,
        params: &[input("x"), input("alpha"), input("beta")],
        bind: Bind::Node(|_| {
            let function = |x: f64, [alpha, beta]: [f64; 2]| alpha * softplus(beta * x);
            Ok(Box::new(PerChannel { function, fast: None, axis: 1, parameters: 2 }))
        }),
    },
    OpSpec {
        name: "softmax",
        since: Opset::Ios15,
        params: &[input("x"), constant("axis").optional()],
        bind: Bind::Node(|args| Ok(Box::new(Softmax { axis: args.int("axis", -1)? }))),
    },
];

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(1 + e^x)`, written so that neither tail overflows or vanishes.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn pointwise(args: &Args<'_>, oracle: Oracle, kernel: fn(f32, f32) -> Option<Fast>) -> Result<Box<dyn Op>, OpError> {
    let (alpha, beta) = (args.float("alpha", 0.0)?, args.float("beta", 0.0)?);
    let parameters = [alpha.into(), beta.into()];
    Ok(Box::new(Pointwise { oracle, parameters, kernel: kernel(alpha, beta), ints: None }))
}

fn bind_gelu(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let (oracle, kernel): (Oracle, _) = match args.str("mode", "EXACT")? {
        "EXACT" => (
            |x, _| 0.5 * x * (1.0 + coreml_kernels::reference::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Activation::Gelu,
        ),
        "TANH_APPROXIMATION" => (
            |x, _| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
            Activation::GeluTanh,
        ),
        "SIGMOID_APPROXIMATION" => (|x, _| x * sigmoid(1.702 * x), Activation::GeluSigmoid),
        other => return Err(OpError::parameter("mode", format!("`{other}` is not a mode of gelu"))),
    };
    Ok(Box::new(Pointwise { oracle, parameters: [0.0; 2], kernel: Some(Fast::Activation(kernel)), ints: None }))
}

/// A function with parameters of its own for each channel.
#[derive(Debug)]
struct PerChannel {
    function: Oracle,
    /// The same function of rows, if it has one parameter and single precision gives the same.
    fast: Option<Row<f32, f32>>,
    axis: usize,
    /// Number of inputs after `x`, each with one element per channel.
    parameters: usize,
}

impl Op for PerChannel {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let x = ins.float(0)?;
        let channels = x.shape.get(self.axis).copied();
        for i in 1..=self.parameters {
            let found = ins.float(i)?.count();
            if channels.is_none_or(|channels| found != channels && found != 1) {
                return Err(OpError::new(format!("{found} parameters do not fit the channels of x {}", x.shape)));
            }
        }
        Ok(vec![x])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let (shape, in_place) = (ins.shape(0), ins.is_out(0));
        if let (Some(fast), false) = (self.fast, env.reference) {
            let alpha = ins.f32(1);
            let mut dims = [1; MAX_RANK];
            dims[self.axis] = alpha.len();
            let alpha = (alpha, shape_of(&dims[..shape.rank()])?);
            if in_place {
                rows::apply_in_place(fast, shape, alpha, outs.f32(0));
            } else {
                rows::apply(fast, shape, (ins.f32(0), shape), alpha, outs.f32(0));
            }
            return Ok(());
        }
        let inner = shape[self.axis + 1..].iter().product::<usize>().max(1);
        for (number, out) in outs.f32(0).chunks_mut(inner).enumerate() {
            let mut parameters = [0.0; 2];
            for (i, parameter) in parameters[..self.parameters].iter_mut().enumerate() {
                let values = ins.f32(i + 1);
                *parameter = values[if values.len() == 1 { 0 } else { number % shape[self.axis] }].into();
            }
            if !in_place {
                out.copy_from_slice(&ins.f32(0)[number * inner..][..out.len()]);
            }
            out.iter_mut().for_each(|x| *x = (self.function)(f64::from(*x), parameters) as f32);
        }
        Ok(())
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }

    fn permuted(&self, perm: &[usize]) -> Option<Box<dyn Op>> {
        let axis = perm.iter().position(|&old| old == self.axis)?;
        Some(Box::new(Self { axis, ..*self }))
    }
}

#[derive(Debug)]
pub(crate) struct Softmax {
    axis: i64,
}

impl Op for Softmax {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let ty = ins.float(0)?;
        if ty.rank() > 0 {
            axis_of("axis", self.axis, ty.rank())?;
        }
        Ok(vec![ty])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let shape = ins.shape(0);
        let axis = if shape.rank() == 0 { 0 } else { axis_of("axis", self.axis, shape.rank())? };
        let [outer, along, inner]: [usize; 3] = [
            shape[..axis].iter().product(),
            shape.get(axis).copied().unwrap_or(1),
            shape[(axis + 1).min(shape.rank())..].iter().product(),
        ];
        if env.reference {
            coreml_kernels::reference::softmax(outer, along, inner, ins.f32(0), outs.f32(0));
        } else {
            coreml_kernels::softmax::softmax(env.isa, env.pool, outer, along, inner, ins.f32(0), outs.f32(0));
        }
        Ok(())
    }

    fn permuted(&self, perm: &[usize]) -> Option<Box<dyn Op>> {
        let axis = axis_of("axis", self.axis, perm.len()).ok()?;
        let moved = perm.iter().position(|&old| old == axis)?;
        Some(Box::new(Self { axis: moved as i64 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Value, run, run_op, transposed};

    #[test]
    fn channels_have_slopes_of_their_own() {
        let x = Value::float(&[1, 2, 1, 2], &[-1.0, 2.0, -3.0, 4.0]);
        let slopes = Value::float(&[2], &[0.5, 2.0]);
        let out = run("prelu", &[x.clone(), slopes.clone()], &[]).unwrap();
        assert_eq!(out, [Value::float(&[1, 2, 1, 2], &[-0.5, 2.0, -6.0, 4.0])]);
        let function = |x: f64, [slope, _]: [f64; 2]| x.max(0.0) + slope * x.min(0.0);
        let op = PerChannel { function, fast: None, axis: 1, parameters: 1 };
        let last = op.permuted(&[0, 2, 3, 1]).unwrap();
        let permuted = run_op(&*last, &[transposed(&x, &[0, 2, 3, 1]), slopes]).unwrap();
        assert_eq!(transposed(&permuted[0], &[0, 3, 1, 2]), out[0]);
        assert!(run("prelu", &[x, Value::float(&[3], &[0.0; 3])], &[]).is_err());
    }

    #[test]
    fn rows_of_channels_give_what_single_elements_do() {
        // `run` holds the form by rows against the one by elements.
        let numbers = |count: usize, scale: f32| -> Vec<f32> {
            (0..count).map(|i| ((i * 7 + 3) % 11) as f32 * scale - 5.0 * scale).collect()
        };
        for dims in [&[2, 3, 5, 7][..], &[4, 3], &[1, 3, 300], &[2, 3, 1, 1], &[2, 3, 0]] {
            let mut x = numbers(dims.iter().product(), 0.75);
            if let [_, _, first, second, third, ..] = &mut x[..] {
                [*first, *second, *third] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            }
            let x = Value::float(dims, &x);
            for count in [1, 3] {
                let (alpha, beta) =
                    (Value::float(&[count], &numbers(count, 0.5)), Value::float(&[count], &[0.25; 3][..count]));
                run("prelu", &[x.clone(), alpha.clone()], &[]).unwrap();
                run("softplus_parametric", &[x.clone(), alpha, beta], &[]).unwrap();
            }
            let scales = [("alpha", Value::float(&[], &[1.7159])), ("beta", Value::float(&[], &[2.0 / 3.0]))];
            run("scaled_tanh", &[x], &scales).unwrap();
        }
    }

    #[test]
    fn parametric_softplus_does_not_overflow() {
        let x = Value::float(&[1, 2], &[1000.0, 0.0]);
        let (alpha, beta) = (Value::float(&[2], &[2.0, 3.0]), Value::float(&[2], &[0.5, 1.0]));
        let out = run("softplus_parametric", &[x, alpha, beta], &[]).unwrap()[0].floats();
        assert!((out[0] - 1000.0).abs() < 1e-3 && (out[1] - 3.0 * 2f64.ln()).abs() < 1e-6, "{out:?}");
    }
}
