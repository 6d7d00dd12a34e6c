//! Finds statements in a report that cannot be true.

use coreml_anywhere::telemetry::Metric;
use coreml_anywhere::telemetry::percentile;
use coreml_anywhere::telemetry::report::{RUN_SCHEMA, RunReport};

use crate::gate::{Gate, missing};

/// Checks a report: computes figures again from its samples, judges its figures again by `gate`, and names claims that
/// this host cannot have measured. Empty for an honest report.
pub fn audit(report: &RunReport, gate: &Gate) -> Vec<String> {
    let mut found = Vec::new();
    if report.schema != RUN_SCHEMA {
        found.push(format!("the schema is {}, not {RUN_SCHEMA}", report.schema));
    }
    found.extend(missing(report).into_iter().map(|name| format!("{name} is missing")));
    for (name, metric) in &report.metrics {
        match metric {
            Metric::Measured { value, .. } if !value.is_finite() => found.push(format!("{name} is {value}")),
            Metric::Measured { n: 0, .. } => found.push(format!("{name} rests on no sample")),
            Metric::Unavailable { unavailable } if unavailable.trim().is_empty() => {
                found.push(format!("{name} is unavailable for no reason"));
            }
            _ => {}
        }
    }
    samples(report, &mut found);
    let cpu_only = report.served_by.keys().all(|backend| backend == "cpu" || backend == "reference");
    for name in ["speedup_p99", "speedup_p99_at_least", "neural_engine_share"] {
        if cpu_only && report.metrics.get(name).and_then(Metric::value).is_some() {
            found.push(format!("{name} is claimed, but only the CPU engine served"));
        }
    }
    let (lines, verdict) = gate.judge(report);
    for (stated, judged) in report.gate.iter().zip(&lines).filter(|(stated, judged)| stated != judged) {
        let requirement = &judged.requirement;
        found.push(format!("`{requirement}` is stated as {}, the figures say {}", stated.outcome, judged.outcome));
    }
    if report.gate.len() != lines.len() {
        found.push(format!("the gate has {} lines, not {}", report.gate.len(), lines.len()));
    }
    if report.verdict != verdict {
        found.push(format!("the verdict is stated as {}, the lines say {verdict}", report.verdict));
    }
    found
}

/// The figures that follow from the samples.
fn samples(report: &RunReport, found: &mut Vec<String>) {
    let samples = &report.samples_ms;
    let (n, total) = (samples.len() as f64, samples.iter().sum::<f64>());
    if samples.iter().any(|&sample| !(sample > 0.0 && sample.is_finite())) {
        found.push("a prediction took no time at all".into());
    }
    let number = |name: &str| report.config.get(name).and_then(serde_json::Value::as_f64);
    let in_time = number("deadline_ms").map(|budget| samples.iter().filter(|&&sample| sample <= budget).count());
    let expected = [
        ("latency_p50", percentile::of(samples, 0.5).ok()),
        ("latency_p95", percentile::of(samples, 0.95).ok()),
        ("latency_p99", percentile::of(samples, 0.99).ok()),
        ("latency_max", (n > 0.0).then(|| samples.iter().copied().fold(0.0, f64::max))),
        ("latency_mean", (n > 0.0).then_some(total / n)),
        ("throughput", (n > 0.0).then_some(n / total * 1e3)),
        ("deadline_compliance", in_time.filter(|_| n > 0.0).map(|in_time| in_time as f64 / n)),
        ("success_rate", number("iterations").map(|iterations| n / iterations)),
    ];
    for (name, expected) in expected {
        let stated = report.metrics.get(name).and_then(Metric::value);
        let agree = match (stated, expected) {
            (Some(stated), Some(expected)) => (stated - expected).abs() <= 1e-9 * expected.abs(),
            (None, None) => true,
            _ => false,
        };
        if !agree && report.metrics.contains_key(name) {
            let show = |value: Option<f64>| value.map_or("unavailable".into(), |value| value.to_string());
            found.push(format!("{name} is stated as {}, the samples say {}", show(stated), show(expected)));
        }
    }
    if report.served_by.values().sum::<u64>() != samples.len() as u64 {
        found.push("the backends served another number of predictions than there are samples".into());
    }
}
