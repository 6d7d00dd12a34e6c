//! Storage that starts at a cache line, so that no vector in it crosses one.

/// Values in a cache line.
pub(crate) const LINE_VALUES: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE_VALUES]);

/// A fixed number of values from a 64-byte boundary on.
#[derive(Clone)]
pub(crate) struct AlignedVec {
    lines: Vec<Line>,
    len: usize,
}

impl std::fmt::Debug for AlignedVec {
    /// The number of values alone: weights in a message hide what it says.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedVec(_; {})", self.len)
    }
}

impl AlignedVec {
    pub(crate) fn zeroed(len: usize) -> Self {
        Self { lines: vec![Line([0.0; LINE_VALUES]); len.div_ceil(LINE_VALUES)], len }
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: a Line is 16 f32 without padding, so the lines are one run of initialised f32, at least `len`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast::<f32>(), self.len) }
    }

    /// The values' bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        bytes_of(self.as_slice())
    }

    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        let values = self.as_mut_slice();
        // SAFETY: any byte may be written, as every pattern of four is an f32, and the values are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), size_of_val(values)) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as in `as_slice`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<f32>(), self.len) }
    }
}

/// The bytes of `values`.
pub(crate) fn bytes_of(values: &[f32]) -> &[u8] {
    // SAFETY: an f32 is four initialised bytes.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

/// The part of `scratch` that starts at a cache line.
pub(crate) fn aligned(scratch: &mut [f32]) -> &mut [f32] {
    let skip = scratch.as_ptr().align_offset(4 * LINE_VALUES).min(scratch.len());
    &mut scratch[skip..]
}
