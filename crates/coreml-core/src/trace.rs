//! Spans and events for `tracing`, with the feature of that name; nothing without it.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "without the feature nothing is told"))]

use coreml_breaker::Transition;

use crate::error::Error;

/// A span that ends with the value.
#[must_use]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    _entered: tracing::span::EnteredSpan,
}

/// One prediction, all its attempts.
pub(crate) fn prediction(function: &str) -> Span {
    Span {
        #[cfg(feature = "tracing")]
        _entered: tracing::debug_span!(target: "coreml", "predict", function).entered(),
    }
}

/// One load of a model.
pub(crate) fn load(backend: &str) -> Span {
    Span {
        #[cfg(feature = "tracing")]
        _entered: tracing::info_span!(target: "coreml", "load", backend).entered(),
    }
}

/// A circuit breaker changed its state.
pub(crate) fn transition(backend: &str, transition: &Transition) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "coreml",
        backend,
        from = transition.from.name(),
        to = transition.to.name(),
        reason = transition.reason.name(),
        "circuit breaker"
    );
}

/// A backend failed, and the session goes on to the next one; `unsaid` more since this was told last.
pub(crate) fn fallback(backend: &str, error: &Error, unsaid: u64) {
    #[cfg(feature = "tracing")]
    if unsaid > 0 {
        tracing::info!(target: "coreml", backend, kind = error.kind().name(), unsaid, %error, "fallback");
    } else {
        tracing::info!(target: "coreml", backend, kind = error.kind().name(), %error, "fallback");
    }
}
