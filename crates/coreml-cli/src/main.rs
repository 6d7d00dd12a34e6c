//! The `coreml` command.
#![forbid(unsafe_code)]

fn main() {}
