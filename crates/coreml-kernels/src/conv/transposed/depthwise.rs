//! Transposed convolution of each channel by itself, vectorised over channels.

use std::ops::Range;

use super::{Axis, Canvas, ConvTransposeShape};
use crate::activation::ActivateRows;
use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, Simd};

#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    /// For each vertical and horizontal phase `[taps, channels]`, the taps in the order of the inputs.
    phases: Vec<Vec<f32>>,
    bias: Vec<f32>,
}

impl Depthwise {
    pub(super) fn new(shape: &ConvTransposeShape, axes: &[Axis; 2], weights: &[f32], bias: Option<&[f32]>) -> Self {
        let ConvTransposeShape { cin, kernel: [kh, kw], .. } = *shape;
        let pairs = axes[0].phases.iter().flat_map(|v| axes[1].phases.iter().map(move |h| (v, h)));
        let phases = pairs.map(|(vertical, horizontal)| {
            (0..vertical.taps * horizontal.taps * cin)
                .map(|at| {
                    let (input, c) = (at / cin, at % cin);
                    let y = axes[0].tap(vertical, 0, input / horizontal.taps);
                    let x = axes[1].tap(horizontal, 0, input % horizontal.taps);
                    weights[(c * kh + y) * kw + x]
                })
                .collect()
        });
        Self { phases: phases.collect(), bias: bias.map_or_else(|| vec![0.0; cin], <[f32]>::to_vec) }
    }

    pub(super) fn run(&self, isa: Isa, pool: &ThreadPool, canvas: &Canvas<'_>) {
        let cuts = canvas.cuts(pool.threads(), 1, 0);
        pool.run(cuts.tasks(), &|task| isa.dispatch(Task { depthwise: self, canvas, runs: cuts.task(task).0 }));
    }
}

/// Some lines and columns of each phase.
struct Task<'a> {
    depthwise: &'a Depthwise,
    canvas: &'a Canvas<'a>,
    runs: [Range<usize>; 2],
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Canvas { axes, images, .. } = self.canvas;
        let channels = self.canvas.shape.cin;
        let count = axes[1].phases.len();
        for (index, weights) in self.depthwise.phases.iter().enumerate() {
            let phase = [&axes[0].phases[index / count], &axes[1].phases[index % count]];
            let [lines, columns] = self.canvas.clamp(phase, &self.runs);
            for line in lines {
                for column in columns.clone() {
                    let at = [line, column];
                    let (from, to) = (self.canvas.source(phase, at), self.canvas.target(phase, at));
                    self.pixel(s, weights, [phase[0].taps, phase[1].taps], from, to);
                }
                if images.activation.as_clip().is_none() {
                    s.call(ActivateRows {
                        activation: images.activation,
                        data: images.out.wrapping_add(self.canvas.target(phase, [line, columns.start])),
                        rows: columns.len(),
                        cols: channels,
                        stride: axes[1].stride * channels,
                    });
                }
            }
        }
    }
}

impl Task<'_> {
    /// One output pixel, `to` values into the output, from inputs of which the first is at `from`.
    #[inline(always)]
    fn pixel<S: Simd>(&self, s: S, weights: &[f32], [high, wide]: [usize; 2], from: *const f32, to: usize) {
        let Canvas { axes, images, width, .. } = self.canvas;
        let channels = self.canvas.shape.cin;
        let (line_stride, stride) = (axes[0].dilation * width * channels, axes[1].dilation * channels);
        assert_eq!(weights.len(), high * wide * channels, "a vector of channels for each tap");
        for channel in (0..channels).step_by(S::LANES) {
            let n = S::LANES.min(channels - channel);
            // SAFETY: the frame holds every input that a tap of this phase reads, `channels` values each; the weights
            // were checked above, the bias has `channels` values; residual and output hold the pixel.
            unsafe {
                let mut sum = s.load_partial(self.depthwise.bias.as_ptr().add(channel), n);
                let mut weight = weights.as_ptr().add(channel);
                for y in 0..high {
                    let line = from.add(y * line_stride + channel);
                    for x in 0..wide {
                        let (input, tap) = (line.add(x * stride), weight);
                        sum = if n == S::LANES {
                            s.fma(s.load(input), s.load(tap), sum)
                        } else {
                            s.fma(s.load_partial(input, n), s.load_partial(tap, n), sum)
                        };
                        weight = weight.wrapping_add(channels);
                    }
                }
                if let Some(residual) = images.residual {
                    sum = s.add(sum, s.load_partial(residual.add(to + channel), n));
                }
                if let Some((lo, hi)) = images.activation.as_clip() {
                    sum = s.min(s.splat(hi), s.max(s.splat(lo), sum));
                }
                s.store_partial(images.out.add(to + channel), n, sum);
            }
        }
    }
}
