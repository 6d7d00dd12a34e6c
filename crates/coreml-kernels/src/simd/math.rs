//! Transcendental functions on vectors. The error bounds are stated, and held, in
//! [`crate::elementwise::ELEMENTWISE`]. Coefficients are minimax fits made for this project.

#![allow(
    clippy::excessive_precision,
    clippy::approx_constant,
    reason = "coefficients are printed with the digits that give the intended f32, which may be near a constant"
)]

use super::Simd;

/// `c[0] + c[1] x + c[2] x^2 + …`
#[inline(always)]
pub(crate) fn polynomial<S: Simd, const N: usize>(s: S, x: S::F, c: [f32; N]) -> S::F {
    let mut y = s.splat(c[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        y = s.fma(y, x, s.splat(c[i]));
    }
    y
}

/// `e^x`; below -104 it is 0, above 89 infinite.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    const LN2_HIGH: f32 = 0.693_359_375; // nine bits, so that n * LN2_HIGH is exact
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = s.min(s.splat(89.0), s.max(s.splat(-104.5), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN2_LOW), s.fma(n, s.splat(-LN2_HIGH), x));
    let tail = polynomial(
        s,
        r,
        [0.4999999403953552, 0.1666652113199234, 0.04166839271783829, 0.00836874544620514, 0.0013814535],
    );
    let y = s.fma(s.mul(r, r), tail, s.add(r, s.splat(1.0)));
    s.scale_by_pow2(y, n)
}

/// Beyond this the error function rounds to ±1.
const ERF_LIMIT: f32 = 3.925;

/// The error function, constant beyond [`ERF_LIMIT`].
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    erf_within(s, s.min(s.splat(ERF_LIMIT), s.max(s.splat(-ERF_LIMIT), x)))
}

/// The error function up to [`ERF_LIMIT`]: `x P(x^2) / Q(x^2)`.
#[inline(always)]
fn erf_within<S: Simd>(s: S, x: S::F) -> S::F {
    let t = s.mul(x, x);
    let p = polynomial(s, t, [1.1283791, 0.19059271, 0.05276906, 0.0037724723, 0.0002848362, 2.045965e-6]);
    let q = polynomial(s, t, [1.0, 0.50224113, 0.1141822, 0.014983053, 0.0011638281, 3.8046736e-5]);
    s.div_fast(s.mul(x, p), q)
}

/// Hyperbolic tangent: `x P(x^2) / Q(x^2)`, constant beyond ±9.01, where it rounds to ±1.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.min(s.splat(9.01), s.max(s.splat(-9.01), x));
    let t = s.mul(x, x);
    let p = polynomial(s, t, [1.0, 0.13380386, 0.003494827, 2.0596503e-5, 1.3337108e-8]);
    let q = polynomial(s, t, [1.0, 0.467137, 0.02587409, 0.00032843877, 7.769401e-7]);
    s.div_fast(s.mul(x, p), q)
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    // Clamped so that e^-x stays finite, as div_fast demands.
    let e = exp(s, s.neg(s.max(s.splat(-87.0), x)));
    s.div_fast(s.splat(1.0), s.add(s.splat(1.0), e))
}

/// `x / 2 * (1 + erf(x / sqrt 2))`
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    // From here down the result is within 2e-7 of 0. Limiting the factor too keeps the last bit of `1 + erf`, where
    // it has not quite rounded to 0, from growing with x.
    let x = s.max(s.splat(-ERF_LIMIT * std::f32::consts::SQRT_2), x);
    let half = s.mul(x, s.splat(0.5));
    let z = s.min(s.splat(ERF_LIMIT), s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
    s.fma(half, erf_within(s, z), half)
}

/// The tanh form of GELU, `x / 2 * (1 + tanh(u))`, computed as the equal `x * sigmoid(2 u)`.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    const TWO_SQRT_2_OVER_PI: f32 = 1.595_769_1;
    let inner = s.fma(s.mul(x, x), s.splat(0.044715 * TWO_SQRT_2_OVER_PI), s.splat(TWO_SQRT_2_OVER_PI));
    s.mul(x, sigmoid(s, s.mul(x, inner)))
}
