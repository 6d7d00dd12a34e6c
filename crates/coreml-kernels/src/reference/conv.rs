//! Convolution and its transpose with any number of spatial axes, channels first.

/// The spatial parameters of a convolution: one value per spatial axis, and the groups.
#[derive(Clone, Copy, Debug)]
pub struct ConvParams<'a> {
    /// Steps between outputs.
    pub strides: &'a [usize],
    /// Zeros before the first value.
    pub pads_begin: &'a [usize],
    /// Zeros after the last value.
    pub pads_end: &'a [usize],
    /// Steps between kernel taps.
    pub dilations: &'a [usize],
    /// Parts into which the channels are divided.
    pub groups: usize,
}

/// Calls `f` with every position in a space of sizes `dims`, the last axis running fastest.
pub(super) fn for_positions(dims: &[usize], mut f: impl FnMut(&[usize])) {
    let mut at = vec![0; dims.len()];
    for _ in 0..dims.iter().product() {
        f(&at);
        for axis in (0..dims.len()).rev() {
            at[axis] += 1;
            if at[axis] < dims[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
}

/// The offset of position `at` in a contiguous space of sizes `dims`.
pub(super) fn offset(dims: &[usize], at: &[usize]) -> usize {
    dims.iter().zip(at).fold(0, |offset, (dim, at)| offset * dim + at)
}

/// Output sizes `[N, O, spatial…]` for input sizes `xdims` `[N, C, spatial…]` and weight sizes `wdims`
/// `[O, C / groups, kernel…]`; an axis where the kernel does not fit has size 0.
pub fn conv_out_dims(xdims: &[usize], wdims: &[usize], params: &ConvParams<'_>) -> Vec<usize> {
    let mut out = vec![xdims[0], wdims[0]];
    for axis in 0..xdims.len() - 2 {
        let reach = (wdims[axis + 2] - 1) * params.dilations[axis] + 1;
        let room = (xdims[axis + 2] + params.pads_begin[axis] + params.pads_end[axis]).checked_sub(reach);
        out.push(room.map_or(0, |room| room / params.strides[axis] + 1));
    }
    out
}

/// Convolves `x` `[N, C, spatial…]` with `w` `[O, C / groups, kernel…]`.
pub fn conv(
    x: &[f32],
    xdims: &[usize],
    w: &[f32],
    wdims: &[usize],
    bias: Option<&[f32]>,
    params: &ConvParams<'_>,
    out: &mut [f32],
) {
    let odims = conv_out_dims(xdims, wdims, params);
    let (per_group_in, per_group_out) = (wdims[1], wdims[0] / params.groups);
    let (channels, spatial, kernel) = (xdims[1], &xdims[2..], &wdims[2..]);
    let (image, taps) = (spatial.iter().product::<usize>(), kernel.iter().product::<usize>());
    let mut next = 0;
    for_positions(&odims, |at| {
        let (n, o) = (at[0], at[1]);
        let first_channel = n * channels + o / per_group_out * per_group_in;
        let mut sum = bias.map_or(0.0, |bias| f64::from(bias[o]));
        let mut tap = 0;
        for_positions(kernel, |k| {
            if let Some(from) = input_offset(at, k, spatial, params) {
                for c in 0..per_group_in {
                    let value = x[(first_channel + c) * image + from];
                    sum += f64::from(value) * f64::from(w[(o * per_group_in + c) * taps + tap]);
                }
            }
            tap += 1;
        });
        out[next] = sum as f32;
        next += 1;
    });
}

/// Where tap `k` of output `at` (`[N, O, spatial…]`) falls in the input, unless on the padding.
fn input_offset(at: &[usize], k: &[usize], spatial: &[usize], params: &ConvParams<'_>) -> Option<usize> {
    let mut from = 0;
    for axis in 0..spatial.len() {
        let padded = at[axis + 2] * params.strides[axis] + k[axis] * params.dilations[axis];
        let position = padded.checked_sub(params.pads_begin[axis]).filter(|&p| p < spatial[axis])?;
        from = from * spatial[axis] + position;
    }
    Some(from)
}

/// Output sizes of [`conv_transpose`] for weight sizes `wdims` `[C, O / groups, kernel…]`: what a convolution with
/// these parameters would take to `xdims`, the smallest such.
pub fn conv_transpose_out_dims(xdims: &[usize], wdims: &[usize], params: &ConvParams<'_>) -> Vec<usize> {
    let mut out = vec![xdims[0], wdims[1] * params.groups];
    for axis in 0..xdims.len() - 2 {
        let reach = (wdims[axis + 2] - 1) * params.dilations[axis] + 1;
        let full = if xdims[axis + 2] == 0 { 0 } else { (xdims[axis + 2] - 1) * params.strides[axis] + reach };
        out.push(full.saturating_sub(params.pads_begin[axis] + params.pads_end[axis]));
    }
    out
}

/// The transpose of a convolution: every value of `x` `[N, C, spatial…]` is spread over the output by `w`
/// `[C, O / groups, kernel…]`, and `pads_begin` outputs are cut off. `odims` are the output's sizes: those of
/// [`conv_transpose_out_dims`], or larger.
#[allow(clippy::too_many_arguments, reason = "three tensors with their sizes")]
pub fn conv_transpose(
    x: &[f32],
    xdims: &[usize],
    w: &[f32],
    wdims: &[usize],
    bias: Option<&[f32]>,
    params: &ConvParams<'_>,
    odims: &[usize],
    out: &mut [f32],
) {
    let per_group_out = wdims[1];
    let per_group_in = xdims[1] / params.groups;
    let (ospatial, kernel) = (&odims[2..], &wdims[2..]);
    let (image, taps) = (ospatial.iter().product::<usize>(), kernel.iter().product::<usize>());
    let mut sums = vec![0.0f64; out.len()];
    if let Some(bias) = bias {
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = f64::from(bias[index / image % odims[1]]);
        }
    }
    let mut next = 0;
    for_positions(xdims, |at| {
        let value = f64::from(x[next]);
        next += 1;
        let (n, c) = (at[0], at[1]);
        let first_output = n * odims[1] + c / per_group_in * per_group_out;
        let mut tap = 0;
        for_positions(kernel, |k| {
            if let Some(to) = input_offset(at, k, ospatial, params) {
                for o in 0..per_group_out {
                    let weight = f64::from(w[(c * per_group_out + o) * taps + tap]);
                    sums[(first_output + o) * image + to] += value * weight;
                }
            }
            tap += 1;
        });
    });
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = sum as f32;
    }
}
