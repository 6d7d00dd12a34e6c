//! Dense, row-major tensors, owned and borrowed.

use half::f16;

use crate::dtype::{DType, Element};
use crate::shape::{Shape, ShapeError};

/// A tensor that owns its elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Data,
}

/// A borrowed tensor: the form in which callers hand in inputs without copying.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorView<'a> {
    shape: Shape,
    data: DataView<'a>,
}

/// Why a tensor could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The shape needs a different number of elements than were given.
    #[error("shape {shape} has {} elements, {found} were given", shape.count())]
    Count {
        /// The shape asked for.
        shape: Shape,
        /// The number of elements given.
        found: usize,
    },
    /// The elements are not in row-major order.
    #[error("the elements of shape {shape} are not in row-major order")]
    Layout {
        /// The shape.
        shape: Shape,
    },
    /// The shape itself cannot be represented.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The system has no memory for the elements.
    #[error("there is no memory for {} elements of type {dtype}", shape.count())]
    Memory {
        /// The element type asked for.
        dtype: DType,
        /// The shape asked for.
        shape: Shape,
    },
}

macro_rules! data {
    ($($variant:ident($rust:ty)),* $(,)?) => {
        /// The elements of a [`Tensor`].
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Data {
            $(#[doc = concat!("Elements of type `", stringify!($rust), "`.")] $variant(Vec<$rust>),)*
        }

        /// The elements of a [`TensorView`].
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[non_exhaustive]
        pub enum DataView<'a> {
            $(#[doc = concat!("Elements of type `", stringify!($rust), "`.")] $variant(&'a [$rust]),)*
        }

        impl Data {
            /// Borrows the elements.
            pub fn view(&self) -> DataView<'_> {
                match self { $(Self::$variant(values) => DataView::$variant(values),)* }
            }

            fn zeros(dtype: DType, count: usize) -> Self {
                match dtype { $(DType::$variant => Self::$variant(vec![Default::default(); count]),)* }
            }

            /// `None` when there is no memory for them.
            fn try_zeros(dtype: DType, count: usize) -> Option<Self> {
                fn elements<T: Default + Clone>(count: usize) -> Option<Vec<T>> {
                    let mut elements = Vec::new();
                    elements.try_reserve_exact(count).ok()?;
                    elements.resize(count, T::default());
                    Some(elements)
                }
                Some(match dtype { $(DType::$variant => Self::$variant(elements(count)?),)* })
            }
        }

        impl DataView<'_> {
            /// Number of elements.
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(values) => values.len(),)* }
            }

            /// Whether there are no elements.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// The type of the elements.
            pub fn dtype(&self) -> DType {
                match self { $(Self::$variant(_) => DType::$variant,)* }
            }

            /// Copies the elements.
            pub fn to_owned(&self) -> Data {
                match self { $(Self::$variant(values) => Data::$variant(values.to_vec()),)* }
            }
        }
    };
}

data! {
    Bool(bool), Int8(i8), UInt8(u8), Int16(i16), UInt16(u16), Int32(i32), UInt32(u32), Int64(i64), UInt64(u64),
    Float16(f16), Float32(f32), Float64(f64),
}

impl Tensor {
    /// A tensor of `shape` with `values` in row-major order.
    ///
    /// # Errors
    /// [`TensorError::Count`] when the number of values is not the shape's.
    pub fn new<T: Element>(shape: Shape, values: Vec<T>) -> Result<Self, TensorError> {
        Self::from_data(shape, T::wrap(values))
    }

    /// As [`Tensor::new`], with the element type decided at run time.
    ///
    /// # Errors
    /// [`TensorError::Count`] when the number of values is not the shape's.
    pub fn from_data(shape: Shape, data: Data) -> Result<Self, TensorError> {
        let found = data.view().len();
        if shape.count() == found { Ok(Self { shape, data }) } else { Err(TensorError::Count { shape, found }) }
    }

