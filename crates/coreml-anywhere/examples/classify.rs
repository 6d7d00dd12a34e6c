//! What is on a photograph, in as few lines as it takes. Runs wherever the crate builds, under a WebAssembly runtime too.
//!
//! ```console
//! $ cargo run --release --example classify -- EfficientNetLite0.mlpackage coffee.png
//! ```

#![allow(clippy::print_stdout, reason = "printing is what this program does")]

use std::error::Error;

use coreml_anywhere::{Image, Inputs, Session, isa};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(photo)) = (arguments.next(), arguments.next()) else {
        return Err("usage: classify MODEL PHOTO".into());
    };
    let session = Session::open(model)?;
    let photo = Image::open(photo)?;
    let answer = session.predict(&Inputs::new().image("image", &photo))?;
    for (label, probability) in answer.top(3) {
        println!("{label} {probability:.4}");
    }
    println!("answered by {} ({})", answer.served_by(), isa());
    Ok(())
}
