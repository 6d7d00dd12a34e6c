//! `coreml bench`: combinations, load, time limits, formats and the comparison with an earlier measurement.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use coreml_testing::tiny::elementwise_rows_model;
use serde_json::Value as Json;
use tempfile::TempDir;

/// A model of one to eight rows, in a folder of its own.
fn model() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.mlmodel");
    std::fs::write(&path, elementwise_rows_model((1, 8), &[2, 16], &["tanh", "relu"])).unwrap();
    (folder, path)
}

fn bench(model: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coreml"));
    command.arg("bench").arg(model).args(["--warmup", "1", "--backend", "cpu"]).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn done(model: &Path, arguments: &[&str]) -> String {
    let output = bench(model, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn every_combination_is_measured() {
    let (_folder, model) = model();
    let options = ["--threads", "1,2", "--batch", "1,8", "--concurrency", "1,3", "-n", "12", "--json"];
    let report: Json = serde_json::from_str(&done(&model, &options)).unwrap();
    let runs = report["runs"].as_array().unwrap();
    let combinations =
        runs.iter().map(|run| ["threads", "batch", "concurrency"].map(|name| run[name].as_u64().unwrap()));
    let expected = [1, 2].map(|threads| [1, 8].map(|batch| [1, 3].map(|at_once| [threads, batch, at_once])));
    assert_eq!(combinations.collect::<Vec<_>>(), expected.as_flattened().as_flattened());
    for run in runs {
        let samples = run["latency_ms"]["samples"].as_array().unwrap();
        assert_eq!((samples.len(), run["n"].as_u64()), (12, Some(12)), "{run}");
        assert!(run["per_second"].as_f64().unwrap() > 0.0 && run["latency_ms"]["p99"]["unavailable"].is_string());
        let interval = &run["latency_ms"]["p50_interval"];
        let p50 = run["latency_ms"]["p50"].as_f64().unwrap();
        assert!(interval["low"].as_f64().unwrap() <= p50 && p50 <= interval["high"].as_f64().unwrap(), "{run}");
    }
    let table = done(&model, &["--batch", "1,8", "-n", "12"]);
    assert!(table.contains("| batch |") && !table.contains("at once"), "columns are what differs:\n{table}");
    let lines = done(&model, &["--threads", "1,2", "-n", "12", "--format", "jsonl"]);
    let lines: Vec<Json> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["threads"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(lines[0]["schema"], "coreml-anywhere.bench/1");
    let csv = done(&model, &["--batch", "1,8", "-n", "12", "-o", "csv"]);
    let fields: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(fields, [fields[0]; 3], "{csv}");
}

#[test]
fn a_batch_the_model_does_not_take_is_refused() {
    let (_folder, model) = model();
    let output = bench(&model, &["--batch", "9"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("`x`"), "{}", text(&output.stderr));
}

#[test]
fn a_time_limit_takes_the_samples_a_median_needs() {
    let (_folder, model) = model();
    // A limit that is over when the first prediction is asked for.
    let report: Json = serde_json::from_str(&done(&model, &["--seconds", "1e-9", "--json"])).unwrap();
    assert_eq!(report["runs"][0]["n"], 11);
    let report: Json = serde_json::from_str(&done(&model, &["--seconds", "0.2", "--json"])).unwrap();
    assert!(report["runs"][0]["n"].as_u64().unwrap() > 11);
}

#[test]
fn what_has_become_slower_than_the_baseline_fails() {
    let (folder, model) = model();
    let baseline = folder.path().join("before.json");
    let measured: Json = serde_json::from_str(&done(&model, &["-n", "200", "--json"])).unwrap();
    // How long predictions are said to have taken before, as a multiple of what they take.
    let judged = |factor: f64, more: &[&str]| {
        let mut before = measured.clone();
        for sample in before["runs"][0]["latency_ms"]["samples"].as_array_mut().unwrap() {
            *sample = (sample.as_f64().unwrap() * factor).into();
        }
        std::fs::write(&baseline, before.to_string()).unwrap();
        let path = baseline.to_str().unwrap();
        bench(&model, &[&["-n", "200", "--baseline", path], more].concat())
    };
    let slower = judged(0.001, &[]);
    assert_eq!(slower.status.code(), Some(1), "{}", text(&slower.stdout));
    assert!(text(&slower.stderr).contains("slower than the baseline: p50"), "{}", text(&slower.stderr));
    assert!(text(&slower.stdout).contains("| slower  |"), "{}", text(&slower.stdout));
    let suite = text(&judged(0.001, &["-o", "junit"]).stdout);
    assert!(suite.contains("failures=\"2\"") && suite.contains("<failure message="), "p50 and p95: {suite}");
    let faster = judged(1000.0, &["--json"]);
    assert!(faster.status.success());
    let report: Json = serde_json::from_slice(&faster.stdout).unwrap();
    assert_eq!(report["baseline"][0]["percentiles"][0]["verdict"], "faster");

    let other = judged(1.0, &["--batch", "3"]);
    assert_eq!(other.status.code(), Some(5), "the baseline has another batch: {}", text(&other.stdout));
    std::fs::write(&baseline, "{\"schema\": \"coreml-anywhere.profile/1\"}").unwrap();
    let path = baseline.to_str().unwrap();
    assert_eq!(bench(&model, &["--baseline", path]).status.code(), Some(3));
}

/// An interrupt, as Ctrl-C is one: what was measured until then is told.
#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_measurement_and_not_the_report() {
    use std::io::BufRead;
    use std::process::Stdio;

    let (_folder, model) = model();
    let mut command = Command::new(env!("CARGO_BIN_EXE_coreml"));
    command.args(["bench", "--threads", "1,2", "--seconds", "3600", "--json", "-v"]).arg(&model);
    command.env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut bench = command.spawn().unwrap();
    // Once the model is loaded the interrupt is waited for.
    let mut log = std::io::BufReader::new(bench.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(log.any(|line| line.contains("load")));
    let drain = std::thread::spawn(move || log.collect::<Vec<_>>().join("\n"));
    let kill = Command::new("kill").args(["-INT", &bench.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = bench.wait_with_output().unwrap();
    let log = drain.join().unwrap();
    assert_eq!(output.status.code(), Some(130), "{log}");
    assert!(log.contains("interrupted"), "{log}");
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["runs"].as_array().unwrap().len(), 1, "what was not begun is left out");
    assert!(report["runs"][0]["n"].as_u64().unwrap() >= 1);
}
