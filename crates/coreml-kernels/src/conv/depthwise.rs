//! Convolution with one input channel per group, vectorised over channels.
//!
//! A task takes a few neighbouring vectors of channels at a time through a strip of output lines; neighbours share the
//! memory pages they touch. For each vector it keeps the input lines under the kernel in a ring of scratch lines, which
//! hold only this vector of channels, with zeros at both ends. The lines are copied from an image, or computed by the
//! preceding convolution, whose output then never leaves the L1 cache. So the inner loops read adjacent vectors from the
//! L1 cache and need no border checks. Several output columns are summed at a time in registers.
//!
//! With several outputs per input channel, their sums are computed from the same ring and interleaved when stored.

#![allow(clippy::needless_range_loop, reason = "loops with constant bounds over arrays that are to stay in registers")]

use std::ops::Range;

use super::ConvShape;
use super::dense::LineMaker;
use super::images::Images;
use crate::activation::ActivateRows;
use crate::aligned::{AlignedVec, aligned};
use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, MAX_LANES, Simd};

/// The most output columns summed at a time.
const COLUMNS: usize = 8;

/// Vectors of a line under the kernels of as many columns, for the widest kernel and stride that are unrolled.
const WINDOW: usize = (COLUMNS - 1) * 2 + 7;

/// Values of all rings together: half of a 48 KiB first-level cache.
const RINGS_VALUES: usize = 6 * 1024;

/// Values of an image that a 2 MiB second-level cache does not hold.
const FAR_VALUES: usize = 1 << 19;

/// Vectors of channels that go through lines together that are made, where the output is far away.
const MADE_AT_A_TIME: usize = 4;

/// The most vectors of channels that go through the lines of an image together.
const MOST_AT_A_TIME: usize = 8;

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

    /// Scratch values per participant: its rings.
    pub(super) fn slot_len(&self, isa: Isa, shape: &ConvShape, w: usize) -> usize {
        let ring = Ring::new(shape, w, isa.lanes());
        (ring.len() * ring.most_at_a_time()).next_multiple_of(MAX_LANES)
    }

    /// Convolves what `source` gives; `images.input` is read if that is [`Source::Image`].
    pub(super) fn run(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        shape: &ConvShape,
        images: &Images,
        source: &Source<'_>,
        scratch: &mut [f32],
    ) {
        struct Scratch(*mut f32);
        // SAFETY: participants use disjoint parts.
        unsafe impl Sync for Scratch {}
        let slot = self.slot_len(isa, shape, images.w);
        let scratch = aligned(scratch);
        assert!(scratch.len() >= slot * pool.threads(), "scratch too short");
        let scratch = Scratch(scratch.as_mut_ptr());
        let vectors = shape.cin.div_ceil(isa.lanes());
        let threads = pool.threads();
        let (strips, groups) = parts(shape, images, source, vectors, threads);
        pool.run_indexed(images.n * strips * groups, &|participant, task| {
            let scratch = &scratch;
            let (image, strip, group) = (task / groups / strips, task / groups % strips, task % groups);
            isa.dispatch(Strip {
                depthwise: self,
                shape,
                images,
                source,
                image,
                vectors: vectors * group / groups..vectors * (group + 1) / groups,
                first_line: images.oh * strip / strips,
                end_line: images.oh * (strip + 1) / strips,
                rings: scratch.0.wrapping_add(participant * slot),
            });
        });
    }
}

/// Where the lines of the ring come from.
pub(super) enum Source<'a> {
    /// They are lines of the input.
    Image,
    /// They are made; there is one image.
    Made(&'a LineMaker<'a>),
}

