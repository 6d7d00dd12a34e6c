//! Functions applied to every element: activations, unary functions, and binary functions with the broadcasts that
//! models use. [`ELEMENTWISE`] lists the unary kernels with the error bound of each.

use crate::activation::{ActivateRows, Activation, each_lane};
use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, Simd, math, wide};

/// `out[i] = activation(x[i])`.
///
/// # Panics
/// If the lengths differ.
pub fn activate(isa: Isa, pool: &ThreadPool, activation: Activation, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    for_chunks(pool, out, &|start, out| {
        out.copy_from_slice(&x[start..][..out.len()]);
        activate_chunk(isa, activation, out);
    });
}

/// `x[i] = activation(x[i])`.
pub fn activate_in_place(isa: Isa, pool: &ThreadPool, activation: Activation, x: &mut [f32]) {
    for_chunks(pool, x, &|_, x| activate_chunk(isa, activation, x));
}

fn activate_chunk(isa: Isa, activation: Activation, x: &mut [f32]) {
    isa.dispatch(ActivateRows { activation, data: x.as_mut_ptr(), rows: 1, cols: x.len(), stride: 0 });
}

/// Values per task: enough to be worth claiming, few enough to stay in the L1 cache.
const CHUNK: usize = 4096;

/// Calls `f(start, part)` for parts of `out`, on all threads.
pub(crate) fn for_chunks(pool: &ThreadPool, out: &mut [f32], f: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    struct Out(*mut f32);
    // SAFETY: tasks use disjoint parts.
    unsafe impl Sync for Out {}
    let (len, out) = (out.len(), Out(out.as_mut_ptr()));
    pool.run(len.div_ceil(CHUNK), &|task| {
        let out = &out;
        let start = task * CHUNK;
        // SAFETY: chunks of one slice, each for one task.
        f(start, unsafe { std::slice::from_raw_parts_mut(out.0.add(start), CHUNK.min(len - start)) });
    });
}

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// Magnitude
    Abs,
    /// `-x`
    Neg,
    /// `x * x`
    Square,
    /// Square root
    Sqrt,
    /// `1 / sqrt(x + epsilon)`
    Rsqrt {
        /// Added first, rounding once
        epsilon: f32,
    },
    /// `1 / (x + epsilon)`
    Inverse {
        /// Added first, rounding once
        epsilon: f32,
    },
    /// `e^x`
    Exp,
    /// `2^x`
    Exp2,
    /// Natural logarithm of `x + epsilon`
    Log {
        /// Added first, without rounding
        epsilon: f32,
    },
    /// `ln(1 + e^x)`
    Softplus,
    /// Error function
    Erf,
    /// Hyperbolic tangent
    Tanh,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// Sine
    Sin,
    /// Cosine
    Cos,
    /// Tangent
    Tan,
    /// Inverse sine
    Asin,
    /// Inverse cosine
    Acos,
    /// Inverse tangent
    Atan,
    /// Hyperbolic sine
    Sinh,
    /// Hyperbolic cosine
    Cosh,
    /// Inverse hyperbolic tangent
    Atanh,
    /// The whole number not above
    Floor,
    /// The whole number not below
    Ceil,
    /// The nearest whole number, ties to even
    Round,
    /// -1, 0 or 1; 0 for zeros
    Sign,
    /// The nearest number in half precision, ties to even; infinite from 65520 on
    RoundToHalf,
}

/// What [`ELEMENTWISE`] says about one unary kernel.
#[derive(Clone, Copy, Debug)]
pub struct ElementwiseKernel {
    /// The kernel.
    pub function: Unary,
    /// Its name.
    pub name: &'static str,
    /// The function in double precision.
    pub oracle: fn(f64) -> f64,
    /// The largest error, in units in the last place of the exact result.
    pub max_ulps: f64,
    /// An absolute error below this also passes: for results near the smallest normal number.
    pub absolute: f64,
}

const fn row(function: Unary, name: &'static str, oracle: fn(f64) -> f64, max_ulps: f64) -> ElementwiseKernel {
    ElementwiseKernel { function, name, oracle, max_ulps, absolute: 2e-38 }
}

/// Every unary kernel, its oracle and its error bound.
pub const ELEMENTWISE: &[ElementwiseKernel] = &[
    row(Unary::Abs, "abs", f64::abs, 0.0),
    row(Unary::Neg, "neg", |x| -x, 0.0),
    row(Unary::Square, "square", |x| x * x, 0.5),
    row(Unary::Sqrt, "sqrt", f64::sqrt, 0.5),
    row(Unary::Rsqrt { epsilon: 0.0 }, "rsqrt", |x| 1.0 / (x + 0.0).sqrt(), 1.5),
    row(Unary::Inverse { epsilon: 0.0 }, "inverse", |x| 1.0 / (x + 0.0), 0.5),
    row(Unary::Exp, "exp", f64::exp, 2.0),
    row(Unary::Exp2, "exp2", f64::exp2, 1.0),
    row(Unary::Log { epsilon: 0.0 }, "log", f64::ln, 1.0),
    row(Unary::Softplus, "softplus", |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), 1.0),
    row(Unary::Erf, "erf", crate::reference::erf, 6.0),
    row(Unary::Tanh, "tanh", f64::tanh, 6.0),
    row(Unary::Sigmoid, "sigmoid", |x| 1.0 / (1.0 + (-x).exp()), 4.0),
    row(Unary::Sin, "sin", f64::sin, 1.0),
    row(Unary::Cos, "cos", f64::cos, 1.0),
    row(Unary::Tan, "tan", f64::tan, 1.0),
    row(Unary::Asin, "asin", f64::asin, 1.0),
    row(Unary::Acos, "acos", f64::acos, 1.0),
    row(Unary::Atan, "atan", f64::atan, 1.0),
    row(Unary::Sinh, "sinh", f64::sinh, 2.0),
    row(Unary::Cosh, "cosh", f64::cosh, 2.0),
    row(Unary::Atanh, "atanh", f64::atanh, 3.0),
    row(Unary::Floor, "floor", f64::floor, 0.0),
    row(Unary::Ceil, "ceil", f64::ceil, 0.0),
    row(Unary::Round, "round", f64::round_ties_even, 0.0),
    row(Unary::Sign, "sign", |x| if x == 0.0 { 0.0 } else { x.signum() }, 0.0),
    row(Unary::RoundToHalf, "round_to_half", crate::reference::round_to_half, 0.0),
];

