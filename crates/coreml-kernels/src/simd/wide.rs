//! Elementary functions of `f32` by way of `f64`, which leaves so many digits to spare that plain series will do.
//!
//! They are written for single numbers, without branches or calls, so that the compiler makes vectors of a loop over them
//! inside a kernel. Each is within 0.51 units in the last place of the `f32` unless it says otherwise, takes every number,
//! and keeps NaN.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, LN_2, LOG2_E, PI};

/// Adding it leaves a number's nearest whole number, ties to even, in the low bits of the sum.
const ROUND: f64 = 1.5 * (1u64 << 52) as f64;

/// Beyond it the remainder of a multiple of pi is not exact here; see [`beyond_turns`].
pub(crate) const MOST_TURNS: f32 = 100_000.0;

/// Pi in two parts, of which the first has so few digits that multiples of it are exact.
const PI_HIGH: f64 = f64::from_bits(PI.to_bits() & !0xf_ffff);
/// `PI - PI_HIGH`, and what pi has beyond its nearest `f64`.
const PI_LOW: f64 = (PI - PI_HIGH) + 1.224_646_799_147_353_2e-16;

/// Whether [`sin`], [`cos`] and [`tan`] are not to be trusted with any of these: large numbers, infinities, NaN.
#[inline(always)]
pub(crate) fn beyond_turns(lanes: &[f32]) -> bool {
    !lanes.iter().fold(true, |small, x| small & (x.abs() <= MOST_TURNS))
}

/// The nearest whole number, and whether it is odd, as the sign bit.
#[inline(always)]
fn nearest(x: f64) -> (f64, u64) {
    let sum = x + ROUND;
    (sum - ROUND, sum.to_bits() << 63)
}

#[inline(always)]
fn flip(x: f64, sign: u64) -> f64 {
    f64::from_bits(x.to_bits() ^ sign)
}

/// `coefficients[0] + coefficients[1] x + …`
#[inline(always)]
fn series<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[N - 1];
    for c in coefficients[..N - 1].iter().rev() {
        sum = sum * x + c;
    }
    sum
}

/// The sine between `-pi / 2` and `pi / 2`, by its Taylor series, whose next term is below 5e-14.
#[inline(always)]
fn small_sin(x: f64) -> f64 {
    const C: [f64; 9] = [
        1.0,
        -1.0 / 6.0,
        1.0 / 120.0,
        -1.0 / 5040.0,
        1.0 / 362_880.0,
        -1.0 / 39_916_800.0,
        1.0 / 6_227_020_800.0,
        -1.0 / 1_307_674_368_000.0,
        1.0 / 355_687_428_096_000.0,
    ];
    x * series(x * x, C)
}

/// The cosine between `-pi / 4` and `pi / 4`, as [`small_sin`].
#[inline(always)]
fn small_cos(x: f64) -> f64 {
    const C: [f64; 7] = [1.0, -0.5, 1.0 / 24.0, -1.0 / 720.0, 1.0 / 40_320.0, -1.0 / 3_628_800.0, 1.0 / 479_001_600.0];
    series(x * x, C)
}

/// For numbers up to [`MOST_TURNS`].
#[inline(always)]
pub(crate) fn sin(x: f32) -> f32 {
    let x = f64::from(x);
    let (n, odd) = nearest(x * (1.0 / PI));
    let sine = flip(small_sin(x - n * PI_HIGH - n * PI_LOW), odd) as f32;
    if x == 0.0 { x as f32 } else { sine }
}

/// For numbers up to [`MOST_TURNS`].
#[inline(always)]
pub(crate) fn cos(x: f32) -> f32 {
    let x = f64::from(x);
    let (n, odd) = nearest(x * (1.0 / PI) - 0.5);
    let turns = n + 0.5;
    -flip(small_sin(x - turns * PI_HIGH - turns * PI_LOW), odd) as f32
}

/// For numbers up to [`MOST_TURNS`].
#[inline(always)]
pub(crate) fn tan(x: f32) -> f32 {
    let x = f64::from(x);
    let (n, odd) = nearest(x * (2.0 / PI));
    let rest = x - n * (PI_HIGH / 2.0) - n * (PI_LOW / 2.0);
    let (sine, cosine) = (small_sin(rest), small_cos(rest));
    let (above, below) = if odd == 0 { (sine, cosine) } else { (-cosine, sine) };
    if x == 0.0 { x as f32 } else { (above / below) as f32 }
}

/// The angle whose tangent is `p / q`, both at least 0 and not both 0.
#[inline(always)]
fn angle(p: f64, q: f64) -> f64 {
    // The tangents of 3/8 and 1/8 of pi; what is left is below the latter.
    const HIGH: f64 = 2.414_213_562_373_095;
    const LOW: f64 = 0.414_213_562_373_095_03;
    let (above, below, base) = if p > HIGH * q {
        (-q, p, FRAC_PI_2)
    } else if p > LOW * q {
        (p - q, p + q, FRAC_PI_4)
    } else {
        (p, q, 0.0)
    };
    let t = above / below;
    // The next term is below 1e-9 of the sum.
    const C: [f64; 11] = [
        1.0,
        -1.0 / 3.0,
        1.0 / 5.0,
        -1.0 / 7.0,
        1.0 / 9.0,
        -1.0 / 11.0,
        1.0 / 13.0,
        -1.0 / 15.0,
        1.0 / 17.0,
        -1.0 / 19.0,
        1.0 / 21.0,
    ];
    base + t * series(t * t, C)
}

