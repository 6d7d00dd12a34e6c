//! Convolutions of channels-first images over one to three spatial axes, with unpacked weights: for weights that are
//! computed at run time, and for three axes. Its slow twins are [`crate::reference::conv`] and
//! [`crate::reference::conv_transpose`].
//!
//! * If a group has several output channels, the values under the kernel are gathered as the rows of a matrix, for as
//!   many positions as fit the cache, and multiplied by the weights in place.
//! * If it has few, and for the transpose, lines of the image times one weight are added to lines of the output.

use std::ops::Range;

use crate::gemm::{Part, part_scratch_len};
use crate::parallel::ThreadPool;
use crate::reference::ConvParams;
use crate::simd::{Isa, Kernel, Simd};

const AXES: usize = 3;
/// With fewer output channels than this in a group, packing the gathered values takes longer than the product.
const FEW_CHANNELS: usize = 4;
/// Gathered values at a time: half of a small L2 cache.
const GATHERED: usize = 48 * 1024;
/// Positions at a time: multiples of this, so that panels are full.
const POSITIONS_UNIT: usize = 96;

/// The sizes of a convolution or of its transpose, with three spatial axes of which the first may be 1.
#[derive(Clone, Copy, Debug)]
pub struct GeneralConv {
    batch: usize,
    groups: usize,
    /// Channels in a group.
    cin: usize,
    cout: usize,
    input: [usize; AXES],
    output: [usize; AXES],
    kernel: [usize; AXES],
    stride: [usize; AXES],
    dilation: [usize; AXES],
    pad: [usize; AXES],
    transposed: bool,
}

fn three(sizes: &[usize]) -> [usize; AXES] {
    let mut all = [1; AXES];
    all[AXES - sizes.len()..].copy_from_slice(sizes);
    all
}

fn volume(sizes: [usize; AXES]) -> usize {
    sizes.iter().product()
}

impl GeneralConv {
    /// The convolution of `x` `[n, c, spatial…]` with `w` `[o, c / groups, kernel…]` into `[n, o, spatial…]`.
    ///
    /// # Panics
    /// If the dimensions are not of three to five axes.
    pub fn new(xdims: &[usize], wdims: &[usize], odims: &[usize], params: &ConvParams<'_>) -> Self {
        Self::of(xdims, wdims, odims, params, false)
    }

    /// The transpose: `w` is `[c, o / groups, kernel…]`.
    ///
    /// # Panics
    /// If the dimensions are not of three to five axes.
    pub fn transposed(xdims: &[usize], wdims: &[usize], odims: &[usize], params: &ConvParams<'_>) -> Self {
        Self::of(xdims, wdims, odims, params, true)
    }

    fn of(xdims: &[usize], wdims: &[usize], odims: &[usize], params: &ConvParams<'_>, transposed: bool) -> Self {
        let mut pad = [0; AXES];
        pad[AXES - params.pads_begin.len()..].copy_from_slice(params.pads_begin);
        Self {
            batch: xdims[0],
            groups: params.groups,
            cin: xdims[1] / params.groups,
            cout: odims[1] / params.groups,
            input: three(&xdims[2..]),
            output: three(&odims[2..]),
            kernel: three(&wdims[2..]),
            stride: three(params.strides),
            dilation: three(params.dilations),
            pad,
            transposed,
        }
    }

    /// Values under the kernel.
    fn depth(&self) -> usize {
        self.cin * volume(self.kernel)
    }

    fn adds_lines(&self) -> bool {
        self.transposed || self.cout < FEW_CHANNELS || self.depth() == 0
    }

    /// Positions of the output whose values are gathered at a time.
    fn positions(&self) -> usize {
        let fitting = (GATHERED / self.depth().max(1)).max(POSITIONS_UNIT) / POSITIONS_UNIT * POSITIONS_UNIT;
        fitting.min(volume(self.output)).max(1)
    }

    /// Values of scratch one participant needs.
    fn slot_len(&self, isa: Isa) -> usize {
        self.depth() * self.positions() + part_scratch_len(isa, self.depth(), self.positions())
    }

    /// Values of scratch that [`Self::run`] needs on a pool of `threads`.
    pub fn scratch_len(&self, isa: Isa, threads: usize) -> usize {
        if self.adds_lines() { 0 } else { threads * self.slot_len(isa) }
    }

