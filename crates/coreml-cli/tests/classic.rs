//! Classic models on the command line: dictionaries go in and out as two arrays, sequences as one, and pipelines show their
//! members.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use coreml_anywhere::tensor::npz::{self, Array};
use coreml_anywhere::tensor::{Shape, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/classic").join(name)
}

/// What the command prints, and its exit code.
fn coreml(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_coreml")).args(arguments).output().unwrap();
    (
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        output.status.code(),
    )
}

fn strings(values: &[&str]) -> Array {
    Array::Strings([values.len()].into(), values.iter().map(|&value| value.to_owned()).collect())
}

#[test]
fn a_dictionary_is_two_arrays() {
    let folder = tempfile::tempdir().unwrap();
    let [given, answer] = ["in.npz", "out.npz"].map(|name| folder.path().join(name));
    let counts = Array::Tensor(Tensor::new(Shape::from([2]), vec![1.0f64, 3.0]).unwrap());
    npz::write(&given, [("words.keys", &strings(&["good", "day"])), ("words.values", &counts)]).unwrap();
    let model = fixture("pipeline-words.mlmodel");
    let arguments = [model.to_str().unwrap(), "--inputs", given.to_str().unwrap()];
    let (told, code) = coreml(&["run", arguments[0], arguments[1], arguments[2]]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("happy"), "{told}");
    let saved = ["run", arguments[0], arguments[1], arguments[2], "--output", answer.to_str().unwrap()];
    assert_eq!(coreml(&saved).1, Some(0));
    let arrays = npz::read(&answer).unwrap();
    let names: Vec<_> = arrays.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["feeling", "classProbability.keys", "classProbability.values"]);
    assert_eq!(arrays[1].1, strings(&["happy", "sad"]));
}

#[test]
fn a_pipeline_shows_its_type_and_its_members() {
    let model = fixture("pipeline-program-and-tree.mlmodel");
    let (told, code) = coreml(&["inspect", model.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{told}");
    for words in ["pipelineRegressor", "1  mlProgram", "2  scaler", "3  treeEnsembleRegressor", "mixed -> y"] {
        assert!(told.contains(words), "{told}\ndoes not show {words}");
    }
    let (told, _) = coreml(&["inspect", "--json", model.to_str().unwrap()]);
    let shown: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(shown["members"][2]["type"], "treeEnsembleRegressor");
    let (told, _) = coreml(&["inspect", "--stage", "plan", model.to_str().unwrap()]);
    assert!(told.contains("%y = treeEnsembleRegressor(%mixed)"), "{told}");
    let (told, code) = coreml(&["ops", model.to_str().unwrap()]);
    assert!(code == Some(0) && told.contains("linear"), "{told}");
    let (told, code) = coreml(&["ops", fixture("tree-three-words.mlmodel").to_str().unwrap()]);
    assert!(code == Some(0) && told.contains("`treeEnsembleClassifier`, which needs no operations"), "{told}");
}

#[test]
fn one_output_may_have_a_tolerance_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let [given, answer] = ["in.npz", "out.npz"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let counts = Array::Tensor(Tensor::new(Shape::from([2]), vec![1.0f64, 3.0]).unwrap());
    npz::write(&given, [("words.keys", &strings(&["good", "day"])), ("words.values", &counts)]).unwrap();
    let model = fixture("pipeline-words.mlmodel");
    let model = model.to_str().unwrap();
    assert_eq!(coreml(&["run", model, "--inputs", &given, "--output", &answer]).1, Some(0));
    let mut arrays = npz::read(&answer).unwrap();
    let Array::Tensor(chances) = &arrays[2].1 else { panic!("{arrays:?}") };
    let moved = chances.view().to_f64_vec().iter().map(|chance| chance + 0.01).collect();
    arrays[2].1 = Array::Tensor(Tensor::new::<f64>(chances.shape(), moved).unwrap());
    npz::write(&answer, arrays.iter().map(|(name, array)| (name.as_str(), array))).unwrap();

    let compare =
        |more: &[&str]| coreml(&[&["compare", model, "--inputs", &given, "--reference", &answer], more].concat());
    let (told, code) = compare(&[]);
    assert!(code == Some(1) && told.contains("1 of 3 outputs differ: classProbability.values"), "{told}");
    let (told, code) = compare(&["--json", "--tolerance", "classProbability.values=0.02,0"]);
    assert_eq!(code, Some(0), "{told}");
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    let output = &report["outputs"][2];
    assert_eq!((&output["atol"], &output["rtol"]), (&0.02.into(), &0.0.into()), "{told}");
    for measure in ["largest", "rmse", "relative_l2", "snr_db"] {
        assert!(output[measure].is_f64(), "{measure}: {told}");
    }
    let (told, code) = compare(&["--tolerance", "classProbability.values=0.001,0"]);
    assert_eq!(code, Some(1), "{told}");
    let (told, code) = compare(&["--tolerance", "probability=0.02,0"]);
    assert!(code == Some(2) && told.contains("has no `probability`"), "{told}");
}
