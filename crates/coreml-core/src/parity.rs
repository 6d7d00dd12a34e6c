//! Compares two answers to one request: an accelerator's with the CPU engine's.

use std::fmt;

use crate::outputs::{Outputs, Value};

/// How far an answer is from its reference, over all its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Parity {
    /// The largest absolute difference. Infinite if only one of the two is NaN or infinite, or if the answers differ in
    /// form: names, types, shapes, labels.
    pub max_abs: f64,
    /// The largest absolute number of the reference.
    pub scale: f64,
    /// The root of the mean square difference; infinite if `max_abs` is, 0 if there are no numbers.
    pub rmse: f64,
    /// The Euclidean length of the difference over that of the reference; 0 where there is no difference.
    pub relative_l2: f64,
    /// Signal to noise in decibels, `-20 log10(relative_l2)`; infinite where there is no difference.
    pub snr_db: f64,
    /// Whether the largest number is at the same place in every output.
    pub top1_agrees: bool,
    /// Numbers that are NaN or infinite in one answer only.
    pub non_finite_mismatches: u64,
    /// Numbers compared.
    pub numbers: u64,
}

/// How far an answer may be from its reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Allowed whatever the size of the numbers.
    pub absolute: f64,
    /// Allowed as a share of the largest absolute number of the reference.
    pub relative: f64,
}

/// 1e-2, absolute or relative, whichever admits more: what half precision leaves of deep networks.
impl Default for Tolerance {
    fn default() -> Self {
        Self { absolute: 1e-2, relative: 1e-2 }
    }
}

impl Parity {
    /// Whether the answer is within `tolerance`.
    pub fn within(&self, tolerance: Tolerance) -> bool {
        self.max_abs <= tolerance.absolute.max(tolerance.relative * self.scale)
    }

    /// Compares `found` with `reference`.
    pub fn of(found: &Outputs, reference: &Outputs) -> Self {
        let mut sums = Sums { top1_agrees: true, ..Sums::default() };
        sums.differs |= found.iter().len() != reference.iter().len();
        for ((found_name, found), (name, reference)) in found.iter().zip(reference.iter()) {
            sums.differs |= found_name != name || !sums.add(found, reference);
        }
        sums.parity()
    }

    /// Compares the numbers of one output, in order.
    pub fn of_numbers(found: &[f64], reference: &[f64]) -> Self {
        let mut sums = Sums { top1_agrees: true, differs: found.len() != reference.len(), ..Sums::default() };
        sums.numbers(found, reference);
        sums.parity()
    }
}

impl fmt::Display for Parity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = if self.top1_agrees { "agrees" } else { "differs" };
        write!(f, "L-inf {:.2e}, SNR {:.1} dB, top-1 {top}", self.max_abs, self.snr_db)
    }
}

#[derive(Default)]
struct Sums {
    largest: f64,
    scale: f64,
    noise: f64,
    signal: f64,
    mismatches: u64,
    compared: u64,
    top1_agrees: bool,
    differs: bool,
}

impl Sums {
    /// Adds one output; false if the two differ in form.
    fn add(&mut self, found: &Value, reference: &Value) -> bool {
        match (found, reference) {
            (Value::Tensor(a), Value::Tensor(b)) | (Value::Image(a), Value::Image(b)) => {
                let alike = a.shape() == b.shape() && a.dtype() == b.dtype();
                if alike {
                    self.numbers(&a.view().to_f64_vec(), &b.view().to_f64_vec());
                }
                alike
            }
            (Value::Double(a), Value::Double(b)) => {
                self.numbers(&[*a], &[*b]);
                true
            }
            (Value::Dictionary(a), Value::Dictionary(b)) => {
                let alike = a.len() == b.len() && a.iter().zip(b).all(|((a, _), (b, _))| a == b);
                if alike {
                    let numbers = |entries: &[(_, f64)]| entries.iter().map(|(_, value)| *value).collect::<Vec<_>>();
                    self.numbers(&numbers(a), &numbers(b));
                }
                alike
            }
            // The label of the likeliest class: where two classes are as likely, either is right, and the
            // probabilities tell whether they are.
            (Value::String(a), Value::String(b)) => {
                self.top1_agrees &= a == b;
                true
            }
            (Value::Int64(a), Value::Int64(b)) => {
                self.top1_agrees &= a == b;
                true
            }
            (Value::Sequence(a), Value::Sequence(b)) => a == b,
            _ => false,
        }
    }

