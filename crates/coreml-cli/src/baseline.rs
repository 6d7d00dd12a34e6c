//! Compares a run with an earlier one.

use std::path::Path;

use coreml_anywhere::telemetry::percentile;
use serde_json::{Value as Json, json};

use crate::failure::Failure;
use crate::stats::{Change, change};

/// How a latency changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Slower by more than the tolerance, and surely so.
    Slower,
    /// Faster by more than the tolerance, and surely so.
    Faster,
    /// Within the tolerance, surely.
    Same,
    /// The samples do not tell.
    Unclear,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::Same => "same",
            Self::Unclear => "unclear",
        }
    }

    fn of(change: &Change, tolerance: f64) -> Self {
        let (low, high) = (change.interval.low, change.interval.high);
        if low > 1.0 + tolerance {
            Self::Slower
        } else if high < 1.0 - tolerance {
            Self::Faster
        } else if low >= 1.0 - tolerance && high <= 1.0 + tolerance {
            Self::Same
        } else {
            Self::Unclear
        }
    }
}

/// One percentile in both runs.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) before: f64,
    pub(crate) now: f64,
    pub(crate) change: Change,
    pub(crate) verdict: Verdict,
}

/// The percentiles that both runs have enough samples for.
pub(crate) fn compare(now: &[f64], before: &[f64], tolerance: f64) -> Vec<Line> {
    let line = |(name, quantile): (&'static str, f64)| {
        let change = change(now, before, quantile)?;
        let (now, before) = (percentile::of(now, quantile).ok()?, percentile::of(before, quantile).ok()?);
        Some(Line { name, before, now, verdict: Verdict::of(&change, tolerance), change })
    };
    [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)].into_iter().filter_map(line).collect()
}

impl Line {
    pub(crate) fn json(&self) -> Json {
        json!({
            "name": self.name, "before_ms": self.before, "now_ms": self.now, "ratio": self.change.ratio,
            "low": self.change.interval.low, "high": self.change.interval.high, "verdict": self.verdict.name(),
        })
    }
}

/// Reads a record that `bench`, `validate` or `report` wrote.
pub(crate) fn read_record(path: &Path) -> Result<Json, Failure> {
    let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| {
        Failure::file(format!("cannot read {}", path.display()), error)
    };
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).map_err(|error| unreadable(error.into()))?
    } else {
        std::fs::read_to_string(path).map_err(|error| unreadable(error.into()))?
    };
    let record: Json = serde_json::from_str(&text).map_err(|error| unreadable(error.into()))?;
    match record["schema"].as_str() {
        Some("coreml-anywhere.run/1" | "coreml-anywhere.bench/1") => Ok(record),
        other => {
            let message = format!("{} is no record of `bench`, `validate` or `report`", path.display());
            Err(Failure::file(message, format!("its schema is {}", other.unwrap_or("not told"))))
        }
    }
}

/// Milliseconds, as a record has them in order.
pub(crate) fn samples(json: &Json) -> Vec<f64> {
    json.as_array().into_iter().flatten().filter_map(Json::as_f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slower_faster_same() {
        let run =
            |scale: f64| -> Vec<f64> { (0..400).map(|i| scale * (1.0 + f64::from(i * 37 % 100) / 5e3)).collect() };
        let verdict = |now: f64| compare(&run(now), &run(10.0), 0.03)[0].verdict;
        assert_eq!(verdict(11.0), Verdict::Slower);
        assert_eq!(verdict(9.0), Verdict::Faster);
        assert_eq!(verdict(10.05), Verdict::Same);
        assert_eq!(verdict(10.3), Verdict::Unclear);
        assert!(compare(&[1.0; 5], &[1.0; 5], 0.03).is_empty(), "five samples tell nothing");
    }
}
