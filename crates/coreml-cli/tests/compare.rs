//! `coreml compare` against a file, another model, another plan and another backend.
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use coreml_anywhere::tensor::npz::{self, Array};
use coreml_anywhere::tensor::{Shape, Tensor};
use serde_json::Value as Json;

fn repository(path: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    path.to_str().unwrap().to_owned()
}

fn golden(name: &str) -> String {
    repository(&format!("tests/golden/{name}.mlmodel"))
}

/// What the command says, errors included, and its exit code.
fn compare(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_coreml")).arg("compare").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout) + &text(output.stderr), output.status.code())
}

fn report(arguments: &[&str]) -> (Json, Option<i32>) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_coreml")).args(["compare", "--json"]).args(arguments).output().unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code())
}

#[test]
fn exactly_one_thing_is_compared_with() {
    let model = golden("elementwise/add-same");
    let (told, code) = compare(&[&model]);
    assert!(code == Some(2) && told.contains("--with") && told.contains("--plans"), "{told}");
    for two in [["--plans", "--backends"].as_slice(), &["--plans", "--with", &model], &["--plans", "--backend", "cpu"]]
    {
        let (told, code) = compare(&[&[model.as_str()], two].concat());
        assert!(code == Some(2) && told.contains("cannot be used with"), "{two:?}: {told}");
    }
}

#[test]
fn another_model_answers_the_same_inputs() {
    let model = golden("elementwise/add-same");
    let (told, code) = compare(&[&model, "--with", &model]);
    assert!(code == Some(0) && told.contains("agrees") && told.contains("relative L2"), "{told}");
    let other = golden("elementwise/sub-same");
    let (told, code) = report(&[&model, "--with", &other]);
    assert_eq!(code, Some(1), "{told}");
    assert_eq!((&told["expected"], &told["found"]), (&"add-same.mlmodel".into(), &other.clone().into()));
    let output = &told["outputs"][0];
    assert_eq!(output["agrees"], false);
    // Noise decides how far a sum is from a difference; another seed's is another distance.
    let (seeded, _) = report(&[&model, "--with", &other, "--seed", "1"]);
    assert_ne!(output["largest"], seeded["outputs"][0]["largest"]);
}

