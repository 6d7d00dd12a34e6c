//! Convolutions in a row, strip by strip, so that the values between them stay in the cache.
//!
//! A strip is some lines of the last convolution's output. Going backwards from it, each convolution's output lines are
//! the lines its successor reads; going forwards, they are computed into scratch memory. Where a successor's kernel is
//! taller than its stride, neighbouring strips both compute the lines they share; strips are as tall as scratch memory
//! allows, to keep this small. A stage may be two convolutions with nothing between them in memory
//! ([`DenseDepthwise`]); a strip then needs the lines of both.

use std::sync::Arc;

use super::images::{Images, check_lengths};
use super::{Conv2d, ConvEpilogue, ConvShape, Convolve, DenseDepthwise};
use crate::activation::Activation;
use crate::aligned::aligned;
use crate::parallel::ThreadPool;
use crate::simd::MAX_LANES;

/// Values between the convolutions of one strip: less than half of a 2 MiB second-level cache, which also holds
/// weights, input and output.
const STRIP_VALUES: usize = 200 * 1024;

/// The most convolutions in a chain.
const MOST: usize = 8;

/// Convolutions in a row: each takes its predecessor's output.
#[derive(Debug)]
pub struct Chain {
    stages: Vec<Stage>,
    steps: Vec<Step>,
    /// Runs a convolution within a task.
    solo: ThreadPool,
}

/// One kernel of a [`Chain`].
#[derive(Clone, Debug)]
pub struct Stage {
    /// What is computed.
    pub kernel: StageKernel,
    /// Applied to its output.
    pub activation: Activation,
}

/// What a [`Stage`] computes.
#[derive(Clone, Debug)]
pub enum StageKernel {
    /// One convolution.
    Conv(Arc<Conv2d>),
    /// Two, of which the second makes its input itself.
    DenseDepthwise(Arc<DenseDepthwise>),
}

impl StageKernel {
    /// The convolutions, first to last.
    pub fn convolutions(&self) -> impl Iterator<Item = &Conv2d> {
        let (first, second) = match self {
            Self::Conv(conv) => (&**conv, None),
            Self::DenseDepthwise(both) => {
                let [first, second] = both.convolutions();
                (first, Some(second))
            }
        };
        std::iter::once(first).chain(second)
    }

    fn as_convolve(&self) -> &dyn Convolve {
        match self {
            Self::Conv(conv) => &**conv,
            Self::DenseDepthwise(both) => &**both,
        }
    }
}

/// One convolution of a stage.
#[derive(Clone, Copy, Debug)]
struct Step {
    shape: ConvShape,
    /// Its output lies in scratch, or is the chain's.
    written: bool,
}

/// Lines of an image, and how much padding of the convolution that reads them is left at either end.
#[derive(Clone, Copy, Debug)]
struct Lines {
    first: usize,
    end: usize,
    top: usize,
    bottom: usize,
}

impl Lines {
    /// The lines of an image of `h` lines that output lines `first..end` of `shape` depend on.
    fn under(shape: &ConvShape, h: usize, first: usize, end: usize) -> Self {
        if first == end {
            // Its reader sees nothing but padding.
            return Self { first: 0, end: 0, top: 0, bottom: 0 };
        }
        let (stride, top) = (shape.stride[0], shape.pad[0]);
        let reach = (shape.kernel[0] - 1) * shape.dilation[0] + 1;
        let (from, to) = (first * stride, (end - 1) * stride + reach);
        Self {
            first: from.saturating_sub(top).min(h),
            end: to.saturating_sub(top).min(h),
            top: top.saturating_sub(from),
            // Counted from the window's first line where that lies below the image already.
            bottom: to.saturating_sub((top + h).max(from)),
        }
    }
}

impl Chain {
    /// # Panics
    /// If there is no stage, or one does not take the channels its predecessor gives.
    pub fn new(stages: Vec<Stage>) -> Self {
        let steps: Vec<Step> = stages
            .iter()
            .flat_map(|stage| {
                let last = stage.kernel.convolutions().count() - 1;
                let step = move |(i, conv): (usize, &Conv2d)| Step { shape: *conv.shape(), written: i == last };
                stage.kernel.convolutions().enumerate().map(step)
            })
            .collect();
        assert!((1..=MOST).contains(&steps.len()), "a chain has 1 to {MOST} convolutions");
        let fits = |pair: &[Step]| pair[0].shape.cout == pair[1].shape.cin;
        assert!(steps.windows(2).all(fits), "stages do not fit together");
        Self { stages, steps, solo: ThreadPool::new(1) }
    }

