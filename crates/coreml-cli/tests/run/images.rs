//! Outputs that are images.

use super::{Scratch, numbers, repository, run};

fn model() -> String {
    repository("tests/golden/interface/image-in-and-out.mlmodel")
}

fn pixels(file: std::path::PathBuf) -> Vec<f64> {
    image::open(file).unwrap().to_rgb8().into_raw().into_iter().map(f64::from).collect()
}

#[test]
fn images_are_written_as_they_are() {
    let scratch = Scratch::new();
    let given = format!("image={}", repository("tests/fixtures/images/coffee.png"));
    let (folder, saved) = (scratch.text("new/folder"), scratch.text("out.npz"));
    let done = run(&model(), &["--input", &given, "--images", &folder, "-o", &saved]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let written = pixels(scratch.path("new/folder/negative.png"));
    assert_eq!(written.len(), 5 * 4 * 3);
    assert_eq!(written, numbers(&saved, "negative"));
}

#[test]
fn images_of_several_predictions_have_names_of_their_own() {
    let scratch = Scratch::new();
    scratch.picture("in/dark.png", 8, 8, [10; 3]);
    scratch.picture("in/light.png", 8, 8, [250; 3]);
    scratch.picture("in/light.bmp", 8, 8, [240; 3]);
    scratch.picture("in/light-2.png", 8, 8, [230; 3]);
    let (given, folder) = (format!("image={}", scratch.text("in")), scratch.text("out"));
    assert_eq!(run(&model(), &["--input", &given, "--images", &folder]).code, Some(0));
    assert_eq!(pixels(scratch.path("out/dark-negative.png"))[0], 245.0);
    // Two pictures of one name, which have their numbers, and one that is called as one of them would be with its number.
    assert_eq!(pixels(scratch.path("out/light-2-negative.png"))[0], 25.0);
    assert_eq!(pixels(scratch.path("out/light-2-2-negative.png"))[0], 15.0);
    assert_eq!(pixels(scratch.path("out/light-3-negative.png"))[0], 5.0);
}

#[test]
fn half_precision_grey_is_stretched() {
    let scratch = Scratch::new();
    let model = repository("tests/golden/interface/image-out-grayscale-float16.mlmodel");
    let case = repository("tests/golden/interface/image-out-grayscale-float16.npz");
    let arrays = coreml_anywhere::tensor::npz::read(case).unwrap();
    let inputs: Vec<_> = arrays.iter().filter_map(|(name, array)| Some((name.strip_prefix("in:")?, array))).collect();
    assert_eq!(inputs.len(), 1);
    let given = scratch.path("in.npz");
    coreml_anywhere::tensor::npz::write(&given, inputs).unwrap();
    let folder = scratch.text("out");
    let done = run(&model, &["--inputs", given.to_str().unwrap(), "--images", &folder, "--json"]);
    let shown = done.json();
    let name = shown["predictions"][0]["outputs"].as_object().unwrap().keys().next().unwrap().clone();
    let gray = image::open(scratch.path("out").join(format!("{name}.png"))).unwrap().to_luma8().into_raw();
    assert_eq!((gray.iter().min(), gray.iter().max()), (Some(&0), Some(&255)));
}

#[test]
fn a_model_without_images_is_told() {
    let scratch = Scratch::new();
    let model = repository("tests/golden/interface/image-in-rgb.mlmodel");
    run(&model, &["--images", &scratch.text("out")]).refused(3, &["--images"]);
    assert!(!scratch.path("out").exists());
}
