//! `coreml report`: a self-contained page whose numbers are those of the record in it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value as Json, json};

fn coreml(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coreml")).args(arguments).output().unwrap()
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/elementwise/add-same.mlmodel")
}

/// A record of so many predictions, and the file it is in.
fn record(folder: &Path, predictions: u32) -> (Json, PathBuf) {
    let path = folder.join("run.json");
    let count = predictions.to_string();
    let output =
        coreml(&["validate", model().to_str().unwrap(), "-t", "1", "-n", &count, "--output", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    (serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap(), path)
}

fn page(arguments: &[&str]) -> String {
    let output = coreml(&[&["report"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What the page holds as data.
fn embedded(page: &str) -> Json {
    let start = "<script type=\"application/json\" id=\"record\">";
    let data = page.split_once(start).unwrap().1.split_once("</script>").unwrap().0;
    serde_json::from_str(data).unwrap()
}

/// The value of an attribute in a tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    Some(tag.split_once(&format!(" {name}=\""))?.1.split_once('"')?.0)
}

/// Every number that is shown as one says where it comes from, and is what stands there, as it is written.
fn numbers_are_the_record_s(page: &str) -> usize {
    let data = embedded(page);
    let mut shown = 0;
    for part in page.split("<data ").skip(1) {
        let (tag, rest) = part.split_once('>').unwrap();
        let tag = format!(" {tag}");
        let path = attribute(&tag, "data-path").unwrap();
        let value: f64 = attribute(&tag, "data-value").unwrap().parse().unwrap();
        let recorded = data.pointer(path).and_then(Json::as_f64).unwrap_or(f64::NAN);
        // Reading a number from JSON may be off by its last bit.
        assert!((recorded - value).abs() <= 1e-14 * value.abs(), "{path}: {value} for {recorded}");
        let scale: f64 = attribute(&tag, "data-scale").map_or(1.0, |scale| scale.parse().unwrap());
        let written: f64 = rest.split_once("</data>").unwrap().0.parse().unwrap();
        let expected = value / scale;
        assert!((written - expected).abs() <= 0.051f64.max(expected.abs() * 0.006), "{path}: {written} for {expected}");
        shown += 1;
    }
    shown
}

#[test]
fn every_number_is_the_record_s_and_nothing_is_asked_of_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let (record, path) = record(folder.path(), 700);
    let page = page(&[path.to_str().unwrap()]);
    assert_eq!(embedded(&page)["record"], record);
    assert!(numbers_are_the_record_s(&page) >= 10, "{page}");
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        let shown = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!shown.contains(outside), "the page has {outside}");
    }
    for part in ["<svg", "Gate C", "p99", "prefers-color-scheme", "@media print"] {
        assert!(page.contains(part), "the page lacks {part}");
    }
}

#[test]
fn a_record_of_ten_thousand_predictions_makes_a_small_page() {
    let folder = tempfile::tempdir().unwrap();
    let (_, path) = record(folder.path(), 10_000);
    let page = page(&[path.to_str().unwrap(), "--baseline", path.to_str().unwrap()]);
    assert_eq!(embedded(&page)["record"]["samples_ms"].as_array().unwrap().len(), 10_000);
    println!("{} bytes", page.len());
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    numbers_are_the_record_s(&page);
}

/// Against half the latency the page says that it became worse, against itself that it did not.
#[test]
fn a_baseline_is_compared_with() {
    let folder = tempfile::tempdir().unwrap();
    let (mut record, path) = record(folder.path(), 700);
    let halved = record["samples_ms"].as_array().unwrap().iter().map(|sample| json!(sample.as_f64().unwrap() / 2.0));
    record["samples_ms"] = halved.collect();
    let faster = folder.path().join("faster.json");
    std::fs::write(&faster, record.to_string()).unwrap();
    let of = |baseline: &Path| {
        let page = page(&[path.to_str().unwrap(), "--baseline", baseline.to_str().unwrap()]);
        embedded(&page)["derived"][0]["comparison"].clone()
    };
    let ratio = |comparison: &Json| comparison[0]["ratio"].as_f64().unwrap();
    assert!((ratio(&of(&faster)) - 2.0).abs() < 1e-6, "{}", of(&faster));
    assert!((ratio(&of(&path)) - 1.0).abs() < 1e-6, "{}", of(&path));
    assert_ne!(of(&faster)[0]["verdict"], of(&path)[0]["verdict"], "{}", of(&faster));
}

#[test]
fn a_model_is_measured_and_profiled() {
    let folder = tempfile::tempdir().unwrap();
    let (html, json) = (folder.path().join("report.html"), folder.path().join("record.json"));
    let model = model();
    let output = coreml(&[
        "report",
        model.to_str().unwrap(),
        "-n",
        "50",
        "-t",
        "1",
        "-o",
        html.to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{output:?}");
    let page = std::fs::read_to_string(html).unwrap();
    let record: Json = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(embedded(&page)["record"], record);
    assert!(record["profile"]["steps"].as_array().is_some_and(|steps| !steps.is_empty()));
    numbers_are_the_record_s(&page);
}

#[test]
fn what_is_no_record_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.json");
    for text in ["{}", "[1", "{\"schema\": \"something/1\"}"] {
        std::fs::write(&path, text).unwrap();
        let output = coreml(&["report", path.to_str().unwrap()]);
        assert!(!output.status.success() && output.stdout.is_empty(), "{text}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("other.json"), "{output:?}");
    }
}
