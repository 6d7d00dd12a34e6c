//! Gate C, line by line.

use coreml_anywhere::telemetry::Metric;
use coreml_anywhere::telemetry::report::{GateLine, Outcome, RunReport, verdict};

/// A line that bounds one figure.
struct Bound {
    requirement: &'static str,
    metric: &'static str,
    holds: fn(f64) -> bool,
}

const BOUNDS: [Bound; 4] = [
    Bound {
        requirement: "speed-up against the CPU >= 2.8 at p99",
        metric: "speedup_p99_at_least",
        holds: |x| x >= 2.8,
    },
    Bound {
        requirement: "operations on the Neural Engine >= 70 %",
        metric: "neural_engine_share",
        holds: |x| x >= 0.7,
    },
    Bound {
        requirement: "memory growth < 100 KB per 100 inferences",
        metric: "memory_growth_per_100",
        holds: |x| x < 100e3,
    },
    Bound {
        requirement: "L-inf <= 1e-2 against the CPU baseline",
        metric: "parity_linf_reference_plan",
        holds: |x| x <= 1e-2,
    },
];

/// Judges a report by Gate C: its lines, and what they come to. Depends on the report's figures alone, so that
/// whoever has a report can judge it again.
pub fn gate(report: &RunReport) -> (Vec<GateLine>, Outcome) {
    let line =
        |requirement: &str, outcome, evidence: String| GateLine { requirement: requirement.into(), outcome, evidence };
    let loaded = report.metrics.get("compile_time_first").and_then(Metric::value).is_some();
    let outcome = if loaded { Outcome::Pass } else { Outcome::Fail };
    let mut lines = vec![line("the model loads without a panic", outcome, report.model.name.clone())];
    let (missing, total) = (missing(report), METRICS.len());
    let outcome = if missing.is_empty() { Outcome::Pass } else { Outcome::Fail };
    let evidence = if missing.is_empty() {
        format!("all {total} figures are there or say why not")
    } else {
        format!("missing: {}", missing.join(", "))
    };
    lines.push(line("telemetry is collected", outcome, evidence));
    for bound in &BOUNDS {
        let (outcome, evidence) = match report.metrics.get(bound.metric) {
            Some(metric) => match metric.value() {
                Some(value) if (bound.holds)(value) => (Outcome::Pass, metric.to_string()),
                Some(_) => (Outcome::Fail, metric.to_string()),
                None => (Outcome::Unavailable, reason(metric)),
            },
            None => (Outcome::Fail, format!("{} is not in the report", bound.metric)),
        };
        lines.push(line(bound.requirement, outcome, evidence));
    }
    let requirement = "the circuit breaker trips when the success rate falls below 95 %";
    let drill = ["breaker_trips_at_96_percent", "breaker_trips_at_90_percent"].map(|name| report.metrics.get(name));
    let (outcome, evidence) = match drill {
        [Some(above), Some(below)] => match (above.value(), below.value()) {
            (Some(at_96), Some(at_90)) => {
                let outcome = if at_96 == 0.0 && at_90 >= 1.0 { Outcome::Pass } else { Outcome::Fail };
                (outcome, format!("drill: {at_96} trips at 96 % success, {at_90} at 90 %"))
            }
            (None, _) => (Outcome::Unavailable, reason(above)),
            (_, None) => (Outcome::Unavailable, reason(below)),
        },
        _ => (Outcome::Fail, "the drill is not in the report".into()),
    };
    lines.push(line(requirement, outcome, evidence));
    let verdict = verdict(&lines);
    (lines, verdict)
}

/// Why there is no figure; the figure where there is one.
fn reason(metric: &Metric) -> String {
    match metric {
        Metric::Unavailable { unavailable } => unavailable.clone(),
        measured => measured.to_string(),
    }
}

/// Every figure a report must have, or say why not.
pub(super) const METRICS: [&str; 28] = [
    "read_time",
    "compile_time_first",
    "compile_time_cached",
    "load_time",
    "first_inference",
    "latency_p50",
    "latency_p95",
    "latency_p99",
    "latency_max",
    "latency_mean",
    "throughput",
    "speedup_p99",
    "speedup_p99_at_least",
    "neural_engine_share",
    "memory_baseline",
    "memory_peak",
    "memory_growth_per_100",
    "success_rate",
    "breaker_trips_at_96_percent",
    "breaker_trips_at_90_percent",
    "fallbacks",
    "parity_linf_reference_plan",
    "parity_rmse_reference_plan",
    "parity_top1_reference_plan",
    "parity_linf_stored",
    "parity_rmse_stored",
    "parity_top1_stored",
    "deadline_compliance",
];

pub(super) fn missing(report: &RunReport) -> Vec<&'static str> {
    METRICS.into_iter().filter(|name| !report.metrics.contains_key(*name)).collect()
}
