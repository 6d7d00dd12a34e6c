//! Pooling of channels-last images: the largest or the mean value under a window.

use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, Simd};

/// What is computed from the values under the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest; padding never wins. Minus infinity where the window misses the image.
    Max,
    /// The mean.
    Average {
        /// Whether to divide by the window's values on the image instead of by its size.
        exclude_padding: bool,
    },
}

/// The parameters of a pooling. Pairs are `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Window height and width, at least 1.
    pub kernel: [usize; 2],
    /// Steps between windows, at least 1.
    pub stride: [usize; 2],
    /// Pixels around the image: top, bottom, left, right. If the output size is rounded up, the extra pixels belong to
    /// bottom and right.
    pub pad: [usize; 4],
}

impl PoolShape {
    /// Height and width of the output for an `h x w` image; 0 where the window does not fit.
    pub fn out_size(&self, h: usize, w: usize) -> (usize, usize) {
        let size = |x: usize, axis: usize| {
            (x + self.pad[2 * axis] + self.pad[2 * axis + 1])
                .checked_sub(self.kernel[axis])
                .map_or(0, |d| d / self.stride[axis] + 1)
        };
        (size(h, 0), size(w, 1))
    }
}

/// Pools `n` images `[h, w, c]` into `n` images `[oh, ow, c]`.
///
/// # Panics
/// If the lengths do not fit.
#[allow(clippy::too_many_arguments, reason = "an image batch in, an image batch out")]
pub fn pool2d(
    isa: Isa,
    pool: &ThreadPool,
    kind: PoolKind,
    shape: &PoolShape,
    n: usize,
    h: usize,
    w: usize,
    c: usize,
    x: &[f32],
    out: &mut [f32],
) {
    assert!(shape.kernel.iter().chain(&shape.stride).all(|&x| x > 0), "kernel and stride must be > 0");
    let (oh, ow) = shape.out_size(h, w);
    assert_eq!(x.len(), n * h * w * c, "input does not fit the sizes");
    assert_eq!(out.len(), n * oh * ow * c, "output does not fit the sizes");
    if out.is_empty() {
        return;
    }
    struct Out(*mut f32);
    // SAFETY: tasks use disjoint parts.
    unsafe impl Sync for Out {}
    let out = Out(out.as_mut_ptr());
    pool.run(n * oh, &|task| {
        let out = &out;
        // SAFETY: output line `task` is this task's alone.
        let out = unsafe { std::slice::from_raw_parts_mut(out.0.add(task * ow * c), ow * c) };
        let x = &x[task / oh * h * w * c..][..h * w * c];
        isa.dispatch(Line { kind, shape, h, w, c, y: task % oh, x, out });
    });
}

struct Line<'a> {
    kind: PoolKind,
    shape: &'a PoolShape,
    h: usize,
    w: usize,
    c: usize,
    /// Number of the output line.
    y: usize,
    x: &'a [f32],
    out: &'a mut [f32],
}

/// The part of window `index` that lies on `len` pixels.
fn window(index: usize, stride: usize, pad: usize, kernel: usize, len: usize) -> (usize, usize) {
    let start = index * stride;
    let first = start.saturating_sub(pad);
    (first, (start + kernel).saturating_sub(pad).min(len).max(first))
}

impl Kernel for Line<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Line { kind, shape, h, w, c, y, x, out } = self;
        let PoolShape { kernel, stride, pad } = *shape;
        let (y0, y1) = window(y, stride[0], pad[0], kernel[0], h);
        for (column, out) in out.chunks_exact_mut(c).enumerate() {
            let (x0, x1) = window(column, stride[1], pad[2], kernel[1], w);
            let divisor = match kind {
                PoolKind::Average { exclude_padding: true } => (y1 - y0) * (x1 - x0),
                _ => kernel[0] * kernel[1],
            };
            let mut i = 0;
            while i < c {
                let n = (c - i).min(S::LANES);
                let mut sum = s.splat(if kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 });
                for line in y0..y1 {
                    for pixel in x0..x1 {
                        // SAFETY: line < h, pixel < w and i + n <= c.
                        let v = unsafe { s.load_partial(x.as_ptr().add((line * w + pixel) * c + i), n) };
                        sum = if kind == PoolKind::Max {
                            // Keeps a NaN, whichever side it is on.
                            s.select(s.lt(s.splat(-1.0), s.abs(sum)), s.max(sum, v), sum)
                        } else {
                            s.add(sum, v)
                        };
                    }
                }
                if kind != PoolKind::Max {
                    sum = s.div(sum, s.splat(divisor.max(1) as f32));
                }
                // SAFETY: i + n <= c, the length of `out`.
                unsafe { s.store_partial(out.as_mut_ptr().add(i), n, sum) };
                i += n;
            }
        }
    }
}
