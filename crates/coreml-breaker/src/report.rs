//! What a breaker reports: its states, why it changed or rejected a call, and its current figures.

use std::fmt;
use std::time::Duration;

use crate::Instant;
use crate::window::Counts;

/// The states of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls are admitted and counted.
    Closed,
    /// Calls are rejected until the wait is over.
    Open,
    /// A few calls are admitted as probes.
    HalfOpen,
    /// Calls are rejected until the breaker is reset.
    ForcedOpen,
    /// Calls are admitted and not counted.
    Disabled,
    /// Calls are admitted and counted; nothing trips.
    MetricsOnly,
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Closed, Self::Open, Self::HalfOpen, Self::ForcedOpen, Self::Disabled, Self::MetricsOnly];

    /// The name for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a circuit changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Too few calls of the window succeeded.
    SuccessRate,
    /// Too many failures in a row.
    ConsecutiveFailures,
    /// Too many calls of the window missed their deadline.
    DeadlineMisses,
    /// Too many calls of the window were slow.
    SlowCalls,
    /// A result differed from the one it was checked against.
    ParityFailure,
    /// Too much memory is in use, or was until a moment ago.
    MemoryPressure,
    /// Too many calls that were given up still run.
    AbandonedCalls,
    /// A probe failed, was slow, or its permit was dropped.
    ProbeFailed,
    /// A probe gave no result within its deadline.
    ProbeExpired,
    /// The wait of an open circuit is over.
    WaitElapsed,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// It was forced open.
    Forced,
    /// It was reset.
    Reset,
    /// Its mode was changed.
    ModeChanged,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 14] = [
        Self::SuccessRate,
        Self::ConsecutiveFailures,
        Self::DeadlineMisses,
        Self::SlowCalls,
        Self::ParityFailure,
        Self::MemoryPressure,
        Self::AbandonedCalls,
        Self::ProbeFailed,
        Self::ProbeExpired,
        Self::WaitElapsed,
        Self::ProbesSucceeded,
        Self::Forced,
        Self::Reset,
        Self::ModeChanged,
    ];

    /// The name for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::SuccessRate => "success_rate",
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::DeadlineMisses => "deadline_misses",
            Self::SlowCalls => "slow_calls",
            Self::ParityFailure => "parity_failure",
            Self::MemoryPressure => "memory_pressure",
            Self::AbandonedCalls => "abandoned_calls",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeExpired => "probe_expired",
            Self::WaitElapsed => "wait_elapsed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::Forced => "forced",
            Self::Reset => "reset",
            Self::ModeChanged => "mode_changed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One change of state, as the observer gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state after; never the same.
    pub to: State,
    /// What caused it.
    pub reason: Reason,
    /// When it happened. For an expired probe this is its deadline, not when it was noticed; for a dropped permit, the
    /// latest time that the breaker knew.
    pub at: Instant,
    /// The generation of the new state; later transitions have larger ones.
    pub generation: u64,
}

/// A call was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// Open, half-open with all probes in flight, or forced open.
    pub state: State,
    /// Why the circuit is not closed; of several causes, the one that keeps it open the longest.
    pub reason: Reason,
    /// When asking again may help; `None` if only an event from outside can change anything.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the circuit is {} ({})", self.state, self.reason)?;
        match self.retry_after {
            Some(wait) => write!(f, ", retry after {wait:?}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejected {}

/// The status of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Why the circuit rejects calls or probes; `None` where all calls are admitted.
    pub reason: Option<Reason>,
    /// Counts the changes of state and the resets.
    pub generation: u64,
    /// The calls in the window. While the circuit is open: the calls that led to it and are still in the window.
    pub window: Counts,
    /// Failures since the last success, while closed.
    pub consecutive_failures: u32,
    /// How often the circuit has opened, not counting forced openings.
    pub trips: u64,
    /// The steps by which the next wait is longer than the first.
    pub attempts: u32,
    /// Results that came after the state that admitted them had ended, and decided nothing.
    pub late: u64,
    /// Permits dropped without a result: by unwinding, or forgotten. Each counted as a failed call, or as late.
    pub dropped: u64,
    /// Probes admitted and not settled.
    pub probes_in_flight: u32,
    /// Whether it is held open by memory pressure.
    pub held_by_memory: bool,
    /// Whether it is held open by abandoned calls.
    pub held_by_abandoned_calls: bool,
    /// When a call may be admitted again: `None` if calls are admitted now or no time is known.
    pub retry_after: Option<Duration>,
}
