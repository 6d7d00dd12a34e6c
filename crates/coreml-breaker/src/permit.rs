//! The right to make one call, and the duty to say how it went.

use crate::Instant;
use crate::breaker::CircuitBreaker;
use crate::outcome::{Outcome, Settled, Ticket};

/// The right to make one call. A permit that is dropped without [`settle`](Self::settle) counts as a failed call: this
/// is how unwinding and forgotten results count.
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

    /// Whether the call is a probe of a half-open circuit, which should not be spent on a call that may well fail.
    pub fn is_probe(&self) -> bool {
        self.ticket.probe.is_some()
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.breaker.settle_dropped(self.ticket);
    }
}
