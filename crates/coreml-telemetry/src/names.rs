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

/// How long failed attempts took, by backend. What the others took is in [`PREDICTION_DURATION`].
pub const FAILED_ATTEMPT_DURATION: Spec = Spec {
    name: "coreml_failed_attempt_duration_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &["backend"],
    help: "Time from handing a prediction to a backend until it failed.",
};

/// Predictions by outcome.
pub const PREDICTIONS: Spec = Spec {
    name: "coreml_predictions_total",
    kind: Kind::Counter,
    unit: "predictions",
    labels: &["outcome"],
    help: "Predictions a session was asked for, by how they ended, whichever backend served them.",
};

/// Predictions that are being made.
pub const PREDICTIONS_IN_FLIGHT: Spec = Spec {
    name: "coreml_in_flight_predictions",
    kind: Kind::Gauge,
    unit: "predictions",
    labels: &[],
    help: "Predictions a session is at, those that wait for a place included.",
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

/// How long predictions took as the caller saw it.
pub const PREDICTION_DURATION: Spec = Spec {
    name: "coreml_prediction_duration_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &["served_by"],
    help: "Time from asking the session until it answered, failed attempts included, by the backend that answered.",
};

/// The state of a backend's circuit breaker.
pub const BREAKER_STATE: Spec = Spec {
    name: "coreml_breaker_state_code",
    kind: Kind::Gauge,
    unit: "code",
    labels: &["backend"],
    help: "State of the circuit breaker: 0 closed, 1 half-open, 2 open, 3 forced open, 4 disabled, 5 metrics only.",
};

/// Changes of a circuit breaker's state.
pub const BREAKER_TRANSITIONS: Spec = Spec {
    name: "coreml_breaker_transitions_total",
    kind: Kind::Counter,
    unit: "transitions",
    labels: &["backend", "from", "to", "reason"],
    help: "Changes of a circuit breaker's state, by what caused them.",
};

/// Attempts that were not made.
pub const BREAKER_REJECTIONS: Spec = Spec {
    name: "coreml_breaker_rejections_total",
    kind: Kind::Counter,
    unit: "attempts",
    labels: &["backend"],
    help: "Attempts that were not made because the circuit was open or too many calls were abandoned.",
};

/// Calls that nobody waits for and that have not returned.
pub const ABANDONED_CALLS: Spec = Spec {
    name: "coreml_abandoned_calls",
    kind: Kind::Gauge,
    unit: "calls",
    labels: &["backend"],
    help: "Calls into a backend that were given up at their deadline and have not returned.",
};

/// Abandoned calls that returned.
pub const LATE_RETURNS: Spec = Spec {
    name: "coreml_late_returns_total",
    kind: Kind::Counter,
    unit: "calls",
    labels: &["backend"],
    help: "Abandoned calls that returned after all; their results were dropped.",
};

/// Predictions computed twice to hold the deadline.
pub const HEDGES: Spec = Spec {
    name: "coreml_hedges_total",
    kind: Kind::Counter,
    unit: "predictions",
    labels: &["winner"],
    help: "Predictions for which the fallback was started before the deadline, by the backend that answered first.",
};

/// Answers compared with the fallback's.
pub const PARITY_CHECKS: Spec = Spec {
    name: "coreml_parity_checks_total",
    kind: Kind::Counter,
    unit: "predictions",
    labels: &["backend", "outcome"],
    help: "Answers compared with those of the fallback: within the tolerance, outside it, or not compared because the fallback failed.",
};

/// The largest difference found so far.
pub const PARITY_MAX_ABS: Spec = Spec {
    name: "coreml_parity_max_abs_error_ratio",
    kind: Kind::Gauge,
    unit: "ratio",
    labels: &["backend"],
    help: "Largest absolute difference to the fallback's answer in the last comparison, as a share of the largest number.",
};

/// Answers that could not be right.
pub const REJECTED_OUTPUTS: Spec = Spec {
    name: "coreml_rejected_outputs_total",
    kind: Kind::Counter,
    unit: "predictions",
    labels: &["backend"],
    help: "Answers with a missing feature, a wrong type or shape, or NaN or infinity, which were not given to the caller.",
};

/// The memory of the process.
pub const MEMORY: Spec = Spec {
    name: "coreml_process_memory_bytes",
    kind: Kind::Gauge,
    unit: "bytes",
    labels: &[],
    help: "Memory of this process as the circuit breaker sees it.",
};

/// The table.
pub const ALL: &[Spec] = &[
    ATTEMPTS,
    FAILED_ATTEMPT_DURATION,
    PREDICTIONS,
    PREDICTIONS_IN_FLIGHT,
    FALLBACKS,
    LOAD_DURATION,
    PREDICTION_DURATION,
    BREAKER_STATE,
    BREAKER_TRANSITIONS,
    BREAKER_REJECTIONS,
    ABANDONED_CALLS,
    LATE_RETURNS,
    HEDGES,
    PARITY_CHECKS,
    PARITY_MAX_ABS,
    REJECTED_OUTPUTS,
    MEMORY,
];

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
