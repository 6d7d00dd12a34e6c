//! `coreml compare` against a file, another model, another plan and another backend.
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

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

#[test]
fn classes_are_ranked() {
    let model = repository("tests/fixtures/classic/pipeline-program-and-tree.mlmodel");
    let (told, code) = report(&[&model, "--with", &model]);
    assert_eq!(code, Some(0), "{told}");
    let outputs = told["outputs"].as_array().unwrap();
    let ranked: Vec<&Json> = outputs.iter().filter(|output| !output["top_k"].is_null()).collect();
    assert_eq!(ranked.len(), 1, "{told}");
    assert!(ranked[0]["name"].as_str().unwrap().ends_with(".values"), "{told}");
    assert_eq!(ranked[0]["top_k"]["shared"], 1.0);
    // An array has no classes, but its rows have largest numbers when they are asked for.
    let (add, sub) = (golden("elementwise/add-same"), golden("elementwise/sub-same"));
    let (told, _) = report(&[&add, "--with", &sub]);
    assert!(told["outputs"][0]["top_k"].is_null(), "{told}");
    let (told, _) = report(&[&add, "--with", &sub, "--top-k", "1"]);
    let top = &told["outputs"][0]["top_k"];
    assert!(top["k"] == 1 && top["shared"].as_f64().unwrap() < 1.0, "{told}");
}
