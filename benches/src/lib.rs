//! Benchmarks live in `benches`; `cargo bench -p coreml-benches` runs them.
