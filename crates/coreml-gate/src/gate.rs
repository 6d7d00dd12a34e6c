//! Gates: bounds on a run's figures.

use std::path::Path;

use coreml_anywhere::telemetry::Metric;
use coreml_anywhere::telemetry::report::{GateLine, Outcome, RunReport, verdict};
use serde::Deserialize;

/// A gate: criteria that a run must meet. Read from a file such as `gates/gate-c.toml`, which explains the form.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// What people call it.
    pub name: String,
    #[serde(rename = "criterion")]
    criteria: Vec<Criterion>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Criterion {
    /// In words.
    requirement: String,
    #[serde(flatten)]
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Test {
    /// This figure is there.
    Measured(String),
    /// All figures are there, or say why not.
    Complete(bool),
    /// These hold.
    Bounds(Vec<Bound>),
}

/// What one figure must be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    figure: String,
    at_least: Option<f64>,
    at_most: Option<f64>,
    above: Option<f64>,
    below: Option<f64>,
}

impl Bound {
    fn holds(&self, value: f64) -> bool {
        self.at_least.is_none_or(|bound| value >= bound)
            && self.at_most.is_none_or(|bound| value <= bound)
            && self.above.is_none_or(|bound| value > bound)
            && self.below.is_none_or(|bound| value < bound)
    }

    fn asks_nothing(&self) -> bool {
        [self.at_least, self.at_most, self.above, self.below].iter().all(Option::is_none)
    }
}

/// Why a file is not a gate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is no TOML, or not of a gate's form.
    #[error(transparent)]
    Form(#[from] toml::de::Error),
    /// A criterion asks for something that no run measures, or for nothing.
    #[error("criterion `{requirement}`: {message}")]
    Criterion {
        /// The criterion, in its words.
        requirement: String,
        /// What is wrong with it.
        message: String,
    },
}

/// Figures that a report has in addition to [`FIGURES`] if a backend reports them.
const TOLD: [&str; 2] = ["neural_engine_cost_share", "neural_engine_footprint"];

