//! The whole chain: Rust, the C ABI, Swift, the stand-in for Core ML, the CPU engine, and back.
//!
//! There is one stand-in for the process, so these tests take turns.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod faults;
mod features;
mod models;
mod support;
mod threads;
