//! Writes `crates/coreml-model/src/proto/generated.rs` from `crates/coreml-model/proto/coreml.proto`.
//!
//! The generated file is checked in, so only a change to the `.proto` calls for a run:
//! `cargo run --manifest-path scripts/codegen/Cargo.toml`

use std::error::Error;
use std::path::Path;

const HEADER: &str = "// Generated from proto/coreml.proto by scripts/codegen. Do not edit.\n";

fn main() -> Result<(), Box<dyn Error>> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/coreml-model");
    let descriptors = protox::compile(["coreml.proto"], [model.join("proto")])?;
    let requests: Vec<_> = descriptors
        .file
        .into_iter()
        .map(|file| (prost_build::Module::from_protobuf_package_name("coreml"), file))
        .collect();
    let mut config = prost_build::Config::new();
    config.btree_map(["."]).format(true).disable_comments(["."]);
    let code = config.generate(requests)?.into_values().collect::<String>();
    std::fs::write(model.join("src/proto/generated.rs"), format!("{HEADER}{code}"))?;
    Ok(())
}