#[test]
fn the_plans_of_a_model_agree() {
    let (told, code) = report(&[&repository("tests/fixtures/speech/AudioEncoder.mlmodelc"), "--plans"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!((&told["expected"], &told["found"]), (&"the reference plan".into(), &"the optimised plan".into()));
    let distance = told["outputs"][0]["relative_l2"].as_f64().unwrap();
    assert!(distance > 0.0 && distance < 1e-4, "the plans are two: {distance}");
}

#[test]
fn one_backend_cannot_be_compared_with_itself() {
    if cfg!(not(feature = "coreml")) {
        let (told, code) = compare(&[&golden("elementwise/add-same"), "--backends"]);
        assert!(code == Some(5) && told.contains("here is only `cpu`") && told.contains("Core ML"), "{told}");
    }
}

/// What a dictionary says does not depend on the order of its entries.
#[test]
fn entries_of_dictionaries_are_compared_by_label() {
    let folder = tempfile::tempdir().unwrap();
    let [given, answer] = ["in.npz", "out.npz"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let input = Array::Tensor(Tensor::new(Shape::from([4]), vec![0.5f64, -1.0, 2.0, 0.25]).unwrap());
    npz::write(&given, [("input", &input)]).unwrap();
    let model = repository("tests/fixtures/classic/tree-three-words.mlmodel");
    let run = ["run", &model, "--inputs", &given, "--output", &answer];
    assert!(Command::new(env!("CARGO_BIN_EXE_coreml")).args(run).status().unwrap().success());
    let mut arrays = npz::read(&answer).unwrap();
    for (name, array) in &mut arrays {
        match array {
            Array::Strings(_, labels) if name.ends_with(".keys") => labels.reverse(),
            Array::Tensor(chances) => {
                let reversed: Vec<f64> = chances.view().to_f64_vec().into_iter().rev().collect();
                *chances = Tensor::new(chances.shape(), reversed).unwrap();
            }
            Array::Strings(..) => {}
        }
    }
    npz::write(&answer, arrays.iter().map(|(name, array)| (name.as_str(), array))).unwrap();
    let (told, code) = compare(&[&model, "--inputs", &given, "--reference", &answer]);
    assert_eq!(code, Some(0), "{told}");
    // With the labels as they were, each number is another class's.
    if let Array::Strings(_, labels) = &mut arrays.iter_mut().find(|(name, _)| name.ends_with(".keys")).unwrap().1 {
        labels.reverse();
    }
    npz::write(&answer, arrays.iter().map(|(name, array)| (name.as_str(), array))).unwrap();
    let (told, code) = compare(&[&model, "--inputs", &given, "--reference", &answer]);
    assert_eq!(code, Some(1), "{told}");
}

#[test]
fn classes_are_ranked() {
    let model = repository("tests/fixtures/classic/tree-three-words.mlmodel");
    let (told, code) = report(&[&model, "--with", &model]);
    assert_eq!(code, Some(0), "{told}");
    let outputs = told["outputs"].as_array().unwrap();
    let ranked: Vec<&Json> = outputs.iter().filter(|output| !output["top_k"].is_null()).collect();
    assert_eq!(ranked.len(), 1, "{told}");
    assert!(ranked[0]["name"].as_str().unwrap().ends_with(".values"), "{told}");
    assert_eq!(ranked[0]["top_k"]["shared"], 1.0);
    // Classes of other names have no ranks in common.
    let other = repository("tests/fixtures/classic/vectors-three-probable.mlmodel");
    let (told, code) = report(&[&model, "--with", &other]);
    assert!(code == Some(1) && told["outputs"].as_array().unwrap().iter().all(|o| o["top_k"].is_null()), "{told}");
    // An array has no classes, but its rows have largest numbers when they are asked for.
    let (add, sub) = (golden("elementwise/add-same"), golden("elementwise/sub-same"));
    let (told, _) = report(&[&add, "--with", &sub]);
    assert!(told["outputs"][0]["top_k"].is_null(), "{told}");
    let (told, _) = report(&[&add, "--with", &sub, "--top-k", "1"]);
    let top = &told["outputs"][0]["top_k"];
    assert!(top["k"] == 1 && top["shared"].as_f64().unwrap() < 1.0, "{told}");
}

/// Rounding to bf16 is a difference between the plans that every processor can make.
#[test]
fn the_operation_that_diverges_is_named_and_cut_out() {
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("found").to_str().unwrap().to_owned();
    let model = golden("conv/conv-1x1-large");
    let plans = [model.as_str(), "--plans", "--per-op"];
    let (told, code) = compare(&plans);
    assert!(code == Some(0) && told.contains("No operation diverges"), "{told}");

    let rounded = ["--low-precision", "always", "--atol", "1", "--rtol", "1"];
    let (told, code) = compare(&[&plans[..], &rounded, &["--cut", &cut]].concat());
    assert!(
        code == Some(1) && told.contains("First divergence: conv bf16") && told.contains("it shows it by itself"),
        "{told}"
    );
    let command = "/model.mlpackage --inputs ";
    assert!(told.contains(command) && told.contains("--plans --per-op --low-precision always"), "{told}");
    assert!(told.contains("error: the plans diverge in conv bf16"), "the outputs are within their tolerances: {told}");
    let (again, code) = compare(&[&plans[..], &rounded, &["--cut", &cut]].concat());
    assert!(code == Some(2) && again.contains("exists already"), "{again}");

    let [shown, inputs, expected] =
        ["model.mlpackage", "inputs.npz", "expected.npz"].map(|name| format!("{cut}/{name}"));
    let (told, code) = report(&[&shown, "--inputs", &inputs, "--plans", "--per-op", "--low-precision", "always"]);
    assert_eq!(code, Some(1), "{told}");
    let first = &told["per_op"]["first"];
    assert!(first["diverges"] == true && first["covers"][0]["kind"] == "conv", "{told}");
    let own = first["own"]["relative_l2"].as_f64().unwrap();
    assert!(own > 1e-4 && told["outputs"][0]["relative_l2"].as_f64().unwrap() > 1e-4, "{told}");
    // A bound that admits the rounding finds nothing, nor does the plan that does not round.
    for more in [&["--low-precision", "always", "--op-l2", "0.1", "--op-largest", "0.1", "--atol", "9"][..], &[]] {
        let (told, code) = compare(&[&[&shown, "--inputs", &inputs, "--plans", "--per-op"], more].concat());
        assert!(code == Some(0) && told.contains("No operation diverges"), "{told}");
    }
    let (told, code) = compare(&[&shown, "--inputs", &inputs, "--reference", &expected, "--backend", "reference"]);
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn what_needs_the_plans_says_so() {
    let model = golden("elementwise/add-same");
    for (alone, why) in [
        (["--backends", "--per-op", "--json"], "cannot be used with"),
        (["--plans", "--cut", "x"], "not provided:\n  --per-op"),
        (["--plans", "--op-l2", "1"], "not provided:\n  --per-op"),
    ] {
        let (told, code) = compare(&[&[model.as_str()], &alone[..]].concat());
        assert!(code == Some(2) && told.contains(why), "{alone:?}: {told}");
    }
    let (told, code) = compare(&[&golden("state/two-states"), "--plans", "--per-op"]);
    assert!(code == Some(0) && told.contains(", and 3 more, could not be judged: it depends on the state"), "{told}");
    let classic = repository("tests/fixtures/classic/tree-three-words.mlmodel");
    let (told, code) = compare(&[&classic, "--plans", "--per-op"]);
    assert!(code == Some(3) && told.contains("has no program, whose operations could diverge"), "{told}");
}
