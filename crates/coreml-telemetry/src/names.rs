//! Every metric there is, in one table: name, kind, unit, labels and what it means.
//!
//! Names end in their unit, or in `_total` for counters. To add a metric, add its constant and list it in [`ALL`].

/// What a metric is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of durations.
    Histogram,
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// The name under which it is exported.
    pub name: &'static str,
    /// What it is made of.
    pub kind: Kind,
    /// The unit of its values.
    pub unit: &'static str,
    /// The labels that tell its series apart, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

/// Attempts by backend and outcome: `ok` or the kind of error.
pub const ATTEMPTS: Spec = Spec {
    name: "coreml_attempts_total",
    kind: Kind::Counter,
    unit: "attempts",
    labels: &["backend", "outcome"],
    help: "Predictions a backend was asked for, by how they ended.",
};

/// How long attempts took, by backend.
pub const ATTEMPT_DURATION: Spec = Spec {
    name: "coreml_attempt_duration_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &["backend"],
    help: "Time from handing a prediction to a backend until it answered or failed.",
};

/// Predictions by outcome.
pub const PREDICTIONS: Spec = Spec {
    name: "coreml_predictions_total",
    kind: Kind::Counter,
    unit: "predictions",
    labels: &["outcome"],
    help: "Predictions a session was asked for, by how they ended, whichever backend served them.",
};

/// Predictions that another backend than the first one served.
pub const FALLBACKS: Spec = Spec {
    name: "coreml_fallbacks_total",
    kind: Kind::Counter,
    unit: "predictions",
    labels: &["from", "reason"],
    help: "Times a session went on to its next backend, by the backend that failed and the kind of its error.",
};

/// How long loading took, by backend.
pub const LOAD_DURATION: Spec = Spec {
    name: "coreml_load_duration_seconds",
    kind: Kind::Gauge,
    unit: "seconds",
    labels: &["backend"],
    help: "Time the backend took to make the model ready, planning or compiling included.",
};

/// The table.
pub const ALL: &[Spec] = &[ATTEMPTS, ATTEMPT_DURATION, PREDICTIONS, FALLBACKS, LOAD_DURATION];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for spec in ALL {
            let ending = if spec.kind == Kind::Counter { "_total" } else { spec.unit };
            assert!(spec.name.starts_with("coreml_") && spec.name.ends_with(ending), "{}", spec.name);
            assert_eq!(ALL.iter().filter(|other| other.name == spec.name).count(), 1, "{}", spec.name);
        }
    }
}
