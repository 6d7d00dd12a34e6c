//! The files of a package or of a compiled model.
#![no_main]

use coreml_model::{Limits, Package};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Package::from_files(coreml_model_fuzz::files(bytes), &Limits::default());
});
