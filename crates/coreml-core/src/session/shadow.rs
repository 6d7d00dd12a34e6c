//! Compares answers with the fallback's: nothing else finds a backend that answers wrongly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::lane::{Lane, StateUse};
use super::policy::Shadow;
use crate::Instant;
use crate::error::{Error, ErrorKind};
use crate::outputs::Outputs;
use crate::owned::OwnedInputs;
use crate::parity::Parity;

/// Whose turn it is to be compared, and what comparing has cost.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) config: Shadow,
    answers: AtomicU64,
    /// One comparison in the background at a time.
    busy: AtomicBool,
    opened: Instant,
    spent_nanoseconds: AtomicU64,
}

impl Watch {
    pub(super) fn new(config: Shadow, opened: Instant) -> Self {
        let (answers, busy) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { config, answers, busy, opened, spent_nanoseconds: AtomicU64::new(0) }
    }

    /// Whether the current answer is to be compared.
    pub(super) fn due(&self) -> bool {
        self.answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(u64::from(self.config.every.max(1)))
    }

    /// Compares an answer of `lane` with the one `expected`; without one, only counts that.
    ///
    /// # Errors
    /// [`ErrorKind::Fault`] if they are too far apart; the lane's circuit breaker has then been informed.
    pub(super) fn judge(
        &self,
        lane: &Lane,
        found: &Outputs,
        expected: Option<&Outputs>,
        now: Instant,
    ) -> Result<(), Error> {
        let Some(expected) = expected else {
            lane.meter.compared("not_compared", None);
            return Ok(());
        };
        let parity = Parity::of(found, expected);
        if parity.within(self.config.tolerance) {
            lane.meter.compared("within", Some(&parity));
            return Ok(());
        }
        lane.meter.compared("outside", Some(&parity));
        lane.breaker().parity_failure(now);
        Err(Error::new(ErrorKind::Fault, format!("the answer is not the fallback's: {parity}")))
    }

    /// Has `reference` answer `inputs` on a thread of its own and compares `found`, an answer of `lane`, with that.
    /// Skipped while another comparison runs, or when comparing has taken more than its share of the time.
    pub(super) fn compare_aside(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        reference: &Arc<Lane>,
        found: &Outputs,
        now: Instant,
        inputs: impl FnOnce() -> Arc<OwnedInputs>,
    ) {
        let spent = self.spent_nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        if spent > self.config.max_share * now.duration_since(self.opened).as_secs_f64()
            || self.busy.swap(true, Ordering::Acquire)
        {
            return;
        }
        let (watch, lane, own) = (self.clone(), lane.clone(), reference.clone());
        let (inputs, found) = (inputs(), found.clone());
        let started = reference.run(move || {
            let start = Instant::now();
            let expected = own.perform(&inputs.checked(), StateUse::None, None, None).result.ok();
            // The answer has been given: the breaker knows, which is all that can be done about it.
            let _ = watch.judge(&lane, &found, expected.as_ref(), now);
            let spent = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            watch.spent_nanoseconds.fetch_add(spent, Ordering::Relaxed);
            watch.busy.store(false, Ordering::Release);
        });
        if started.is_err() {
            self.busy.store(false, Ordering::Release);
        }
    }
}
