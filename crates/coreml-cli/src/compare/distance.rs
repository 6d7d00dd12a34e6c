//! How far answers are from those expected of a model.

use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::tensor::npz::Array;

pub(crate) fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number that is not negative".into()),
    }
}

/// How far a number may be from the expected one: `atol + rtol * |expected|`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tolerance {
    pub(super) atol: f64,
    pub(super) rtol: f64,
}

/// `NAME=ATOL,RTOL` of `--tolerance`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NamedTolerance {
    pub(super) name: String,
    pub(super) tolerance: Tolerance,
}

impl std::str::FromStr for NamedTolerance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Names may hold an equals sign, numbers do not.
        let (name, numbers) =
            text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or("expected NAME=ATOL,RTOL")?;
        let (atol, rtol) = numbers.split_once(',').ok_or("expected two numbers, ATOL,RTOL")?;
        Ok(Self { name: name.into(), tolerance: Tolerance { atol: tolerance(atol)?, rtol: tolerance(rtol)? } })
    }
}

/// How far an output's numbers are from the expected ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Distance {
    pub(super) largest: f64,
    pub(super) rmse: f64,
    /// The length of the differences over that of the expected values; of zeros, 0 or infinite.
    pub(super) relative_l2: f64,
    pub(super) within: bool,
}

impl Distance {
    /// The signal-to-noise ratio in decibels.
    pub(super) fn snr(&self) -> f64 {
        -20.0 * self.relative_l2.log10()
    }
}

/// How one output compares.
pub(super) enum Comparison {
    Numbers(Distance),
    Strings { equal: bool },
    Impossible(String),
}

impl Comparison {
    pub(super) fn agrees(&self) -> bool {
        matches!(self, Self::Numbers(Distance { within: true, .. }) | Self::Strings { equal: true })
    }
}

pub(super) fn compare(found: &Array, expected: &Array, tolerance: Tolerance) -> Comparison {
    match (found, expected) {
        (Array::Tensor(found), Array::Tensor(expected)) => numbers(found, expected, tolerance),
        (Array::Strings(_, found), Array::Strings(_, expected)) => Comparison::Strings { equal: found == expected },
        _ => Comparison::Impossible("one is text, the other numbers".into()),
    }
}

fn numbers(found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Comparison {
    if found.shape() != expected.shape() {
        return Comparison::Impossible(format!("has the shape {}, not {}", found.shape(), expected.shape()));
    }
    let (mut largest, mut squares, mut signal, mut within) = (0.0f64, 0.0f64, 0.0f64, true);
    let (found, expected) = (found.view().to_f64_vec(), expected.view().to_f64_vec());
    for (a, b) in found.iter().zip(&expected) {
        let same = a == b || (a.is_nan() && b.is_nan());
        let difference = if same { 0.0 } else { (a - b).abs() };
        // A NaN on one side only is further away than anything.
        let difference = if difference.is_nan() { f64::INFINITY } else { difference };
        largest = largest.max(difference);
        squares += difference * difference;
        // Expected infinities and NaN would hide every other difference.
        signal += if b.is_finite() { b * b } else { 0.0 };
        within &= same || difference <= tolerance.atol + tolerance.rtol * b.abs();
    }
    let rmse = (squares / found.len().max(1) as f64).sqrt();
    let relative_l2 = if squares == 0.0 { 0.0 } else { (squares / signal).sqrt() };
    Comparison::Numbers(Distance { largest, rmse, relative_l2, within })
}

#[cfg(test)]
mod tests {
    use coreml_anywhere::tensor::Shape;

    use super::*;

    fn distance(found: &[f32], expected: &[f32], atol: f64, rtol: f64) -> Distance {
        let tensor = |values: &[f32]| Tensor::new(Shape::from([values.len()]), values.to_vec()).unwrap();
        match numbers(&tensor(found), &tensor(expected), Tolerance { atol, rtol }) {
            Comparison::Numbers(distance) => distance,
            _ => panic!("shapes are the same"),
        }
    }

    #[test]
    fn distances_are_those_of_the_formulas() {
        let found = distance(&[3.0, 4.5], &[3.0, 4.0], 0.5, 0.0);
        assert_eq!((found.largest, found.within), (0.5, true));
        assert!((found.relative_l2 - 0.1).abs() < 1e-12);
        assert!((found.rmse - 0.125f64.sqrt()).abs() < 1e-12);
        assert!((found.snr() - 20.0).abs() < 1e-12, "a tenth is 20 dB: {}", found.snr());
        assert!(!distance(&[3.0, 4.5], &[3.0, 4.0], 0.49, 0.0).within);
        assert!(distance(&[3.0, 4.5], &[3.0, 4.0], 0.0, 0.125).within);
    }

    #[test]
    fn what_has_no_ratio_is_no_distance_or_an_infinite_one() {
        let same = distance(&[0.0, f32::NAN], &[0.0, f32::NAN], 0.0, 0.0);
        assert_eq!((same.relative_l2, same.snr(), same.within), (0.0, f64::INFINITY, true));
        let of_zeros = distance(&[1.0], &[0.0], 0.0, 0.0);
        assert_eq!((of_zeros.relative_l2, of_zeros.snr(), of_zeros.within), (f64::INFINITY, f64::NEG_INFINITY, false));
        let beside_infinity = distance(&[f32::INFINITY, 2.0], &[f32::INFINITY, 1.0], 0.0, 0.0);
        assert_eq!((beside_infinity.relative_l2, beside_infinity.within), (1.0, false));
        let lost = distance(&[f32::NAN], &[1.0], 1e9, 0.0);
        assert_eq!((lost.relative_l2, lost.within), (f64::INFINITY, false));
    }

    #[test]
    fn a_tolerance_is_a_name_and_two_numbers() {
        let read = "a=b=0.5,1e-3".parse::<NamedTolerance>().unwrap();
        assert_eq!(read, NamedTolerance { name: "a=b".into(), tolerance: Tolerance { atol: 0.5, rtol: 1e-3 } });
        for wrong in ["", "a", "=1,1", "a=1", "a=1,-1", "a=x,1", "a=1,inf"] {
            assert!(wrong.parse::<NamedTolerance>().is_err(), "{wrong}");
        }
    }
}
