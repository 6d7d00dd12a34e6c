//! The Core ML backend: a C ABI to the Swift bridge.
