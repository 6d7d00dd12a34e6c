//! A breaker on a clock that tests move by hand, with the transitions its observer saw.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coreml_breaker::{BreakerConfig, CircuitBreaker, OpenWait, Outcome, Permit, Rejected, Settled, Status, Transition};

pub(crate) struct Bench {
    pub(crate) breaker: CircuitBreaker,
    pub(crate) epoch: Instant,
    pub(crate) now: Mutex<Duration>,
    pub(crate) seen: Arc<Mutex<Vec<Transition>>>,
}

/// Waits without jitter, so that times can be written down.
pub(crate) fn config() -> BreakerConfig {
    BreakerConfig { open_wait: OpenWait { jitter: 0.0, ..Default::default() }, ..Default::default() }
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MS: Duration = Duration::from_millis(1);

impl Bench {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        let seen: Arc<Mutex<Vec<Transition>>> = Arc::default();
        let (epoch, log) = (Instant::now(), Arc::clone(&seen));
        let breaker = CircuitBreaker::new(config, 7, epoch, move |t| log.lock().unwrap().push(*t)).unwrap();
        Self { breaker, epoch, now: Mutex::default(), seen }
    }

    pub(crate) fn now(&self) -> Instant {
        self.epoch + *self.now.lock().unwrap()
    }

    pub(crate) fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }

    pub(crate) fn admit(&self) -> Result<Permit<'_>, Rejected> {
        self.breaker.admit(self.now())
    }

    /// One admitted call that takes no time.
    pub(crate) fn call(&self, outcome: Outcome) -> Settled {
        let permit = self.admit().unwrap_or_else(|rejected| panic!("{rejected}"));
        permit.settle(outcome, self.now())
    }

    pub(crate) fn calls(&self, number: u64, outcome: Outcome) {
        (0..number).for_each(|_| assert_eq!(self.call(outcome), Settled::Counted));
    }

    pub(crate) fn status(&self) -> Status {
        self.breaker.status(self.now())
    }

    /// The transitions so far, as `from > to: reason`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|t| format!("{} > {}: {}", t.from, t.to, t.reason)).collect()
    }

    /// Closed to open by the default rules.
    pub(crate) fn trip(&self) {
        self.calls(10, Outcome::Failure);
    }
}
