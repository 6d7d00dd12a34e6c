//! Runs Core ML models on any machine.
#![forbid(unsafe_code)]