    /// The stages, first to last.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Height and width of the output for an `h x w` image.
    pub fn out_size(&self, h: usize, w: usize) -> (usize, usize) {
        self.steps.iter().fold((h, w), |(h, w), step| step.shape.out_size(h, w))
    }

    /// Channels of the output.
    pub fn channels(&self) -> usize {
        self.steps[self.steps.len() - 1].shape.cout
    }

    /// Values of one line of each convolution's output, and the most lines of it that a strip of `lines` needs.
    fn extents(&self, h: usize, w: usize, lines: usize) -> impl Iterator<Item = (usize, usize)> {
        // Backwards: the convolutions after `i` decide how many lines of its output are needed.
        (0..self.steps.len()).map(move |i| {
            let (oh, ow) = self.steps[..=i].iter().fold((h, w), |(h, w), step| step.shape.out_size(h, w));
            let needed = self.steps[i + 1..].iter().rev().fold(lines, |lines, step| {
                let ConvShape { kernel, stride, dilation, .. } = step.shape;
                (lines - 1) * stride[0] + (kernel[0] - 1) * dilation[0] + 1
            });
            (ow * self.steps[i].shape.cout, needed.min(oh))
        })
    }

    /// Values that lie between the stages for a strip of `lines`.
    fn between(&self, h: usize, w: usize, lines: usize) -> usize {
        let inner = self.steps.len() - 1;
        let written = self.extents(h, w, lines).zip(&self.steps).take(inner).filter(|(_, step)| step.written);
        written.map(|((line, lines), _)| (line * lines).next_multiple_of(MAX_LANES)).sum()
    }

    /// Lines of the output per strip: as many as fit the cache, but a few strips for each thread.
    fn strip(&self, h: usize, w: usize, threads: usize) -> usize {
        let (oh, _) = self.out_size(h, w);
        let fits = |&lines: &usize| self.between(h, w, lines) <= STRIP_VALUES;
        let most = (1..=oh).rev().find(fits).unwrap_or(1);
        // Even strips: the last one is not a sliver.
        let strips = oh.div_ceil(most).max(if threads == 1 { 1 } else { 2 * threads });
        oh.div_ceil(strips).max(1)
    }

    /// The share of the arithmetic on `h x w` images that is repeated because strips share lines.
    pub fn recomputed(&self, h: usize, w: usize, threads: usize) -> f64 {
        let (oh, _) = self.out_size(h, w);
        let lines = self.strip(h, w, threads);
        let strips = oh.div_ceil(lines);
        let (mut once, mut total) = (0.0, 0.0);
        let (whole, strip) = (self.extents(h, w, oh.max(1)), self.extents(h, w, lines));
        for (((line, height), (_, needed)), Step { shape, .. }) in whole.zip(strip).zip(&self.steps) {
            let work = (line * shape.kernel[0] * shape.kernel[1] * shape.cin / shape.groups) as f64;
            once += work * height as f64;
            total += work * (needed * strips).max(height) as f64;
        }
        if once == 0.0 { 0.0 } else { total / once - 1.0 }
    }

    /// Scratch values of one participant: what lies between the stages, and what a stage itself needs.
    fn slot_len(&self, h: usize, w: usize, threads: usize) -> usize {
        let lines = self.strip(h, w, threads);
        let mut width = w;
        let mut own = 0;
        let mut written = self.extents(h, w, lines).zip(&self.steps).filter(|(_, step)| step.written);
        let mut height = h;
        for stage in &self.stages {
            let kernel = stage.kernel.as_convolve();
            own = own.max(kernel.scratch_len(height, width, 1));
            (_, width) = kernel.out_size(height.max(1), width);
            height = written.next().map_or(0, |((_, lines), _)| lines);
        }
        self.between(h, w, lines) + own.next_multiple_of(MAX_LANES)
    }

    /// Scratch values that [`Chain::run`] needs for `h x w` images on a pool of `threads`.
    pub fn scratch_len(&self, h: usize, w: usize, threads: usize) -> usize {
        threads * self.slot_len(h, w, threads) + MAX_LANES
    }

