//! Counters and times of one backend. Handles are looked up once: recording takes no lock and allocates no memory.

use std::sync::Arc;
use std::time::Duration;

use coreml_breaker::{State, Transition};
use coreml_telemetry::{Counter, Histogram, Registry, names};

use crate::error::ErrorKind;
use crate::parity::Parity;
use crate::trace;

#[derive(Debug)]
pub(super) struct Meter {
    backend: &'static str,
    registry: Arc<Registry>,
    answered: Arc<Counter>,
    prediction_duration: Arc<Histogram>,
    rejections: Arc<Counter>,
}

impl Meter {
    pub(super) fn new(backend: &'static str, registry: &Arc<Registry>) -> Self {
        registry.gauge(&names::BREAKER_STATE, &[backend]).set(state_code(State::Closed));
        Self {
            backend,
            answered: registry.counter(&names::ATTEMPTS, &[backend, "ok"]),
            prediction_duration: registry.histogram(&names::PREDICTION_DURATION, &[backend]),
            rejections: registry.counter(&names::BREAKER_REJECTIONS, &[backend]),
            registry: registry.clone(),
        }
    }

    /// One attempt, by how it ended.
    pub(super) fn attempt(&self, error: Option<ErrorKind>, elapsed: Duration) {
        match error {
            None => self.answered.increment(),
            Some(kind) => {
                self.registry.counter(&names::ATTEMPTS, &[self.backend, kind.name()]).increment();
                self.registry.histogram(&names::FAILED_ATTEMPT_DURATION, &[self.backend]).record_duration(elapsed);
            }
        }
    }

    /// A prediction that this backend answered.
    pub(super) fn served(&self, elapsed: Duration) {
        self.prediction_duration.record_duration(elapsed);
    }

    /// The usual duration of predictions that it answered, for `quantile`; `None` as long as there are too few.
    pub(super) fn usual(&self, quantile: f64) -> Option<Duration> {
        let nanoseconds = self.prediction_duration.snapshot().quantile(quantile).ok()?;
        Some(Duration::from_nanos(nanoseconds as u64))
    }

    pub(super) fn rejected(&self) {
        self.rejections.increment();
    }

    pub(super) fn loaded(&self, elapsed: Duration) {
        self.registry.gauge(&names::LOAD_DURATION, &[self.backend]).set(elapsed.as_secs_f64());
    }

    pub(super) fn abandoned(&self, count: u32) {
        self.registry.gauge(&names::ABANDONED_CALLS, &[self.backend]).set(f64::from(count));
    }

    pub(super) fn returned_late(&self) {
        self.registry.counter(&names::LATE_RETURNS, &[self.backend]).increment();
    }

    pub(super) fn outputs_rejected(&self) {
        self.registry.counter(&names::REJECTED_OUTPUTS, &[self.backend]).increment();
    }

    /// The session goes on to its next backend.
    pub(super) fn fell_back(&self, reason: ErrorKind) {
        self.registry.counter(&names::FALLBACKS, &[self.backend, reason.name()]).increment();
    }

    /// A prediction was hedged, and this backend answered first.
    pub(super) fn won_hedge(&self) {
        self.registry.counter(&names::HEDGES, &[self.backend]).increment();
    }

    /// A comparison with the fallback; without a result if the fallback failed.
    pub(super) fn compared(&self, outcome: &str, parity: Option<&Parity>) {
        self.registry.counter(&names::PARITY_CHECKS, &[self.backend, outcome]).increment();
        if let Some(parity) = parity {
            let share = if parity.max_abs == 0.0 { 0.0 } else { parity.max_abs / parity.scale };
            self.registry.gauge(&names::PARITY_MAX_ABS, &[self.backend]).set(share);
        }
    }

    /// What the circuit breaker calls when its state changes.
    pub(super) fn transitions(&self) -> impl Fn(&Transition) + Send + Sync + 'static {
        let (backend, registry) = (self.backend, self.registry.clone());
        let state = registry.gauge(&names::BREAKER_STATE, &[backend]);
        move |transition: &Transition| {
            trace::transition(backend, transition);
            state.set(state_code(transition.to));
            let labels = [backend, transition.from.name(), transition.to.name(), transition.reason.name()];
            registry.counter(&names::BREAKER_TRANSITIONS, &labels).increment();
        }
    }
}

/// The state as the gauge has it.
fn state_code(state: State) -> f64 {
    match state {
        State::Closed => 0.0,
        State::HalfOpen => 1.0,
        State::Open => 2.0,
        State::ForcedOpen => 3.0,
        State::Disabled => 4.0,
        State::MetricsOnly => 5.0,
    }
}
