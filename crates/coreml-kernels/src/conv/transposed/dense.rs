//! Dense and grouped transposed convolution: a matrix product for each phase of the output.

use std::ops::Range;

use super::super::dense::runs;
use super::{Axis, Canvas, ConvTransposeShape, Phase};
use crate::gemm::PackedB;
use crate::gemm::tile::{Block, Product, Rows, Runs};
use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, Simd};

#[derive(Clone, Debug)]
pub(super) struct Dense {
    /// One for each vertical phase, horizontal phase and group.
    parts: Vec<Part>,
    /// Panels of all parts.
    panels: usize,
    /// Values of all parts.
    weights: usize,
}

/// A product for the outputs of one phase and group.
#[derive(Clone, Debug)]
struct Part {
    /// Which of the vertical and of the horizontal phases.
    phase: [usize; 2],
    group: usize,
    /// `[taps * cin / groups, span * cout / groups]`
    packed: PackedB,
    /// One value for each column.
    bias: Option<Vec<f32>>,
    /// The number of its first panel among those of all parts.
    first_panel: usize,
}

impl Dense {
    pub(super) fn new(
        isa: Isa,
        shape: &ConvTransposeShape,
        axes: &[Axis; 2],
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Self {
        let ConvTransposeShape { cin, cout, kernel: [kh, kw], groups, .. } = *shape;
        let (gin, gout) = (cin / groups, cout / groups);
        let mut dense = Self { parts: Vec::new(), panels: 0, weights: 0 };
        for (v, vertical) in axes[0].phases.iter().enumerate() {
            for (h, horizontal) in axes[1].phases.iter().enumerate() {
                for group in 0..groups {
                    let taps = vertical.taps * horizontal.taps;
                    let packed = PackedB::pack(isa, taps * gin, horizontal.span * gout, |k, n| {
                        let (input, c) = (k / gin, group * gin + k % gin);
                        let y = axes[0].tap(vertical, 0, input / horizontal.taps);
                        let x = axes[1].tap(horizontal, n / gout, input % horizontal.taps);
                        weights[((c * gout + n % gout) * kh + y) * kw + x]
                    });
                    let bias = bias.map(|bias| bias[group * gout..][..gout].repeat(horizontal.span));
                    let first_panel = dense.panels;
                    dense.panels += packed.view().panels.count();
                    dense.weights += packed.k() * packed.n();
                    dense.parts.push(Part { phase: [v, h], group, packed, bias, first_panel });
                }
            }
        }
        dense
    }

    pub(super) fn run(&self, isa: Isa, pool: &ThreadPool, canvas: &Canvas<'_>) {
        let cuts = canvas.cuts(pool.threads(), self.panels, self.weights);
        pool.run(cuts.tasks(), &|task| {
            let (runs, panels) = cuts.task(task);
            isa.dispatch(Task { dense: self, canvas, runs, panels });
        });
    }
}

/// Some lines and columns of each phase, and some of the panels.
struct Task<'a> {
    dense: &'a Dense,
    canvas: &'a Canvas<'a>,
    runs: [Range<usize>; 2],
    panels: Range<usize>,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for part in &self.dense.parts {
            let count = part.packed.view().panels.count();
            let first = self.panels.start.max(part.first_panel);
            let end = self.panels.end.min(part.first_panel + count);
            // A panel goes through all lines while it is in the cache.
            for panel in first..end {
                let panel = panel - part.first_panel;
                part.lines(self.canvas, &self.runs, |product, rows| {
                    Block { product, first_row: 0, end_row: rows, first_panel: panel, end_panel: panel + 1 }.run(s);
                });
            }
        }
    }
}

impl Part {
    /// Calls `f` with the product of each line of `runs`, and its rows.
    #[inline(always)]
    fn lines(&self, canvas: &Canvas<'_>, runs: &[Range<usize>; 2], f: impl Fn(&Product<'_>, usize)) {
        let ConvTransposeShape { cin, cout, groups, .. } = *canvas.shape;
        let phase = [0, 1].map(|axis| &canvas.axes[axis].phases[self.phase[axis]]);
        let [lines, columns] = canvas.clamp(phase, runs);
        let images = &canvas.images;
        for line in lines {
            let at = [line, columns.start];
            let start = canvas.target(phase, at) + self.group * (cout / groups);
            let base = canvas.source(phase, at).wrapping_add(self.group * (cin / groups));
            let out_stride = canvas.axes[1].stride * cout;
            let product = Product {
                rows: Rows { base, per_line: usize::MAX, line_stride: 0, stride: cin },
                runs: inputs(canvas, phase),
                b: self.packed.view(),
                bias: self.bias.as_deref(),
                residual: images.residual.map(|r| (r.wrapping_add(start), out_stride)),
                activation: images.activation,
                out: images.out.wrapping_add(start),
                out_stride,
                next: None,
            };
            f(&product, columns.len());
        }
    }
}

/// Where the inputs of an output of a phase lie.
fn inputs(canvas: &Canvas<'_>, phase: [&Phase; 2]) -> Runs {
    let dilation = [0, 1].map(|axis| canvas.axes[axis].dilation);
    runs(phase.map(|phase| phase.taps), dilation, canvas.width, canvas.shape.cin, canvas.shape.groups)
}
