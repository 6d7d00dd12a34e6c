//! The one place that decides what an error means for the next step.

use crate::error::ErrorKind;

/// What an attempt's error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another backend would fail alike, or must not be tried: the caller gets the error.
    GiveUp,
    /// Another backend may succeed.
    TryNext,
}

/// Whose fault an error is decides whether the next backend is tried.
pub(crate) fn classify(kind: ErrorKind) -> Verdict {
    match kind {
        ErrorKind::InvalidInput | ErrorKind::InvalidModel | ErrorKind::Cancelled => Verdict::GiveUp,
        ErrorKind::Unsupported | ErrorKind::Unavailable | ErrorKind::Fault | ErrorKind::Timeout | ErrorKind::Bug => {
            Verdict::TryNext
        }
    }
}
