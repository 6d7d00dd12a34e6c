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

/// Rows of an image per task.
const LINES: usize = 8;

struct Out(*mut f32);
// SAFETY: tasks write disjoint parts.
unsafe impl Sync for Out {}

/// Converts `[h, w, c]` bytes to `[c, h, w]` planes.
///
/// # Panics
/// If the lengths do not fit; reversing needs at least three channels.
pub fn bytes_to_planes(
    pool: &ThreadPool,
    [h, w, c]: [usize; 3],
    order: ChannelOrder,
    pixels: &[u8],
    planes: &mut [f32],
) {
    assert!(pixels.len() == h * w * c && planes.len() == pixels.len(), "slices do not fit the sizes");
    assert!(order == ChannelOrder::Keep || c >= 3, "reversing needs three channels");
    let out = Out(planes.as_mut_ptr());
    pool.run(h.div_ceil(LINES), &|task| {
        let out = &out;
        let (start, end) = (task * LINES * w, h.min((task + 1) * LINES) * w);
        for plane in 0..c {
            let channel = if order == ChannelOrder::Reverse && plane < 3 { 2 - plane } else { plane };
            // SAFETY: these lines of every plane are this task's alone.
            let out = unsafe { std::slice::from_raw_parts_mut(out.0.add(plane * h * w + start), end - start) };
            for (value, pixel) in out.iter_mut().zip(pixels[start * c..end * c].chunks_exact(c)) {
                *value = f32::from(pixel[channel]);
            }
        }
    });
}

/// Converts `[h, w, c]` bytes to values in the same order, except that `order` gives the order of the channels.
///
/// # Panics
/// If the lengths do not fit; reversing needs at least three channels.
pub fn bytes_to_pixels(
    pool: &ThreadPool,
    [h, w, c]: [usize; 3],
    order: ChannelOrder,
    pixels: &[u8],
    values: &mut [f32],
) {
    assert!(pixels.len() == h * w * c && values.len() == pixels.len(), "slices do not fit the sizes");
    assert!(order == ChannelOrder::Keep || c >= 3, "reversing needs three channels");
    let out = Out(values.as_mut_ptr());
    pool.run(h.div_ceil(LINES), &|task| {
        let out = &out;
        let (start, end) = (task * LINES * w * c, h.min((task + 1) * LINES) * w * c);
        // SAFETY: these lines are this task's alone.
        let values = unsafe { std::slice::from_raw_parts_mut(out.0.add(start), end - start) };
        for (value, &byte) in values.iter_mut().zip(&pixels[start..end]) {
            *value = f32::from(byte);
        }
        if order == ChannelOrder::Reverse {
            values.chunks_exact_mut(c).for_each(|pixel| pixel.swap(0, 2));
        }
    });
}