/// Into how many strips of lines and groups of vectors each image is cut.
fn parts(shape: &ConvShape, images: &Images, source: &Source<'_>, vectors: usize, threads: usize) -> (usize, usize) {
    if threads == 1 {
        return (1, 1);
    }
    // Threads share the lines, so that each takes the same part of the image through every operation, unless both
    // would have to make too many of the lines where the parts meet.
    let met = (threads - 1) * ((shape.kernel[0] - 1) * shape.dilation[0] + 1).saturating_sub(shape.stride[0]);
    if matches!(source, Source::Made(_)) && 8 * met > images.h && vectors >= threads {
        return (1, vectors.min(4 * threads));
    }
    (threads.min(images.oh), vectors.min(4))
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

    fn len(&self) -> usize {
        self.lines * self.line_len
    }

    /// The most vectors of channels that go through the lines together.
    fn most_at_a_time(&self) -> usize {
        self.image_at_a_time().max(MADE_AT_A_TIME)
    }

    /// As many as their rings leave room for.
    fn image_at_a_time(&self) -> usize {
        (RINGS_VALUES / self.len()).clamp(1, MOST_AT_A_TIME)
    }

    /// Vectors of channels that go through the lines together.
    fn at_a_time(&self, source: &Source<'_>, images: &Images) -> usize {
        match source {
            Source::Image => self.image_at_a_time(),
            // What the lines are made of takes the room, but where the output is written to a farther cache it is better
            // written in longer pieces.
            Source::Made(_) => {
                if images.lens[1] >= FAR_VALUES {
                    MADE_AT_A_TIME
                } else {
                    1
                }
            }
        }
    }
}

struct Strip<'a> {
    depthwise: &'a Depthwise,
    shape: &'a ConvShape,
    images: &'a Images,
    source: &'a Source<'a>,
    image: usize,
    vectors: Range<usize>,
    first_line: usize,
    end_line: usize,
    /// One for each of the vectors that go together.
    rings: *mut f32,
}

impl Kernel for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ring = Ring::new(self.shape, self.images.w, S::LANES);
        let mut first = self.vectors.start;
        let together = ring.at_a_time(self.source, self.images);
        while first < self.vectors.end {
            let end = self.vectors.end.min(first + together);
            match (self.shape.kernel[1], self.shape.stride[1], self.shape.dilation[1]) {
                (3, 1, 1) => self.lines::<S, 3, 1>(s, &ring, first..end),
                (3, 2, 1) => self.lines::<S, 3, 2>(s, &ring, first..end),
                (5, 1, 1) => self.lines::<S, 5, 1>(s, &ring, first..end),
                (5, 2, 1) => self.lines::<S, 5, 2>(s, &ring, first..end),
                (7, 1, 1) => self.lines::<S, 7, 1>(s, &ring, first..end),
                (7, 2, 1) => self.lines::<S, 7, 2>(s, &ring, first..end),
                _ => self.lines::<S, 0, 0>(s, &ring, first..end),
            }
            first = end;
        }
    }
}