    /// A scalar: rank 0, one element.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self { shape: Shape::SCALAR, data: T::wrap(vec![value]) }
    }

    /// A tensor of zeros (`false` for booleans).
    pub fn zeros(dtype: DType, shape: Shape) -> Self {
        Self { shape, data: Data::zeros(dtype, shape.count()) }
    }

    /// As [`Tensor::zeros`], for a shape that comes from a file and may be too large.
    ///
    /// # Errors
    /// [`TensorError::Memory`] when it is.
    pub fn try_zeros(dtype: DType, shape: Shape) -> Result<Self, TensorError> {
        let data = Data::try_zeros(dtype, shape.count()).ok_or(TensorError::Memory { dtype, shape })?;
        Ok(Self { shape, data })
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.view().dtype()
    }

    /// Borrows the whole tensor.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { shape: self.shape, data: self.data.view() }
    }

    /// The elements, if they are of type `T`.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        T::peek(&self.data.view())
    }

    /// The elements, if they are of type `T`.
    pub fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        T::peek_mut(&mut self.data)
    }

    /// The elements as a `Vec`, if they are of type `T`; the tensor itself otherwise.
    ///
    /// # Errors
    /// Gives the tensor back when its elements are of another type.
    pub fn into_vec<T: Element>(self) -> Result<Vec<T>, Self> {
        let shape = self.shape;
        T::unwrap(self.data).map_err(|data| Self { shape, data })
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`TensorError::Count`] when the number of elements differs.
    pub fn reshape(self, shape: Shape) -> Result<Self, TensorError> {
        Self::from_data(shape, self.data)
    }
}

impl<'a> TensorView<'a> {
    /// A view of `values` under `shape`.
    ///
    /// # Errors
    /// [`TensorError::Count`] when the number of values is not the shape's.
    pub fn new<T: Element>(shape: Shape, values: &'a [T]) -> Result<Self, TensorError> {
        let found = values.len();
        if shape.count() == found {
            Ok(Self { shape, data: T::view(values) })
        } else {
            Err(TensorError::Count { shape, found })
        }
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The elements by type.
    pub fn data(&self) -> DataView<'a> {
        self.data
    }

    /// The elements, if they are of type `T`.
    pub fn as_slice<T: Element>(&self) -> Option<&'a [T]> {
        T::peek(&self.data)
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`TensorError::Count`] when the number of elements differs.
    pub fn reshape(self, shape: Shape) -> Result<Self, TensorError> {
        let found = self.data.len();
        if shape.count() == found { Ok(Self { shape, ..self }) } else { Err(TensorError::Count { shape, found }) }
    }

    /// Copies the tensor.
    pub fn to_tensor(&self) -> Tensor {
        Tensor { shape: self.shape, data: self.data.to_owned() }
    }

    /// Calls `each` with every element as `f64`, in row-major order. Exact for all types but 64-bit integers beyond
    /// 2^53.
    pub fn for_each_f64(&self, mut each: impl FnMut(f64)) {
        match self.data {
            DataView::Bool(v) => v.iter().for_each(|&x| each(f64::from(u8::from(x)))),
            DataView::Int8(v) => v.iter().for_each(|&x| each(f64::from(x))),
            DataView::UInt8(v) => v.iter().for_each(|&x| each(f64::from(x))),
            DataView::Int16(v) => v.iter().for_each(|&x| each(f64::from(x))),
            DataView::UInt16(v) => v.iter().for_each(|&x| each(f64::from(x))),
            DataView::Int32(v) => v.iter().for_each(|&x| each(f64::from(x))),
            DataView::UInt32(v) => v.iter().for_each(|&x| each(f64::from(x))),
            DataView::Int64(v) => v.iter().for_each(|&x| each(x as f64)),
            DataView::UInt64(v) => v.iter().for_each(|&x| each(x as f64)),
            DataView::Float16(v) => v.iter().for_each(|&x| each(f64::from(x))),
            DataView::Float32(v) => v.iter().for_each(|&x| each(f64::from(x))),
            DataView::Float64(v) => v.iter().for_each(|&x| each(x)),
        }
    }

    /// Every element as `f64`, in row-major order.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.data.len());
        self.for_each_f64(|value| values.push(value));
        values
    }
}

impl<'a> From<&'a Tensor> for TensorView<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        tensor.view()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_checked() {
        let error = Tensor::new(Shape::new(&[2, 3]), vec![0f32; 5]).unwrap_err();
        assert_eq!(error.to_string(), "shape [2, 3] has 6 elements, 5 were given");
        assert!(TensorView::new(Shape::new(&[2, 3]), &[0i32; 6]).is_ok());
    }

    #[test]
    fn access_is_typed() {
        let tensor = Tensor::new(Shape::new(&[2]), vec![1i32, -2]).unwrap();
        assert_eq!(tensor.as_slice::<f32>(), None);
        assert_eq!(tensor.as_slice::<i32>(), Some(&[1, -2][..]));
        assert_eq!(tensor.view().to_f64_vec(), [1.0, -2.0]);
        assert_eq!(tensor.into_vec::<f32>().unwrap_err().dtype(), DType::Int32);
    }
}
