//! Converts between arrays of the crate `ndarray` and tensors, without copying.
//!
//! ```
//! use coreml_tensor::{Tensor, TensorView};
//! use ndarray::array;
//!
//! let input = array![[1.0f32, 2.0], [3.0, 4.0]];
//! let view = TensorView::try_from(&input)?;
//! let tensor = Tensor::try_from(input.clone())?;
//! assert_eq!(tensor.view(), view);
//! assert_eq!(tensor.array::<f32>().unwrap(), input.into_dyn());
//! # Ok::<(), coreml_tensor::TensorError>(())
//! ```

use ::ndarray::{ArrayBase, ArrayD, ArrayViewD, Data, DataOwned, Dimension, IxDyn};

use crate::{Element, Shape, Tensor, TensorError, TensorView};

impl<'a, T, S, D> TryFrom<&'a ArrayBase<S, D>> for TensorView<'a>
where
    T: Element,
    S: Data<Elem = T>,
    D: Dimension,
{
    type Error = TensorError;

    /// Borrows the elements.
    ///
    /// # Errors
    /// [`TensorError::Layout`] when they are not in row-major order: `as_standard_layout` brings them there.
    fn try_from(array: &'a ArrayBase<S, D>) -> Result<Self, TensorError> {
        let shape = Shape::try_new(array.shape())?;
        Self::new(shape, array.as_slice().ok_or(TensorError::Layout { shape })?)
    }
}

impl<T, S, D> TryFrom<ArrayBase<S, D>> for Tensor
where
    T: Element,
    S: DataOwned<Elem = T>,
    D: Dimension,
{
    type Error = TensorError;

    /// Takes the elements over, in row-major order; copies them if they are in another.
    fn try_from(array: ArrayBase<S, D>) -> Result<Self, TensorError> {
        let shape = Shape::try_new(array.shape())?;
        let values = if array.is_standard_layout() {
            match array.into_owned().into_raw_vec_and_offset() {
                (values, None | Some(0)) if values.len() == shape.count() => values,
                (values, offset) => values.into_iter().skip(offset.unwrap_or(0)).take(shape.count()).collect(),
            }
        } else {
            array.iter().copied().collect()
        };
        Self::new(shape, values)
    }
}

impl Tensor {
    /// The elements as an array; `None` if they are of another type.
    pub fn array<T: Element>(&self) -> Option<ArrayViewD<'_, T>> {
        self.view().array()
    }

    /// The tensor as an array that owns its elements.
    ///
    /// # Errors
    /// The tensor itself, if the elements are of another type.
    pub fn into_array<T: Element>(self) -> Result<ArrayD<T>, Self> {
        let shape = self.shape();
        let values = self.into_vec::<T>()?;
        ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|_| Self::zeros(T::DTYPE, Shape::new(&[0])))
    }
}

impl<'a> TensorView<'a> {
    /// The elements as an array; `None` if they are of another type.
    pub fn array<T: Element>(&self) -> Option<ArrayViewD<'a, T>> {
        ArrayViewD::from_shape(IxDyn(&self.shape()), self.as_slice()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::ndarray::{Array2, Axis, array};

    #[test]
    fn arrays_come_and_go() {
        let array = array![[1i32, 2, 3], [4, 5, 6]];
        let view = TensorView::try_from(&array).unwrap();
        assert_eq!((view.shape(), view.as_slice::<i32>()), ([2, 3].into(), Some(&[1, 2, 3, 4, 5, 6][..])));
        assert_eq!(view.array::<i32>().unwrap(), array.view().into_dyn());
        assert!(view.array::<f32>().is_none());
        let tensor = Tensor::try_from(array.clone()).unwrap();
        assert_eq!(tensor.clone().into_array::<i32>().unwrap(), array.into_dyn());
        assert_eq!(tensor.clone().into_array::<u8>().unwrap_err(), tensor);
    }

    #[test]
    fn other_orders_are_refused_or_copied() {
        let array = array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let turned = array.t();
        assert!(matches!(TensorView::try_from(&turned), Err(TensorError::Layout { .. })));
        let owned: Array2<f32> = turned.to_owned();
        let tensor = Tensor::try_from(owned).unwrap();
        assert_eq!(tensor.as_slice::<f32>().unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let tail = array.index_axis_move(Axis(0), 1);
        assert_eq!(Tensor::try_from(tail).unwrap().as_slice::<f32>().unwrap(), [4.0, 5.0, 6.0]);
        let scalar = ::ndarray::arr0(7.0f64);
        assert_eq!(TensorView::try_from(&scalar).unwrap().shape(), Shape::SCALAR);
    }
}
