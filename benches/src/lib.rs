//! Criterion benchmarks, in `benches/`: kernels, models, and what a session costs beyond the model.
//!
//! Times of one machine and hour compare with each other only; `scripts/peers.py` compares with other engines.
#![forbid(unsafe_code)]
