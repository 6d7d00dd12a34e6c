//! `coreml bench --profile` on a fixture: its table, its JSON and its trace agree, and each is consistent.
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models/EfficientNetLite0.mlpackage")
}

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coreml"));
    command.arg("bench").arg(fixture()).args(["-n", "3", "--warmup", "1"]).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap()
}

fn number(json: &Json) -> f64 {
    json.as_f64().unwrap_or_else(|| panic!("{json} is not a number"))
}

#[test]
fn the_table_has_every_step_sums_and_the_convolutions_share() {
    let output = bench(&["--profile", "--threads", "1"]);
    let text = stdout(&output);
    for words in
        ["| operation ", "| kind of operation ", "| all ", "of the whole prediction's", "Convolutions taken together: "]
    {
        assert!(text.contains(words), "no `{words}` in {text}");
    }
    // Rows of steps begin with a position; times come down.
    let steps: Vec<f64> = text
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            cells.get(1)?.parse::<usize>().ok()?;
            cells[5].parse().ok()
        })
        .collect();
    assert!(steps.len() > 30, "{text}");
    assert!(steps.is_sorted_by(|a, b| a >= b), "{steps:?}");
}

#[test]
fn json_and_trace_agree_and_events_lie_within_the_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let output = bench(&["--profile", "--threads", "1,2", "--format", "json", "--trace", trace.to_str().unwrap()]);
    let report: Json = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(report["schema"], "coreml-anywhere.profile/1");
    let events: Vec<Json> = serde_json::from_str(&std::fs::read_to_string(&trace).unwrap()).unwrap();
    let profiles = report["profiles"].as_array().unwrap();
    assert_eq!(profiles.iter().map(|profile| number(&profile["threads"])).collect::<Vec<_>>(), [1.0, 2.0]);

    for (i, profile) in profiles.iter().enumerate() {
        let steps = profile["steps"].as_array().unwrap();
        let sum = |key: &str| steps.iter().filter_map(|step| step[key].as_f64()).sum::<f64>();
        for key in ["us", "bytes", "flops"] {
            let kinds = profile["kinds"].as_array().unwrap();
            let of_kinds: f64 = kinds.iter().filter_map(|kind| kind["sum"][key].as_f64()).sum();
            let all = number(&profile["all"][key]);
            assert!((of_kinds - all).abs() < 1e-6 * all && (sum(key) - all).abs() < 1e-6 * all, "{key}");
        }
        // Multiply-adds of the published network, twice, with its classifier: about 0.4 thousand million.
        assert!((0.76e9..0.86e9).contains(&sum("flops")), "{}", sum("flops"));
        assert!(number(&profile["peak_gflops_per_s"]) > 0.0);
        let share = number(&profile["convolutions"]["share_of_peak"]);
        let speed = number(&profile["convolutions"]["gflops_per_s"]);
        assert!((share - speed / number(&profile["peak_gflops_per_s"])).abs() < 1e-9);

        let own: Vec<&Json> = events.iter().filter(|event| event["pid"] == i + 1).collect();
        assert_eq!((&own[0]["ph"], &own[0]["name"]), (&"M".into(), &"process_name".into()));
        let (whole, of_steps) = (own[1], &own[2..]);
        assert_eq!((&whole["name"], &whole["ph"], number(&whole["ts"])), (&"prediction".into(), &"X".into(), 0.0));
        assert_eq!(number(&whole["dur"]), number(&profile["whole_us"]["p50"]));
        assert_eq!(of_steps.len(), steps.len());
        let mut end = 0.0;
        for (event, step) in of_steps.iter().zip(steps) {
            assert_eq!((&event["ph"], &event["cat"], &event["tid"]), (&"X".into(), &step["operation"], &whole["tid"]));
            assert_eq!((&event["args"]["flops"], &event["args"]["bytes"]), (&step["flops"], &step["bytes"]));
            assert_eq!((&event["args"]["output"], &event["args"]["shape"]), (&step["output"], &step["shape"]));
            // To the nanosecond: a step begins where the one before it ended.
            assert!(number(&event["ts"]) >= end - 1e-3, "{event}");
            end = number(&event["ts"]) + number(&event["dur"]);
        }
        assert!(end <= number(&whole["dur"]) + 1e-3);
        let inner: f64 = of_steps.iter().map(|event| number(&event["dur"])).sum();
        // What is outside the steps is one picture being put in and a thousand labels being read.
        assert!(inner > 0.5 * number(&whole["dur"]), "{inner} of {}", whole["dur"]);
    }
}

#[test]
fn csv_has_a_line_for_each_step() {
    let output = bench(&["--profile", "--threads", "1", "--format", "csv"]);
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert!(lines.len() > 30);
    assert_eq!(lines[0], "threads,member,position,operation,output,p50_us,fastest_us,flops,bytes");
    assert!(lines[1..].iter().all(|line| line.starts_with("1,0,")));
}

#[test]
fn what_cannot_be_profiled_is_refused() {
    let refused: [(&[&str], &str); 3] = [
        (&["--profile", "--backend", "coreml"], "CPU engine"),
        (&["--profile", "-n", "10001"], "at most 10000"),
        (&["--trace", "t.json"], "--profile"),
    ];
    for (arguments, words) in refused {
        let output = Command::new(env!("CARGO_BIN_EXE_coreml")).arg("bench").arg(fixture()).args(arguments).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
}
