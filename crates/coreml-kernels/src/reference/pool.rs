//! Pooling with any number of spatial axes, channels first.

use super::conv::{for_positions, offset};

/// What is computed from the values under the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferencePool {
    /// The largest; padding never wins.
    Max,
    /// The mean.
    Average {
        /// Whether to divide by the window's values on the image instead of by its size.
        exclude_padding: bool,
    },
    /// The square root of the sum of squares.
    L2,
}

/// Output sizes for input sizes `[N, C, spatial…]`; an axis where the window does not fit has size 0. With
/// `ceil`, a last window that is only partly filled counts if it starts on the image or the padding before it.
pub fn pool_out_dims(
    xdims: &[usize],
    kernel: &[usize],
    strides: &[usize],
    pads_begin: &[usize],
    pads_end: &[usize],
    ceil: bool,
) -> Vec<usize> {
    let mut out = xdims[..2].to_vec();
    for axis in 0..kernel.len() {
        let size = xdims[axis + 2] + pads_begin[axis] + pads_end[axis];
        let steps = size.checked_sub(kernel[axis]).map(|room| {
            let steps = if ceil { room.div_ceil(strides[axis]) } else { room / strides[axis] };
            if ceil && steps > 0 && steps * strides[axis] >= xdims[axis + 2] + pads_begin[axis] {
                steps - 1
            } else {
                steps
            }
        });
        out.push(steps.map_or(0, |steps| steps + 1));
    }
    out
}

/// Pools `x` of sizes `xdims` `[N, C, spatial…]` into `out` of sizes `odims`.
#[allow(clippy::too_many_arguments, reason = "two tensors and a window")]
pub fn pool(
    kind: ReferencePool,
    x: &[f32],
    xdims: &[usize],
    kernel: &[usize],
    strides: &[usize],
    pads_begin: &[usize],
    odims: &[usize],
    out: &mut [f32],
) {
    let mut next = 0;
    for_positions(odims, |at| {
        let (mut sum, mut max, mut count) = (0.0f64, f32::NEG_INFINITY, 0usize);
        // The part of the window that lies on the image: with enough padding around it a window may have any size.
        let axes =
            || (0..kernel.len()).map(|axis| (at[axis + 2] * strides[axis], pads_begin[axis], xdims[axis + 2], axis));
        let begins: Vec<usize> = axes().map(|(start, pad, _, _)| start.saturating_sub(pad)).collect();
        let ends = axes().map(|(start, pad, size, axis)| (start + kernel[axis]).saturating_sub(pad).min(size));
        let seen: Vec<usize> = ends.zip(&begins).map(|(end, begin)| end.saturating_sub(*begin)).collect();
        for_positions(&seen, |k| {
            let mut from = vec![at[0], at[1]];
            from.extend(begins.iter().zip(k).map(|(begin, k)| begin + k));
            let value = x[offset(xdims, &from)];
            sum += if kind == ReferencePool::L2 { f64::from(value).powi(2) } else { f64::from(value) };
            max = if value > max || value.is_nan() { value } else { max };
            count += 1;
        });
        out[next] = match kind {
            ReferencePool::Max => max,
            ReferencePool::Average { exclude_padding: true } => (sum / count.max(1) as f64) as f32,
            ReferencePool::Average { exclude_padding: false } => {
                (sum / kernel.iter().map(|&size| size as f64).product::<f64>()) as f32
            }
            ReferencePool::L2 => sum.sqrt() as f32,
        };
        next += 1;
    });
}
