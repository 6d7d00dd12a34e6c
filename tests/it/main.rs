//! Integration tests of the whole workspace, in one binary.
#![forbid(unsafe_code)]

mod photos;
mod session;
mod tidy;
