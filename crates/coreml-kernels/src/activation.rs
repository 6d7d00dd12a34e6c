//! Activations: functions that kernels apply to results they have just computed.

use crate::simd::{Kernel, Simd, math, wide};

/// A function applied to every result.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `x` limited to `lo..=hi`
    Clip {
        /// The least result.
        lo: f32,
        /// The greatest result.
        hi: f32,
    },
    /// `x`, times `alpha` where negative
    LeakyRelu {
        /// The slope for negative values.
        alpha: f32,
    },
    /// `x`, or 0 below `alpha`
    ThresholdedRelu {
        /// The least value kept.
        alpha: f32,
    },
    /// `x / 2 * (1 + erf(x / sqrt 2))`
    Gelu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`
    GeluTanh,
    /// `x * sigmoid(1.702 x)`
    GeluSigmoid,
    /// `x * sigmoid(x)`
    Silu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// Hyperbolic tangent
    Tanh,
    /// `alpha * x + beta` limited to `0..=1`
    HardSigmoid {
        /// Factor.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x * (alpha * x + beta` limited to `0..=1)`
    HardSwish {
        /// Factor.
        alpha: f32,
        /// Offset.
        beta: f32,
        /// Below this the result is 0, for converters that cut `x` off before the gate. Minus infinity leaves that to the
        /// gate.
        least: f32,
    },
    /// `x`, or `alpha * (e^x - 1)` where negative
    Elu {
        /// Minus the limit for negative values.
        alpha: f32,
    },
    /// `ln(1 + e^x)`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// Error function
    Erf,
    /// `e^x`
    Exp,
}

impl Activation {
    /// The limits, if this is nothing but limiting: what kernels do while results are in registers.
    pub(crate) fn as_clip(self) -> Option<(f32, f32)> {
        match self {
            Self::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Self::Relu => Some((0.0, f32::INFINITY)),
            Self::Clip { lo, hi } => Some((lo, hi)),
            _ => None,
        }
    }
}

/// Applies `activation` in place to `rows` rows of `cols` values that start `stride` apart.
pub(crate) struct ActivateRows {
    pub(crate) activation: Activation,
    pub(crate) data: *mut f32,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl Kernel for ActivateRows {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        /// The loop over all values, with `$y` computed from `$x`.
        macro_rules! each {
            ($x:ident => $y:expr) => {
                for row in 0..self.rows {
                    // SAFETY: whoever built this owns `rows` rows of `cols` values, `stride` apart.
                    unsafe {
                        let p = self.data.add(row * self.stride);
                        let mut i = 0;
                        while i + S::LANES <= self.cols {
                            let $x = s.load(p.add(i));
                            s.store(p.add(i), $y);
                            i += S::LANES;
                        }
                        if i < self.cols {
                            let n = self.cols - i;
                            let $x = s.load_partial(p.add(i), n);
                            s.store_partial(p.add(i), n, $y);
                        }
                    }
                }
            };
        }
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        match self.activation {
            Activation::None => {}
            Activation::Relu => each!(x => s.max(zero, x)),
            Activation::Clip { lo, hi } => each!(x => s.min(s.splat(hi), s.max(s.splat(lo), x))),
            Activation::LeakyRelu { alpha } => each!(x => s.select(s.lt(x, zero), s.mul(x, s.splat(alpha)), x)),
            Activation::ThresholdedRelu { alpha } => each!(x => s.select(s.lt(x, s.splat(alpha)), zero, x)),
            Activation::Gelu => each!(x => math::gelu(s, x)),
            Activation::GeluTanh => each!(x => math::gelu_tanh(s, x)),
            Activation::GeluSigmoid => each!(x => math::gelu_sigmoid(s, x)),
            Activation::Silu => each!(x => math::silu(s, x)),
            Activation::Sigmoid => each!(x => math::sigmoid(s, x)),
            Activation::Tanh => each!(x => math::tanh(s, x)),
            Activation::HardSigmoid { alpha, beta } => each!(x => hard_sigmoid(s, x, alpha, beta)),
            Activation::HardSwish { alpha, beta, least } => {
                each!(x => s.select(s.lt(x, s.splat(least)), zero, s.mul(x, hard_sigmoid(s, x, alpha, beta))))
            }
            Activation::Elu { alpha } => {
                each!(x => s.select(s.lt(x, zero), s.mul(s.splat(alpha), exp_minus_one(s, x)), x))
            }
            Activation::Softplus => each!(x => each_lane(s, x, wide::softplus)),
            Activation::Softsign => each!(x => s.div(x, s.add(one, s.abs(x)))),
            Activation::Erf => each!(x => math::erf(s, x)),
            Activation::Exp => each!(x => math::exp(s, x)),
        }
    }
}

#[inline(always)]
fn hard_sigmoid<S: Simd>(s: S, x: S::F, alpha: f32, beta: f32) -> S::F {
    s.min(s.splat(1.0), s.max(s.splat(0.0), s.fma(x, s.splat(alpha), s.splat(beta))))
}

/// `e^x - 1` for `x <= 0`: near 0, where the subtraction would cancel, by the identity
/// `e^x - 1 = tanh(x / 2) * (e^x + 1)`.
#[inline(always)]
fn exp_minus_one<S: Simd>(s: S, x: S::F) -> S::F {
    let e = math::exp(s, x);
    s.mul(math::tanh(s, s.mul(x, s.splat(0.5))), s.add(e, s.splat(1.0)))
}

/// A function of the standard library on every lane.
#[inline(always)]
pub(crate) fn each_lane<S: Simd>(s: S, x: S::F, f: impl Fn(f32) -> f32) -> S::F {
    let mut lanes = s.to_array(x);
    for lane in &mut lanes[..S::LANES] {
        *lane = f(*lane);
    }
    // SAFETY: the array holds at least LANES values.
    unsafe { s.load(lanes.as_ptr()) }
}
