//! Images in a frame of zeros: what a convolution with padding reads, so that its inner loops know no borders.

use crate::parallel::ThreadPool;

/// An image `[h, w, channels]` and the zeros around it.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) channels: usize,
    /// Top, bottom, left, right. Without any there is no frame: the image is read where it lies.
    pub(super) pad: [usize; 4],
}

impl Frame {
    /// Values of the framed image; 0 if there is no frame.
    pub(super) fn scratch_len(&self) -> usize {
        if self.pad == [0; 4] { 0 } else { self.lines() * self.width() * self.channels }
    }

    /// Pixels of a line, the frame's included.
    pub(super) fn width(&self) -> usize {
        self.w + self.pad[2] + self.pad[3]
    }

    fn lines(&self) -> usize {
        self.h + self.pad[0] + self.pad[1]
    }

    /// Where the image at `input` is to be read, frame first: in `scratch`, into which it is copied, if it has a frame.
    ///
    /// # Safety
    /// `input` must point to an image of this size.
    pub(super) unsafe fn around(&self, pool: &ThreadPool, input: *const f32, scratch: &mut [f32]) -> *const f32 {
        struct Ends(*const f32, *mut f32);
        // SAFETY: the input is only read, and every task writes its own lines.
        unsafe impl Sync for Ends {}
        if self.pad == [0; 4] {
            return input;
        }
        let Self { h, w, channels, pad: [top, _, left, _] } = *self;
        let (lines, line_len) = (self.lines(), self.width() * channels);
        assert!(scratch.len() >= lines * line_len, "scratch too short");
        let ends = Ends(input, scratch.as_mut_ptr());
        let chunk = if pool.threads() == 1 { lines } else { lines.div_ceil(2 * pool.threads()) }.max(1);
        pool.run(lines.div_ceil(chunk), &|task| {
            let Ends(input, framed) = &ends;
            for line in task * chunk..lines.min((task + 1) * chunk) {
                // SAFETY: scratch has `lines` lines by the assertion above, and this task alone has this one.
                let out = unsafe { std::slice::from_raw_parts_mut(framed.add(line * line_len), line_len) };
                let Some(y) = line.checked_sub(top).filter(|&y| y < h) else {
                    out.fill(0.0);
                    continue;
                };
                // SAFETY: the input is an `h x w` image, and y < h.
                let pixels = unsafe { std::slice::from_raw_parts(input.add(y * w * channels), w * channels) };
                out[..left * channels].fill(0.0);
                out[left * channels..][..pixels.len()].copy_from_slice(pixels);
                out[(left + w) * channels..].fill(0.0);
            }
        });
        scratch.as_ptr()
    }
}
