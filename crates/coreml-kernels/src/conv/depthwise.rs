//! Convolution with one input channel per group, vectorised over channels.
//!
//! A task takes one vector of channels through a strip of output lines. It keeps the input lines under the kernel in
//! a ring of scratch lines: only this vector of channels, zeros at both ends. So the inner loops read adjacent
//! vectors from the L1 cache and know no borders. Several output columns are summed at a time in registers.
//!
//! With several outputs per input channel, their sums are computed from the same ring and interleaved when stored.

use super::{ConvShape, Images};
use crate::activation::ActivateRows;
use crate::gemm::aligned;
use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, MAX_LANES, Simd};

/// Output columns summed at a time.
const COLUMNS: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    /// `[vectors of input channels][outputs per channel][kh][kw][lanes]`, zeros beyond the channels.
    weights: Vec<f32>,
    /// One per output channel, zeros if there is none.
    bias: Vec<f32>,
    /// Output channels per input channel.
    multiplier: usize,
}

impl Depthwise {
    pub(super) fn new(isa: Isa, shape: &ConvShape, weights: &[f32], bias: Option<&[f32]>) -> Self {
        let (lanes, taps, multiplier) = (isa.lanes(), shape.kernel[0] * shape.kernel[1], shape.cout / shape.cin);
        let vectors = shape.cin.div_ceil(lanes);
        let mut packed = vec![0.0; vectors * multiplier * taps * lanes];
        for (index, &weight) in weights.iter().enumerate() {
            let (cout, tap) = (index / taps, index % taps);
            let (cin, j) = (cout / multiplier, cout % multiplier);
            packed[((cin / lanes * multiplier + j) * taps + tap) * lanes + cin % lanes] = weight;
        }
        Self { weights: packed, bias: bias.map_or_else(|| vec![0.0; shape.cout], <[f32]>::to_vec), multiplier }
    }

    /// Scratch values per participant: the ring, and an output line's slack.
    pub(super) fn slot_len(&self, isa: Isa, shape: &ConvShape, w: usize) -> usize {
        let ring = Ring::new(shape, w, isa.lanes());
        (ring.lines * ring.line_len).next_multiple_of(MAX_LANES)
    }

    pub(super) fn run(&self, isa: Isa, pool: &ThreadPool, shape: &ConvShape, images: &Images, scratch: &mut [f32]) {
        struct Scratch(*mut f32);
        // SAFETY: participants use disjoint parts.
        unsafe impl Sync for Scratch {}
        let slot = self.slot_len(isa, shape, images.w);
        let scratch = aligned(scratch);
        assert!(scratch.len() >= slot * pool.threads(), "scratch too short");
        let scratch = Scratch(scratch.as_mut_ptr());
        let vectors = shape.cin.div_ceil(isa.lanes());
        let threads = pool.threads();
        let jobs = images.n * vectors;
        let strips = if threads == 1 || jobs >= 4 * threads { 1 } else { (4 * threads).div_ceil(jobs).min(images.oh) };
        let strip = images.oh.div_ceil(strips);
        let strips = images.oh.div_ceil(strip);
        pool.run_indexed(jobs * strips, &|participant, task| {
            let scratch = &scratch;
            let (image, vector) = (task / strips / vectors, task / strips % vectors);
            let first = task % strips * strip;
            isa.dispatch(Strip {
                depthwise: self,
                shape,
                images,
                image,
                vector,
                first_line: first,
                end_line: images.oh.min(first + strip),
                ring: scratch.0.wrapping_add(participant * slot),
            });
        });
    }
}

/// The sizes of the ring of input lines.
struct Ring {
    lines: usize,
    /// Values per line.
    line_len: usize,
}

impl Ring {
    fn new(shape: &ConvShape, w: usize, lanes: usize) -> Self {
        let (_, ow) = shape.out_size(1 + (shape.kernel[0] - 1) * shape.dilation[0], w);
        // As far as the last group of columns reads, wanted or not.
        let columns = ow.next_multiple_of(COLUMNS).max(1);
        let pixels = (columns - 1) * shape.stride[1] + (shape.kernel[1] - 1) * shape.dilation[1] + 1;
        Self { lines: (shape.kernel[0] - 1) * shape.dilation[0] + 1, line_len: pixels * lanes }
    }
}

