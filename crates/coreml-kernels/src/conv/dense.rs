//! Dense and grouped convolution as a matrix product over the image in place.

use super::{ConvShape, Images};
use crate::activation::Activation;
use crate::gemm::line::Line;
use crate::gemm::tile::{Product, Rows, Runs};
use crate::gemm::{PackedB, PackedRef, run_product};
use crate::parallel::ThreadPool;
use crate::simd::Isa;

#[derive(Clone, Debug)]
pub(super) struct Dense {
    /// One `[kh * kw * cin / groups, cout / groups]` matrix per group.
    packed: Vec<PackedB>,
    bias: Option<Vec<f32>>,
}

impl Dense {
    pub(super) fn new(isa: Isa, shape: &ConvShape, weights: &[f32], bias: Option<&[f32]>) -> Self {
        let ConvShape { cin, cout, kernel: [kh, kw], groups, .. } = *shape;
        let (gin, gout, taps) = (cin / groups, cout / groups, kh * kw);
        let packed = (0..groups)
            .map(|group| {
                PackedB::pack(isa, taps * gin, gout, |k, n| {
                    let (tap, c) = (k / gin, k % gin);
                    weights[((group * gout + n) * gin + c) * taps + tap]
                })
            })
            .collect();
        Self { packed, bias: bias.map(<[f32]>::to_vec) }
    }

    /// The image in its frame of zeros, if it has one.
    pub(super) fn scratch_len(&self, shape: &ConvShape, h: usize, w: usize) -> usize {
        let [top, bottom, left, right] = shape.pad;
        if shape.pad == [0; 4] { 0 } else { (h + top + bottom) * (w + left + right) * shape.cin }
    }

    pub(super) fn run(&self, isa: Isa, pool: &ThreadPool, shape: &ConvShape, images: &Images, scratch: &mut [f32]) {
        let ConvShape { cin, cout, kernel, stride, pad, .. } = *shape;
        let Images { n, h, w, oh, ow, .. } = *images;
        if kernel == [1, 1] && stride == [1, 1] && pad == [0; 4] {
            // Every pixel is a row, so the whole batch is one matrix.
            let rows = Rows { base: images.input, per_line: usize::MAX, line_stride: 0, stride: cin };
            return self.product(isa, pool, shape, images, rows, w, n * h * w, 0);
        }
        for image in 0..n {
            let input = images.input.wrapping_add(image * h * w * cin);
            let (base, width) = if pad == [0; 4] {
                (input, w)
            } else {
                frame(pool, shape, h, w, input, scratch);
                (scratch.as_ptr(), w + pad[2] + pad[3])
            };
            let rows = Rows { base, per_line: ow, line_stride: stride[0] * width * cin, stride: stride[1] * cin };
            self.product(isa, pool, shape, images, rows, width, oh * ow, image * oh * ow * cout);
        }
    }

    /// The weights in panels of one vector, for [`Dense::line_maker`]; `None` with several groups.
    pub(super) fn narrow(&self) -> Option<Self> {
        let [packed] = &self.packed[..] else { return None };
        Some(Self { packed: vec![packed.narrow()], bias: self.bias.clone() })
    }

    /// For the image at `input`, which is copied into its frame of zeros in `scratch` if it has one.
    #[allow(clippy::too_many_arguments, reason = "an image and what is done to it")]
    pub(super) fn line_maker<'a>(
        &'a self,
        pool: &ThreadPool,
        shape: &ConvShape,
        activation: Activation,
        h: usize,
        w: usize,
        input: *const f32,
        scratch: &'a mut [f32],
    ) -> LineMaker<'a> {
        let ConvShape { cin, stride, pad, .. } = *shape;
        let (base, width) = if pad == [0; 4] {
            (input, w)
        } else {
            frame(pool, shape, h, w, input, scratch);
            (scratch.as_ptr(), w + pad[2] + pad[3])
        };
        LineMaker {
            base,
            line_stride: stride[0] * width * cin,
            pixel_stride: stride[1] * cin,
            runs: runs(shape, width),
            packed: self.packed[0].view(),
            bias: self.bias.as_deref(),
            activation,
        }
    }

    /// Computes `m` output pixels that start `out_offset` into the output; the image's lines have `width` pixels.
    #[allow(clippy::too_many_arguments, reason = "private, and called twice")]
    fn product(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        shape: &ConvShape,
        images: &Images,
        rows: Rows,
        width: usize,
        m: usize,
        out_offset: usize,
    ) {
        let ConvShape { cin, cout, groups, .. } = *shape;
        let (gin, gout) = (cin / groups, cout / groups);
        let runs = runs(shape, width);
        for (group, packed) in self.packed.iter().enumerate() {
            let start = out_offset + group * gout;
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

/// Where the values under the kernel lie in an image whose lines have `width` pixels.
fn runs(shape: &ConvShape, width: usize) -> Runs {
    let ConvShape { cin, kernel: [kh, kw], dilation, groups, .. } = *shape;
    let outer_stride = dilation[0] * width * cin;
    if groups == 1 && dilation[1] == 1 {
        // The values under one kernel row are adjacent.
        Runs { outer: kh, outer_stride, inner: 1, inner_stride: 0, len: kw * cin }
    } else {
        Runs { outer: kh, outer_stride, inner: kw, inner_stride: dilation[1] * cin, len: cin / groups }
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
            panel: self.packed.data[column * self.packed.k..].as_ptr(),
            bias: self.bias.map(|bias| bias[column..].as_ptr()),
            columns: self.packed.isa.lanes().min(self.packed.n - column),
            activation: self.activation,
            rows: pixels,
            out,
        }
    }
}

/// Copies an image into `framed` with the padding as zeros around it.
pub(super) fn frame(pool: &ThreadPool, shape: &ConvShape, h: usize, w: usize, input: *const f32, framed: &mut [f32]) {
    struct Ends(*const f32, *mut f32);
    // SAFETY: the input is only read, and every task writes its own lines.
    unsafe impl Sync for Ends {}
    let [top, bottom, left, right] = shape.pad;
    let (lines, width) = (h + top + bottom, w + left + right);
    assert!(framed.len() >= lines * width * shape.cin, "scratch too short");
    let ends = Ends(input, framed.as_mut_ptr());
    let chunk = if pool.threads() == 1 { lines } else { lines.div_ceil(2 * pool.threads()) }.max(1);
    pool.run(lines.div_ceil(chunk), &|task| {
        let Ends(input, framed) = &ends;
        let line_len = width * shape.cin;
        for line in task * chunk..lines.min((task + 1) * chunk) {
            // SAFETY: `framed` has `lines` lines by the assertion above, and this task alone has this one.
            let out = unsafe { std::slice::from_raw_parts_mut(framed.add(line * line_len), line_len) };
            let Some(y) = line.checked_sub(top).filter(|&y| y < h) else {
                out.fill(0.0);
                continue;
            };
            // SAFETY: the input was checked to hold an `h x w` image, and y < h.
            let pixels = unsafe { std::slice::from_raw_parts(input.add(y * w * shape.cin), w * shape.cin) };
            out[..left * shape.cin].fill(0.0);
            out[left * shape.cin..][..pixels.len()].copy_from_slice(pixels);
            out[(left + w) * shape.cin..].fill(0.0);
        }
    });
}
