//! A dense convolution and the depthwise one that takes its output, line by line within the L1 cache.
//!
//! Networks for mobile devices widen an image with a pointwise convolution only to narrow it again after the depthwise
//! one: what lies between is the largest tensor of the block. A depthwise convolution needs one vector of channels at a
//! time, and the dense one can make just that, so the tensor is never written out.

use super::depthwise::Source;
use super::images::Images;
use super::{Conv2d, ConvEpilogue, Method};
use crate::activation::Activation;
use crate::parallel::ThreadPool;

/// Two convolutions of which the second, a depthwise one, takes the first's output.
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

    /// Height and width of the output for an `h x w` image.
    pub fn out_size(&self, h: usize, w: usize) -> (usize, usize) {
        let (h, w) = self.first.out_size(h, w);
        self.second.out_size(h, w)
    }

    /// Scratch values that [`DenseDepthwise::run`] needs for `h x w` images on a pool of `threads`.
    pub fn scratch_len(&self, h: usize, w: usize, threads: usize) -> usize {
        let (between_h, between_w) = self.first.out_size(h, w);
        self.first.scratch_len(h, w, threads) + self.second.scratch_len(between_h, between_w, threads)
    }

    /// Takes `n` images `[h, w, cin]` through both into `out`; `epilogue` is the second convolution's.
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
        epilogue: &ConvEpilogue<'_>,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (Method::Dense(dense), Method::Depthwise(depthwise)) = (&self.first.method, &self.second.method) else {
            unreachable!("checked when this was made")
        };
        assert!(scratch.len() >= self.scratch_len(h, w, pool.threads()), "scratch too short");
        let (frame, rings) = scratch.split_at_mut(self.first.scratch_len(h, w, pool.threads()));
        let (between_h, between_w) = self.first.out_size(h, w);
        let (oh, ow) = self.second.out_size(between_h, between_w);
        let sizes = ([h, w, self.first.shape.cin], [oh, ow, self.second.shape.cout]);
        let Some(images) = Images::new(n, sizes.0, sizes.1, input, epilogue, out) else { return };
        for image in images.each() {
            let maker = dense.line_maker(pool, &self.first.shape, self.activation, &image, frame);
            let between = Images { h: between_h, w: between_w, ..image };
            depthwise.run(self.second.isa, pool, &self.second.shape, &between, &Source::Made(&maker), rings);
        }
    }
}
