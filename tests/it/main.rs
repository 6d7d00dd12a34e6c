//! Integration tests of the whole workspace, in one binary.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "the helpers of tests fail loudly and say what they saw")]

mod photos;
mod session;
mod tidy;
