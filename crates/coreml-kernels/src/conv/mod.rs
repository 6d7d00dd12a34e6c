//! Two-dimensional convolution of channels-last images, weights packed once.
//!
//! * Dense and grouped kernels are matrix products whose left matrix is the image itself: the micro-kernel of
//!   [`crate::gemm`] is told where the runs of values under the kernel are (`dense.rs`). Nothing is unrolled in memory;
//!   where there is padding, the image is first copied into a zero frame.
//! * One input channel per group goes to a kernel vectorised over channels (`depthwise.rs`).
//! * Dense 3x3 kernels with stride 1 go by Winograd's method where the image is large enough (`winograd.rs`).
//! * A dense convolution that feeds a depthwise one computes its lines into that one's buffer in the L1 cache
//!   (`dense_depthwise.rs`).
//! * `general.rs` handles weights that are computed at run time and other numbers of spatial axes. It takes channels-first
//!   images and packs nothing beforehand.
//! * A transposed convolution is a dense one for each phase of its output (`transposed/`).

mod chain;
mod dense;
mod dense_depthwise;
mod depthwise;
mod frame;
mod general;
mod images;
mod transposed;
mod winograd;

use crate::activation::Activation;
use crate::gemm::Precision;
use crate::parallel::ThreadPool;
use crate::simd::Isa;
pub use chain::{Chain, Stage, StageKernel};
use dense::Dense;
pub use dense_depthwise::DenseDepthwise;
use depthwise::{Depthwise, Source};
pub use general::GeneralConv;
use images::{Images, check_parameters};
pub use transposed::{ConvTranspose2d, ConvTransposeShape};
use winograd::Winograd;

/// The parameters of a convolution. Pairs are `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Input channels, a multiple of `groups`.
    pub cin: usize,
    /// Output channels, a multiple of `groups`.
    pub cout: usize,
    /// Kernel height and width, at least 1.
    pub kernel: [usize; 2],
    /// Steps between outputs, at least 1.
    pub stride: [usize; 2],
    /// Steps between kernel taps, at least 1.
    pub dilation: [usize; 2],
    /// Zeros around the image: top, bottom, left, right.
    pub pad: [usize; 4],
    /// Parts into which the channels are divided.
    pub groups: usize,
}

impl ConvShape {
    /// Height and width of the output for an `h x w` image; 0 where the kernel does not fit.
    pub fn out_size(&self, h: usize, w: usize) -> (usize, usize) {
        let size = |x: usize, axis: usize| {
            let reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            (x + self.pad[2 * axis] + self.pad[2 * axis + 1])
                .checked_sub(reach)
                .map_or(0, |d| d / self.stride[axis] + 1)
        };
        (size(h, 0), size(w, 1))
    }

    /// Whether Winograd's method is fastest for `[h, w]` images.
    pub fn favors_winograd(&self, [h, w]: [usize; 2]) -> bool {
        winograd::pays(self, h, w)
    }

    fn check(&self, weights: &[f32], bias: Option<&[f32]>) {
        let steps = [self.kernel, self.stride, self.dilation];
        check_parameters([self.cin, self.cout], self.groups, steps, weights, bias);
    }
}

/// What is done to a convolution's sums, to which the bias is always added: `+ residual`, then the activation.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConvEpilogue<'a> {
    /// A contiguous image of the output's size.
    pub residual: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

/// A convolution of any kind, ready to run on images.
pub trait Convolve: std::fmt::Debug + Send + Sync + 'static {
    /// Height and width of the output for an `h x w` image.
    fn out_size(&self, h: usize, w: usize) -> (usize, usize);

    /// Channels of the output.
    fn channels(&self) -> usize;

    /// Scratch values that [`Convolve::run`] needs for `h x w` images on a pool of `threads`.
    fn scratch_len(&self, h: usize, w: usize, threads: usize) -> usize;

    /// Takes `n` images `[h, w, input channels]` to `out`, `n` images `[oh, ow, channels]`.
    ///
    /// # Panics
    /// If a slice is too short.
    #[allow(clippy::too_many_arguments, reason = "an image batch in, an image batch out")]
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
    );
}

