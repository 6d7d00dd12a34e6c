//! Storage aligned to cache lines, so that no vector in it crosses one.

/// Values in a cache line.
pub(crate) const LINE_VALUES: usize = 16;

/// A fixed number of values from a 64-byte boundary on.
pub(crate) struct AlignedVec {
    /// A line more than there are values. Memory of this alignment would be cleared by a pass over it, other memory comes
    /// from the system as zeros.
    values: Vec<f32>,
    start: usize,
    len: usize,
}

impl std::fmt::Debug for AlignedVec {
    /// The number of values alone: weights in a message hide what it says.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedVec(_; {})", self.len)
    }
}

impl Clone for AlignedVec {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        copy
    }
}

impl AlignedVec {
    pub(crate) fn zeroed(len: usize) -> Self {
        let values = vec![0.0; if len == 0 { 0 } else { len + LINE_VALUES - 1 }];
        let start = skip(&values);
        Self { values, start, len }
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        &self.values[self.start..][..self.len]
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
        &mut self.values[self.start..][..self.len]
    }
}

/// The bytes of `values`.
pub(crate) fn bytes_of(values: &[f32]) -> &[u8] {
    // SAFETY: an f32 is four initialised bytes.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

/// Values before the first that starts a cache line.
fn skip(values: &[f32]) -> usize {
    values.as_ptr().align_offset(4 * LINE_VALUES).min(values.len())
}

/// The part of `scratch` that starts at a cache line.
pub(crate) fn aligned(scratch: &mut [f32]) -> &mut [f32] {
    let skip = skip(scratch);
    &mut scratch[skip..]
}