    fn numbers(&mut self, found: &[f64], reference: &[f64]) {
        let top = |values: &[f64]| (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]));
        self.top1_agrees &= top(found) == top(reference);
        for (&a, &b) in found.iter().zip(reference) {
            self.compared += 1;
            if a == b || (a.is_nan() && b.is_nan()) {
                // Also equal infinities, whose difference would be NaN.
            } else if a.is_finite() && b.is_finite() {
                self.largest = self.largest.max((a - b).abs());
                self.noise += (a - b) * (a - b);
            } else {
                self.mismatches += 1;
            }
            if b.is_finite() {
                self.scale = self.scale.max(b.abs());
                self.signal += b * b;
            }
        }
    }

    fn parity(&self) -> Parity {
        let relative_l2 = if self.noise == 0.0 { 0.0 } else { (self.noise / self.signal).sqrt() };
        let comparable = !self.differs && self.mismatches == 0;
        let if_comparable = |figure: f64| if comparable { figure } else { f64::INFINITY };
        Parity {
            max_abs: if_comparable(self.largest),
            scale: self.scale,
            rmse: if_comparable((self.noise / self.compared.max(1) as f64).sqrt()),
            relative_l2,
            snr_db: -20.0 * relative_l2.log10(),
            top1_agrees: self.top1_agrees && !self.differs,
            non_finite_mismatches: self.mismatches,
            numbers: self.compared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coreml_tensor::{Shape, Tensor};

    fn outputs(values: &[f32]) -> Outputs {
        let tensor = Tensor::new(Shape::new(&[values.len()]), values.to_vec()).unwrap();
        Outputs::new(vec![("y".into(), Value::Tensor(tensor))])
    }

    #[test]
    fn figures_are_those_of_their_definitions() {
        let parity = Parity::of(&outputs(&[3.0, 4.5]), &outputs(&[3.0, 4.0]));
        assert_eq!((parity.max_abs, parity.scale, parity.relative_l2), (0.5, 4.0, 0.1));
        assert!((parity.snr_db - 20.0).abs() < 1e-9 && parity.top1_agrees);
        assert_eq!((parity.rmse, parity.numbers), (0.125f64.sqrt(), 2));
        assert_eq!(Parity::of_numbers(&[3.0, 4.5], &[3.0, 4.0]), parity);
        assert!(!parity.within(Tolerance::default()));
        assert!(parity.within(Tolerance { absolute: 0.0, relative: 0.125 }));
        let same = Parity::of(&outputs(&[f32::INFINITY, 1.0]), &outputs(&[f32::INFINITY, 1.0]));
        assert_eq!((same.max_abs, same.relative_l2, same.snr_db), (0.0, 0.0, f64::INFINITY));
    }

    #[test]
    fn what_cannot_be_compared_is_infinitely_far() {
        let reference = outputs(&[1.0, 2.0]);
        let infinite = |found: &Outputs| Parity::of(found, &reference).max_abs == f64::INFINITY;
        assert!(infinite(&outputs(&[1.0])), "another shape");
        assert!(infinite(&outputs(&[1.0, f32::NAN])));
        assert_eq!(Parity::of(&outputs(&[1.0, f32::NAN]), &reference).rmse, f64::INFINITY);
        assert_eq!(Parity::of_numbers(&[1.0], &[1.0, 2.0]).max_abs, f64::INFINITY, "another length");
        assert!(infinite(&Outputs::default()), "an output is missing");
        assert!(infinite(&Outputs::new(vec![("y".into(), Value::Double(1.0))])), "another type");
        assert!(!Parity::of(&outputs(&[2.0, 1.0]), &reference).top1_agrees);
    }
}
