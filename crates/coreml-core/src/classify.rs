//! The one place that decides what an error means: for the next step, and for the backend's health.

use crate::error::ErrorKind;

/// What an attempt's error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether another backend may succeed. If not, the caller gets the error.
    pub(crate) try_next: bool,
    /// The outcome for the circuit breaker.
    pub(crate) health: Health,
}

/// What an error says about the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing: it is the caller's, or the model's.
    Unaffected,
    /// It failed.
    Failed,
    /// It was too slow.
    Late,
}

/// Whose fault an error is decides whether the next backend is tried, and whether the breaker counts it.
pub(crate) fn classify(kind: ErrorKind) -> Verdict {
    let (try_next, health) = match kind {
        ErrorKind::InvalidInput | ErrorKind::InvalidModel | ErrorKind::Cancelled => (false, Health::Unaffected),
        ErrorKind::Unsupported | ErrorKind::Overloaded => (true, Health::Unaffected),
        ErrorKind::Unavailable | ErrorKind::Fault | ErrorKind::Bug => (true, Health::Failed),
        ErrorKind::Timeout => (true, Health::Late),
    };
    Verdict { try_next, health }
}
