//! `coreml inspect`: the size of a model's weights, the cost of a prediction, and pictures of its operations.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

use serde_json::{Value as Json, json};

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).to_str().unwrap().to_owned()
}

fn inspect(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_coreml")).arg("inspect").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout) + &text(output.stderr), output.status.code())
}

fn report(model: &str) -> Json {
    let (told, code) = inspect(&[&repository(model), "--json"]);
    assert_eq!(code, Some(0), "{told}");
    serde_json::from_str(&told).unwrap()
}

/// Types, forms and sizes of the weights of golden cases. Each number follows from the shapes that the case is made with.
#[test]
fn weights_are_told_by_type_and_compression() {
    let cases = [
        ("conv/conv-1x1-large", "fp32", "fp32"),
        ("compression/constexpr_affine_dequantize-uint8-axis0", "fp32", "uint8 affine"),
        ("compression/constexpr_affine_dequantize-int8-axis0-f16", "fp16", "int8 affine"),
        ("compression/constexpr_blockwise_shift_scale-int4", "fp32", "int4 block-wise"),
        ("compression/constexpr_blockwise_shift_scale-uint8-offset-f16", "fp16", "uint8 block-wise"),
        ("compression/chain-int8-table", "fp32", "palette of 4 bits, int8 table"),
        ("compression/chain-lut_to_sparse", "fp32", "palette of 2 bits, sparse"),
        ("compression/chain-sparse_blockwise_shift_scale", "fp32", "int8 block-wise, sparse"),
    ];
    for (case, ty, stored) in cases {
        let told = report(&format!("tests/golden/{case}.mlmodel"));
        let kinds = told["weights"]["kinds"].as_array().unwrap();
        let found: Vec<_> = kinds.iter().map(|kind| (&kind["type"], &kind["stored"])).collect();
        assert!(found.contains(&(&ty.into(), &stored.into())), "{case}: {found:?}");
        for kind in kinds {
            let number = |name: &str| kind[name].as_u64().unwrap();
            let size = if kind["type"] == "fp16" { 2 } else { 4 };
            assert_eq!(number("dense_bytes"), size * number("elements"), "{case}: {kind}");
            assert!(
                number("count") > 0 && number("stored_bytes") <= told["size_bytes"].as_u64().unwrap(),
                "{case}: {kind}"
            );
        }
    }
}

#[test]
fn work_is_told_without_a_prediction() {
    let told = report("tests/golden/conv/conv-1x1-large.mlmodel");
    assert_eq!(told["operations"], json!([{"count": 1, "name": "conv"}]));
    assert!(told["plan"]["flops"].as_u64().unwrap() > 0 && told["plan"]["steps_untold"] == 0, "{told}");
    // The profile, which runs the model, counts the same.
    let model = repository("tests/golden/conv/conv-1x1-large.mlmodel");
    let profile = ["bench", &model, "-n", "1", "--warmup", "0", "--profile", "--json", "--threads", "1"];
    let output = Command::new(env!("CARGO_BIN_EXE_coreml")).args(profile).output().unwrap();
    let profile: Json = serde_json::from_slice(&output.stdout).unwrap();
    let all = &profile["profiles"][0]["all"];
    assert_eq!((&all["flops"], &all["bytes"]), (&told["plan"]["flops"], &told["plan"]["bytes"]), "{all}");
    assert_eq!(all["steps"], told["plan"]["steps"]);

    let classic = report("tests/fixtures/classic/boosted-two.mlmodel");
    assert!(classic["plan"]["unavailable"].is_string() && classic["operations"] == json!([]), "{classic}");
    assert!(classic["weights"]["notes"][0].as_str().unwrap().contains("treeEnsembleClassifier"), "{classic}");
}

#[test]
fn a_model_without_weights_is_still_described() {
    let scratch = tempfile::tempdir().unwrap();
    let from = repository("tests/golden/package/functions.mlpackage");
    let to = scratch.path().join("bare.mlpackage");
    for entry in ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel"] {
        std::fs::create_dir_all(to.join(entry).parent().unwrap()).unwrap();
        std::fs::copy(Path::new(&from).join(entry), to.join(entry)).unwrap();
    }
    let (told, code) = inspect(&[to.to_str().unwrap()]);
    assert!(code == Some(0) && told.contains("warning: shown without weights"), "{told}");
    assert!(told.contains("\nweights\n") && told.contains("not told: "), "{told}");
}

#[test]
fn the_form_of_a_picture_is_the_end_of_its_name() {
    let scratch = tempfile::tempdir().unwrap();
    let model = repository("tests/golden/state/accumulator.mlmodel");
    for (name, begins) in [("a.svg", "<?xml "), ("a.dot", "digraph "), ("a.html", "<!doctype html>")] {
        let path = scratch.path().join(name);
        let (told, code) = inspect(&[&model, "--stage", "program", "--graph", path.to_str().unwrap()]);
        assert!(code == Some(0) && told.contains("operations in 0 scopes"), "{told}");
        assert!(std::fs::read_to_string(path).unwrap().starts_with(begins), "{name}");
    }
    let nowhere = scratch.path().join("no folder/a.svg");
    let (told, code) = inspect(&[&model, "--graph", nowhere.to_str().unwrap()]);
    assert!(code == Some(3) && told.contains("cannot write"), "{told}");
}
