//! Classifies a photograph with the engine alone: no session, no threads, so that it runs under a WebAssembly runtime
//! too.
//!
//! ```console
//! $ cargo run --release -p coreml-engine --example classify -- EfficientNetLite0.mlpackage coffee.png
//! ```

#![allow(clippy::print_stdout, reason = "printing is what this program does")]

use std::error::Error;
use std::sync::Arc;

use coreml_core::{Backend, Image, Inputs, LoadOptions, check};
use coreml_engine::{CpuBackend, isa};
use coreml_model::Package;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(photo)) = (arguments.next(), arguments.next()) else {
        return Err("usage: classify MODEL PHOTO".into());
    };
    let package = Arc::new(Package::open(model)?);
    let photo = Image::open(photo)?;
    let inputs = Inputs::new().image("image", &photo);
    let inputs = check(package.interface(None)?, &inputs)?;
    let model = CpuBackend::default().load(&package, &LoadOptions::default())?;
    for (label, probability) in model.predict(&inputs, None)?.top(3) {
        println!("{label} {probability:.4}");
    }
    println!("computed with {}", isa());
    Ok(())
}
