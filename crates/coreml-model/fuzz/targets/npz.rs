//! NumPy's array files, which are read from a path.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("coreml-fuzz-{}.npz", std::process::id()));
    if std::fs::write(&path, bytes).is_ok() {
        let _ = coreml_tensor::npz::read(&path);
    }
});
