//! Transcendental functions on vectors. The error bounds are in [`crate::elementwise::ELEMENTWISE`] and tested there.
//! Coefficients are minimax fits made for this project.

#![allow(
    clippy::excessive_precision,
    clippy::approx_constant,
    reason = "coefficients are printed with the digits that give the intended f32, which may be near a constant"
)]

use super::Simd;

/// Times the power of two below a number, what makes the number lose all bits but eleven, the significant ones of half
/// precision, when it is added and taken away again. With 0 it loses none.
pub(crate) const TO_HALF: f32 = 1.5 * (1 << 13) as f32;

/// Rounds to half precision, ties to even, what is below 65520 where `factor` is [`TO_HALF`]; where it is 0 nothing changes.
#[inline(always)]
pub(crate) fn round_by<S: Simd>(s: S, x: S::F, factor: S::F) -> S::F {
    // Below 2^-14 there are multiples of 2^-24.
    let power = s.max(s.power_below(x), s.splat(1.0 / (1 << 14) as f32));
    s.fma(power, s.neg(factor), s.fma(power, factor, x))
}

/// Rounds to half precision, ties to even, from 65520 on to infinity.
#[inline(always)]
pub(crate) fn round_to_half<S: Simd>(s: S, x: S::F) -> S::F {
    let rounded = round_by(s, x, s.splat(TO_HALF));
    // A zero has the sign of what it comes from.
    let rounded = s.select(s.lt(s.splat(0.0), s.abs(rounded)), rounded, s.mul(x, s.splat(0.0)));
    s.select(s.lt(s.abs(x), s.splat(65520.0)), rounded, s.mul(x, s.splat(f32::INFINITY)))
}

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
    if S::LOOKUP {
        return gated_by_table(s, x, &GELU);
    }
    // From here down the result is within 2e-7 of 0. Limiting the factor too keeps the last bit of `1 + erf`, where
    // it has not quite rounded to 0, from growing with x.
    let limited = s.max(s.splat(-ERF_LIMIT * std::f32::consts::SQRT_2), x);
    let half = s.mul(limited, s.splat(0.5));
    let z = s.min(s.splat(ERF_LIMIT), s.mul(limited, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
    closed_below(s, x, -88.0, s.fma(half, erf_within(s, z), half))
}

/// `gated`, what a gate lets through of `x`; `x * 0` below `limit`, where the gate is shut. So minus infinity gives NaN, as
/// the product of the two does, and no number, however far down, is multiplied by what is left of a gate not quite shut.
#[inline(always)]
fn closed_below<S: Simd>(s: S, x: S::F, limit: f32, gated: S::F) -> S::F {
    s.select(s.lt(x, s.splat(limit)), s.mul(x, s.splat(0.0)), gated)
}

/// An activation `x * (1/2 + g(x))` with an odd `g` that ends at 1/2, by a table: half as many instructions as the
/// formulas where a register can be looked up in.
struct Gate {
    /// Parts of the range of `g` per unit.
    parts_per_unit: f32,
    /// The coefficients of a polynomial of fourth degree in each of 32 parts, by power.
    parts: [[f32; 32]; 5],
}

/// `x / 2 + |x| * g(|x|)`
#[inline(always)]
fn gated_by_table<S: Simd>(s: S, x: S::F, gate: &Gate) -> S::F {
    /// Adding it leaves a whole number in the last bits.
    const WHOLE: f32 = 12_582_912.0;
    // Just inside the last part, where `g` is 1/2 to rounding. Limiting the factor too keeps what is left from growing.
    let limit = 31.49 / gate.parts_per_unit;
    let whole = x;
    let x = s.max(s.splat(-limit), x);
    let magnitude = s.abs(x);
    let a = s.min(s.splat(limit), magnitude);
    let part = s.sub(s.fma(a, s.splat(gate.parts_per_unit), s.splat(WHOLE)), s.splat(WHOLE));
    // From the middle of the part, in parts.
    let d = s.fma(a, s.splat(gate.parts_per_unit), s.neg(part));
    let mut g = s.lookup(&gate.parts[4], part);
    for power in [3, 2, 1, 0] {
        g = s.fma(g, d, s.lookup(&gate.parts[power], part));
    }
    closed_below(s, whole, -88.0, s.fma(magnitude, g, s.mul(x, s.splat(0.5))))
}

/// `x * sigmoid(x)`
#[inline(always)]
pub(crate) fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    if S::LOOKUP { gated_by_table(s, x, &SILU) } else { closed_below(s, x, -88.0, s.mul(x, sigmoid(s, x))) }
}

