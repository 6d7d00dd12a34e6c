//! Reads Core ML model packages into a validated program and interface.
#![forbid(unsafe_code)]
