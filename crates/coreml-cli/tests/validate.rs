//! `coreml validate`: its verdicts on a model, and that each criterion can fail.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/elementwise/add-same.mlmodel")
}

fn validate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coreml"));
    command.arg("validate").arg(model()).args(["-t", "1"]).args(arguments).output().unwrap()
}

fn report(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn outcomes(report: &Json) -> Vec<String> {
    report["gate"].as_array().unwrap().iter().map(|line| line["outcome"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn without_an_accelerator_gate_c_is_inconclusive() {
    let folder = tempfile::tempdir().unwrap();
    let (telemetry, junit) = (folder.path().join("telemetry.json"), folder.path().join("junit.xml"));
    let output = validate(&["--output", telemetry.to_str().unwrap(), "--junit", junit.to_str().unwrap()]);
    let (text, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(5), "{text}{told}");
    assert!(text.contains("Gate C") && text.contains("speed-up against the CPU >= 2.8 at p99"), "{text}");
    assert!(told.contains("Gate C is inconclusive here: speed-up against"), "{told}");
    let report: Json = serde_json::from_str(&std::fs::read_to_string(telemetry).unwrap()).unwrap();
    let expected = ["pass", "pass", "unavailable", "unavailable", "pass", "pass", "pass"];
    assert_eq!(outcomes(&report), expected, "{text}");
    let xml = std::fs::read_to_string(junit).unwrap();
    assert!(xml.contains("tests=\"7\" failures=\"0\" skipped=\"2\""), "{xml}");
}

/// The place of a fault is that of the criterion it makes fail.
#[test]
fn each_criterion_of_gate_c_can_fail() {
    let plants =
        ["lost-load", "lost-figure", "slow-accelerator", "idle-neural-engine", "leak", "wrong-answers", "deaf-breaker"];
    for (place, plant) in plants.into_iter().enumerate() {
        let output = validate(&["--json", "-n", "700", "--plant", plant]);
        assert_eq!(output.status.code(), Some(1), "{plant}: {output:?}");
        let report = report(&output);
        assert_eq!(outcomes(&report)[place], "fail", "{plant}: {:#}", report["gate"]);
        assert!(report["events"].to_string().contains(plant));
    }
}

#[test]
fn gates_are_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.toml");
    let judge = |bound: &str| {
        let gate = format!("name = \"Ours\"\n[[criterion]]\nrequirement = \"r\"\nbounds = [{{ {bound} }}]\n");
        std::fs::write(&path, gate).unwrap();
        let output = validate(&["-n", "20", "--gate", path.to_str().unwrap()]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(judge("figure = \"success_rate\", at_least = 1.0").0, Some(0));
    let (code, told) = judge("figure = \"success_rate\", above = 1.0");
    assert_eq!(code, Some(1));
    assert!(told.contains("Ours fails: r"), "{told}");
    assert_eq!(judge("figure = \"latency_p99\", above = 0.0").0, Some(5), "20 predictions have no p99");
    let (code, told) = judge("figure = \"speed\", above = 1.0");
    assert_eq!(code, Some(3));
    assert!(told.contains("no run measures `speed`"), "{told}");
}
