//! Functions of scores.

use std::f64::consts::{FRAC_2_SQRT_PI, SQRT_2};

pub(crate) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Makes probabilities of scores.
pub(crate) fn softmax(scores: &mut [f64]) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The first of the largest.
pub(crate) fn largest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (i, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = i;
        }
    }
    best
}

/// The distribution function of the standard normal.
pub(crate) fn normal(x: f64) -> f64 {
    0.5 * complementary_error(-x / SQRT_2)
}

/// erfc, to about 1e-15 of its value.
fn complementary_error(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x.abs() < 2.5 {
        return 1.0 - error(x);
    }
    let tail = error_tail(x.abs());
    if x > 0.0 { tail } else { 2.0 - tail }
}

/// erf by its series of terms of one sign, for small `x`.
fn error(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
        if term.abs() <= sum.abs() * f64::EPSILON / 4.0 {
            break;
        }
    }
    FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// erfc by its continued fraction, evaluated from its end, for large positive `x`.
fn error_tail(x: f64) -> f64 {
    if x > 27.3 {
        return 0.0;
    }
    let fraction = (1..=120).rev().fold(x, |below, k| x + f64::from(k) / 2.0 / below);
    FRAC_2_SQRT_PI / 2.0 * (-x * x).exp() / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erfc_agrees_with_tabulated_values_on_both_sides_of_the_switch() {
        let table = [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (2.0, 0.004_677_734_981_047_266),
            (3.0, 2.209_049_699_858_544e-5),
            (5.0, 1.537_459_794_428_035e-12),
        ];
        for (x, expected) in table {
            assert!((complementary_error(x) - expected).abs() <= 1e-12 * expected, "{x}");
            assert!((complementary_error(-x) - (2.0 - expected)).abs() <= 1e-15 * 4.0, "-{x}");
        }
        let jump = (1.0 - error(2.5)) - error_tail(2.5);
        assert!(jump.abs() < 1e-15, "{jump}");
    }

    #[test]
    fn large_scores_stay_finite_and_the_first_of_equals_wins() {
        let mut scores = [1e300, 1e300, -1e300];
        softmax(&mut scores);
        assert_eq!(scores, [0.5, 0.5, 0.0]);
        assert_eq!(largest(&scores), 0);
    }
}
