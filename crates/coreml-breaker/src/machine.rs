//! The state machine: plain data and plain time, in nanoseconds since the breaker's epoch. Its callers hold the lock,
//! so nothing here is concurrent.
//!
//! Time never goes back: an operation with a time earlier than the latest one seen happens at the latest one.

use std::collections::VecDeque;

use crate::Instant;
use crate::config::{BreakerConfig, MemoryLimit, Mode};
use crate::outcome::{Outcome, Settled};
use crate::report::{Reason, Rejected, State, Status, Transition};
use crate::wait::Waits;
use crate::window::{Calls, Marks, nanoseconds};
use crate::word::Word;

/// Room for the transitions that wait for the observer; more of them allocate.
const OUTBOX: usize = 16;
/// Rates are compared in whole parts of this, so that 95 of 100 is exactly 95 %.
const WHOLE: u128 = 1_000_000_000;

#[derive(Debug)]
pub(crate) struct Machine {
    config: BreakerConfig,
    epoch: Instant,
    state: State,
    /// Why the circuit last opened; meaningful where calls are rejected.
    reason: Reason,
    generation: u64,
    latest: u64,
    calls: Calls,
    consecutive_failures: u32,
    waits: Waits,
    attempts: u32,
    closed_since: u64,
    open: Wait,
    /// The probes in flight, as number and deadline.
    probes: Vec<(u64, u64)>,
    probes_admitted: u64,
    probe_successes: u32,
    memory: Memory,
    abandoned: bool,
    trips: u64,
    late: u64,
    dropped: u64,
    outbox: VecDeque<Transition>,
    delivering: bool,
}

/// How long an open circuit still waits.
#[derive(Debug, Clone, Copy)]
enum Wait {
    Until(u64),
    /// It was opened by a dropped permit, which has no time: the wait begins with the next operation that has one.
    FromNext(u64),
}

/// Whether memory pressure holds the circuit open.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Memory {
    Enough,
    Pressure,
    /// Memory is below the lower limit; the circuit is held until this time if it stays there.
    ClearAt(u64),
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) generation: u64,
    pub(crate) probe: Option<u64>,
    pub(crate) outcome: Outcome,
    pub(crate) slow: bool,
}

/// What an admitted call gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admitted {
    pub(crate) generation: u64,
    pub(crate) probe: Option<u64>,
}

impl Machine {
    /// The configuration has been validated.
    pub(crate) fn new(config: BreakerConfig, seed: u64, epoch: Instant) -> Self {
        Self {
            state: base(config.mode),
            reason: Reason::Reset,
            generation: 0,
            latest: 0,
            calls: Calls::new(config.window),
            consecutive_failures: 0,
            waits: Waits::new(config.open_wait, seed),
            attempts: 0,
            closed_since: 0,
            open: Wait::Until(0),
            probes: Vec::with_capacity(config.probes as usize),
            probes_admitted: 0,
            probe_successes: 0,
            memory: Memory::Enough,
            abandoned: false,
            trips: 0,
            late: 0,
            dropped: 0,
            outbox: VecDeque::with_capacity(OUTBOX),
            delivering: false,
            epoch,
            config,
        }
    }

    /// Successes that were settled since the last operation.
    pub(crate) fn add_successes(&mut self, number: u64) {
        if number > 0 {
            self.calls.push_successes(number);
            self.consecutive_failures = 0;
        }
    }

    /// Lets time pass: everything that was due by now happens, at the time it was due.
    pub(crate) fn advance(&mut self, now: u64) {
        self.latest = self.latest.max(now);
        self.calls.advance(self.latest);
        if let Memory::ClearAt(at) = self.memory
            && at <= self.latest
        {
            self.memory = Memory::Enough;
        }
        if let Wait::FromNext(wait) = self.open {
            self.open = Wait::Until(self.latest.saturating_add(wait));
        }
        if self.state == State::HalfOpen
            && let Some(deadline) = self.first_deadline().filter(|deadline| *deadline <= self.latest)
        {
            self.trip(Reason::ProbeExpired, deadline, false);
        }
    }

    /// At `latest`.
    pub(crate) fn admit(&mut self) -> Result<Admitted, Rejected> {
        if let Some(until) = self.blocked_until().filter(|until| self.latest < *until) {
            return Err(rejected(self.word(), until, self.latest));
        }
        if self.state == State::Open {
            self.enter(State::HalfOpen, Reason::WaitElapsed, self.latest);
        }
        let probe = (self.state == State::HalfOpen).then(|| {
            self.probes_admitted += 1;
            let deadline = self.latest.saturating_add(nanoseconds(self.config.probe_deadline));
            self.probes.push((self.probes_admitted, deadline));
            self.probes_admitted
        });
        Ok(Admitted { generation: self.generation, probe })
    }

