//! Writes the protobuf code that is checked in: `coreml-model`'s messages and `coreml-server`'s gRPC services.
//!
//! Only a change to one of the `.proto` files calls for a run: `cargo run --manifest-path scripts/codegen/Cargo.toml`

use std::error::Error;
use std::path::{Path, PathBuf};

use prost_build::{Config, Module};

fn main() -> Result<(), Box<dyn Error>> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let mut config = Config::new();
    // Models of other types than programs stay as they are, and share the memory of their file.
    config.btree_map(["."]).bytes([".coreml.Model"]).format(true).disable_comments(["."]);
    write(&mut config, &crates.join("coreml-model"), "coreml", "src/proto/generated.rs")?;

    let mut config = Config::new();
    config.btree_map(["."]).bytes(["."]).format(true).disable_comments(["."]);
    let service = tonic_prost_build::configure().build_transport(false).service_generator();
    config.service_generator(service);
    write(&mut config, &crates.join("coreml-server"), "inference", "src/grpc/generated.rs")?;
    write(&mut config, &crates.join("coreml-server"), "health", "src/grpc/health/generated.rs")
}

/// Writes what `proto/NAME.proto` of a crate describes to its file `to`.
fn write(config: &mut Config, of: &Path, name: &str, to: &str) -> Result<(), Box<dyn Error>> {
    let proto: PathBuf = format!("{name}.proto").into();
    let descriptors = protox::compile([&proto], [of.join("proto")])?;
    let requests: Vec<_> =
        descriptors.file.into_iter().map(|file| (Module::from_protobuf_package_name(name), file)).collect();
    let code = config.generate(requests)?.into_values().collect::<String>();
    let header = format!("// Generated from proto/{name}.proto by scripts/codegen. Do not edit.\n");
    std::fs::write(of.join(to), header + &code)?;
    Ok(())
}
