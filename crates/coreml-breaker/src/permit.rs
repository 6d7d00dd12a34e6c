//! The right to make one call, and the duty to say how it went.

use std::time::Instant;

use crate::breaker::CircuitBreaker;

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It gave a good result.
    Success,
    /// It failed, and the engine is to blame.
    Failure,
    /// It gave no result in time: a failure that is also counted apart.
    DeadlineMiss,
    /// It panicked: a failure.
    Panicked,
    /// It says nothing about the engine: the caller's mistake, or the caller's change of mind. Not counted; a probe's
    /// place is given back.
    Ignored,
}

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settled {
    /// It was counted.
    Counted,
    /// It was not to be counted: it was to be ignored, or the breaker is disabled.
    Uncounted,
    /// It came after the state that admitted the call had ended. It decided nothing and is in [`Status::late`].
    ///
    /// [`Status::late`]: crate::Status::late
    Late,
}

/// What a permit has to remember.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) generation: u64,
    pub(crate) admitted: Instant,
    /// The number of the probe, if it is one.
    pub(crate) probe: Option<u64>,
}

/// The right to make one call. A permit that is dropped without [`settle`](Self::settle) counts as a failed call: that
/// is what unwinding and forgotten results come to.
#[derive(Debug)]
#[must_use = "a permit dropped at once counts as a failed call"]
pub struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    ticket: Ticket,
}

impl<'a> Permit<'a> {
    #[inline]
    pub(crate) fn new(breaker: &'a CircuitBreaker, ticket: Ticket) -> Self {
        Self { breaker, ticket }
    }

    /// Says how the call went, and that it ended `now`. The time since it was admitted decides whether it was slow.
    #[inline]
    pub fn settle(self, outcome: Outcome, now: Instant) -> Settled {
        let Self { breaker, ticket } = self;
        std::mem::forget(self);
        breaker.settle(ticket, outcome, now)
    }

    /// Whether the call is a probe of a half-open circuit: one that should not be spent on what may well fail.
    pub fn is_probe(&self) -> bool {
        self.ticket.probe.is_some()
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.breaker.settle_dropped(self.ticket);
    }
}
