//! The command's output for programs: errors as JSON, completions for shells, manual pages, the doctor's self-test, and
//! a schema for every document.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;

const VERBS: [&str; 9] = ["run", "inspect", "ops", "bench", "compare", "convert", "validate", "report", "doctor"];

fn coreml(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coreml")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn who_asks_for_json_gets_errors_as_json() {
    let missing = env!("CARGO_MANIFEST_DIR").to_owned() + "/nothing.mlpackage";
    for (arguments, code, kind, words) in [
        (&["inspect", &missing, "--json"][..], 3, "invalid_model", "nothing.mlpackage"),
        (&["inspect", "--json"], 2, "usage", "<MODEL>"),
        (&["bench", &missing, "--jsn", "--json"], 2, "usage", "--jsn"),
        (&["run", &missing, "--json", "--threads", "x"], 2, "usage", "--threads"),
    ] {
        let output = coreml(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let told = text(&output.stderr);
        assert_eq!(told.lines().count(), 1, "{told}");
        let error: Json = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"));
        assert_eq!(error["schema"], "coreml-anywhere.error/1");
        assert_eq!((&error["exit_code"], &error["kind"]), (&code.into(), &kind.into()), "{told}");
        assert!(error["message"].as_str().unwrap().contains(words), "{told}");
    }
    let people = coreml(&["inspect", &missing]);
    assert!(text(&people.stderr).starts_with("error: "), "{}", text(&people.stderr));
}

#[test]
fn every_shell_completes_every_verb() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = coreml(&["completions", shell]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let script = text(&output.stdout);
        let missing: Vec<_> = VERBS.iter().filter(|verb| !script.contains(*verb)).collect();
        assert!(missing.is_empty(), "{shell} is not told of {missing:?}");
        assert!(script.contains("compute-units"), "{shell} is not told of options");
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("man1");
    let output = coreml(&["man", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for verb in VERBS {
        let page = std::fs::read_to_string(folder.join(format!("coreml-{verb}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"), "{verb}: {page}");
    }
    assert!(std::fs::read_to_string(folder.join("coreml.1")).unwrap().contains("coreml\\-doctor(1)"));
    assert!(!folder.join("coreml-worker.1").exists(), "it is not for people");
}

#[test]
fn the_doctor_tests_the_kernels_of_this_machine() {
    let output = coreml(&["doctor", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["self_test"]["passed"], true, "{found:#}");
    let difference = found["self_test"]["largest_difference"].as_f64().unwrap();
    assert!(difference <= 1e-4, "{difference}");
    assert!(found["self_test"]["seconds"].as_f64().unwrap() > 0.0);
    if cfg!(target_os = "linux") {
        assert!(found["environment"]["memory_bytes"].as_u64().unwrap() > 1 << 20, "{found:#}");
    }
    let table = text(&coreml(&["doctor"]).stdout);
    for row in ["memory ", "caches ", "instructions ", "backend cpu ", "self-test "] {
        assert!(table.lines().any(|line| line.starts_with(row)), "no {row} in\n{table}");
    }
}

/// `scripts/check-schemas` holds documents against them.
#[test]
fn every_document_has_a_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut named = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("\"coreml-anywhere.").skip(1).filter_map(|rest| rest.split_once("/1\""));
            named.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
    assert!(named.len() >= 11, "{named:?}");
    for name in named {
        let path = root.join(format!("../../docs/schemas/{name}.schema.json"));
        let schema: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(schema["properties"]["schema"]["const"], format!("coreml-anywhere.{name}/1"));
    }
}
