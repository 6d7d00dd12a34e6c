//! Batches of channels-last images, `[n, h, w, c]` or `[n, w, c]` with one spatial axis, as operations see them.

use crate::op::{Ins, OpError, Types, shape_of};

/// Batch, height, width and channels of the first input.
pub(super) fn sizes(ins: Ins<'_>) -> [usize; 4] {
    match *ins.shape(0).dims() {
        [n, h, w, c] => [n, h, w, c],
        [n, w, c] => [n, 1, w, c],
        _ => [0; 4],
    }
}

/// The type of as many images as the first input has, with as many spatial axes, of another height, width and depth.
pub(super) fn resized(ins: Ins<'_>, (h, w): (usize, usize), channels: usize) -> Result<Types, OpError> {
    let x = ins.float(0)?;
    let [n, ..] = sizes(ins);
    let dims = if x.rank() == 4 { vec![n, h, w, channels] } else { vec![n, w, channels] };
    Ok(vec![x.with_shape(shape_of(&dims)?)])
}
