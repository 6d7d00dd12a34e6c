//! How far numbers are from the expected ones, and how far they may be.

use coreml_tensor::Tensor;

/// How far some numbers are from the expected ones.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Distance {
    /// The largest absolute difference. Infinite if only one of the two is a number.
    pub largest: f64,
    /// The same, as a fraction of the largest expected absolute value.
    pub relative_largest: f64,
    /// The Euclidean length of the differences over that of the expected values; 0 or infinite if those are all zero.
    pub relative_l2: f64,
    /// The root mean square difference.
    pub rmse: f64,
}

impl Distance {
    /// The signal-to-noise ratio in decibels.
    pub fn snr(&self) -> f64 {
        -20.0 * self.relative_l2.log10()
    }

    /// The distance of `found` from `expected`; infinite if their shapes differ.
    pub fn between(found: &Tensor, expected: &Tensor) -> Self {
        if found.shape() != expected.shape() {
            let far = f64::INFINITY;
            return Self { largest: far, relative_largest: far, relative_l2: far, rmse: far };
        }
        let (mut largest, mut squares, mut signal, mut scale) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for (a, b) in found.view().to_f64_vec().into_iter().zip(expected.view().to_f64_vec()) {
            let same = a == b || (a.is_nan() && b.is_nan());
            let difference = if same { 0.0 } else { (a - b).abs() };
            // A NaN on one side only is further away than anything.
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            largest = largest.max(difference);
            squares += difference * difference;
            // Expected infinities and NaN would hide every other difference.
            if b.is_finite() {
                signal += b * b;
                scale = scale.max(b.abs());
            }
        }
        let part = |of: f64, whole: f64| if of == 0.0 { 0.0 } else { of / whole };
        Self {
            largest,
            relative_largest: part(largest, scale),
            relative_l2: part(squares.sqrt(), signal.sqrt()),
            rmse: (squares / found.shape().count().max(1) as f64).sqrt(),
        }
    }

    /// The larger of each.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            largest: self.largest.max(other.largest),
            relative_largest: self.relative_largest.max(other.relative_largest),
            relative_l2: self.relative_l2.max(other.relative_l2),
            rmse: self.rmse.max(other.rmse),
        }
    }
}

/// How far a step may be from what it should have computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Bound for [`Distance::relative_l2`].
    pub relative_l2: f64,
    /// Bound for [`Distance::relative_largest`], which sees a single wrong number among many.
    pub relative_largest: f64,
}

impl Default for Bounds {
    /// Some hundred times what the rounding of sums comes to in single precision.
    fn default() -> Self {
        Self { relative_l2: 1e-4, relative_largest: 1e-3 }
    }
}

impl Bounds {
    /// Whether the distance is within these bounds.
    pub fn admit(&self, distance: Distance) -> bool {
        distance.relative_l2 <= self.relative_l2 && distance.relative_largest <= self.relative_largest
    }
}

#[cfg(test)]
mod tests {
    use coreml_tensor::Shape;

    use super::*;

    fn between(found: &[f32], expected: &[f32]) -> Distance {
        let tensor = |values: &[f32]| Tensor::new(Shape::from([values.len()]), values.to_vec()).unwrap();
        Distance::between(&tensor(found), &tensor(expected))
    }

    #[test]
    fn distances_are_those_of_the_formulas() {
        let found = between(&[3.0, 4.5], &[3.0, 4.0]);
        assert_eq!((found.largest, found.relative_largest), (0.5, 0.125));
        assert!((found.relative_l2 - 0.1).abs() < 1e-12 && (found.rmse - 0.125f64.sqrt()).abs() < 1e-12);
        assert!((found.snr() - 20.0).abs() < 1e-12, "a tenth is 20 dB: {}", found.snr());
    }

    #[test]
    fn what_has_no_ratio_is_no_distance_or_an_infinite_one() {
        let same = between(&[0.0, f32::NAN], &[0.0, f32::NAN]);
        assert_eq!((same, same.snr()), (Distance::default(), f64::INFINITY));
        assert_eq!(between(&[1.0], &[0.0]).snr(), f64::NEG_INFINITY);
        assert_eq!(between(&[f32::INFINITY, 2.0], &[f32::INFINITY, 1.0]).relative_l2, 1.0);
        assert_eq!(between(&[f32::NAN], &[1.0]).relative_l2, f64::INFINITY);
        assert_eq!(between(&[1.0], &[0.0]).relative_l2, f64::INFINITY);
        assert_eq!(between(&[1.0], &[1.0, 2.0]).largest, f64::INFINITY);
    }

    #[test]
    fn one_wrong_number_among_many_is_beyond_the_bounds() {
        let expected = vec![1.0f32; 1 << 20];
        let mut found = expected.clone();
        found[7] = 1.01;
        let distance = between(&found, &expected);
        assert!(distance.relative_l2 < 1e-4 && !Bounds::default().admit(distance), "{distance:?}");
        found[7] = 1.0 + 1e-5;
        assert!(Bounds::default().admit(between(&found, &expected)));
    }
}
