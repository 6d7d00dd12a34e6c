//! The reference run on the FastViT fixture: 100 inferences, or as many as `COREML_PHASE3B_ITERATIONS` says.
//!
//! Checks that the run measures what it must, that it says so where it cannot, and that a broken model and a false
//! report are caught.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coreml_anywhere::telemetry::Metric;
use coreml_anywhere::telemetry::report::{Outcome, RunReport};
use coreml_anywhere::{Backend, CpuBackend, ErrorKind};
use coreml_gate::{Gate, ReferenceRun, audit, run, table};
use coreml_testing::repository;
use coreml_testing::scripted::{Act, Scripted, always};

fn fastvit() -> PathBuf {
    repository().join("tests/fixtures/models/FastViTT8F16.mlpackage")
}

fn iterations() -> u32 {
    std::env::var("COREML_PHASE3B_ITERATIONS").map_or(100, |text| text.parse().expect("COREML_PHASE3B_ITERATIONS"))
}

/// The memory that a run measures is the whole process's: one run at a time.
static ONE: Mutex<()> = Mutex::new(());

fn measured(report: &RunReport, name: &str) -> f64 {
    let metric = &report.metrics[name];
    metric.value().unwrap_or_else(|| panic!("{name} is {metric}"))
}

#[test]
fn inference_cycles() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let report = run(&ReferenceRun::new(fastvit(), iterations()), &mut |_, _, _| ()).unwrap();
    println!("{}", table(&report));
    assert_eq!(audit(&report, &Gate::c()), Vec::<String>::new());
    assert_eq!(measured(&report, "success_rate"), 1.0);
    assert_eq!(report.samples_ms.len(), iterations() as usize);
    assert!(measured(&report, "parity_linf_reference_plan") <= 1e-2);
    assert_eq!(measured(&report, "parity_top1_reference_plan"), 1.0);
    let enough = iterations() >= 662;
    assert_eq!(report.metrics["latency_p99"].value().is_some(), enough, "p99 needs 662 samples");
    let failed: Vec<_> = report.gate.iter().filter(|line| line.outcome == Outcome::Fail).collect();
    assert!(failed.is_empty(), "{failed:?}");
    if report.served_by.keys().all(|backend| backend == "cpu") {
        // Without an accelerator two lines cannot be judged, and the gate is not passed.
        assert_eq!(report.metrics["speedup_p99"].value(), None);
        assert_eq!(report.metrics["neural_engine_share"].value(), None);
        assert_eq!(report.verdict, Outcome::Unavailable);
    }
    reports_survive_the_file(&report);
    lies_are_caught(&report);
}

fn reports_survive_the_file(report: &RunReport) {
    let text = serde_json::to_string(report).unwrap();
    let again: RunReport = serde_json::from_str(&text).unwrap();
    assert_eq!(audit(&again, &Gate::c()), Vec::<String>::new(), "numbers keep their value in the file");
}

