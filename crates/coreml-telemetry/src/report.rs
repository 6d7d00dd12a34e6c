//! The run report: `telemetry.json`.
//!
//! A report can only say what was measured. A figure is either a value with its unit, its number of samples and its
//! source, or the reason why it is missing. There is no third form, so nothing that was not measured is reported as 0.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::timeline::Timeline;

/// The version of the report's form.
pub const RUN_SCHEMA: &str = "coreml-anywhere.run/1";

/// One figure, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Metric {
    /// The figure.
    Measured {
        /// Its value; never NaN or infinite.
        value: f64,
        /// Its unit: `ms`, `bytes`, `1` for plain numbers, ….
        unit: String,
        /// The number of samples it is based on.
        n: u64,
        /// Where it came from.
        source: String,
    },
    /// No figure.
    Unavailable {
        /// Why.
        unavailable: String,
    },
}

impl Metric {
    /// A figure. A value that is not finite becomes unavailable: it cannot be written as JSON, nor judged.
    pub fn measured(value: f64, unit: &str, n: u64, source: &str) -> Self {
        if value.is_finite() {
            Self::Measured { value, unit: unit.into(), n, source: source.into() }
        } else {
            Self::unavailable(format!("the measured value is {value}"))
        }
    }

    /// No figure, for this reason.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { unavailable: reason.into() }
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<f64> {
        if let Self::Measured { value, .. } = self { Some(*value) } else { None }
    }
}

/// `12.34 ms (n = 100)`, or `unavailable: the reason`.
impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured { value, unit, n, .. } => {
                let magnitude = value.abs();
                if *value == 0.0 || (magnitude >= 1e6 && value.fract() == 0.0) {
                    write!(f, "{value}")?;
                } else if (1e-2..1e6).contains(&magnitude) {
                    write!(f, "{value:.3}")?;
                } else {
                    write!(f, "{value:.2e}")?;
                }
                match unit.as_str() {
                    "1" => write!(f, " (n = {n})"),
                    unit => write!(f, " {unit} (n = {n})"),
                }
            }
            Self::Unavailable { unavailable } => write!(f, "unavailable: {unavailable}"),
        }
    }
}

/// How a line of a gate came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Measured and within the bound.
    Pass,
    /// Measured and outside the bound.
    Fail,
    /// Cannot be measured here. Never a pass.
    Unavailable,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Unavailable => "unavailable",
        })
    }
}

/// One line of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateLine {
    /// What is asked for, with its bound.
    pub requirement: String,
    /// How it came out.
    pub outcome: Outcome,
    /// The figure, or why there is none.
    pub evidence: String,
}

/// The model a report is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelBlock {
    /// The package's file name.
    pub name: String,
    /// Bytes of the model file and of its weights.
    pub size_bytes: u64,
    /// The version of the format it was written in.
    pub specification_version: i32,
    /// The function that ran.
    pub function: String,
}

/// One run: the machine, the model, the figures and the verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// [`RUN_SCHEMA`].
    pub schema: String,
    /// The machine and system.
    pub environment: Environment,
    /// The model.
    pub model: ModelBlock,
    /// The settings: iterations, threads and the like.
    pub config: BTreeMap<String, serde_json::Value>,
    /// The figures, by name.
    pub metrics: BTreeMap<String, Metric>,
    /// Latency of every timed prediction in milliseconds, in order, so that the figures can be checked.
    pub samples_ms: Vec<f64>,
    /// How many of the timed predictions each backend served.
    pub served_by: BTreeMap<String, u64>,
    /// Events during the run: backends that were skipped, errors.
    pub events: Vec<String>,
    /// When it happened, and how much memory there was.
    #[serde(default, skip_serializing_if = "Timeline::is_empty")]
    pub timeline: Timeline,
    /// Where the time of a prediction goes, in the form of `coreml bench --profile`, if somebody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<serde_json::Value>,
    /// The judgement, line by line.
    pub gate: Vec<GateLine>,
    /// The judgement of the whole gate: [`Outcome::Fail`] if a line fails, else unavailable if one is.
    pub verdict: Outcome,
}

/// The verdict that a gate's lines give together.
pub fn verdict(lines: &[GateLine]) -> Outcome {
    let has = |outcome| lines.iter().any(|line| line.outcome == outcome);
    if has(Outcome::Fail) {
        Outcome::Fail
    } else if has(Outcome::Unavailable) || lines.is_empty() {
        Outcome::Unavailable
    } else {
        Outcome::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_two_forms() {
        let measured = Metric::measured(1.5, "ms", 11, "measured");
        let text = serde_json::to_string(&measured).unwrap();
        assert_eq!(text, r#"{"value":1.5,"unit":"ms","n":11,"source":"measured"}"#);
        assert_eq!(serde_json::from_str::<Metric>(&text).unwrap(), measured);
        let missing: Metric = serde_json::from_str(r#"{"unavailable":"no Neural Engine here"}"#).unwrap();
        assert_eq!(missing.value(), None);
        assert!(serde_json::from_str::<Metric>(r#"{"value":1.5}"#).is_err(), "a bare number is not a figure");
        assert_eq!(Metric::measured(f64::NAN, "ms", 1, "measured").value(), None);
    }

    #[test]
    fn an_unavailable_line_never_passes() {
        let line = |outcome| GateLine { requirement: String::new(), outcome, evidence: String::new() };
        assert_eq!(verdict(&[line(Outcome::Pass)]), Outcome::Pass);
        assert_eq!(verdict(&[line(Outcome::Pass), line(Outcome::Unavailable)]), Outcome::Unavailable);
        assert_eq!(verdict(&[line(Outcome::Unavailable), line(Outcome::Fail)]), Outcome::Fail);
        assert_eq!(verdict(&[]), Outcome::Unavailable);
    }
}
