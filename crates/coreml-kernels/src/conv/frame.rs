//! Images in a frame of zeros, which convolutions with padding read, so that their inner loops need no border checks.
//! If a convolution multiplies in bf16, its image is rounded when it is copied there.

use crate::gemm::Round;
use crate::parallel::ThreadPool;
use crate::simd::Isa;

/// An image `[h, w, channels]` and the zeros around it.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) channels: usize,
    /// Top, bottom, left, right.
    pub(super) pad: [usize; 4],
    /// What rounds the image to bf16, if it is to be: two values of a pixel, of which there must be an even number, are then
    /// one element.
    pub(super) rounded: Option<Isa>,
}

impl Frame {
    /// Elements of the framed image; 0 if the image is read where it lies.
    pub(super) fn scratch_len(&self) -> usize {
        if self.is_image() { 0 } else { self.lines() * self.width() * self.pixel() }
    }

    /// Whether the framed image is the image itself.
    fn is_image(&self) -> bool {
        self.pad == [0; 4] && self.rounded.is_none()
    }

    /// Elements of a pixel.
    pub(super) fn pixel(&self) -> usize {
        if self.rounded.is_some() { self.channels / 2 } else { self.channels }
    }

    /// Pixels of a line, the frame's included.
    pub(super) fn width(&self) -> usize {
        self.w + self.pad[2] + self.pad[3]
    }

    fn lines(&self) -> usize {
        self.h + self.pad[0] + self.pad[1]
    }

    /// Where the image at `input` is to be read, frame first: in `scratch`, into which it is copied, if it has a frame or is
    /// rounded.
    ///
    /// # Safety
    /// `input` must point to an image of this size.
    pub(super) unsafe fn around(&self, pool: &ThreadPool, input: *const f32, scratch: &mut [f32]) -> *const f32 {
        struct Ends(*const f32, *mut f32);
        // SAFETY: the input is only read, and every task writes its own lines.
        unsafe impl Sync for Ends {}
        if self.is_image() {
            return input;
        }
        let Self { h, w, channels, pad: [top, _, left, _], rounded } = *self;
        let (lines, pixel) = (self.lines(), self.pixel());
        let line_len = self.width() * pixel;
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
                out[..left * pixel].fill(0.0);
                let (within, after) = out[left * pixel..].split_at_mut(w * pixel);
                match rounded {
                    None => within.copy_from_slice(pixels),
                    Some(isa) => {
                        let to = within.as_mut_ptr().cast();
                        isa.dispatch(Round { from: pixels.as_ptr(), to, len: pixels.len() });
                    }
                }
                after.fill(0.0);
            }
        });
        scratch.as_ptr()
    }
}