/// Each lie changes an honest report in one way; the audit must name it.
fn lies_are_caught(honest: &RunReport) {
    type Lie = (&'static str, fn(&mut RunReport));
    fn put(report: &mut RunReport, name: &str, value: f64) {
        report.metrics.insert(name.into(), Metric::measured(value, "1", 100, "measured"));
    }
    let lies: [Lie; 11] = [
        ("latency_p50 is stated", |report| put(report, "latency_p50", 0.001)),
        ("throughput is stated", |report| put(report, "throughput", 1e6)),
        ("success_rate is stated", |report| _ = report.samples_ms.pop()),
        ("took no time", |report| report.samples_ms[0] = 0.0),
        ("latency_p99 is stated", |report| {
            report.samples_ms.truncate(100);
            put(report, "latency_p99", 1.0);
        }),
        ("speedup_p99 is claimed", |report| {
            put(report, "speedup_p99", 3.0);
            (report.gate, report.verdict) = Gate::c().judge(report);
        }),
        ("neural_engine_share is claimed", |report| put(report, "neural_engine_share", 0.9)),
        ("memory_peak is missing", |report| _ = report.metrics.remove("memory_peak")),
        ("is stated as pass", |report| {
            put(report, "parity_linf_reference_plan", 0.5);
            assert!(report.gate.iter().any(|line| line.outcome == Outcome::Pass));
        }),
        ("the verdict is stated", |report| report.verdict = Outcome::Pass),
        ("unavailable for no reason", |report| {
            report.metrics.insert("load_time".into(), Metric::unavailable(" "));
        }),
    ];
    for (expected, lie) in lies {
        let mut report = honest.clone();
        lie(&mut report);
        let found = audit(&report, &Gate::c());
        assert!(found.iter().any(|line| line.contains(expected)), "not caught: {expected}; found {found:?}");
    }
}

/// What stands for an accelerator here is slower than the CPU engine: the gate must say so, with the interval.
#[test]
fn an_accelerator_is_timed_against_the_cpu_engine() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let slow = Scripted::new("accelerator", Arc::new(CpuBackend::default()));
    let slow = slow.on_predict(always(Act::Slow(Duration::from_millis(3))));
    let model = repository().join("tests/golden/elementwise/add-same.mlmodel");
    let backends: Vec<Arc<dyn Backend>> = vec![slow.backend(), Arc::new(CpuBackend::default())];
    let config = ReferenceRun { backends, threads: 1, ..ReferenceRun::new(model, 700) };
    let report = run(&config, &mut |_, _, _| ()).unwrap();
    assert_eq!(audit(&report, &Gate::c()), Vec::<String>::new());
    assert_eq!(report.served_by.keys().collect::<Vec<_>>(), ["accelerator"]);
    let (ratio, low) = (measured(&report, "speedup_p99"), measured(&report, "speedup_p99_at_least"));
    assert!(low <= ratio, "{low} {ratio}");
    let line = report.gate.iter().find(|line| line.requirement.contains("at p99")).unwrap();
    // 3 ms against microseconds, unless the machine held up one prediction in a hundred of the CPU engine's for longer.
    assert_eq!(line.outcome, if low >= 2.8 { Outcome::Pass } else { Outcome::Fail }, "{line:?}");
}

#[test]
fn a_run_that_is_stopped_reports_what_it_measured() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let model = repository().join("tests/golden/elementwise/add-same.mlmodel");
    let config = ReferenceRun { threads: 1, stop: || true, ..ReferenceRun::new(model, 700) };
    let report = run(&config, &mut |_, _, _| ()).unwrap();
    assert_eq!(audit(&report, &Gate::c()), Vec::<String>::new());
    assert_eq!((report.samples_ms.len(), &report.config["iterations"]), (1, &1.into()));
    assert!(report.events.contains(&"stopped after 1 of 700 predictions".to_owned()), "{:?}", report.events);
    assert_eq!(report.verdict, Outcome::Unavailable);
}

#[test]
fn a_broken_model_is_caught() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = std::env::temp_dir().join(format!("phase3b-{}", std::process::id()));
    let data = folder.join("Broken.mlpackage/Data/com.apple.CoreML");
    std::fs::create_dir_all(data.join("weights")).unwrap();
    let copy = |name: &str, from: &str| std::fs::copy(fastvit().join(from), data.join(name)).map(|_| ());
    copy("../../Manifest.json", "Manifest.json").unwrap();
    copy("model.mlmodel", "Data/com.apple.CoreML/model.mlmodel").unwrap();
    let weights = std::fs::read(fastvit().join("Data/com.apple.CoreML/weights/weight.bin")).unwrap();
    std::fs::write(data.join("weights/weight.bin"), &weights[..weights.len() / 2]).unwrap();
    let result = run(&ReferenceRun::new(folder.join("Broken.mlpackage"), 1), &mut |_, _, _| ());
    std::fs::remove_dir_all(&folder).unwrap();
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidModel);
    assert!(error.to_string().contains("weight.bin"), "{error}");
}
