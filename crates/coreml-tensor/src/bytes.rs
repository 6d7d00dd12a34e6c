//! Tensors as their bytes in memory, for handing them to another process of the same machine.

use crate::dtype::DType;
use crate::shape::Shape;
use crate::tensor::{Data, DataView, Tensor, TensorError, TensorView};

impl<'a> TensorView<'a> {
    /// The elements in row-major order, each in the machine's own byte order; booleans as 0 or 1.
    pub fn as_bytes(&self) -> &'a [u8] {
        macro_rules! cast {
            ($($variant:ident)*) => {
                match self.data() { $(DataView::$variant(values) => bytemuck::cast_slice(values),)* }
            };
        }
        cast!(Bool Int8 UInt8 Int16 UInt16 Int32 UInt32 Int64 UInt64 Float16 Float32 Float64)
    }
}

impl Tensor {
    /// The tensor whose elements are `bytes`, as [`TensorView::as_bytes`] gives them. Any byte but 0 is true.
    ///
    /// # Errors
    /// [`TensorError::Count`] when there are not as many bytes as the shape's elements have.
    pub fn from_bytes(dtype: DType, shape: Shape, bytes: &[u8]) -> Result<Self, TensorError> {
        if !bytes.len().is_multiple_of(dtype.size()) {
            return Err(TensorError::Count { shape, found: bytes.len() / dtype.size() });
        }
        macro_rules! collect {
            ($($variant:ident)*) => {
                match dtype {
                    DType::Bool => Data::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
                    $(DType::$variant => Data::$variant(bytemuck::allocation::pod_collect_to_vec(bytes)),)*
                }
            };
        }
        let data = collect!(Int8 UInt8 Int16 UInt16 Int32 UInt32 Int64 UInt64 Float16 Float32 Float64);
        Self::from_data(shape, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    fn round_trips(tensor: &Tensor) {
        let bytes = tensor.view().as_bytes();
        assert_eq!(bytes.len(), tensor.shape().count() * tensor.dtype().size());
        assert_eq!(&Tensor::from_bytes(tensor.dtype(), tensor.shape(), bytes).unwrap(), tensor);
    }

    #[test]
    fn every_type_survives() {
        let shape = Shape::new(&[3]);
        macro_rules! each {
            ($($values:expr),*) => { $(round_trips(&Tensor::new(shape, $values.to_vec()).unwrap());)* };
        }
        each!([true, false, true], [-1i8, 0, 1], [0u8, 1, 255], [-1i16, 0, i16::MAX], [0u16, 1, u16::MAX]);
        each!([-1i32, 0, i32::MAX], [0u32, 1, u32::MAX], [-1i64, 0, i64::MAX], [0u64, 1, u64::MAX]);
        each!([f16::ONE, f16::MIN, f16::INFINITY], [1.0f32, -0.5, f32::MAX], [1.0f64, -0.5, f64::MAX]);
    }

    #[test]
    fn the_count_is_checked() {
        let shape = Shape::new(&[2]);
        assert!(Tensor::from_bytes(DType::Float32, shape, &[0; 7]).is_err());
        assert!(Tensor::from_bytes(DType::Float32, shape, &[0; 12]).is_err());
    }
}
