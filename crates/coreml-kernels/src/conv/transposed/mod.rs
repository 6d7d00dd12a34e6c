//! Transposed convolution of channels-last images, weights packed once.
//!
//! Results are not spread out and summed up in memory. Instead each phase of the output (`phases.rs`) is an ordinary
//! convolution of the image with some of the taps, computed as a matrix product whose left matrix is the image and whose
//! result is written with gaps between the pixels (`dense.rs`), or channel by channel where the channels are not mixed
//! (`depthwise.rs`). With a kernel as wide as its stride, the columns of one product are whole output lines. Where
//! outputs read beyond the image, it is first copied into a frame of zeros.

mod dense;
mod depthwise;
mod phases;

use std::ops::Range;

use super::frame::Frame;
use super::images::{Images, check_parameters};
use super::{ConvEpilogue, Convolve};
use crate::parallel::ThreadPool;
use crate::simd::Isa;
use dense::Dense;
use depthwise::Depthwise;
use phases::{Axis, Phase};

/// The parameters of a transposed convolution. Pairs are `[vertical, horizontal]`.
///
/// Tap `k` of input `i` is added to output `i * stride + k * dilation - pad before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvTransposeShape {
    /// Input channels, a multiple of `groups`.
    pub cin: usize,
    /// Output channels, a multiple of `groups`.
    pub cout: usize,
    /// Kernel height and width, at least 1.
    pub kernel: [usize; 2],
    /// Distance of the outputs that neighbouring inputs are added to, at least 1.
    pub stride: [usize; 2],
    /// Distance of the outputs that neighbouring taps are added to, at least 1.
    pub dilation: [usize; 2],
    /// Outputs cut off: top, bottom, left, right.
    pub pad: [usize; 4],
    /// Outputs added at the bottom and at the right: first those that `pad` cut off, then ones that no tap falls on.
    pub extra: [usize; 2],
    /// Parts into which the channels are divided.
    pub groups: usize,
}

impl ConvTransposeShape {
    /// Height and width of the output for an `h x w` image; 0 where everything is cut off.
    pub fn out_size(&self, h: usize, w: usize) -> (usize, usize) {
        let size = |x: usize, axis: usize| {
            let reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            let full = x.checked_sub(1).map_or(0, |steps| steps * self.stride[axis] + reach);
            (full + self.extra[axis]).saturating_sub(self.pad[2 * axis] + self.pad[2 * axis + 1])
        };
        (size(h, 0), size(w, 1))
    }

    /// The largest number of parts that the weights are packed in; each costs time and memory, even without any taps.
    pub fn parts(&self) -> usize {
        let groups = if self.is_depthwise() { 1 } else { self.groups };
        self.stride[0].saturating_mul(self.stride[1]).saturating_mul(groups)
    }

    /// Whether each output channel depends on one input channel of its own.
    fn is_depthwise(&self) -> bool {
        self.cin > 1 && self.groups == self.cin && self.cout == self.cin
    }
}

/// A transposed convolution ready to run.
#[derive(Clone, Debug)]
pub struct ConvTranspose2d {
    isa: Isa,
    shape: ConvTransposeShape,
    axes: [Axis; 2],
    method: Method,
}

#[derive(Clone, Debug)]
enum Method {
    Dense(Dense),
    Depthwise(Depthwise),
}

/// Values of input and output per task: a good part of an L2 cache.
const BLOCK_VALUES: usize = 192 * 1024;

/// Pixels of a line that are worth a task of their own.
const LEAST_PIXELS: usize = 48;

impl ConvTranspose2d {
    /// Packs `weights` (`[cin, cout / groups, kernel height, kernel width]`) and `bias` (`[cout]`). Takes time and
    /// memory for [`ConvTransposeShape::parts`] besides the weights.
    ///
    /// # Panics
    /// If the slices or parameters do not fit together.
    pub fn new(isa: Isa, shape: ConvTransposeShape, weights: &[f32], bias: Option<&[f32]>) -> Self {
        let ConvTransposeShape { cin, cout, kernel, stride, dilation, pad, extra, groups } = shape;
        check_parameters([cin, cout], groups, [kernel, stride, dilation], weights, bias);
        // The columns of phases taken together are adjacent only if all channels come from one product.
        let axis = |axis: usize, join: bool| {
            let after = pad[2 * axis + 1] as isize - extra[axis] as isize;
            Axis::new(kernel[axis], stride[axis], dilation[axis], pad[2 * axis], after, join)
        };
        let axes = [axis(0, false), axis(1, groups == 1)];
        let method = if shape.is_depthwise() {
            Method::Depthwise(Depthwise::new(&shape, &axes, weights, bias))
        } else {
            Method::Dense(Dense::new(isa, &shape, &axes, weights, bias))
        };
        Self { isa, shape, axes, method }
    }

    /// The parameters.
    pub fn shape(&self) -> &ConvTransposeShape {
        &self.shape
    }

    /// The zeros around an image that its outputs read.
    fn frame(&self, h: usize, w: usize) -> Frame {
        let (oh, ow) = self.out_size(h, w);
        let ([top, bottom], [left, right]) = (self.axes[0].margins(h, oh), self.axes[1].margins(w, ow));
        Frame { h, w, channels: self.shape.cin, pad: [top, bottom, left, right], rounded: None }
    }
}

