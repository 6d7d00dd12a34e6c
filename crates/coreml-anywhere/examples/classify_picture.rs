//! The shortest program that says what is in a picture.
//!
//! ```console
//! $ cargo run --release --example classify_picture -- tests/fixtures/models/EfficientNetLite0.mlpackage photo.jpg
//! ```
#![allow(clippy::print_stdout, reason = "what it says is its purpose")]

use std::error::Error;

use coreml_anywhere::model::FeatureKind;
use coreml_anywhere::{Image, Inputs, Prediction, Session};

/// Has a classifier look at a picture, whatever its input is called.
fn classify(model: &str, picture: &str) -> Result<Prediction, Box<dyn Error>> {
    let session = Session::open(model)?;
    let mut inputs = session.interface().inputs.iter();
    let input = inputs.find(|feature| matches!(feature.kind, FeatureKind::Image(_)));
    let name = &input.ok_or("the model takes no picture")?.name;
    // Turned upright, cropped in the middle, and resized to what the model takes.
    let picture = Image::open(picture)?;
    Ok(session.predict(&Inputs::new().image(name, &picture))?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, picture] = arguments.as_slice() else { return Err("usage: classify_picture MODEL PICTURE".into()) };
    for (label, probability) in classify(model, picture)?.top(3) {
        println!("{label}  {:.1} %", 100.0 * probability);
    }
    Ok(())
}

#[test]
fn a_cat_is_a_cat() -> Result<(), Box<dyn Error>> {
    let fixture = |path: &str| format!("{}/../../tests/fixtures/{path}", env!("CARGO_MANIFEST_DIR"));
    let [model, picture] = ["models/EfficientNetLite0.mlpackage", "images/chelsea.png"].map(fixture);
    let answer = classify(&model, &picture)?;
    let labels: Vec<String> = answer.top(2).iter().map(|(label, _)| label.to_string()).collect();
    assert_eq!(labels, ["tiger cat", "Egyptian cat"]);
    assert!(classify(&fixture("classic/boosted-two.mlmodel"), &picture).is_err(), "it takes numbers");
    Ok(())
}