/// `x * sigmoid(1.702 x)`
#[inline(always)]
pub(crate) fn gelu_sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    closed_below(s, x, -88.0, s.mul(x, sigmoid(s, s.mul(x, s.splat(1.702)))))
}

/// `g(a) = erf(a / sqrt 2) / 2`, within 4e-9: least-squares fits at Chebyshev points.
#[rustfmt::skip]
static GELU: Gate = Gate { parts_per_unit: 5.7, parts: [
    [0., 0.06963249, 0.13715976, 0.2006656, 0.25858384, 0.3098091, 0.35374507, 0.3902897, 0.4197674, 0.44282594, 0.46031782, 0.47318572, 0.4823658, 0.48871696, 0.4929781, 0.49575055, 0.49749988, 0.49857026, 0.49920544, 0.49957094, 0.4997749, 0.4998853, 0.49994323, 0.4999727, 0.49998727, 0.49999422, 0.49999747, 0.49999893, 0.49999955, 0.49999982, 0.49999994, 0.49999997],
    [0.069989875, 0.06892099, 0.06581139, 0.060937345, 0.054714072, 0.047637343, 0.04021879, 0.03292634, 0.026139116, 0.020122005, 0.015020506, 0.010872535, 0.007631501, 0.0051942402, 0.0034282063, 0.002194041, 0.0013616182, 0.0008194053, 0.0004781619, 0.00027057267, 0.00014846552, 7.899507e-05, 4.0757455e-05, 2.0391386e-05, 9.892796e-06, 4.653973e-06, 2.123055e-06, 9.3914167e-07, 4.0284075e-07, 1.6755914e-07, 6.758264e-08, 2.6432273e-08],
    [5.16529e-08, -0.0010606484, -0.0020255873, -0.0028133562, -0.0033680534, -0.003665536, -0.0037136434, -0.0035470023, -0.0032181102, -0.00278698, -0.0023115578, -0.0018405338, -0.0014093267, -0.0010391687, -0.0007386112, -0.00050647405, -0.0003352717, -0.00021437282, -0.00013245552, -7.911535e-05, -4.569615e-05, -2.5529609e-05, -1.3799255e-05, -7.2177463e-06, -3.6539166e-06, -1.7905801e-06, -8.4950545e-07, -3.902369e-07, -1.7359093e-07, -7.47832e-08, -3.1203047e-08, -1.2610716e-08],
    [-0.0003595497, -0.00034218974, -0.00029566564, -0.00022579136, -0.00014241322, -5.6455207e-05, 2.2048927e-05, 8.5523876e-05, 0.00012972523, 0.00015383246, 0.00015988178, 0.00015179314, 0.00013428647, 0.000111938134, 8.853051e-05, 6.673888e-05, 4.8110804e-05, 3.3244043e-05, 2.2058257e-05, 1.4074055e-05, 8.644455e-06, 5.1158067e-06, 2.919221e-06, 1.6071674e-06, 8.5412137e-07, 4.383612e-07, 2.17351e-07, 1.04147574e-07, 4.8241144e-08, 2.1606024e-08, 9.358715e-09, 3.921265e-09],
    [1.654978e-06, 8.062263e-06, 1.4919101e-05, 1.9614874e-05, 2.1627633e-05, 2.0942274e-05, 1.8002314e-05, 1.3564634e-05, 8.505656e-06, 3.6338517e-06, -4.4731948e-07, -3.4036955e-06, -5.1633774e-06, -5.8578325e-06, -5.7386637e-06, -5.095894e-06, -4.1953544e-06, -3.2424414e-06, -2.3706525e-06, -1.6480628e-06, -1.0933217e-06, -6.9395776e-07, -4.2227506e-07, -2.467234e-07, -1.3858485e-07, -7.49115e-08, -3.9000373e-08, -1.9569425e-08, -9.4695904e-09, -4.4212594e-09, -1.9925535e-09, -8.6713736e-10],
] };

