//! Integration tests of the whole workspace, in one binary.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

mod compiled;
mod divergence;
mod embedding;
mod guide;
mod hostile;
mod later;
mod met;
mod photos;
mod pictures;
mod resilience;
mod session;
mod states;
mod tidy;
