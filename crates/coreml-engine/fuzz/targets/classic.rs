//! Models of classic types, and pipelines.
#![no_main]

use coreml_anywhere::model::Content;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|bytes: &[u8]| coreml_engine_fuzz::answer(bytes, |content| matches!(
    content,
    Content::Classic(_) | Content::Pipeline(_)
)));

fuzz_mutator!(|bytes: &mut [u8], size: usize, most: usize, seed: u32| {
    coreml_engine_fuzz::change(bytes, size, most, seed)
});
