//! Checks that all convolutions make before they start: that the parameters fit together, and that the slices hold the
//! images.

use super::{ConvEpilogue, ConvShape};
use crate::activation::Activation;

/// Panics unless parameters, `weights` and `bias` of a convolution fit together. `steps` are kernel, stride and dilation.
pub(super) fn check_parameters(
    [cin, cout]: [usize; 2],
    groups: usize,
    steps: [[usize; 2]; 3],
    weights: &[f32],
    bias: Option<&[f32]>,
) {
    assert!(groups > 0 && cin.is_multiple_of(groups) && cout.is_multiple_of(groups), "groups must divide channels");
    assert!(steps.iter().flatten().all(|&x| x > 0), "kernel, stride, dilation must be > 0");
    let [kernel, ..] = steps;
    assert_eq!(weights.len(), cin * (cout / groups) * kernel[0] * kernel[1], "weights do not fit the shape");
    assert!(bias.is_none_or(|b| b.len() == cout), "bias does not fit the shape");
}

/// Panics unless the slices hold `n` images, of `in_len` values each the input, of `out_len` output and residual.
pub(super) fn check_lengths(
    n: usize,
    [in_len, out_len]: [usize; 2],
    input: &[f32],
    residual: Option<&[f32]>,
    out: &[f32],
) {
    assert!(input.len() >= n * in_len, "input too short");
    assert!(out.len() >= n * out_len, "output too short");
    assert!(residual.is_none_or(|r| r.len() >= n * out_len), "residual too short");
}

/// An image batch being convolved: checked sizes and addresses.
#[derive(Clone, Copy)]
pub(super) struct Images {
    pub(super) n: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) oh: usize,
    pub(super) ow: usize,
    /// Values of one input image, and of one output image.
    pub(super) lens: [usize; 2],
    pub(super) input: *const f32,
    pub(super) residual: Option<*const f32>,
    pub(super) activation: Activation,
    pub(super) out: *mut f32,
}

// SAFETY: input and residual are only read, and every task writes its own part of the output.
unsafe impl Sync for Images {}

impl Images {
    /// `n` images `[h, w, channels]` in and out; `None` if the output has no values.
    ///
    /// # Panics
    /// If a slice is too short.
    pub(super) fn new(
        n: usize,
        [h, w, cin]: [usize; 3],
        [oh, ow, cout]: [usize; 3],
        input: &[f32],
        epilogue: &ConvEpilogue<'_>,
        out: &mut [f32],
    ) -> Option<Self> {
        let lens = [h * w * cin, oh * ow * cout];
        check_lengths(n, lens, input, epilogue.residual, out);
        let images = Self {
            n,
            h,
            w,
            oh,
            ow,
            lens,
            input: input.as_ptr(),
            residual: epilogue.residual.map(<[f32]>::as_ptr),
            activation: epilogue.activation,
            out: out.as_mut_ptr(),
        };
        (n * lens[1] > 0).then_some(images)
    }

    /// `n` images of `h x w` pixels into the first of some convolutions and out of the last; `None` if the output has no
    /// values.
    ///
    /// # Panics
    /// If there is no convolution, or a slice is too short.
    pub(super) fn through(
        shapes: &[&ConvShape],
        n: usize,
        [h, w]: [usize; 2],
        input: &[f32],
        epilogue: &ConvEpilogue<'_>,
        out: &mut [f32],
    ) -> Option<Self> {
        let (oh, ow) = shapes.iter().fold((h, w), |(h, w), shape| shape.out_size(h, w));
        let (cin, cout) = (shapes[0].cin, shapes[shapes.len() - 1].cout);
        Self::new(n, [h, w, cin], [oh, ow, cout], input, epilogue, out)
    }

    /// Each image as a batch of one.
    pub(super) fn each(self) -> impl Iterator<Item = Self> {
        let [in_len, out_len] = self.lens;
        (0..self.n).map(move |image| Self {
            n: 1,
            input: self.input.wrapping_add(image * in_len),
            residual: self.residual.map(|residual| residual.wrapping_add(image * out_len)),
            out: self.out.wrapping_add(image * out_len),
            ..self
        })
    }
}
