//! Sessions over interchangeable backends.
#![forbid(unsafe_code)]
