//! The obviously right, slow twins of the fast kernels: plain loops, sums in double precision.
//!
//! Tests compare every fast kernel with its twin, and the engine's reference plan runs on them. Convolutions and
//! pools work on channels-first tensors with any number of spatial axes, as ML Programs define them.

mod conv;
mod pool;

pub use conv::{ConvParams, conv, conv_out_dims, conv_transpose, conv_transpose_out_dims};
pub use pool::{ReferencePool, pool, pool_out_dims};

use crate::activation::Activation;

/// `out[m, n] = a[m, k] * b[k, n] + bias[n]`, all contiguous.
pub fn gemm(m: usize, k: usize, n: usize, a: &[f32], b: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    for i in 0..m {
        for j in 0..n {
            let mut sum = bias.map_or(0.0, |bias| f64::from(bias[j]));
            for l in 0..k {
                sum += f64::from(a[i * k + l]) * f64::from(b[l * n + j]);
            }
            out[i * n + j] = sum as f32;
        }
    }
}

/// `x` in half precision.
pub fn round_to_half(x: f64) -> f64 {
    // The distance between neighbours, which below 2^-14 stays what it is there.
    let step = 2f64.powi((x.abs().log2().floor() as i32).clamp(-14, 15) - 10);
    let rounded = (x / step).round_ties_even() * step;
    if rounded.abs() > 65504.0 { rounded * f64::INFINITY } else { rounded }
}

/// The error function in double precision, to about 1e-15.
pub fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    if magnitude > 6.0 {
        return x.signum();
    }
    if magnitude < 3.0 {
        // erf(x) = 2 / sqrt(pi) * e^(-x^2) * sum of 2^n x^(2n+1) / (1 * 3 * … * (2n+1)): all terms have one sign.
        let mut term = x;
        let mut sum = x;
        for n in 1..200 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
            if term.abs() < 1e-18 * sum.abs() {
                break;
            }
        }
        return std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum;
    }
    // erfc(x) = e^(-x^2) / sqrt(pi) / (x + (1/2) / (x + 1 / (x + (3/2) / (x + …)))), from the far end.
    let mut tail = magnitude;
    for n in (1..120).rev() {
        tail = magnitude + f64::from(n) * 0.5 / tail;
    }
    let erfc = (-x * x).exp() / (tail * std::f64::consts::PI.sqrt());
    x.signum() * (1.0 - erfc)
}

/// An activation of one value in double precision.
pub fn activation(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::None => x,
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Activation::Clip { lo, hi } => {
            let (lo, hi) = (f64::from(lo), f64::from(hi));
            if x < lo {
                lo
            } else if x > hi {
                hi
            } else {
                x
            }
        }
        Activation::LeakyRelu { alpha } => {
            if x < 0.0 {
                f64::from(alpha) * x
            } else {
                x
            }
        }
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + (std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044715 * x * x * x)).tanh())
        }
        Activation::GeluSigmoid => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
        Activation::HardSwish { alpha, beta, least } => {
            let gate = (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0);
            if x < f64::from(least) { 0.0 } else { x * gate }
        }
        Activation::ThresholdedRelu { alpha } => {
            if x < f64::from(alpha) {
                0.0
            } else {
                x
            }
        }
        Activation::Elu { alpha } => {
            if x < 0.0 {
                f64::from(alpha) * x.exp_m1()
            } else {
                x
            }
        }
        Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Erf => erf(x),
        Activation::Exp => x.exp(),
    }
}

/// Softmax over the middle axis of `[outer, axis, inner]`.
pub fn softmax(outer: usize, axis: usize, inner: usize, x: &[f32], out: &mut [f32]) {
    for o in 0..outer {
        for i in 0..inner {
            let at = |a: usize| (o * axis + a) * inner + i;
            let max = (0..axis).map(|a| x[at(a)]).fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = (0..axis).map(|a| f64::from(x[at(a)] - max).exp()).sum();
            for a in 0..axis {
                out[at(a)] = (f64::from(x[at(a)] - max).exp() / sum) as f32;
            }
        }
    }
}

/// Normalises each row of `len` values; see [`crate::norm::layer_norm`].
pub fn layer_norm(len: usize, gamma: Option<&[f32]>, beta: Option<&[f32]>, epsilon: f32, x: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
        let mean = x.iter().copied().map(f64::from).sum::<f64>() / len as f64;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / len as f64;
        for (i, (x, out)) in x.iter().zip(out).enumerate() {
            let y = (f64::from(*x) - mean) / (variance + f64::from(epsilon)).sqrt();
            *out = (y * gamma.map_or(1.0, |g| f64::from(g[i])) + beta.map_or(0.0, |b| f64::from(b[i]))) as f32;
        }
    }
}

/// Permutes axes; see [`crate::transpose::transpose`]. Any element of any number of axes.
pub fn transpose<T: Copy>(dims: &[usize], order: &[usize], x: &[T], out: &mut [T]) {
    for (index, value) in out.iter_mut().enumerate() {
        let (mut rest, mut from) = (index, 0);
        for &axis in order.iter().rev() {
            from += rest % dims[axis] * dims[axis + 1..].iter().product::<usize>();
            rest /= dims[axis];
        }
        *value = x[from];
    }
}
