//! A weight file, with a valid program that uses everything in it.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use coreml_model::{Limits, Package};
use coreml_model_fuzz::WEIGHTS;
use libfuzzer_sys::fuzz_target;

/// A program with weights of many types; its own weight file is the seed.
static MODEL: LazyLock<Vec<u8>> = LazyLock::new(|| coreml_model_fuzz::weighty().0);

fuzz_target!(|bytes: &[u8]| {
    let blobs = BTreeMap::from([(WEIGHTS.to_owned(), bytes.to_vec())]);
    let _ = Package::from_parts(&MODEL, Some(blobs), &Limits::default());
});
