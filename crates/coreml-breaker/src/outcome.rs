//! How a call went, and how the breaker counted it.

use crate::Instant;

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It gave a good result.
    Success,
    /// It failed, and the engine is to blame.
    Failure,
    /// It gave no result in time: a failure that is also counted separately.
    DeadlineMiss,
    /// It panicked: a failure.
    Panicked,
    /// It says nothing about the engine: the caller made a mistake or changed its mind. Not counted; a probe's place is
    /// given back.
    Ignored,
}

/// How the breaker counted a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settled {
    /// It was counted.
    Counted,
    /// It was not counted: the outcome was [`Outcome::Ignored`], or the breaker is disabled.
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