    /// At `latest`. `timed` is false for a dropped permit, which cannot say when that was.
    pub(crate) fn settle(&mut self, call: Ended, timed: bool) -> Settled {
        self.dropped += u64::from(!timed);
        if call.generation != self.generation {
            self.late += 1;
            return Settled::Late;
        }
        if let Some(probe) = call.probe {
            self.probes.retain(|(number, _)| *number != probe);
        }
        if call.outcome == Outcome::Ignored || self.state == State::Disabled {
            return Settled::Uncounted;
        }
        if call.probe.is_none() {
            self.count(call, timed);
        } else if call.outcome != Outcome::Success || call.slow {
            self.trip(Reason::ProbeFailed, self.latest, !timed);
        } else {
            self.probe_successes += 1;
            if self.probe_successes == self.config.probe_successes {
                self.enter(State::Closed, Reason::ProbesSucceeded, self.latest);
            }
        }
        Settled::Counted
    }

    /// Not for ignored calls.
    fn count(&mut self, call: Ended, timed: bool) {
        let failure = call.outcome != Outcome::Success;
        let deadline_miss = call.outcome == Outcome::DeadlineMiss;
        self.calls.push(Marks { failure, slow: call.slow, deadline_miss });
        self.consecutive_failures = if failure { self.consecutive_failures.saturating_add(1) } else { 0 };
        if self.state == State::Closed
            && let Some(reason) = self.trigger()
        {
            self.trip(reason, self.latest, !timed);
        }
    }

    /// The first trigger that the counts fire.
    fn trigger(&self) -> Option<Reason> {
        let (config, counts) = (&self.config, self.calls.counts());
        let enough = counts.calls >= u64::from(config.min_calls);
        let unsuccessful =
            u128::from(counts.successes()) * WHOLE < parts(config.success_rate) * u128::from(counts.calls);
        if enough && unsuccessful && counts.failures >= u64::from(config.min_failures) {
            return Some(Reason::SuccessRate);
        }
        if config.consecutive_failures.is_some_and(|limit| self.consecutive_failures >= limit) {
            return Some(Reason::ConsecutiveFailures);
        }
        if config.deadline_misses.is_some_and(|limit| counts.deadline_misses >= u64::from(limit)) {
            return Some(Reason::DeadlineMisses);
        }
        let slow = config
            .slow_calls
            .is_some_and(|slow| u128::from(counts.slow) * WHOLE >= parts(slow.rate) * u128::from(counts.calls));
        (enough && slow).then_some(Reason::SlowCalls)
    }

    /// A result was wrong.
    pub(crate) fn parity_failure(&mut self) {
        if matches!(self.state, State::Closed | State::HalfOpen) {
            self.trip(Reason::ParityFailure, self.latest, false);
        }
    }

    /// This many bytes are in use.
    pub(crate) fn memory(&mut self, bytes: u64) {
        let Some(MemoryLimit { open_above, close_below, clear_for }) = self.config.memory else { return };
        self.memory = match self.memory {
            _ if bytes > open_above => Memory::Pressure,
            Memory::Pressure if bytes < close_below => {
                Memory::ClearAt(self.latest.saturating_add(nanoseconds(clear_for)))
            }
            Memory::ClearAt(_) if bytes >= close_below => Memory::Pressure,
            unchanged => unchanged,
        };
        self.hold();
    }

    /// This many calls were given up and still run.
    pub(crate) fn abandoned(&mut self, count: u32) {
        self.abandoned = count >= self.config.abandoned_calls;
        self.hold();
    }

    /// A circuit that is held open may not be closed.
    fn hold(&mut self) {
        if let Some(reason) = self.held()
            && matches!(self.state, State::Closed | State::HalfOpen)
        {
            self.trip(reason, self.latest, false);
        }
    }

    fn held(&self) -> Option<Reason> {
        if self.abandoned {
            return Some(Reason::AbandonedCalls);
        }
        (self.memory != Memory::Enough).then_some(Reason::MemoryPressure)
    }

    /// Opens until [`Self::reset`].
    pub(crate) fn force_open(&mut self) {
        self.enter(State::ForcedOpen, Reason::Forced, self.latest);
    }

