//! CPU arithmetic on slices: matrix products, convolutions, element-wise functions.
//!
//! This crate knows slices, sizes and strides; its callers know tensors and operations. Images are channels-last,
//! values are `f32`. Every kernel is written once over [`simd::Simd`] and runs on the [`Isa`] it is given; work is
//! divided over a [`ThreadPool`] in a way that never changes a result; nothing here allocates while a model runs,
//! except the twins in [`mod@reference`], which exist to be obviously right.
//!
//! Callers must pass the right lengths: a slice that does not fit the sizes given with it is a panic, not an error.

#![warn(missing_docs)]

pub mod activation;
mod aligned;
pub mod binary;
pub mod conv;
pub mod elementwise;
pub mod gemm;
pub mod image;
pub mod norm;
pub mod parallel;
mod peak;
pub mod pool;
pub mod recurrent;
pub mod reduce;
pub mod reference;
pub mod simd;
pub mod softmax;
pub mod transpose;

pub use activation::Activation;
pub use parallel::ThreadPool;
pub use peak::{bf16_pays, peak_flops};
pub use simd::Isa;