impl Convolve for ConvTranspose2d {
    fn out_size(&self, h: usize, w: usize) -> (usize, usize) {
        self.shape.out_size(h, w)
    }

    fn channels(&self) -> usize {
        self.shape.cout
    }

    /// An image in its frame of zeros, if it needs one.
    fn scratch_len(&self, h: usize, w: usize, _threads: usize) -> usize {
        self.frame(h, w).scratch_len()
    }

    fn run(
        &self,
        pool: &ThreadPool,
        n: usize,
        h: usize,
        w: usize,
        input: &[f32],
        epilogue: &ConvEpilogue<'_>,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        let ConvTransposeShape { cin, cout, .. } = self.shape;
        let (oh, ow) = self.out_size(h, w);
        let Some(images) = Images::new(n, [h, w, cin], [oh, ow, cout], input, epilogue, out) else { return };
        let frame = self.frame(h, w);
        let [top, _, left, _] = frame.pad;
        for image in images.each() {
            // SAFETY: it was checked to be an `h x w` image.
            let input = unsafe { frame.around(pool, image.input, scratch) };
            let images = Images { input, ..image };
            let width = frame.width();
            let canvas = Canvas { shape: &self.shape, axes: &self.axes, images, width, margin: [top, left] };
            match &self.method {
                Method::Dense(dense) => dense.run(self.isa, pool, &canvas),
                Method::Depthwise(depthwise) => depthwise.run(self.isa, pool, &canvas),
            }
        }
    }
}

/// One image being processed.
struct Canvas<'a> {
    shape: &'a ConvTransposeShape,
    axes: &'a [Axis; 2],
    /// The input is the frame, if there is one.
    images: Images,
    /// Pixels of an input line.
    width: usize,
    /// Lines above and pixels left of the image.
    margin: [usize; 2],
}

impl Canvas<'_> {
    /// The first input value that output run `at` (`[line, column]`) of a phase reads. Somewhere, if it reads none.
    fn source(&self, phase: [&Phase; 2], at: [usize; 2]) -> *const f32 {
        let [y, x] = [0, 1].map(|axis| phase[axis].start + (self.margin[axis] + at[axis]) as isize);
        self.images.input.wrapping_offset((y * self.width as isize + x) * self.shape.cin as isize)
    }

    /// The offset of the first output value of run `at` of a phase.
    fn target(&self, phase: [&Phase; 2], at: [usize; 2]) -> usize {
        let [y, x] = [0, 1].map(|axis| phase[axis].first + at[axis] * self.axes[axis].stride);
        (y * self.images.ow + x) * self.shape.cout
    }

    /// The part of `ranges` (`[lines, columns]` of runs) that a phase has.
    fn clamp(&self, phase: [&Phase; 2], ranges: &[Range<usize>; 2]) -> [Range<usize>; 2] {
        let sizes = [self.images.oh, self.images.ow];
        [0, 1].map(|axis| {
            let end = ranges[axis].end.min(self.axes[axis].count(phase[axis], sizes[axis]));
            ranges[axis].start.min(end)..end
        })
    }

    /// Cuts the work for a pool of `threads`; `panels` is the number of panels of all weights, which have `weights` values.
    fn cuts(&self, threads: usize, panels: usize, weights: usize) -> Cuts {
        let Images { h, oh, ow, .. } = self.images;
        let runs = [oh.div_ceil(self.axes[0].stride), ow.div_ceil(self.axes[1].stride)];
        let values = h * self.width * self.shape.cin + oh * ow * self.shape.cout;
        let fitting = values.div_ceil(BLOCK_VALUES);
        // More tasks than threads, so that one that is held up leaves work to the others.
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        // Where the weights are the larger part of the data, each thread reads only its own.
        let panel_cuts = if weights > values { panels.min(wanted) } else { 1 };
        let blocks = fitting.max(wanted.div_ceil(panel_cuts.max(1)));
        let lines = blocks.min(runs[0]);
        let columns = blocks.div_ceil(lines.max(1)).min(runs[1].div_ceil(LEAST_PIXELS));
        Cuts { sizes: [runs[0], runs[1], panels], parts: [lines, columns, panel_cuts] }
    }
}

/// Lines, columns and panels, each cut into equal parts.
struct Cuts {
    sizes: [usize; 3],
    parts: [usize; 3],
}

impl Cuts {
    fn tasks(&self) -> usize {
        self.parts.iter().product()
    }

    /// The lines and columns, and the panels, of a task.
    fn task(&self, task: usize) -> ([Range<usize>; 2], Range<usize>) {
        let [_, columns, panels] = self.parts;
        let range = |axis: usize, part: usize| {
            let at = |part: usize| self.sizes[axis] * part / self.parts[axis];
            at(part)..at(part + 1)
        };
        let part = [task / panels / columns, task / panels % columns, task % panels];
        ([range(0, part[0]), range(1, part[1])], range(2, part[2]))
    }
}
