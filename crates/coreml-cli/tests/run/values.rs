//! How `--json` prints values.

use serde_json::json;

use super::models::{Constant, constants};
use super::{Scratch, numbers, run};

#[test]
fn small_outputs_are_whole_and_large_ones_have_their_place() {
    let scratch = Scratch::new();
    let values: Vec<f32> = (0..65).map(|i| i as f32 * 0.1).collect();
    let small = Constant { name: "small", shape: &[8, 8], values: &values[..64] };
    let large = Constant { name: "large", shape: &[65], values: &values };
    let model = scratch.file("m.mlmodel", constants([4, 4], &[small, large], &[]).bytes());
    let given = format!("image={}", scratch.picture("p.png", 4, 4, [0; 3]));
    let shown = run(&model, &["--input", &given, "--json"]).json();
    let outputs = &shown["predictions"][0]["outputs"];
    let whole = outputs["small"]["values"].as_array().unwrap();
    assert_eq!((whole.len(), &whole[3]), (64, &json!(0.3)), "in the fewest digits");
    assert_eq!(outputs["small"]["shape"], json!([8, 8]));
    assert_eq!(outputs["large"].get("values"), None);
    assert_eq!(outputs["large"].get("file"), None);
    let file = scratch.text("out.npz");
    let shown = run(&model, &["--input", &given, "--json", "-o", &file]).json();
    let large = &shown["predictions"][0]["outputs"]["large"];
    assert_eq!((&large["file"], &large["array"]), (&json!(file), &json!("large")));
    assert_eq!(numbers(&file, "large").len(), 65);
}

#[test]
fn what_is_not_finite_is_null() {
    let scratch = Scratch::new();
    let values = [1.0, f32::NAN, f32::INFINITY];
    let model = constants([4, 4], &[Constant { name: "y", shape: &[3], values: &values }], &[]);
    let model = scratch.file("m.mlmodel", model.bytes());
    let given = format!("image={}", scratch.picture("p.png", 4, 4, [0; 3]));
    let shown = run(&model, &["--input", &given, "--json"]).json();
    assert_eq!(shown["predictions"][0]["outputs"]["y"]["values"], json!([1.0, null, null]));
}

#[test]
fn texts_and_numbers_are_given_in_the_call() {
    use coreml_testing::wire::{Message, Type, feature, model};

    let scratch = Scratch::new();
    let parameters = Message::new().strings(1, &["red", "green"]);
    let encoder = model(600, &parameters, &[feature("x", Type::String)], &[feature("y", Type::Array(&[2]))], &[]);
    let encoder = scratch.file("m.mlmodel", encoder.bytes());
    for arguments in [["--text", "x=green"], ["--input", "x=@green"]] {
        let shown = run(&encoder, &[arguments[0], arguments[1], "--json"]).json();
        assert_eq!(shown["predictions"][0]["outputs"]["y"]["values"], json!([0.0, 1.0]));
    }
    run(&encoder, &["--text", "x"]).refused(2, &["NAME=STRING"]);
}
