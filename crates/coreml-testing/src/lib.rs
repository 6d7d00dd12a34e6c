//! Test support: cases, tolerances, npz files.
#![forbid(unsafe_code)]