/// A plain convolution.
#[derive(Clone, Debug)]
pub struct Conv2d {
    isa: Isa,
    shape: ConvShape,
    method: Method,
}

#[derive(Clone, Debug)]
enum Method {
    Dense(Dense),
    Depthwise(Depthwise),
    Winograd(Winograd),
}

impl Conv2d {
    /// Packs `weights` (`[cout, cin / groups, kernel height, kernel width]`) and `bias` (`[cout]`).
    ///
    /// # Panics
    /// If the slices or parameters do not fit together.
    pub fn new(isa: Isa, shape: ConvShape, weights: &[f32], bias: Option<&[f32]>) -> Self {
        Self::with_precision(isa, shape, weights, bias, Precision::F32)
    }

    /// Like [`Conv2d::new`], but weights and images are rounded before they are multiplied, if the convolution supports it:
    /// not a depthwise one, nor one with an odd number of input channels per group.
    ///
    /// # Panics
    /// As [`Conv2d::new`].
    pub fn with_precision(
        isa: Isa,
        shape: ConvShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        precision: Precision,
    ) -> Self {
        shape.check(weights, bias);
        let method = if shape.groups == shape.cin && shape.cin > 1 {
            Method::Depthwise(Depthwise::new(isa, &shape, weights, bias))
        } else {
            Method::Dense(Dense::new(isa, &shape, weights, bias, precision))
        };
        Self { isa, shape, method }
    }

    /// Like [`Conv2d::new`], with the method that is fastest for images of `size`, height and width. The results of the two may
    /// differ by some ten roundings.
    ///
    /// # Panics
    /// As [`Conv2d::new`].
    pub fn for_size(
        isa: Isa,
        shape: ConvShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        size: [usize; 2],
        precision: Precision,
    ) -> Self {
        if !shape.favors_winograd(size) {
            return Self::with_precision(isa, shape, weights, bias, precision);
        }
        shape.check(weights, bias);
        Self { isa, shape, method: Method::Winograd(Winograd::new(isa, &shape, weights, bias)) }
    }

    /// The precision that weights and images are rounded to before they are multiplied.
    pub fn precision(&self) -> Precision {
        match &self.method {
            Method::Dense(dense) => dense.precision(),
            Method::Depthwise(_) | Method::Winograd(_) => Precision::F32,
        }
    }

    /// Whether working in strips costs nothing extra, except for the lines that strips share.
    pub fn works_in_strips(&self) -> bool {
        !matches!(self.method, Method::Winograd(_))
    }

    /// The parameters.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Convolves `images` with the padding of `shape`, which is this convolution's shape otherwise.
    fn run_as(&self, shape: &ConvShape, pool: &ThreadPool, images: &Images, scratch: &mut [f32]) {
        match &self.method {
            Method::Dense(dense) => dense.run(self.isa, pool, shape, images, scratch),
            Method::Winograd(winograd) => winograd.run(self.isa, pool, shape, images, scratch),
            Method::Depthwise(depthwise) => depthwise.run(self.isa, pool, shape, images, &Source::Image, scratch),
        }
    }
}

impl Convolve for Conv2d {
    fn out_size(&self, h: usize, w: usize) -> (usize, usize) {
        self.shape.out_size(h, w)
    }

    fn channels(&self) -> usize {
        self.shape.cout
    }

    fn scratch_len(&self, h: usize, w: usize, threads: usize) -> usize {
        match &self.method {
            Method::Dense(dense) => dense.scratch_len(self.isa, &self.shape, h, w),
            Method::Depthwise(depthwise) => threads * depthwise.slot_len(self.isa, &self.shape, w) + 16,
            Method::Winograd(winograd) => winograd.scratch_len(&self.shape, h, w, threads),
        }
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
        assert!(scratch.len() >= self.scratch_len(h, w, pool.threads()), "scratch too short");
        let Some(images) = Images::through(&[&self.shape], n, [h, w], input, epilogue, out) else { return };
        self.run_as(&self.shape, pool, &images, scratch);
    }
}
