//! How far a model's answers are from the expected ones.

use coreml_anywhere::divergence::Distance;
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

/// How one output compares.
pub(super) enum Comparison {
    Numbers { distance: Distance, within: bool },
    Strings { equal: bool },
    Impossible(String),
}

impl Comparison {
    pub(super) fn agrees(&self) -> bool {
        matches!(self, Self::Numbers { within: true, .. } | Self::Strings { equal: true })
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
    let distance = Distance::between(found, expected);
    let mut pairs = found.view().to_f64_vec().into_iter().zip(expected.view().to_f64_vec());
    let within = |(a, b): (f64, f64)| {
        let (difference, admitted) = ((a - b).abs(), tolerance.atol + tolerance.rtol * b.abs());
        // A part of infinity would admit every number.
        a == b || (a.is_nan() && b.is_nan()) || (difference <= admitted && difference.is_finite())
    };
    Comparison::Numbers { distance, within: pairs.all(within) }
}

#[cfg(test)]
mod tests {
    use coreml_anywhere::tensor::Shape;

    use super::*;

    fn within(found: &[f32], expected: &[f32], atol: f64, rtol: f64) -> bool {
        let tensor = |values: &[f32]| Tensor::new(Shape::from([values.len()]), values.to_vec()).unwrap();
        numbers(&tensor(found), &tensor(expected), Tolerance { atol, rtol }).agrees()
    }

    #[test]
    fn a_difference_may_be_as_large_as_both_tolerances_together() {
        assert!(within(&[3.0, 4.5], &[3.0, 4.0], 0.5, 0.0));
        assert!(!within(&[3.0, 4.5], &[3.0, 4.0], 0.49, 0.0));
        assert!(within(&[3.0, 4.5], &[3.0, 4.0], 0.0, 0.125));
        assert!(within(&[3.0, 4.5], &[3.0, 4.0], 0.25, 0.0625));
    }

    #[test]
    fn infinities_and_nan_agree_with_themselves_only() {
        assert!(within(&[f32::INFINITY, f32::NAN], &[f32::INFINITY, f32::NAN], 0.0, 0.0));
        assert!(!within(&[f32::NAN], &[1.0], 1e9, 0.0));
        assert!(!within(&[1.0], &[f32::NAN], 1e9, 0.0));
        assert!(!within(&[f32::INFINITY], &[1.0], 1e9, 1e9));
        assert!(!within(&[f32::NEG_INFINITY], &[f32::INFINITY], 0.0, 1e-3));
        assert!(!within(&[1.0], &[f32::INFINITY], 0.0, 1e-3));
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
