//! The account of the memory a run uses, and the check whether it has to stop.
//!
//! One ledger serves a run and all nested blocks in it. All memory that grows while a plan runs is booked here and
//! compared with one limit; an allocation that fails is an error. Between operations the run asks the ledger whether it
//! has to stop.

use coreml_core::Cancel;

use crate::error::OpError;
use crate::value::Buffer;

/// What a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunLimits {
    /// Bytes of all buffers together, states included.
    pub(crate) bytes: usize,
    /// Rounds of all loops together.
    pub(crate) rounds: u64,
}

/// What a run has taken so far.
#[derive(Debug)]
pub(crate) struct Ledger {
    limits: RunLimits,
    held: usize,
    rounds: u64,
    cancel: Option<Cancel>,
}

impl Ledger {
    /// The account of a run in a workspace that holds `held` bytes already.
    pub(crate) fn new(limits: RunLimits, held: usize, cancel: Option<Cancel>) -> Self {
        Self { limits, held, rounds: 0, cancel }
    }

    /// Bytes held now, which stay with the workspace after the run.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Makes room for `len` elements in `buffer`.
    pub(crate) fn grow(&mut self, buffer: &mut Buffer, len: usize) -> Result<(), OpError> {
        let more = Buffer::bytes_for(len).saturating_sub(buffer.bytes());
        if more == 0 {
            return Ok(());
        }
        let needed = self.held.saturating_add(more);
        if needed > self.limits.bytes {
            let message = format!("the prediction needs {needed} bytes, the limit is {}", self.limits.bytes);
            return Err(OpError::Limit(message));
        }
        buffer.try_grow(len).map_err(|_| OpError::Limit(format!("there is no memory for {more} bytes more")))?;
        self.held = needed;
        Ok(())
    }

    /// A loop begins another round.
    pub(crate) fn next_round(&mut self) -> Result<(), OpError> {
        self.rounds += 1;
        if self.rounds > self.limits.rounds {
            let message = format!("loops have run {} rounds without an end, which is the limit", self.limits.rounds);
            return Err(OpError::Limit(message));
        }
        self.go_on()
    }

    /// # Errors
    /// [`OpError::Cancelled`] when the run is to stop.
    pub(crate) fn go_on(&self) -> Result<(), OpError> {
        if self.cancel.as_ref().is_some_and(Cancel::is_cancelled) { Err(OpError::Cancelled) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_for_all_buffers_together() {
        let cancel = Cancel::new();
        let limits = RunLimits { bytes: 256, rounds: 2 };
        let mut ledger = Ledger::new(limits, 0, Some(cancel.clone()));
        let (mut a, mut b) = (Buffer::default(), Buffer::default());
        ledger.grow(&mut a, 32).unwrap();
        ledger.grow(&mut a, 16).unwrap();
        ledger.grow(&mut b, 32).unwrap();
        let refused = ledger.grow(&mut b, 33).unwrap_err();
        assert_eq!(refused.to_string(), "the prediction needs 320 bytes, the limit is 256");
        ledger.next_round().unwrap();
        ledger.next_round().unwrap();
        assert!(matches!(ledger.next_round(), Err(OpError::Limit(_))));
        cancel.cancel();
        assert_eq!(ledger.go_on(), Err(OpError::Cancelled));
        assert_eq!(ledger.held(), 256);
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let mut ledger = Ledger::new(RunLimits { bytes: usize::MAX, rounds: 0 }, 0, None);
        let refused = ledger.grow(&mut Buffer::default(), usize::MAX / 8).unwrap_err();
        assert!(matches!(&refused, OpError::Limit(message) if message.starts_with("there is no memory")), "{refused}");
    }
}
