//! Dense and grouped convolution as a matrix product over the image in place.

use super::ConvShape;
use super::frame::Frame;
use super::images::Images;
use crate::activation::Activation;
use crate::gemm::line::Line;
use crate::gemm::tile::{Product, Rows, Runs};
use crate::gemm::{Format, PackedB, PackedRef, Precision, run_product};
use crate::parallel::ThreadPool;
use crate::simd::Isa;

#[derive(Clone, Debug)]
pub(super) struct Dense {
    /// One `[kh * kw * cin / groups, cout / groups]` matrix per group.
    packed: Vec<PackedB>,
    bias: Option<Vec<f32>>,
}

impl Dense {
    /// Weights of an odd number of channels in a group are not rounded: a pair would reach into the next pixel.
    pub(super) fn new(
        isa: Isa,
        shape: &ConvShape,
        weights: &[f32],
        bias: Option<&[f32]>,
        precision: Precision,
    ) -> Self {
        let ConvShape { cin, cout, kernel: [kh, kw], groups, .. } = *shape;
        let (gin, gout, taps) = (cin / groups, cout / groups, kh * kw);
        let packed = (0..groups)
            .map(|group| {
                let element = |k: usize, n: usize| {
                    let (tap, c) = (k / gin, k % gin);
                    weights[((group * gout + n) * gin + c) * taps + tap]
                };
                match precision {
                    Precision::Bf16 if gin.is_multiple_of(2) => PackedB::pack_bf16(isa, taps * gin, gout, element),
                    // Of one pixel, the weights are the matrix's columns.
                    _ if taps == 1 => PackedB::pack_strided(isa, [gin, gout], &weights[group * gout * gin..], [1, gin]),
                    _ => PackedB::pack(isa, taps * gin, gout, element),
                }
            })
            .collect();
        Self { packed, bias: bias.map(<[f32]>::to_vec) }
    }

    /// What the weights were rounded to.
    pub(super) fn precision(&self) -> Precision {
        let rounded = self.packed.iter().any(|packed| packed.format() == Format::Bf16);
        if rounded { Precision::Bf16 } else { Precision::F32 }
    }

    /// The image in its frame of zeros, if it has one, or rounded.
    pub(super) fn scratch_len(&self, isa: Isa, shape: &ConvShape, h: usize, w: usize) -> usize {
        self.frame(isa, shape, h, w).scratch_len()
    }

    /// The frame of zeros that the padding asks for.
    fn frame(&self, isa: Isa, shape: &ConvShape, h: usize, w: usize) -> Frame {
        let rounded = (self.precision() == Precision::Bf16).then_some(isa);
        Frame { h, w, channels: shape.cin, pad: shape.pad, rounded }
    }

    pub(super) fn run(&self, isa: Isa, pool: &ThreadPool, shape: &ConvShape, images: &Images, scratch: &mut [f32]) {
        let ConvShape { kernel, stride, pad, .. } = *shape;
        let Images { n, h, w, oh, ow, .. } = *images;
        let frame = self.frame(isa, shape, h, w);
        let (width, pixel) = (frame.width(), frame.pixel());
        // Every pixel is a row.
        let is_matrix = kernel == [1, 1] && stride == [1, 1] && pad == [0; 4];
        let matrix = |base| Rows { base, per_line: usize::MAX, line_stride: 0, stride: pixel };
        if is_matrix && frame.scratch_len() == 0 {
            return self.product(isa, pool, shape, images, matrix(images.input), &frame, n * h * w);
        }
        for image in images.each() {
            // SAFETY: it was checked to be an `h x w` image.
            let base = unsafe { frame.around(pool, image.input, scratch) };
            let pixels = Rows { base, per_line: ow, line_stride: stride[0] * width * pixel, stride: stride[1] * pixel };
            let rows = if is_matrix { matrix(base) } else { pixels };
            self.product(isa, pool, shape, &image, rows, &frame, oh * ow);
        }
    }

    /// The weights in panels of one vector, for [`Dense::line_maker`]; `None` with several groups, or if they are rounded.
    pub(super) fn narrow(&self) -> Option<Self> {
        let [packed] = &self.packed[..] else { return None };
        if packed.format() == Format::Bf16 {
            return None;
        }
        Some(Self { packed: vec![packed.narrow()], bias: self.bias.clone() })
    }

