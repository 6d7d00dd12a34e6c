//! A dense convolution and the depthwise one that takes its output, line by line within the L1 cache.
//!
//! Networks for mobile devices widen an image with a pointwise convolution only to narrow it again after the depthwise
//! one: the tensor between them is the largest of the block. A depthwise convolution needs one vector of channels at a
//! time, and the dense one can compute just that, so this tensor is never written out.

use super::depthwise::Source;
use super::images::Images;
use super::{Conv2d, ConvEpilogue, ConvShape, Convolve, Method};
use crate::activation::Activation;
use crate::parallel::ThreadPool;

/// Two convolutions; the second, a depthwise one, takes the first's output.
#[derive(Clone, Debug)]
pub struct DenseDepthwise {
    first: Conv2d,
    activation: Activation,
    second: Conv2d,
}

impl DenseDepthwise {
    /// `second(activation(first(x)))`; `None` unless `first` is dense in one group and `second` is depthwise.
    ///
    /// # Panics
    /// If `second` does not take the channels that `first` gives.
    pub fn new(first: &Conv2d, activation: Activation, second: &Conv2d) -> Option<Self> {
        assert_eq!(first.shape.cout, second.shape.cin, "the convolutions do not fit together");
        let (Method::Dense(dense), Method::Depthwise(_)) = (&first.method, &second.method) else { return None };
        let first = Conv2d { method: Method::Dense(dense.narrow()?), ..first.clone() };
        Some(Self { first, activation, second: second.clone() })
    }

    /// The two convolutions.
    pub fn convolutions(&self) -> [&Conv2d; 2] {
        [&self.first, &self.second]
    }
}

impl DenseDepthwise {
    /// Convolves `images` with the padding of `shapes`, which are the convolutions' shapes otherwise.
    pub(super) fn run_as(&self, shapes: [&ConvShape; 2], pool: &ThreadPool, images: &Images, scratch: &mut [f32]) {
        let (Method::Dense(dense), Method::Depthwise(depthwise)) = (&self.first.method, &self.second.method) else {
            unreachable!("checked when this was made")
        };
        let (frame, rings) = scratch.split_at_mut(self.first.scratch_len(images.h, images.w, pool.threads()));
        let (h, w) = shapes[0].out_size(images.h, images.w);
        for image in images.each() {
            let maker = dense.line_maker(pool, shapes[0], self.activation, &image, frame);
            let between = Images { h, w, ..image };
            depthwise.run(self.second.isa, pool, shapes[1], &between, &Source::Made(&maker), rings);
        }
    }
}

impl Convolve for DenseDepthwise {
    fn out_size(&self, h: usize, w: usize) -> (usize, usize) {
        let (h, w) = self.first.out_size(h, w);
        self.second.out_size(h, w)
    }

    fn channels(&self) -> usize {
        self.second.channels()
    }

    fn scratch_len(&self, h: usize, w: usize, threads: usize) -> usize {
        let (between_h, between_w) = self.first.out_size(h, w);
        self.first.scratch_len(h, w, threads) + self.second.scratch_len(between_h, between_w, threads)
    }

    /// The epilogue is the second convolution's.
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
        assert!(scratch.len() >= self.scratch_len(h, w, pool.threads()), "scratch too short");
        let shapes = [&self.first.shape, &self.second.shape];
        let Some(images) = Images::through(&shapes, n, [h, w], input, epilogue, out) else { return };
        self.run_as(shapes, pool, &images, scratch);
    }
}