    /// Computes the output; every value of it is summed in the same order whatever the number of threads.
    ///
    /// # Panics
    /// If a slice has another length than its sizes say, or `scratch` is too short.
    #[allow(clippy::too_many_arguments, reason = "three tensors, a bias and scratch")]
    pub fn run(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        let channels_out = self.groups * self.cout;
        assert_eq!(x.len(), self.batch * self.groups * self.cin * volume(self.input), "input of another size");
        assert_eq!(w.len(), self.groups * self.cout * self.depth(), "weights of another size");
        assert_eq!(out.len(), self.batch * channels_out * volume(self.output), "output of another size");
        assert!(bias.is_none_or(|bias| bias.len() >= channels_out), "bias too short");
        if out.is_empty() {
            return;
        }
        if self.adds_lines() {
            return self.add_lines(isa, pool, x, w, bias, out);
        }
        assert!(scratch.len() >= self.scratch_len(isa, pool.threads()), "scratch too short");
        self.multiply(isa, pool, x, w, bias, out, scratch);
    }

    #[allow(clippy::too_many_arguments, reason = "three tensors, a bias and scratch")]
    fn multiply(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (depth, positions, slot) = (self.depth(), self.positions(), self.slot_len(isa));
        let (area, image) = (volume(self.output), volume(self.input));
        let tiles = area.div_ceil(positions);
        let (scratch, out) = (Shared(scratch.as_mut_ptr()), Shared(out.as_mut_ptr()));
        pool.run_indexed(self.batch * self.groups * tiles, &|participant, task| {
            let (block, tile) = (task / tiles, task % tiles);
            let first = tile * positions;
            let range = first..area.min(first + positions);
            let group = block % self.groups;
            // SAFETY: participants that run at the same time have different numbers below `threads`, and there is a slot
            // for each.
            let scratch = unsafe { std::slice::from_raw_parts_mut(scratch.at(participant * slot), slot) };
            let (gathered, packed) = scratch.split_at_mut(depth * positions);
            let gathered = &mut gathered[..depth * range.len()];
            for (row, values) in gathered.chunks_exact_mut(range.len()).enumerate() {
                let (channel, tap) = (row / volume(self.kernel), row % volume(self.kernel));
                self.gather(&x[(block * self.cin + channel) * image..][..image], self.tap(tap), range.clone(), values);
            }
            let a = &w[group * self.cout * depth..][..self.cout * depth];
            let part = Part { isa, m: self.cout, k: depth, n: range.len(), a, b: gathered };
            let to = out.at(block * self.cout * area + first);
            // SAFETY: a task has the positions of its tile in the channels of its group and image for itself, and they lie
            // within the output, whose length is checked.
            unsafe { part.write(to, area, packed) };
            for channel in 0..self.cout {
                let Some(bias) = bias.map(|bias| bias[group * self.cout + channel]) else { break };
                // SAFETY: as above; the product is written.
                let line = unsafe { std::slice::from_raw_parts_mut(to.wrapping_add(channel * area), range.len()) };
                line.iter_mut().for_each(|value| *value += bias);
            }
        });
    }

    /// The kernel's position with the number `tap`.
    fn tap(&self, tap: usize) -> [usize; AXES] {
        let [_, h, w] = self.kernel;
        [tap / (h * w), tap / w % h, tap % w]
    }

    /// The position on an axis of `size` that a tap looks at from position `at` of the other side, unless it is padding.
    fn looks_at(&self, axis: usize, at: usize, tap: usize, size: usize) -> Option<usize> {
        let padded = at * self.stride[axis] + tap * self.dilation[axis];
        padded.checked_sub(self.pad[axis]).filter(|&position| position < size)
    }

    /// Of `count` positions along the last axis, those from which a tap looks at one of `size` positions.
    fn inside(&self, tap: usize, count: usize, size: usize) -> Range<usize> {
        let (stride, ahead) = (self.stride[AXES - 1], tap * self.dilation[AXES - 1]);
        let reach = |position: usize| (position + self.pad[AXES - 1]).saturating_sub(ahead).div_ceil(stride).min(count);
        reach(0)..reach(size).max(reach(0))
    }

