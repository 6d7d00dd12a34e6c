//! Tensor shapes: at most [`MAX_RANK`] dimensions, kept inline so that shapes are `Copy` and cost no allocation.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// The highest rank a tensor may have. Converters emit at most rank 5; 8 leaves room for others.
pub const MAX_RANK: usize = 8;

/// The dimensions of a tensor, outermost first. Dereferences to a slice of its dimensions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    rank: u8,
    dims: [usize; MAX_RANK],
}

/// A shape that cannot be represented.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// More than [`MAX_RANK`] dimensions.
    #[error("rank {rank} is above the limit of {MAX_RANK}")]
    Rank {
        /// The rank asked for.
        rank: usize,
    },
    /// The number of elements does not fit the address space.
    #[error("the number of elements overflows")]
    Overflow,
}

impl Shape {
    /// The shape of a scalar.
    pub const SCALAR: Self = Self { rank: 0, dims: [0; MAX_RANK] };

    /// Checks rank and element count.
    ///
    /// # Errors
    /// [`ShapeError::Rank`] above [`MAX_RANK`] dimensions, [`ShapeError::Overflow`] when the element count times eight
    /// bytes overflows `isize`.
    pub fn try_new(dims: &[usize]) -> Result<Self, ShapeError> {
        if dims.len() > MAX_RANK {
            return Err(ShapeError::Rank { rank: dims.len() });
        }
        // A zero dimension does not excuse absurd others: strides are computed from them.
        let limit = usize::try_from(isize::MAX / 8).unwrap_or(usize::MAX);
        dims.iter()
            .try_fold(1usize, |count, &dim| count.checked_mul(dim.max(1)).filter(|&c| c <= limit))
            .ok_or(ShapeError::Overflow)?;
        let mut shape = Self { rank: dims.len() as u8, dims: [0; MAX_RANK] };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Ok(shape)
    }

    /// The shape with these dimensions.
    ///
    /// # Panics
    /// Where [`Shape::try_new`] errs. Use that one for numbers that come from a file or a caller.
    pub fn new(dims: &[usize]) -> Self {
        match Self::try_new(dims) {
            Ok(shape) => shape,
            Err(error) => panic!("shape {dims:?}: {error}"),
        }
    }

    /// Number of dimensions.
    pub const fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank()]
    }

    /// Number of elements; 1 for a scalar.
    pub fn count(&self) -> usize {
        self.dims().iter().product()
    }

    /// Row-major strides in elements; entries past the rank are 0.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for axis in (0..self.rank()).rev() {
            strides[axis] = step;
            step *= self.dims[axis].max(1);
        }
        strides
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        self.dims()
    }
}

impl DerefMut for Shape {
    fn deref_mut(&mut self) -> &mut [usize] {
        let rank = self.rank();
        &mut self.dims[..rank]
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self::new(&dims)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.dims(), f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.dims(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold() {
        assert_eq!(Shape::try_new(&[1; 9]), Err(ShapeError::Rank { rank: 9 }));
        assert_eq!(Shape::try_new(&[usize::MAX, 2]), Err(ShapeError::Overflow));
        assert_eq!(Shape::try_new(&[0, usize::MAX]), Err(ShapeError::Overflow));
        assert_eq!(Shape::try_new(&[]).unwrap().count(), 1);
        assert_eq!(Shape::new(&[2, 0, 3]).count(), 0);
    }

    #[test]
    fn strides_are_row_major() {
        assert_eq!(Shape::new(&[2, 3, 4]).strides()[..3], [12, 4, 1]);
    }
}