struct Strip<'a> {
    depthwise: &'a Depthwise,
    shape: &'a ConvShape,
    images: &'a Images,
    image: usize,
    vector: usize,
    first_line: usize,
    end_line: usize,
    ring: *mut f32,
}

impl Kernel for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.shape.stride[1] {
            1 => self.lines::<S, 1>(s),
            2 => self.lines::<S, 2>(s),
            _ => self.lines::<S, 0>(s),
        }
    }
}

impl Strip<'_> {
    /// All lines of the strip. `STRIDE` is the horizontal stride, or 0 if it is not known here.
    #[inline(always)]
    fn lines<S: Simd, const STRIDE: usize>(&self, s: S) {
        let Images { h, w, ow, .. } = *self.images;
        let ConvShape { cin, cout, kernel, stride, dilation, pad, .. } = *self.shape;
        let ring = Ring::new(self.shape, w, S::LANES);
        let channel = self.vector * S::LANES;
        let live = S::LANES.min(cin - channel);
        let input = self.images.input.wrapping_add(self.image * h * w * cin + channel);
        let multiplier = self.depthwise.multiplier;
        // SAFETY: `ring` points to `ring.lines * ring.line_len` values of this participant.
        unsafe { self.ring.write_bytes(0, ring.lines * ring.line_len) };
        let copied = w.min((ring.line_len / S::LANES).saturating_sub(pad[2]));
        let mut next = (self.first_line * stride[0]).saturating_sub(pad[0]);
        for y in self.first_line..self.end_line {
            let top = y * stride[0];
            // Kernel lines that fall on the image: top + line * dilation - pad in 0..h.
            let first_tap = pad[0].saturating_sub(top).div_ceil(dilation[0]).min(kernel[0]);
            let end_tap = (h + pad[0]).saturating_sub(top).div_ceil(dilation[0]).min(kernel[0]).max(first_tap);
            let end = if end_tap == first_tap { 0 } else { top + (end_tap - 1) * dilation[0] + 1 - pad[0] };
            while next < end {
                let line = self.ring.wrapping_add(next % ring.lines * ring.line_len + pad[2] * S::LANES);
                // SAFETY: next < h, so the line is in the image; `copied` pixels fit in the ring line after the pad.
                unsafe { copy_line(s, input.add(next * w * cin), cin, live, copied, line) };
                next += 1;
            }
            let line = Line {
                first_tap,
                end_tap,
                first_input: top + first_tap * dilation[0] - pad[0].min(top + first_tap * dilation[0]),
                out: ((self.image * self.images.oh + y) * ow) * cout + channel * multiplier,
            };
            let mut x = 0;
            while x < ow {
                let wanted = ow - x;
                match wanted {
                    1 => self.columns::<S, 1, STRIDE>(s, &ring, &line, x, 1, live),
                    2 => self.columns::<S, 2, STRIDE>(s, &ring, &line, x, 2, live),
                    3..=4 => self.columns::<S, 4, STRIDE>(s, &ring, &line, x, wanted, live),
                    _ => self.columns::<S, COLUMNS, STRIDE>(s, &ring, &line, x, wanted.min(COLUMNS), live),
                }
                x += COLUMNS;
            }
            if self.images.activation.as_clip().is_none() {
                s.call(ActivateRows {
                    activation: self.images.activation,
                    data: self.images.out.wrapping_add(line.out),
                    rows: ow,
                    cols: live * multiplier,
                    stride: cout,
                });
            }
        }
    }

    /// `wanted <= N` outputs from column `x` on.
    #[inline(always)]
    fn columns<S: Simd, const N: usize, const STRIDE: usize>(
        &self,
        s: S,
        ring: &Ring,
        line: &Line,
        x: usize,
        wanted: usize,
        live: usize,
    ) {
        let multiplier = self.depthwise.multiplier;
        let cout = self.shape.cout;
        match multiplier {
            1 => {
                let sums = self.sums::<S, N, STRIDE>(s, ring, line, x, 0);
                for t in 0..N {
                    if t < wanted {
                        self.finish(s, sums[t], line.out + (x + t) * cout, live);
                    }
                }
            }
            2 => {
                let even = self.sums::<S, N, STRIDE>(s, ring, line, x, 0);
                let odd = self.sums::<S, N, STRIDE>(s, ring, line, x, 1);
                for t in 0..N {
                    if t < wanted {
                        let (low, high) = s.interleave(even[t], odd[t]);
                        let at = line.out + (x + t) * cout;
                        self.finish(s, low, at, (2 * live).min(S::LANES));
                        if 2 * live > S::LANES {
                            self.finish(s, high, at + S::LANES, 2 * live - S::LANES);
                        }
                    }
                }
            }
            _ => {
                for j in 0..multiplier {
                    let sums = self.sums::<S, N, STRIDE>(s, ring, line, x, j);
                    for t in 0..N {
                        if t < wanted {
                            let lanes = s.to_array(sums[t]);
                            for (lane, &sum) in lanes[..live].iter().enumerate() {
                                let at = line.out + (x + t) * cout + lane * multiplier + j;
                                self.finish(s, s.splat(sum), at, 1);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The sums of `N` columns for output `j` of each channel.
    #[inline(always)]
    fn sums<S: Simd, const N: usize, const STRIDE: usize>(
        &self,
        s: S,
        ring: &Ring,
        line: &Line,
        x: usize,
        j: usize,
    ) -> [S::F; N] {
        let ConvShape { kernel: [kh, kw], stride, dilation, .. } = *self.shape;
        let stride = if STRIDE == 0 { stride[1] } else { STRIDE };
        let mut sums = [s.splat(0.0); N];
        let mut slot = line.first_input % ring.lines;
        let filter = (self.vector * self.depthwise.multiplier + j) * kh * kw * S::LANES;
        for tap_line in line.first_tap..line.end_tap {
            // SAFETY: the slot is a line of the ring, which by its construction extends to the last column of the
            // last group; the weights hold kh * kw vectors per filter.
            unsafe {
                let mut input = self.ring.add(slot * ring.line_len + x * stride * S::LANES).cast_const();
                let mut weights = self.depthwise.weights.as_ptr().add(filter + tap_line * kw * S::LANES);
                for _ in 0..kw {
                    let weight = s.load(weights);
                    for t in 0..N {
                        sums[t] = s.fma(s.load(input.add(t * stride * S::LANES)), weight, sums[t]);
                    }
                    weights = weights.add(S::LANES);
                    input = input.add(dilation[1] * S::LANES);
                }
            }
            slot += dilation[0];
            while slot >= ring.lines {
                slot -= ring.lines;
            }
        }
        sums
    }

    /// Adds bias and residual, limits, and stores the first `n` lanes `at` values into the output.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, sum: S::F, at: usize, n: usize) {
        let bias = &self.depthwise.bias;
        let channel = at % self.shape.cout;
        // SAFETY: the `n` values from `at` are channels of one output pixel, so bias, residual and output hold them.
        unsafe {
            let mut y = s.add(sum, s.load_partial(bias.as_ptr().add(channel), n));
            if let Some(residual) = self.images.residual {
                y = s.add(y, s.load_partial(residual.add(at), n));
            }
            if let Some((lo, hi)) = self.images.activation.as_clip() {
                y = s.min(s.splat(hi), s.max(s.splat(lo), y));
            }
            s.store_partial(self.images.out.add(at), n, y);
        }
    }
}

/// An output line: which kernel lines fall on the image and where.
struct Line {
    first_tap: usize,
    end_tap: usize,
    /// Image line under `first_tap`.
    first_input: usize,
    /// Offset of the line's first value of this vector in the output.
    out: usize,
}

/// Copies the first `live` channels of `pixels` pixels that start `stride` apart to adjacent vectors.
/// # Safety
/// `from` must be readable for the pixels, `to` writable for as many vectors.
#[inline(always)]
unsafe fn copy_line<S: Simd>(s: S, from: *const f32, stride: usize, live: usize, pixels: usize, to: *mut f32) {
    for x in 0..pixels {
        // SAFETY: as the caller vouches.
        unsafe {
            let p = from.add(x * stride);
            let v = if live == S::LANES { s.load(p) } else { s.load_partial(p, live) };
            s.store(to.add(x * S::LANES), v);
        }
    }
}