    /// One value under the kernel, for a range of output positions.
    fn gather(&self, channel: &[f32], tap: [usize; AXES], positions: Range<usize>, out: &mut [f32]) {
        let ([_, out_h, out_w], [in_d, in_h, in_w]) = (self.output, self.input);
        let inside = self.inside(tap[2], out_w, in_w);
        let (mut next, mut position) = (0, positions.start);
        while position < positions.end {
            let (line, first) = (position / out_w, position % out_w);
            let count = (out_w - first).min(positions.end - position);
            let part = &mut out[next..next + count];
            next += count;
            position += count;
            let from = self.looks_at(0, line / out_h, tap[0], in_d).zip(self.looks_at(1, line % out_h, tap[1], in_h));
            let Some((d, h)) = from else {
                part.fill(0.0);
                continue;
            };
            let line = &channel[(d * in_h + h) * in_w..][..in_w];
            let start = inside.start.clamp(first, first + count) - first;
            let end = inside.end.clamp(first + start, first + count) - first;
            part[..start].fill(0.0);
            part[end..].fill(0.0);
            if start == end {
                continue;
            }
            let stride = self.stride[2];
            let from = &line[(first + start) * stride + tap[2] * self.dilation[2] - self.pad[2]..];
            if stride == 1 {
                part[start..end].copy_from_slice(&from[..end - start]);
            } else {
                part[start..end].iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, &from)| *to = from);
            }
        }
    }

    /// Adds up each output channel line by line.
    fn add_lines(&self, isa: Isa, pool: &ThreadPool, x: &[f32], w: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let channels = self.groups * self.cout;
        let (area, image) = (volume(self.output), volume(self.input));
        let out = Shared(out.as_mut_ptr());
        pool.run(self.batch * channels, &|task| {
            let (n, channel) = (task / channels, task % channels);
            let group = channel / self.cout;
            // SAFETY: every task has a channel of an image for itself.
            let out = unsafe { std::slice::from_raw_parts_mut(out.at(task * area), area) };
            out.fill(bias.map_or(0.0, |bias| bias[channel]));
            let x = &x[(n * self.groups + group) * self.cin * image..][..self.cin * image];
            isa.dispatch(Lines { conv: self, channel, x, w, out });
        });
    }

    /// Where the weight for an input channel of the group, an output channel and the first tap is.
    fn weight(&self, input: usize, output: usize) -> usize {
        let group = output / self.cout;
        let row = if self.transposed {
            (group * self.cin + input) * self.cout + output % self.cout
        } else {
            output * self.cin + input
        };
        row * volume(self.kernel)
    }
}

/// One output channel of one image: lines of the input, each times a weight, are added to it.
struct Lines<'a> {
    conv: &'a GeneralConv,
    channel: usize,
    x: &'a [f32],
    w: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Lines<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { conv, channel, x, w, out } = self;
        // The side whose positions lie a stride apart on the other: the output of a convolution, the input of its transpose.
        let (near, far) = if conv.transposed { (conv.input, conv.output) } else { (conv.output, conv.input) };
        let taps = volume(conv.kernel);
        for (input, image) in x.chunks_exact(volume(conv.input).max(1)).enumerate() {
            let weights = &w[conv.weight(input, channel)..][..taps];
            for (number, &weight) in weights.iter().enumerate() {
                let tap = conv.tap(number);
                let inside = conv.inside(tap[2], near[2], far[2]);
                if inside.is_empty() {
                    continue;
                }
                let first = inside.start * conv.stride[2] + tap[2] * conv.dilation[2] - conv.pad[2];
                for line in 0..near[0] * near[1] {
                    let d = conv.looks_at(0, line / near[1], tap[0], far[0]);
                    let Some((d, h)) = d.zip(conv.looks_at(1, line % near[1], tap[1], far[1])) else { continue };
                    let near = line * near[2] + inside.start..line * near[2] + inside.end;
                    let far = (d * far[1] + h) * far[2] + first..(d * far[1] + h + 1) * far[2];
                    let (from, to) = if conv.transposed { (near, far) } else { (far, near) };
                    match conv.stride[2] {
                        1 => add_line(s, weight, &image[from], &mut out[to]),
                        stride if conv.transposed => {
                            let places = out[to].iter_mut().step_by(stride);
                            places.zip(&image[from]).for_each(|(to, from)| *to += weight * from);
                        }
                        stride => {
                            let values = image[from].iter().step_by(stride);
                            out[to].iter_mut().zip(values).for_each(|(to, from)| *to += weight * from);
                        }
                    }
                }
            }
        }
    }
}

/// `to[i] += weight * from[i]`, as far as both go.
#[inline(always)]
fn add_line<S: Simd>(s: S, weight: f32, from: &[f32], to: &mut [f32]) {
    let (len, factor) = (from.len().min(to.len()), s.splat(weight));
    let mut i = 0;
    while i < len {
        let n = (len - i).min(S::LANES);
        // SAFETY: n values are left from i on in both.
        unsafe {
            let sum = s.fma(factor, s.load_partial(from.as_ptr().add(i), n), s.load_partial(to.as_ptr().add(i), n));
            s.store_partial(to.as_mut_ptr().add(i), n, sum);
        }
        i += n;
    }
}

/// Memory of which every task or participant uses a part of its own.
struct Shared(*mut f32);

// SAFETY: see above.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}