impl Gate {
    /// Gate C.
    ///
    /// # Panics
    /// Never: the file is part of this crate, and a test reads it.
    #[allow(clippy::missing_panics_doc, reason = "it does not")]
    pub fn c() -> Self {
        Self::parse(include_str!("../gates/gate-c.toml")).unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// Reads a gate.
    ///
    /// # Errors
    /// [`GateError`] when the file cannot be read or is not a gate.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GateError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// As [`Gate::open`], from the file's text.
    ///
    /// # Errors
    /// [`GateError`] when it is not a gate.
    pub fn parse(text: &str) -> Result<Self, GateError> {
        let gate: Self = toml::from_str(text)?;
        for Criterion { requirement, test } in &gate.criteria {
            let refuse = |message: String| Err(GateError::Criterion { requirement: requirement.clone(), message });
            let figures: Vec<&str> = match test {
                Test::Measured(figure) => vec![figure],
                Test::Complete(true) => Vec::new(),
                Test::Complete(false) => return refuse("`complete = false` asks nothing".into()),
                Test::Bounds(bounds) if bounds.is_empty() => return refuse("it has no bounds".into()),
                Test::Bounds(bounds) => {
                    if let Some(bound) = bounds.iter().find(|bound| bound.asks_nothing()) {
                        let message = "needs at_least, at_most, above or below";
                        return refuse(format!("the bound of {} {message}", bound.figure));
                    }
                    bounds.iter().map(|bound| bound.figure.as_str()).collect()
                }
            };
            let known = |figure: &&str| FIGURES.contains(figure) || TOLD.contains(figure);
            if let Some(unknown) = figures.into_iter().find(|figure| !known(figure)) {
                let figures = [&FIGURES[..], &TOLD].concat().join(", ");
                return refuse(format!("no run measures `{unknown}`; figures are {figures}"));
            }
        }
        Ok(gate)
    }

    /// Judges a report: returns the lines and the verdict. It depends only on the report's figures, so anyone with the report
    /// can judge it again.
    pub fn judge(&self, report: &RunReport) -> (Vec<GateLine>, Outcome) {
        let lines: Vec<_> = self.criteria.iter().map(|criterion| criterion.judge(report)).collect();
        let verdict = verdict(&lines);
        (lines, verdict)
    }
}

impl Criterion {
    fn judge(&self, report: &RunReport) -> GateLine {
        let (outcome, evidence) = match &self.test {
            Test::Measured(figure) => match report.metrics.get(figure) {
                Some(metric) if metric.value().is_some() => (Outcome::Pass, metric.to_string()),
                Some(metric) => (Outcome::Fail, reason(metric)),
                None => (Outcome::Fail, format!("{figure} is not in the report")),
            },
            Test::Complete(_) => {
                let (missing, total) = (missing(report), FIGURES.len());
                if missing.is_empty() {
                    (Outcome::Pass, format!("all {total} figures are there or say why not"))
                } else {
                    (Outcome::Fail, format!("missing: {}", missing.join(", ")))
                }
            }
            Test::Bounds(bounds) => judge_all(bounds, report),
        };
        GateLine { requirement: self.requirement.clone(), outcome, evidence }
    }
}

/// One that fails decides, then one that cannot be judged.
fn judge_all(bounds: &[Bound], report: &RunReport) -> (Outcome, String) {
    let judged: Vec<_> = bounds.iter().map(|bound| (bound, judge(bound, report))).collect();
    let decides = [Outcome::Fail, Outcome::Unavailable];
    let outcome = decides.into_iter().find(|outcome| judged.iter().any(|(_, (found, _))| found == outcome));
    let outcome = outcome.unwrap_or(Outcome::Pass);
    let evidence = match judged.as_slice() {
        [(_, (_, evidence))] => evidence.clone(),
        several => {
            let told = several.iter().filter(|(_, (found, _))| *found == outcome);
            told.map(|(bound, (_, evidence))| format!("{} {evidence}", bound.figure)).collect::<Vec<_>>().join("; ")
        }
    };
    (outcome, evidence)
}

fn judge(bound: &Bound, report: &RunReport) -> (Outcome, String) {
    match report.metrics.get(&bound.figure) {
        Some(metric) => match metric.value() {
            Some(value) if bound.holds(value) => (Outcome::Pass, metric.to_string()),
            Some(_) => (Outcome::Fail, metric.to_string()),
            None => (Outcome::Unavailable, reason(metric)),
        },
        None => (Outcome::Fail, format!("{} is not in the report", bound.figure)),
    }
}

/// Why there is no figure; the figure where there is one.
fn reason(metric: &Metric) -> String {
    match metric {
        Metric::Unavailable { unavailable } => unavailable.clone(),
        measured => measured.to_string(),
    }
}

/// Every figure a report must have, or say why not.
pub const FIGURES: [&str; 28] = [
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

pub(crate) fn missing(report: &RunReport) -> Vec<&'static str> {
    FIGURES.into_iter().filter(|name| !report.metrics.contains_key(*name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_c_has_its_seven_criteria() {
        let gate = Gate::c();
        assert_eq!((gate.name.as_str(), gate.criteria.len()), ("Gate C", 7));
    }

    #[test]
    fn what_is_no_gate_is_refused() {
        let criterion = |rest: &str| format!("name = \"g\"\n[[criterion]]\nrequirement = \"fast\"\n{rest}");
        let cases = [
            ("name = 3".to_owned(), "name"),
            (criterion("bounds = []"), "`fast`: it has no bounds"),
            (criterion("bounds = [{ figure = \"latency_p50\" }]"), "needs at_least"),
            (criterion("bounds = [{ figure = \"latency_p5\", below = 1.0 }]"), "no run measures `latency_p5`"),
            (criterion("bounds = [{ figure = \"latency_p50\", under = 1.0 }]"), "under"),
            (criterion("measured = \"speed\""), "no run measures `speed`"),
            (criterion("complete = false"), "asks nothing"),
        ];
        for (text, words) in cases {
            let error = Gate::parse(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{error} does not say {words}");
        }
        Gate::parse(&criterion("bounds = [{ figure = \"latency_p50\", above = 0.0, below = 5.0 }]")).unwrap();
    }

    #[test]
    fn one_bound_that_fails_decides_and_what_is_not_there_is_no_pass() {
        let bound = |figure: &str, at_most: f64| Bound {
            figure: figure.into(),
            at_least: None,
            at_most: Some(at_most),
            above: None,
            below: None,
        };
        let mut report: RunReport = serde_json::from_value(serde_json::json!({
            "schema": "", "model": {"name": "", "size_bytes": 0, "specification_version": 0, "function": ""},
            "environment": coreml_anywhere::telemetry::Environment::detect("", ""), "config": {}, "metrics": {},
            "samples_ms": [], "served_by": {}, "events": [], "gate": [], "verdict": "fail",
        }))
        .unwrap();
        report.metrics.insert("fallbacks".into(), Metric::measured(2.0, "1", 9, "measured"));
        report.metrics.insert("latency_p99".into(), Metric::unavailable("too few"));
        let judge = |bounds: &[Bound]| judge_all(bounds, &report);
        assert_eq!(judge(&[bound("fallbacks", 2.0)]).0, Outcome::Pass);
        let found = judge(&[bound("fallbacks", 2.0), bound("latency_p99", 5.0)]);
        assert_eq!(found, (Outcome::Unavailable, "latency_p99 too few".into()));
        let found = judge(&[bound("latency_p99", 5.0), bound("fallbacks", 1.0)]);
        assert_eq!(found, (Outcome::Fail, "fallbacks 2.000 (n = 9)".into()));
        assert_eq!(judge(&[bound("load_time", 1.0)]).0, Outcome::Fail, "not even a reason");
    }
}