/// `out[i] = function(x[i])`.
///
/// # Panics
/// If the lengths differ.
pub fn unary(isa: Isa, pool: &ThreadPool, function: Unary, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    for_chunks(pool, out, &|start, out| {
        let from = x[start..][..out.len()].as_ptr();
        isa.dispatch(UnaryKernel { function, from, to: out.as_mut_ptr(), len: out.len() });
    });
}

/// `x[i] = function(x[i])`.
pub fn unary_in_place(isa: Isa, pool: &ThreadPool, function: Unary, x: &mut [f32]) {
    for_chunks(pool, x, &|_, x| {
        let to = x.as_mut_ptr();
        isa.dispatch(UnaryKernel { function, from: to, to, len: x.len() });
    });
}

/// Reads `len` values and writes as many, which may be the same.
struct UnaryKernel {
    function: Unary,
    from: *const f32,
    to: *mut f32,
    len: usize,
}

impl Kernel for UnaryKernel {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, to, len, .. } = self;
        /// The loop over all values, with `$y` computed from `$x`.
        macro_rules! each {
            ($x:ident => $y:expr) => {{
                let mut i = 0;
                while i < len {
                    let n = (len - i).min(S::LANES);
                    // SAFETY: there are `len` values on both sides, and n of them are left from i on.
                    unsafe {
                        let $x = s.load_partial(from.add(i), n);
                        s.store_partial(to.add(i), n, $y);
                    }
                    i += n;
                }
            }};
        }
        match self.function {
            Unary::Abs => each!(x => s.abs(x)),
            Unary::Neg => each!(x => s.neg(x)),
            Unary::Square => each!(x => s.mul(x, x)),
            Unary::Sqrt => each!(x => s.sqrt(x)),
            Unary::Rsqrt { epsilon } => each!(x => s.div(s.splat(1.0), s.sqrt(s.add(x, s.splat(epsilon))))),
            Unary::Inverse { epsilon } => each!(x => s.div(s.splat(1.0), s.add(x, s.splat(epsilon)))),
            Unary::Exp => each!(x => math::exp(s, x)),
            Unary::Exp2 => each!(x => each_lane(s, x, wide::exp2)),
            Unary::Log { epsilon } => each!(x => each_lane(s, x, |x| wide::log(x, epsilon))),
            Unary::Softplus => each!(x => each_lane(s, x, wide::softplus)),
            Unary::Erf => each!(x => math::erf(s, x)),
            Unary::Tanh => each!(x => math::tanh(s, x)),
            Unary::Sigmoid => each!(x => math::sigmoid(s, x)),
            Unary::Sin => each!(x => turning(s, x, wide::sin, f32::sin)),
            Unary::Cos => each!(x => turning(s, x, wide::cos, f32::cos)),
            Unary::Tan => each!(x => turning(s, x, wide::tan, f32::tan)),
            Unary::Asin => each!(x => each_lane(s, x, wide::asin)),
            Unary::Acos => each!(x => each_lane(s, x, wide::acos)),
            Unary::Atan => each!(x => each_lane(s, x, wide::atan)),
            Unary::Sinh => each!(x => each_lane(s, x, wide::sinh)),
            Unary::Cosh => each!(x => each_lane(s, x, wide::cosh)),
            Unary::Atanh => each!(x => each_lane(s, x, wide::atanh)),
            Unary::Floor => each!(x => each_lane(s, x, f32::floor)),
            Unary::Ceil => each!(x => each_lane(s, x, f32::ceil)),
            Unary::Round => each!(x => s.round(x)),
            Unary::RoundToHalf => each!(x => math::round_to_half(s, x)),
            Unary::Sign => {
                each!(x => each_lane(s, x, |x| if x == 0.0 { 0.0 } else if x.is_nan() { x } else { x.signum() }))
            }
        }
    }
}

/// A periodic function: `near` unless a lane is too large for it.
#[inline(always)]
fn turning<S: Simd>(s: S, x: S::F, near: impl Fn(f32) -> f32, far: fn(f32) -> f32) -> S::F {
    if wide::beyond_turns(&s.to_array(x)[..S::LANES]) { each_lane(s, x, far) } else { each_lane(s, x, near) }
}
