//! Images as bytes to planes of floating-point values.

use crate::parallel::ThreadPool;

/// Which channel of the byte image becomes which plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelOrder {
    /// As they are.
    Keep,
    /// The first three reversed: RGB to BGR and back.
    Reverse,
}

/// Converts `[h, w, c]` bytes to `[c, h, w]` planes: `out = byte * scale + bias[plane]`.
///
/// # Panics
/// If the lengths do not fit: `bias` has `c` values; reversing needs at least three channels.
#[allow(clippy::too_many_arguments, reason = "an image and how to convert it")]
pub fn bytes_to_planes(
    pool: &ThreadPool,
    h: usize,
    w: usize,
    c: usize,
    order: ChannelOrder,
    scale: f32,
    bias: &[f32],
    x: &[u8],
    out: &mut [f32],
) {
    assert!(x.len() == h * w * c && out.len() == x.len(), "slices do not fit the sizes");
    assert_eq!(bias.len(), c, "not one bias per channel");
    assert!(order == ChannelOrder::Keep || c >= 3, "reversing needs three channels");
    struct Out(*mut f32);
    // SAFETY: tasks write disjoint parts.
    unsafe impl Sync for Out {}
    let out = Out(out.as_mut_ptr());
    let lines = 8;
    pool.run(h.div_ceil(lines), &|task| {
        let out = &out;
        let (start, end) = (task * lines * w, h.min((task + 1) * lines) * w);
        for (plane, &bias) in bias.iter().enumerate() {
            let channel = if order == ChannelOrder::Reverse && plane < 3 { 2 - plane } else { plane };
            // SAFETY: these lines of every plane are this task's alone.
            let out = unsafe { std::slice::from_raw_parts_mut(out.0.add(plane * h * w + start), end - start) };
            for (value, pixel) in out.iter_mut().zip(x[start * c..end * c].chunks_exact(c)) {
                *value = f32::from(pixel[channel]) * scale + bias;
            }
        }
    });
}