/// `g(a) = tanh(a / 2) / 2`, within 1.1e-7, made as the one above.
#[rustfmt::skip]
static SILU: Gate = Gate { parts_per_unit: 1.82, parts: [
    [0., 0.1340081, 0.25005415, 0.33866814, 0.40005198, 0.439758, 0.46431553, 0.47908503, 0.48781878, 0.49293178, 0.49590752, 0.49763346, 0.4986325, 0.49921012, 0.49954388, 0.49973664, 0.49984795, 0.49991223, 0.49994934, 0.49997073, 0.4999831, 0.49999025, 0.49999437, 0.49999675, 0.49999812, 0.49999893, 0.49999937, 0.49999964, 0.4999998, 0.49999988, 0.49999994, 0.49999997],
    [0.13736258, 0.12749456, 0.10300771, 0.07434374, 0.04942824, 0.031106135, 0.018907158, 0.0112513155, 0.006611382, 0.0038561355, 0.002239379, 0.0012972029, 0.00075033255, 0.00043364326, 0.00025049513, 0.00014465832, 8.352505e-05, 4.8222446e-05, 2.7839287e-05, 1.6071388e-05, 9.27771e-06, 5.3557915e-06, 3.0917465e-06, 1.7847715e-06, 1.0302923e-06, 5.947546e-07, 3.433325e-07, 1.9819458e-07, 1.14411215e-07, 6.604582e-08, 3.8126068e-08, 2.200892e-08],
    [3.1840862e-06, -0.009387066, -0.014152088, -0.013833873, -0.010864785, -0.007516076, -0.0048235995, -0.0029617446, -0.001772076, -0.0010444089, -0.00061018235, -0.00035468987, -0.00020557278, -0.00011894528, -6.875498e-05, -3.97206e-05, -2.2939601e-05, -1.3245677e-05, -7.647426e-06, -4.4149842e-06, -2.5487504e-06, -1.4713513e-06, -8.493764e-07, -4.9032155e-07, -2.8304797e-07, -1.6339474e-07, -9.432255e-08, -5.4449345e-08, -3.1431824e-08, -1.814456e-08, -1.0474257e-08, -6.0464425e-09],
    [-0.0034877353, -0.0025012284, -0.0006568158, 0.0006887589, 0.0011360968, 0.0010311499, 0.0007553946, 0.0004977273, 0.00030967343, 0.00018658543, 0.00011039066, 6.463304e-05, 3.7616024e-05, 2.181685e-05, 1.2628364e-05, 7.3013607e-06, 4.218645e-06, 2.4365547e-06, 1.406966e-06, 8.123361e-07, 4.6898182e-07, 2.7074336e-07, 1.5629641e-07, 9.022649e-08, 5.2085348e-08, 3.0067344e-08, 1.7356946e-08, 1.0019613e-08, 5.783999e-09, 3.3389131e-09, 1.9274466e-09, 1.1126515e-09],
    [0.00010297163, 0.0004157458, 0.00044171538, 0.00021772235, 2.3253922e-05, -5.9742157e-05, -7.094723e-05, -5.617893e-05, -3.8199818e-05, -2.4121558e-05, -1.4644381e-05, -8.699537e-06, -5.1050383e-06, -2.974883e-06, -1.7266473e-06, -9.998591e-07, -5.782279e-07, -3.3413946e-07, -1.9300356e-07, -1.11453204e-07, -6.435113e-08, -3.7152066e-08, -2.1448088e-08, -1.2381745e-08, -7.1477295e-09, -4.126195e-09, -2.3819344e-09, -1.3750157e-09, -7.937483e-10, -4.5820797e-10, -2.645021e-10, -1.5268849e-10],
] };

/// The tanh form of GELU, `x / 2 * (1 + tanh(u))`, computed as the equal `x * sigmoid(2 u)`.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    const TWO_SQRT_2_OVER_PI: f32 = 1.595_769_1;
    let inner = s.fma(s.mul(x, x), s.splat(0.044715 * TWO_SQRT_2_OVER_PI), s.splat(TWO_SQRT_2_OVER_PI));
    closed_below(s, x, -88.0, s.mul(x, sigmoid(s, s.mul(x, inner))))
}
