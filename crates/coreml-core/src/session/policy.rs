//! The settings for surviving failing backends, from [`SessionBuilder`](super::SessionBuilder).

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use coreml_breaker::BreakerConfig;

use crate::parity::Tolerance;

/// Starts the fallback when the deadline comes near, before the first backend has failed; the first good answer is
/// taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hedging {
    /// The share of predictions that may be computed twice, from 0 to 1. If every answer is slow, the budget is soon
    /// spent, and the slow backend is abandoned at its deadline as without hedging.
    pub budget: f64,
}

impl Default for Hedging {
    fn default() -> Self {
        Self { budget: 0.1 }
    }
}

/// Has the fallback answer some predictions too, and compares: the only way to notice a backend that answers wrongly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shadow {
    /// One prediction in this many is compared; 1 for all of them.
    pub every: u32,
    /// Compares before the answer is returned: a wrong one is replaced, at the price of waiting for the fallback.
    /// Otherwise the comparison runs in the background, and a wrong answer opens the circuit for later predictions.
    pub before_answer: bool,
    /// How far an answer may be from the fallback's.
    pub tolerance: Tolerance,
    /// The share of the time since the session was opened that comparisons in the background may take, from 0 to 1.
    pub max_share: f64,
}

impl Default for Shadow {
    fn default() -> Self {
        Self { every: 100, before_answer: false, tolerance: Tolerance::default(), max_share: 0.1 }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Policy {
    pub(super) deadline: Option<Duration>,
    pub(super) load_deadline: Option<Duration>,
    pub(super) breaker: BreakerConfig,
    pub(super) hedging: Option<Hedging>,
    pub(super) shadow: Option<Shadow>,
    pub(super) trust_outputs: bool,
    pub(super) break_last: bool,
}

/// What may be computed twice: earned by predictions, spent by hedges, saved up to a limit.
#[derive(Debug)]
pub(super) struct Budget {
    earned_each: i64,
    balance: AtomicI64,
}

/// The price of one hedge. Everything is in millionths.
const PRICE: i64 = 1_000_000;
/// Hedges that can be saved up.
const SAVED: i64 = 10;

impl Budget {
    pub(super) fn new(share: f64) -> Self {
        Self { earned_each: (share.clamp(0.0, 1.0) * PRICE as f64) as i64, balance: AtomicI64::new(0) }
    }

    pub(super) fn earn(&self) {
        if self.balance.load(Ordering::Relaxed) < SAVED * PRICE {
            self.balance.fetch_add(self.earned_each, Ordering::Relaxed);
        }
    }

    pub(super) fn spend(&self) -> bool {
        let spent = |balance: i64| (balance >= PRICE).then(|| balance - PRICE);
        self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_a_share_of_the_predictions() {
        let budget = Budget::new(0.1);
        let hedged = (0..1000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(hedged.count(), 100);
        (0..1000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.spend()).count() as i64, SAVED, "what is saved up is bounded");
    }
}