    /// Resets the machine in its current mode.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
        self.memory = Memory::Enough;
        self.abandoned = false;
        self.enter(base(self.config.mode), Reason::Reset, self.latest);
    }

    /// Does nothing for the same mode. Otherwise the breaker starts again, except for what holds it open.
    pub(crate) fn set_mode(&mut self, mode: Mode) {
        if self.config.mode != mode {
            self.config.mode = mode;
            self.enter(base(mode), Reason::ModeChanged, self.latest);
            self.hold();
        }
    }

    fn trip(&mut self, reason: Reason, at: u64, wait_from_next: bool) {
        if self.state == State::Closed {
            let healthy = (at - self.closed_since) / nanoseconds(self.config.sustained_health);
            self.attempts = self.attempts.saturating_sub(u32::try_from(healthy).unwrap_or(u32::MAX));
        }
        let wait = nanoseconds(self.waits.next(self.attempts));
        self.open = if wait_from_next { Wait::FromNext(wait) } else { Wait::Until(at.saturating_add(wait)) };
        self.attempts = self.attempts.saturating_add(1);
        self.trips += 1;
        self.enter(State::Open, reason, at);
    }

    /// Starts a new generation. Results of earlier ones are late from here on.
    fn enter(&mut self, to: State, reason: Reason, at: u64) {
        let from = std::mem::replace(&mut self.state, to);
        self.generation += 1;
        self.probes.clear();
        self.probe_successes = 0;
        match to {
            State::Open | State::ForcedOpen => self.reason = reason,
            State::HalfOpen => {}
            State::Closed | State::MetricsOnly | State::Disabled => {
                self.calls.clear();
                self.consecutive_failures = 0;
                self.closed_since = at;
            }
        }
        if from != to {
            let at = self.epoch + std::time::Duration::from_nanos(at);
            self.outbox.push_back(Transition { from, to, reason, at, generation: self.generation });
        }
    }

    fn first_deadline(&self) -> Option<u64> {
        self.probes.iter().map(|(_, deadline)| *deadline).min()
    }

    /// Until when all calls are rejected; `u64::MAX` if no time will change that by itself; `None` if a call may be
    /// admitted now, or only the next operation can know.
    pub(crate) fn blocked_until(&self) -> Option<u64> {
        match (self.state, self.open) {
            (State::ForcedOpen, _) => Some(u64::MAX),
            (State::Open, Wait::Until(_)) if self.abandoned || self.memory == Memory::Pressure => Some(u64::MAX),
            (State::Open, Wait::Until(until)) => match self.memory {
                Memory::ClearAt(at) => Some(until.max(at)),
                _ => Some(until),
            },
            (State::HalfOpen, _) if self.probes.len() == self.config.probes as usize => self.first_deadline(),
            _ => None,
        }
    }

    /// Until when successes need not be looked at, in nanoseconds since the epoch; `None` if each must be.
    ///
    /// With enough calls a further success raises no trigger that is not raised already. One may already be due: if
    /// calls leave a time window while none is settled, the rate falls, and the next result shows it, even a success.
    pub(crate) fn indifferent_until(&self) -> Option<u64> {
        let enough = self.calls.counts().calls >= u64::from(self.config.min_calls);
        let indifferent = match self.state {
            State::Closed => enough && self.trigger().is_none(),
            State::MetricsOnly => enough,
            _ => false,
        };
        indifferent.then(|| self.calls.unchanged_until())
    }

    /// State and reason as published.
    pub(crate) fn word(&self) -> Word {
        Word { state: self.state, reason: self.told_reason(), generation: self.generation }
    }

    /// For an open circuit, the reason that will keep it open the longest.
    fn told_reason(&self) -> Reason {
        match (self.state, self.memory, self.open) {
            (State::Open, ..) if self.abandoned => Reason::AbandonedCalls,
            (State::Open, Memory::Pressure, _) => Reason::MemoryPressure,
            (State::Open, Memory::ClearAt(at), Wait::Until(until)) if at > until => Reason::MemoryPressure,
            _ => self.reason,
        }
    }

    pub(crate) fn status(&self) -> Status {
        let rejects = matches!(self.state, State::Open | State::HalfOpen | State::ForcedOpen);
        let retry_after = self.blocked_until().and_then(|until| retry_after(until, self.latest));
        Status {
            state: self.state,
            reason: rejects.then(|| self.told_reason()),
            generation: self.generation,
            window: self.calls.counts(),
            consecutive_failures: self.consecutive_failures,
            trips: self.trips,
            attempts: self.attempts,
            late: self.late,
            dropped: self.dropped,
            probes_in_flight: u32::try_from(self.probes.len()).unwrap_or(u32::MAX),
            held_by_memory: self.memory != Memory::Enough,
            held_by_abandoned_calls: self.abandoned,
            retry_after,
        }
    }

    /// Whether the caller has to deliver transitions: there are some and no other thread does.
    pub(crate) fn claim_delivery(&mut self) -> bool {
        let claimed = !self.delivering && !self.outbox.is_empty();
        self.delivering |= claimed;
        claimed
    }

    /// The next transition to deliver; with `None` the delivery has ended.
    pub(crate) fn next_delivery(&mut self) -> Option<Transition> {
        let next = self.outbox.pop_front();
        self.delivering = next.is_some();
        next
    }

    /// The observer panicked: the next caller delivers the rest.
    pub(crate) fn give_up_delivery(&mut self) {
        self.delivering = false;
    }
}

/// The state in which a mode begins.
fn base(mode: Mode) -> State {
    match mode {
        Mode::Normal => State::Closed,
        Mode::MetricsOnly => State::MetricsOnly,
        Mode::Disabled => State::Disabled,
    }
}

/// A rate in parts of [`WHOLE`].
fn parts(rate: f64) -> u128 {
    (rate * WHOLE as f64).round() as u128
}

#[inline]
pub(crate) fn rejected(word: Word, until: u64, now: u64) -> Rejected {
    Rejected { state: word.state, reason: word.reason, retry_after: retry_after(until, now) }
}

#[inline]
fn retry_after(until: u64, now: u64) -> Option<std::time::Duration> {
    (until != u64::MAX).then(|| std::time::Duration::from_nanos(until.saturating_sub(now)))
}
