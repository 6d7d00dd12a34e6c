//! Convolution with one input channel per group, vectorised over channels.
//!
//! A task takes one vector of channels through a strip of output lines. It keeps the input lines under the kernel in
//! a ring of scratch lines: only this vector of channels, zeros at both ends. So the inner loops read adjacent
//! vectors from the L1 cache and know no borders. Several output columns are summed at a time in registers.
//!
//! With several outputs per input channel, their sums are computed from the same ring and interleaved when stored.

#![allow(clippy::needless_range_loop, reason = "loops with constant bounds over arrays that are to stay in registers")]

use super::{ConvShape, Images};
use crate::activation::ActivateRows;
use crate::aligned::{AlignedVec, aligned};
use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, MAX_LANES, Simd};

/// The most output columns summed at a time.
const COLUMNS: usize = 16;

#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    /// `[vectors of input channels][outputs per channel][kh][kw][lanes]`, zeros beyond the channels.
    weights: AlignedVec,
    /// One per output channel, zeros if there is none.
    bias: Vec<f32>,
    /// Output channels per input channel.
    multiplier: usize,
}

impl Depthwise {
    pub(super) fn new(isa: Isa, shape: &ConvShape, weights: &[f32], bias: Option<&[f32]>) -> Self {
        let (lanes, taps, multiplier) = (isa.lanes(), shape.kernel[0] * shape.kernel[1], shape.cout / shape.cin);
        let vectors = shape.cin.div_ceil(lanes);
        let mut packed = AlignedVec::zeroed(vectors * multiplier * taps * lanes);
        for (index, &weight) in weights.iter().enumerate() {
            let (cout, tap) = (index / taps, index % taps);
            let (cin, j) = (cout / multiplier, cout % multiplier);
            packed.as_mut_slice()[((cin / lanes * multiplier + j) * taps + tap) * lanes + cin % lanes] = weight;
        }
        Self { weights: packed, bias: bias.map_or_else(|| vec![0.0; shape.cout], <[f32]>::to_vec), multiplier }
    }

    /// Scratch values per participant: its ring.
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
        // Strips before channels: a thread takes the same part of the image through every operation.
        let wanted = (4 * threads).div_ceil(images.n * vectors).next_multiple_of(threads);
        let strips = if threads == 1 { 1 } else { wanted.min(images.oh) };
        pool.run_indexed(images.n * strips * vectors, &|participant, task| {
            let scratch = &scratch;
            let (image, strip, vector) = (task / vectors / strips, task / vectors % strips, task % vectors);
            isa.dispatch(Strip {
                depthwise: self,
                shape,
                images,
                image,
                vector,
                first_line: images.oh * strip / strips,
                end_line: images.oh * (strip + 1) / strips,
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
        match (self.shape.kernel[1], self.shape.stride[1], self.shape.dilation[1]) {
            (3, 1, 1) => self.lines::<S, 3, 1>(s),
            (3, 2, 1) => self.lines::<S, 3, 2>(s),
            (5, 1, 1) => self.lines::<S, 5, 1>(s),
            (5, 2, 1) => self.lines::<S, 5, 2>(s),
            (7, 1, 1) => self.lines::<S, 7, 1>(s),
            (7, 2, 1) => self.lines::<S, 7, 2>(s),
            _ => self.lines::<S, 0, 0>(s),
        }
    }
}

impl Strip<'_> {
    /// All lines of the strip. `K` and `STRIDE` are the kernel's width, without dilation, and horizontal stride, or
    /// both 0 if they are not known here.
    #[inline(always)]
    fn lines<S: Simd, const K: usize, const STRIDE: usize>(&self, s: S) {
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
                // Sixteen sums need more registers than some instruction sets have.
                x += if wanted > 8 && S::ACCUMULATORS >= 16 {
                    self.columns::<S, 16, K, STRIDE>(s, &ring, &line, x, wanted.min(16), live)
                } else if wanted > 4 {
                    self.columns::<S, 8, K, STRIDE>(s, &ring, &line, x, wanted.min(8), live)
                } else {
                    self.columns::<S, 4, K, STRIDE>(s, &ring, &line, x, wanted, live)
                };
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

    /// `wanted <= N` outputs from column `x` on. Returns `wanted`.
    #[inline(always)]
    fn columns<S: Simd, const N: usize, const K: usize, const STRIDE: usize>(
        &self,
        s: S,
        ring: &Ring,
        line: &Line,
        x: usize,
        wanted: usize,
        live: usize,
    ) -> usize {
        let multiplier = self.depthwise.multiplier;
        let cout = self.shape.cout;
        let mut even = [s.splat(0.0); N];
        for j in 0..multiplier {
            let sums = self.sums::<S, N, K, STRIDE>(s, ring, line, x, j);
            if multiplier == 2 && j == 0 {
                even = sums;
                continue;
            }
            for t in 0..N {
                if t >= wanted {
                    break;
                }
                let at = line.out + (x + t) * cout;
                if multiplier == 1 {
                    self.finish(s, sums[t], at, live);
                } else if multiplier == 2 {
                    let (low, high) = s.interleave(even[t], sums[t]);
                    self.finish(s, low, at, (2 * live).min(S::LANES));
                    if 2 * live > S::LANES {
                        self.finish(s, high, at + S::LANES, 2 * live - S::LANES);
                    }
                } else {
                    for (lane, &sum) in s.to_array(sums[t])[..live].iter().enumerate() {
                        self.finish(s, s.splat(sum), at + lane * multiplier + j, 1);
                    }
                }
            }
        }
        wanted
    }

    /// The sums of `N` columns for output `j` of each channel.
    #[inline(always)]
    fn sums<S: Simd, const N: usize, const K: usize, const STRIDE: usize>(
        &self,
        s: S,
        ring: &Ring,
        line: &Line,
        x: usize,
        j: usize,
    ) -> [S::F; N] {
        let ConvShape { kernel: [kh, kw], stride, dilation, .. } = *self.shape;
        let stride = if K == 0 { stride[1] } else { STRIDE };
        let mut sums = [s.splat(0.0); N];
        let mut slot = line.first_input % ring.lines;
        let filter = (self.vector * self.depthwise.multiplier + j) * kh * kw * S::LANES;
        for tap_line in line.first_tap..line.end_tap {
            // SAFETY: the slot is a line of the ring, which by its construction extends to the last column of the
            // last group; the weights hold kh * kw vectors per filter.
            unsafe {
                let input = self.ring.add(slot * ring.line_len + x * stride * S::LANES).cast_const();
                let weights = self.depthwise.weights.as_slice().as_ptr().add(filter + tap_line * kw * S::LANES);
                // With the width known the loop is unrolled and the distances are constants.
                let (taps, step) = if K == 0 { (kw, dilation[1] * S::LANES) } else { (K, S::LANES) };
                for tap in 0..taps {
                    let weight = s.load(weights.add(tap * S::LANES));
                    let input = input.add(tap * step);
                    for t in 0..N {
                        sums[t] = s.fma(s.load(input.add(t * stride * S::LANES)), weight, sums[t]);
                    }
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