impl Strip<'_> {
    /// The ring of vector `vector`, of those from `first` on that go together.
    #[inline(always)]
    fn ring_of(&self, ring: &Ring, first: usize, vector: usize) -> *mut f32 {
        self.rings.wrapping_add((vector - first) * ring.len())
    }

    /// All lines of some vectors of channels. `K` and `STRIDE` are the kernel's width, without dilation, and horizontal
    /// stride, or both 0 if they are not known here.
    #[inline(always)]
    fn lines<S: Simd, const K: usize, const STRIDE: usize>(&self, s: S, ring: &Ring, vectors: Range<usize>) {
        let Images { h, .. } = *self.images;
        let ConvShape { kernel, stride, dilation, pad, .. } = *self.shape;
        // SAFETY: `rings` points to a ring for each of the vectors of this participant.
        unsafe { self.rings.write_bytes(0, vectors.len() * ring.len()) };
        let mut next = (self.first_line * stride[0]).saturating_sub(pad[0]);
        for y in self.first_line..self.end_line {
            let top = y * stride[0];
            // Kernel lines that fall on the image: top + line * dilation - pad in 0..h.
            let first_tap = pad[0].saturating_sub(top).div_ceil(dilation[0]).min(kernel[0]);
            let end_tap = (h + pad[0]).saturating_sub(top).div_ceil(dilation[0]).min(kernel[0]).max(first_tap);
            let end = if end_tap == first_tap { 0 } else { top + (end_tap - 1) * dilation[0] + 1 - pad[0] };
            while next < end {
                for vector in vectors.clone() {
                    self.fetch(s, ring, self.ring_of(ring, vectors.start, vector), vector, next);
                }
                next += 1;
            }
            let first_input = top + first_tap * dilation[0] - pad[0].min(top + first_tap * dilation[0]);
            for vector in vectors.clone() {
                let line = Line {
                    first_tap,
                    end_tap,
                    first_slot: first_input % ring.lines,
                    out: self.out(y, vector * S::LANES),
                    vector,
                    ring: self.ring_of(ring, vectors.start, vector),
                };
                self.line::<S, K, STRIDE>(s, ring, &line);
            }
        }
    }

    /// Where the outputs of channel `channel` of line `y` begin.
    fn out(&self, y: usize, channel: usize) -> usize {
        let Images { oh, ow, .. } = *self.images;
        (self.image * oh + y) * ow * self.shape.cout + channel * self.depthwise.multiplier
    }

    /// Brings line `y` of the input into its place in the ring at `to`.
    #[inline(always)]
    fn fetch<S: Simd>(&self, s: S, ring: &Ring, to: *mut f32, vector: usize, y: usize) {
        let Images { input, h, w, .. } = *self.images;
        let ConvShape { cin, pad, .. } = *self.shape;
        let live = S::LANES.min(cin - vector * S::LANES);
        let pixels = w.min((ring.line_len / S::LANES).saturating_sub(pad[2]));
        let to = to.wrapping_add(y % ring.lines * ring.line_len + pad[2] * S::LANES);
        // SAFETY: the line is in the image; as many pixels fit in the ring's line after the padding.
        unsafe {
            match self.source {
                Source::Image => {
                    copy_line(s, input.add((self.image * h + y) * w * cin + vector * S::LANES), cin, live, pixels, to)
                }
                Source::Made(maker) => s.call(maker.line(vector, y, pixels, to)),
            }
        }
    }

    /// The outputs of one line and vector.
    #[inline(always)]
    fn line<S: Simd, const K: usize, const STRIDE: usize>(&self, s: S, ring: &Ring, line: &Line) {
        let Images { ow, .. } = *self.images;
        let ConvShape { cin, cout, .. } = *self.shape;
        let live = S::LANES.min(cin - line.vector * S::LANES);
        let mut x = 0;
        while x < ow {
            let wanted = ow - x;
            x += if wanted > 4 && S::ACCUMULATORS >= 16 {
                self.columns::<S, 8, K, STRIDE>(s, ring, line, x, wanted.min(8), live)
            } else {
                self.columns::<S, 4, K, STRIDE>(s, ring, line, x, wanted.min(4), live)
            };
        }
        if self.images.activation.as_clip().is_none() {
            s.call(ActivateRows {
                activation: self.images.activation,
                data: self.images.out.wrapping_add(line.out),
                rows: ow,
                cols: live * self.depthwise.multiplier,
                stride: cout,
            });
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
        let channel = line.vector * S::LANES * multiplier;
        if multiplier == 1 {
            let sums = self.sums::<S, N, K, STRIDE>(s, ring, line, x, 0);
            self.finish_all(s, sums, self.bias(s, channel, live), line.out + x * cout, wanted, live);
        } else if multiplier == 2 {
            let low = (2 * live).min(S::LANES);
            let high = 2 * live - low;
            let biases = (self.bias(s, channel, low), self.bias(s, channel + low, high));
            let even = self.sums::<S, N, K, STRIDE>(s, ring, line, x, 0);
            let odd = self.sums::<S, N, K, STRIDE>(s, ring, line, x, 1);
            let (mut first, mut second) = (even, odd);
            for t in 0..N {
                (first[t], second[t]) = s.interleave(even[t], odd[t]);
            }
            let at = line.out + x * cout;
            self.finish_all(s, first, biases.0, at, wanted, low);
            self.finish_all(s, second, biases.1, at + low, wanted, high);
        } else {
            for j in 0..multiplier {
                // Apart from the sums, which stay in registers only while every index into them is known.
                let mut lanes = [[0.0; MAX_LANES]; N];
                let sums = self.sums::<S, N, K, STRIDE>(s, ring, line, x, j);
                for t in 0..N {
                    lanes[t] = s.to_array(sums[t]);
                }
                for (t, lanes) in lanes[..wanted].iter().enumerate() {
                    let at = line.out + (x + t) * cout;
                    for (lane, &sum) in lanes[..live].iter().enumerate() {
                        let at = at + lane * multiplier + j;
                        let bias = self.bias(s, channel + lane * multiplier + j, 1);
                        self.finish_all(s, [s.splat(sum)], bias, at, 1, 1);
                    }
                }
            }
        }
        wanted
    }

    /// The biases of `n` output channels.
    #[inline(always)]
    fn bias<S: Simd>(&self, s: S, channel: usize, n: usize) -> S::F {
        let bias = &self.depthwise.bias[channel..channel + n];
        // SAFETY: the slice holds the `n` values.
        unsafe { s.load_partial(bias.as_ptr(), n) }
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
        let mut slot = line.first_slot;
        let filter = (line.vector * self.depthwise.multiplier + j) * kh * kw * S::LANES;
        for tap_line in line.first_tap..line.end_tap {
            // SAFETY: the slot is a line of the ring, which by its construction extends to the last column of the
            // last group; the weights hold kh * kw vectors per filter.
            unsafe {
                let input = line.ring.add(slot * ring.line_len + x * stride * S::LANES).cast_const();
                let weights = self.depthwise.weights.as_slice().as_ptr().add(filter + tap_line * kw * S::LANES);
                if K == 0 {
                    for tap in 0..kw {
                        let weight = s.load(weights.add(tap * S::LANES));
                        let input = input.add(tap * dilation[1] * S::LANES);
                        for t in 0..N {
                            sums[t] = s.fma(s.load(input.add(t * stride * S::LANES)), weight, sums[t]);
                        }
                    }
                } else {
                    // All that the columns read of this line, once: in registers, as the sums are.
                    let mut window = [s.splat(0.0); WINDOW];
                    for i in 0..(N - 1) * STRIDE + K {
                        window[i] = s.load(input.add(i * S::LANES));
                    }
                    for tap in 0..K {
                        let weight = s.load(weights.add(tap * S::LANES));
                        for t in 0..N {
                            sums[t] = s.fma(window[t * STRIDE + tap], weight, sums[t]);
                        }
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

    /// Adds bias and residual to the sums of successive pixels, limits them, and stores the first `n` lanes of the `wanted`
    /// first, from `at` in the output on.
    #[inline(always)]
    fn finish_all<S: Simd, const N: usize>(
        &self,
        s: S,
        sums: [S::F; N],
        bias: S::F,
        at: usize,
        wanted: usize,
        n: usize,
    ) {
        let Images { residual, activation, out, .. } = *self.images;
        let cout = self.shape.cout;
        let full = wanted == N && n == S::LANES;
        let mut y = sums;
        for t in 0..N {
            y[t] = s.add(y[t], bias);
        }
        // SAFETY: the `n` values from `at` on are channels of one output pixel, and `wanted` pixels lie `cout` apart, so
        // residual and output hold them.
        unsafe {
            if let Some(residual) = residual {
                for t in 0..N {
                    if t < wanted {
                        y[t] = s.add(y[t], s.load_partial(residual.wrapping_add(at + t * cout), n));
                    }
                }
            }
            if let Some((lo, hi)) = activation.as_clip() {
                for t in 0..N {
                    y[t] = s.min(s.splat(hi), s.max(s.splat(lo), y[t]));
                }
            }
            for t in 0..N {
                let p = out.wrapping_add(at + t * cout);
                if full {
                    s.store(p, y[t]);
                } else if t < wanted {
                    s.store_partial(p, n, y[t]);
                }
            }
        }
    }
}

/// An output line: which kernel lines fall on the image and where.
struct Line {
    first_tap: usize,
    end_tap: usize,
    /// Line of the ring under `first_tap`.
    first_slot: usize,
    /// Offset of the line's first value of this vector in the output.
    out: usize,
    vector: usize,
    ring: *mut f32,
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