#[inline(always)]
pub(crate) fn atan(x: f32) -> f32 {
    (angle(f64::from(x).abs(), 1.0) as f32).copysign(x)
}

#[inline(always)]
pub(crate) fn asin(x: f32) -> f32 {
    let a = f64::from(x).abs();
    (angle(a, ((1.0 - a) * (1.0 + a)).sqrt()) as f32).copysign(x)
}

#[inline(always)]
pub(crate) fn acos(x: f32) -> f32 {
    let x = f64::from(x);
    let a = x.abs();
    let acute = angle(((1.0 - a) * (1.0 + a)).sqrt(), a);
    (if x < 0.0 { PI - acute } else { acute }) as f32
}

/// `2^x` in double precision, within 1e-11 of itself; `x` is taken for ±1000 beyond these.
#[inline(always)]
fn power_of_two(x: f64) -> f64 {
    let x = if x > 1000.0 { 1000.0 } else { x };
    let x = if x < -1000.0 { -1000.0 } else { x };
    let sum = x + ROUND;
    let t = (x - (sum - ROUND)) * LN_2;
    const C: [f64; 10] =
        [1.0, 1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0, 1.0 / 40_320.0, 1.0 / 362_880.0];
    let scale = f64::from_bits((sum.to_bits() << 52).wrapping_add(1.0f64.to_bits()));
    series(t, C) * scale
}

#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    power_of_two(x.into()) as f32
}

#[inline(always)]
pub(crate) fn sinh(x: f32) -> f32 {
    let x = f64::from(x);
    let power = power_of_two(x * LOG2_E);
    let small = x * series(x * x, [1.0, 1.0 / 6.0, 1.0 / 120.0, 1.0 / 5040.0, 1.0 / 362_880.0]);
    (if x.abs() < 0.5 { small } else { (power - 1.0 / power) * 0.5 }) as f32
}

#[inline(always)]
pub(crate) fn cosh(x: f32) -> f32 {
    let power = power_of_two(f64::from(x) * LOG2_E);
    ((power + 1.0 / power) * 0.5) as f32
}

/// `atanh(s) / s` for `s` up to a third; the next term is below 2e-10 of the sum.
#[inline(always)]
fn atanh_series(s: f64) -> f64 {
    const C: [f64; 9] =
        [1.0, 1.0 / 3.0, 1.0 / 5.0, 1.0 / 7.0, 1.0 / 9.0, 1.0 / 11.0, 1.0 / 13.0, 1.0 / 15.0, 1.0 / 17.0];
    series(s * s, C)
}

/// The natural logarithm in double precision, within 1e-14 of itself, of numbers that are normal in `f64`, or no numbers.
#[inline(always)]
fn logarithm(x: f64) -> f64 {
    const LOWEST: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    const WHOLE: u64 = (1u64 << 52) as f64 as u64;
    let exponent = x.to_bits().wrapping_sub(LOWEST) & !(WHOLE - 1);
    // Between the square roots of a half and of two.
    let m = f64::from_bits(x.to_bits().wrapping_sub(exponent));
    // As an integer above 0 in the low bits of a number whose units they are.
    let biased = exponent.wrapping_add(1024 << 52) >> 52;
    let e = f64::from_bits((WHOLE as f64).to_bits() | biased) - (WHOLE as f64 + 1024.0);
    let s = (m - 1.0) / (m + 1.0);
    let log = e * LN_2 + 2.0 * s * atanh_series(s);
    let log = if x < f64::INFINITY { log } else { x };
    let log = if x == 0.0 { f64::NEG_INFINITY } else { log };
    if x < 0.0 { f64::NAN } else { log }
}

/// `ln(x + epsilon)`
#[inline(always)]
pub(crate) fn log(x: f32, epsilon: f32) -> f32 {
    logarithm(f64::from(x) + f64::from(epsilon)) as f32
}

#[inline(always)]
pub(crate) fn atanh(x: f32) -> f32 {
    let x = f64::from(x);
    let large = 0.5 * logarithm((1.0 + x) / (1.0 - x));
    (if x.abs() < 0.25 { x * atanh_series(x) } else { large }) as f32
}

/// `ln(1 + e^x)`
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    let x = f64::from(x);
    let power = power_of_two(-x.abs() * LOG2_E);
    let s = power / (2.0 + power);
    let above = if x < 0.0 { 0.0 } else { x };
    (above + 2.0 * s * atanh_series(s)) as f32
}
