//! A model file, or an archive of a model: manifest, budget of the wire format, decoding.
#![no_main]

use coreml_model::{Limits, Package};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(package) = Package::from_bytes(bytes, &Limits::default()) {
        // What is read can be printed.
        package.stages().iter().for_each(|stage| drop(stage.program().to_string()));
    }
});