    /// For one image, which is copied into its frame of zeros in `scratch` if it has one.
    pub(super) fn line_maker<'a>(
        &'a self,
        pool: &ThreadPool,
        shape: &ConvShape,
        activation: Activation,
        image: &Images,
        scratch: &'a mut [f32],
    ) -> LineMaker<'a> {
        let ConvShape { cin, stride, .. } = *shape;
        let packed = self.packed[0].view();
        let frame = self.frame(packed.isa, shape, image.h, image.w);
        let width = frame.width();
        // SAFETY: it was checked to be an image of this size.
        let base = unsafe { frame.around(pool, image.input, scratch) };
        LineMaker {
            base,
            line_stride: stride[0] * width * cin,
            pixel_stride: stride[1] * cin,
            runs: runs_under(shape, width, cin),
            packed,
            bias: self.bias.as_deref(),
            activation,
        }
    }

    /// Computes the first `m` output pixels of an image in its frame.
    #[allow(clippy::too_many_arguments, reason = "private, and called twice")]
    fn product(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        shape: &ConvShape,
        images: &Images,
        rows: Rows,
        frame: &Frame,
        m: usize,
    ) {
        let ConvShape { cout, groups, .. } = *shape;
        let (gin, gout) = (frame.pixel() / groups, cout / groups);
        let runs = runs_under(shape, frame.width(), frame.pixel());
        for (group, packed) in self.packed.iter().enumerate() {
            let start = group * gout;
            let product = Product {
                rows: Rows { base: rows.base.wrapping_add(group * gin), ..rows },
                runs,
                b: packed.view(),
                bias: self.bias.as_deref().map(|b| &b[group * gout..][..gout]),
                residual: images.residual.map(|r| (r.wrapping_add(start), cout)),
                activation: images.activation,
                out: images.out.wrapping_add(start),
                out_stride: cout,
                next: None,
            };
            run_product(isa, pool, m, &product);
        }
    }
}

/// Where the elements under the kernel lie in an image whose lines have `width` pixels of `pixel` elements.
fn runs_under(shape: &ConvShape, width: usize, pixel: usize) -> Runs {
    runs(shape.kernel, shape.dilation, width, pixel, shape.groups)
}

/// Where one group's channels of `lines x columns` pixels, `dilation` apart, lie in an image whose lines have `width`
/// pixels.
pub(super) fn runs(
    [lines, columns]: [usize; 2],
    dilation: [usize; 2],
    width: usize,
    channels: usize,
    groups: usize,
) -> Runs {
    let outer_stride = dilation[0] * width * channels;
    if groups == 1 && dilation[1] == 1 {
        // The pixels of one line are adjacent.
        Runs { outer: lines, outer_stride, inner: 1, inner_stride: 0, len: columns * channels }
    } else {
        let inner_stride = dilation[1] * channels;
        Runs { outer: lines, outer_stride, inner: columns, inner_stride, len: channels / groups }
    }
}

/// Makes an image's output line by line and one vector of channels at a time: for a convolution that takes it up while
/// it is in the L1 cache.
pub(super) struct LineMaker<'a> {
    base: *const f32,
    /// From the input pixels of one output line to those of the next.
    line_stride: usize,
    pixel_stride: usize,
    runs: Runs,
    packed: PackedRef<'a>,
    bias: Option<&'a [f32]>,
    activation: Activation,
}

// SAFETY: the image is only read.
unsafe impl Sync for LineMaker<'_> {}

impl LineMaker<'_> {
    /// The kernel that writes the channels of vector `vector` of the first `pixels` pixels of line `y`, a vector for each, of
    /// which lanes beyond the channels mean nothing.
    /// # Safety
    /// `y` must be a line of the output and `pixels` at most its length, `vector` a vector of its channels, and `out`
    /// writable for the pixels while the kernel runs.
    pub(super) unsafe fn line(&self, vector: usize, y: usize, pixels: usize, out: *mut f32) -> Line {
        let (column, _) = self.packed.panels.get(vector);
        Line {
            first: self.base.wrapping_add(y * self.line_stride),
            stride: self.pixel_stride,
            runs: self.runs,
            // Narrow panels are always `f32`.
            panel: self.packed.data[4 * column * self.packed.k..].as_ptr().cast(),
            bias: self.bias.map(|bias| bias[column..].as_ptr()),
            columns: self.packed.isa.lanes().min(self.packed.n - column),
            activation: self.activation,
            rows: pixels,
            out,
        }
    }
}
