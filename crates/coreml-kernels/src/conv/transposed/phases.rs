//! How the outputs of a transposed convolution divide into phases along one axis.
//!
//! Tap `k` of input `i` falls on output `i * stride + k * dilation - pad`. So the outputs whose distance from each other
//! is a multiple of the stride - a phase - use the same taps, and neighbours in a phase read neighbouring inputs: a
//! phase is an ordinary convolution of stride 1, written with gaps. Neighbouring phases that read exactly the same
//! inputs are combined into one with more columns.

/// The phases of one axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// From one output of a phase to the next, at least 1.
    pub(super) stride: usize,
    /// From the input under one tap to the input under the next.
    pub(super) dilation: usize,
    /// From one tap of a phase to the next: what `dilation` inputs make in taps.
    step: usize,
    /// Outputs before the first.
    pad: usize,
    tap_dilation: usize,
    pub(super) phases: Vec<Phase>,
}

/// Every `stride`-th run of `span` outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    /// The first output.
    pub(super) first: usize,
    /// Adjacent outputs that read the same inputs.
    pub(super) span: usize,
    /// Inputs that an output reads; 0 where no tap falls on it.
    pub(super) taps: usize,
    /// The first input that the first output reads; may lie before the image or after it.
    pub(super) start: isize,
}

impl Axis {
    /// The phases of an axis; `after` is the padding cut off behind less what is added there. With `join`, phases that
    /// read the same inputs become one.
    pub(super) fn new(kernel: usize, stride: usize, dilation: usize, pad: usize, after: isize, join: bool) -> Self {
        let common = gcd(stride, dilation);
        let step = stride / common;
        let reach = ((kernel - 1) * dilation + 1) as isize;
        // Phases before this one have an output more than those from it on, whatever the image's size.
        let uneven = (reach - pad as isize - after).rem_euclid(stride as isize) as usize;
        // By distance from the last multiple of the stride; further taps fall where these do.
        let mut lowest_taps = vec![None; stride];
        for tap in 0..step.min(kernel) {
            lowest_taps[tap * dilation % stride] = Some(tap);
        }
        let mut phases: Vec<Phase> = Vec::new();
        for first in 0..stride {
            let (taps, start) = lowest_taps[(first + pad) % stride].map_or((0, 0), |lowest| {
                let taps = (kernel - 1 - lowest) / step + 1;
                let highest = lowest + (taps - 1) * step;
                (taps, ((first + pad) as isize - (highest * dilation) as isize) / stride as isize)
            });
            match phases.last_mut() {
                Some(last) if join && first != uneven && last.taps == taps && last.start == start => last.span += 1,
                _ => phases.push(Phase { first, span: 1, taps, start }),
            }
        }
        Self { stride, dilation: dilation / common, step, pad, tap_dilation: dilation, phases }
    }

    /// The kernel's tap that brings the `input`-th input of `phase` to its `column`-th output.
    pub(super) fn tap(&self, phase: &Phase, column: usize, input: usize) -> usize {
        // The highest tap reads the first input.
        let distance = (phase.first + column + self.pad) as isize - phase.start * self.stride as isize;
        distance.unsigned_abs() / self.tap_dilation - input * self.step
    }

    /// How many runs of outputs a phase has in an output of `size`.
    pub(super) fn count(&self, phase: &Phase, size: usize) -> usize {
        size.saturating_sub(phase.first).div_ceil(self.stride)
    }

    /// Inputs before and after an image of `size` that outputs of an image of `out` read as zeros.
    pub(super) fn margins(&self, size: usize, out: usize) -> [usize; 2] {
        let mut margins = [0; 2];
        for phase in self.phases.iter().filter(|phase| phase.taps > 0 && phase.first < out) {
            let last = phase.start + (self.count(phase, out) - 1 + (phase.taps - 1) * self.dilation) as isize;
            margins[0] = margins[0].max(usize::try_from(-phase.start).unwrap_or(0));
            margins[1] = margins[1].max(usize::try_from(last - size as isize + 1).unwrap_or(0));
        }
        margins
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_input_and_tap_is_counted_once() {
        for (kernel, stride, dilation, pad, after, size) in [
            (2, 2, 1, 0, 0, 5),
            (4, 2, 1, 1, 1, 5),
            (4, 2, 1, 0, 0, 3),
            (3, 2, 1, 1, -1, 4),
            (3, 4, 2, 1, 0, 6),
            (5, 3, 2, 9, 1, 4),
            (1, 5, 1, 0, -2, 3),
            (7, 4, 6, 3, 0, 9),
            (16, 8, 1, 4, 4, 3),
        ] {
            let out: usize = (size - 1) * stride + (kernel - 1) * dilation + 1 - pad;
            let out = out.checked_add_signed(-after).unwrap();
            for join in [false, true] {
                let axis = Axis::new(kernel, stride, dilation, pad, after, join);
                let mut found = Vec::new();
                for phase in &axis.phases {
                    for run in 0..axis.count(phase, out) {
                        for column in 0..phase.span {
                            let output = phase.first + run * stride + column;
                            assert!(output < out, "{axis:?}");
                            for input in 0..phase.taps {
                                let from = phase.start + (run + input * axis.dilation) as isize;
                                if (0..size as isize).contains(&from) {
                                    found.push((output, from as usize, axis.tap(phase, column, input)));
                                }
                            }
                        }
                    }
                }
                found.sort_unstable();
                let mut expected = Vec::new();
                for (input, tap) in (0..size).flat_map(|i| (0..kernel).map(move |k| (i, k))) {
                    let output = (input * stride + tap * dilation).checked_sub(pad).filter(|&output| output < out);
                    expected.extend(output.map(|output| (output, input, tap)));
                }
                expected.sort_unstable();
                assert_eq!(found, expected, "{axis:?}");
            }
        }
    }

    #[test]
    fn phases_that_read_the_same_inputs_are_joined() {
        let spans = |axis: Axis| axis.phases.iter().map(|phase| phase.span).collect::<Vec<_>>();
        assert_eq!(spans(Axis::new(2, 2, 1, 0, 0, true)), [2]);
        assert_eq!(spans(Axis::new(2, 2, 1, 0, 0, false)), [1, 1]);
        assert_eq!(spans(Axis::new(16, 8, 1, 4, 4, true)), [4, 4]);
        // The last pixel is cut off, so one phase has an output less.
        assert_eq!(spans(Axis::new(2, 2, 1, 0, 1, true)), [1, 1]);
    }
}
