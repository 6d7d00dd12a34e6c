//! Data types, shapes and tensors shared by every crate of coreml-anywhere.
#![forbid(unsafe_code)]