    /// Takes `n` images `[h, w, cin]` through all stages into `out`; `residual`, of the output's size, is added before
    /// the last activation.
    ///
    /// # Panics
    /// If a slice is too short.
    #[allow(clippy::too_many_arguments, reason = "an image batch in, an image batch out")]
    pub fn run(
        &self,
        pool: &ThreadPool,
        n: usize,
        h: usize,
        w: usize,
        input: &[f32],
        residual: Option<&[f32]>,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        struct Ends(*mut f32, *mut f32);
        // SAFETY: participants use disjoint parts of scratch and tasks write disjoint lines of the output.
        unsafe impl Sync for Ends {}
        let (oh, ow) = self.out_size(h, w);
        let out_line = ow * self.channels();
        let image_len = h * w * self.steps[0].shape.cin;
        check_lengths(n, [image_len, oh * out_line], input, residual, out);
        let slot = self.slot_len(h, w, pool.threads());
        let scratch = aligned(scratch);
        assert!(scratch.len() >= slot * pool.threads(), "scratch too short");
        if n * oh * out_line == 0 {
            return;
        }
        let lines = self.strip(h, w, pool.threads());
        let strips = oh.div_ceil(lines);
        let ends = Ends(out.as_mut_ptr(), scratch.as_mut_ptr());
        pool.run_indexed(n * strips, &|participant, task| {
            let Ends(out, scratch) = &ends;
            let (image, first) = (task / strips, task % strips * lines);
            let end = oh.min(first + lines);
            // SAFETY: the slot of this participant.
            let slot = unsafe { std::slice::from_raw_parts_mut(scratch.add(participant * slot), slot) };
            let start = (image * oh + first) * out_line;
            // SAFETY: these lines of this image are this task's alone.
            let out = unsafe { std::slice::from_raw_parts_mut(out.add(start), (end - first) * out_line) };
            let residual = residual.map(|residual| &residual[start..][..out.len()]);
            self.strip_of(h, w, &input[image * image_len..][..image_len], residual, first, end, out, slot);
        });
    }

    /// Computes output lines `first..end` of one image.
    #[allow(clippy::too_many_arguments, reason = "an image in, lines of an image out")]
    fn strip_of(
        &self,
        h: usize,
        w: usize,
        input: &[f32],
        residual: Option<&[f32]>,
        first: usize,
        end: usize,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        // Sizes of every convolution's input, then which of its lines are read.
        let mut sizes = [(h, w); MOST];
        for (i, step) in self.steps[..self.steps.len() - 1].iter().enumerate() {
            sizes[i + 1] = step.shape.out_size(sizes[i].0, sizes[i].1);
        }
        let mut read = [Lines { first: 0, end: 0, top: 0, bottom: 0 }; MOST];
        let (mut from, mut to) = (first, end);
        for (i, step) in self.steps.iter().enumerate().rev() {
            read[i] = Lines::under(&step.shape, sizes[i].0, from, to);
            (from, to) = (read[i].first, read[i].end);
        }
        let shape = |i: usize| {
            let Lines { top, bottom, .. } = read[i];
            let [_, _, left, right] = self.steps[i].shape.pad;
            ConvShape { pad: [top, bottom, left, right], ..self.steps[i].shape }
        };
        let line = sizes[0].1 * self.steps[0].shape.cin;
        let mut current: &[f32] = &input[read[0].first * line..read[0].end * line];
        let mut rest = scratch;
        let mut at = 0;
        for stage in &self.stages {
            let (height, width) = (read[at].end - read[at].first, sizes[at].1);
            let next = at + stage.kernel.convolutions().count();
            let is_last = next == self.steps.len();
            let epilogue = ConvEpilogue { residual: residual.filter(|_| is_last), activation: stage.activation };
            let run = |to: &mut [f32], scratch: &mut [f32]| {
                let (first, last) = (shape(at), shape(next - 1));
                let shapes = [&first, &last];
                let images = Images::through(&shapes[..next - at], 1, [height, width], current, &epilogue, to);
                match (&stage.kernel, images) {
                    (_, None) => {}
                    (StageKernel::Conv(conv), Some(images)) => conv.run_as(&first, &self.solo, &images, scratch),
                    (StageKernel::DenseDepthwise(both), Some(images)) => {
                        both.run_as(shapes, &self.solo, &images, scratch);
                    }
                }
            };
            if is_last {
                run(out, rest);
                return;
            }
            let made = (read[next].end - read[next].first) * sizes[next].1 * self.steps[next].shape.cin;
            let (to, remaining) = rest.split_at_mut(made.next_multiple_of(MAX_LANES));
            run(to, remaining);
            current = &to[..made];
            (rest, at) = (remaining, next);
        }
    }
}
