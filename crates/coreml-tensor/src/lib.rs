//! The vocabulary every crate shares: [`DType`], [`Shape`], [`Tensor`] and [`TensorView`].
//!
//! Tensors are dense and row-major, own a typed `Vec`, and never alias. There is no arithmetic here; that is in
//! `coreml-kernels`.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bytes;
mod dtype;
#[cfg(feature = "ndarray")]
mod ndarray;
#[cfg(feature = "npz")]
pub mod npz;
#[cfg(feature = "serde")]
mod serde;
mod shape;
mod tensor;

pub use dtype::{DType, Element};
pub use half::f16;
pub use shape::{MAX_RANK, Shape, ShapeError};
pub use tensor::{Data, DataView, Tensor, TensorError, TensorView};
