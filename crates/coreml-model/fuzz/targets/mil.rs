//! The text of a compiled program.
#![no_main]

use coreml_model::{Limits, Package};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let files = [("model.mil".to_owned(), bytes.to_vec())];
    let _ = Package::from_files(files, &Limits::default());
});
