//! Predictions as text for people.

use std::io::{self, Write};

use coreml_anywhere::tensor::Tensor;
use coreml_anywhere::{Prediction, Value};

use super::findings::Detection;

/// The likeliest labels of a classifier, else a line for each output.
pub(super) fn print(prediction: &Prediction, top: usize, out: &mut impl Write) -> io::Result<()> {
    if prediction.degraded() {
        let failed =
            prediction.attempts().iter().filter_map(|attempt| Some((attempt.backend, attempt.error.as_ref()?)));
        for (backend, error) in failed {
            writeln!(out, "({backend} failed: {error}; {} answered)", prediction.served_by())?;
        }
    }
    let labels = prediction.top(top);
    let width = labels.iter().map(|(label, _)| label.to_string().chars().count()).max().unwrap_or(0);
    for (label, probability) in &labels {
        writeln!(out, "{label:width$}  {probability:.4}", label = label.to_string())?;
    }
    let width = prediction.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in prediction.iter() {
        match value {
            Value::Tensor(tensor) | Value::Image(tensor) => {
                let Statistics { min, max, mean } = Statistics::of(tensor);
                writeln!(out, "{name:width$}  {}  min {min:.6}  max {max:.6}  mean {mean:.6}", value.describe())?;
            }
            Value::String(string) if labels.is_empty() => writeln!(out, "{name:width$}  {string}")?,
            Value::Int64(number) if labels.is_empty() => writeln!(out, "{name:width$}  {number}")?,
            Value::Double(number) => writeln!(out, "{name:width$}  {number}")?,
            Value::Sequence(found) => {
                let shown: Vec<_> = found.iter().take(top).map(ToString::to_string).collect();
                let more = if found.len() > top { ", …" } else { "" };
                writeln!(out, "{name:width$}  {}{more}", shown.join(", "))?;
            }
            _ => {}
        }
    }
    for found in prediction.non_finite() {
        writeln!(out, "warning: {found}")?;
    }
    Ok(())
}

/// A prediction in one line: the likeliest label, what was found, or a few words for each output.
pub(super) fn line(prediction: &Prediction, detections: Option<&[Detection]>, top: usize) -> String {
    let mut line = match (prediction.top(1).first(), detections) {
        (Some((label, probability)), _) => format!("{label}  {probability:.4}"),
        (None, Some(detections)) => {
            let shown = detections.iter().take(top);
            let shown: Vec<_> = shown.map(|found| format!("{} {:.4}", found.label, found.confidence)).collect();
            let more = if detections.len() > top { ", …" } else { "" };
            format!("{} found  {}{more}", detections.len(), shown.join(", ")).trim_end().to_owned()
        }
        (None, None) => prediction.iter().map(|(name, value)| words(name, value)).collect::<Vec<_>>().join("; "),
    };
    for found in prediction.non_finite() {
        line += &format!("; warning: {found}");
    }
    line
}

fn words(name: &str, value: &Value) -> String {
    match value {
        Value::Tensor(tensor) | Value::Image(tensor) => {
            let Statistics { min, max, mean } = Statistics::of(tensor);
            format!("{name} {}  min {min:.6}  max {max:.6}  mean {mean:.6}", tensor.shape())
        }
        Value::String(string) => format!("{name} {string}"),
        Value::Int64(number) => format!("{name} {number}"),
        Value::Double(number) => format!("{name} {number}"),
        other => format!("{name} {}", other.describe()),
    }
}

/// Statistics of the finite numbers; all NaN if there are none.
pub(super) struct Statistics {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
}

impl Statistics {
    pub(super) fn of(tensor: &Tensor) -> Self {
        let (mut min, mut max, mut sum, mut count) = (f64::NAN, f64::NAN, 0.0, 0usize);
        tensor.view().for_each_f64(|value| {
            if value.is_finite() {
                (min, max, sum, count) = (min.min(value), max.max(value), sum + value, count + 1);
            }
        });
        Self { min, max, mean: sum / count as f64 }
    }
}
