//! The naive model: it keeps every call, counts from scratch each time, and writes every rule as it reads. Time is in
//! nanoseconds.

use std::collections::BTreeSet;

use coreml_breaker::{BreakerConfig, Counts, Mode, Outcome, Reason, Settled, State, Window};

use crate::random::Random;

pub(crate) struct Naive {
    config: BreakerConfig,
    random: Random,
    pub(crate) now: u64,
    pub(crate) state: State,
    opened_because: Reason,
    generation: u64,
    /// Every call counted since the state began: when, outcome, slow.
    calls: Vec<(u64, Outcome, bool)>,
    attempts: u32,
    began: u64,
    /// Length of the wait, and since when it runs; not known yet where a dropped permit opened the circuit.
    wait: (u64, Option<u64>),
    /// Every permit ever given: generation, whether a probe, when, and whether it is still out.
    permits: Vec<(u64, bool, u64, bool)>,
    good_probes: u32,
    /// Every reading of memory that matters for the present pressure.
    pressure: Option<Vec<(u64, u64)>>,
    abandoned: u32,
    trips: u64,
    late: u64,
    dropped: u64,
    pub(crate) transitions: Vec<(State, State, Reason, u64)>,
}

/// What a rejected caller is told: state, reason, nanoseconds to wait.
pub(crate) type Refusal = (State, Reason, Option<u64>);

/// What the model says of itself: everything a status tells.
#[derive(Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) state: State,
    pub(crate) reason: Option<Reason>,
    pub(crate) window: Counts,
    pub(crate) consecutive_failures: u32,
    pub(crate) trips: u64,
    pub(crate) attempts: u32,
    pub(crate) late: u64,
    pub(crate) dropped: u64,
    pub(crate) probes_in_flight: u32,
    pub(crate) held: (bool, bool),
    pub(crate) retry_after: Option<u64>,
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    duration.as_nanos() as u64
}

fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failure | Outcome::DeadlineMiss | Outcome::Panicked)
}

impl Naive {
    pub(crate) fn new(config: BreakerConfig, seed: u64) -> Self {
        Self {
            state: first_state(config.mode),
            config,
            random: Random(seed),
            now: 0,
            opened_because: Reason::Reset,
            generation: 0,
            calls: Vec::new(),
            attempts: 0,
            began: 0,
            wait: (0, Some(0)),
            permits: Vec::new(),
            good_probes: 0,
            pressure: None,
            abandoned: 0,
            trips: 0,
            late: 0,
            dropped: 0,
            transitions: Vec::new(),
        }
    }

    /// It is now so late; what was due meanwhile happens.
    pub(crate) fn at(&mut self, now: u64) {
        self.now = now;
        if self.pressure_ends().is_some_and(|end| end <= now) {
            self.pressure = None;
        }
        if self.wait.1.is_none() {
            self.wait.1 = Some(now);
        }
        if self.state == State::HalfOpen {
            let deadline = self.probes().map(|since| since + nanoseconds(self.config.probe_deadline)).min();
            if let Some(deadline) = deadline.filter(|deadline| *deadline <= now) {
                self.trip(Reason::ProbeExpired, deadline, true);
            }
        }
    }

    /// When each probe in flight was admitted.
    fn probes(&self) -> impl Iterator<Item = u64> {
        let here =
            self.permits.iter().filter(|(generation, probe, _, out)| *generation == self.generation && *probe && *out);
        here.map(|(_, _, since, _)| *since)
    }

    /// The number of the permit.
    pub(crate) fn admit(&mut self) -> Result<usize, Refusal> {
        if let Some(retry_after) = self.rejects() {
            return Err((self.state, self.told_reason(), retry_after));
        }
        if self.state == State::Open {
            self.become_(State::HalfOpen, Reason::WaitElapsed, self.now);
        }
        self.permits.push((self.generation, self.state == State::HalfOpen, self.now, true));
        Ok(self.permits.len() - 1)
    }

    /// Whether calls are rejected, and for how long.
    fn rejects(&self) -> Option<Option<u64>> {
        match self.state {
            State::Closed | State::MetricsOnly | State::Disabled => None,
            State::ForcedOpen => Some(None),
            State::HalfOpen => {
                let full = self.probes().count() >= self.config.probes as usize;
                let first = self.probes().min().map(|since| since + nanoseconds(self.config.probe_deadline) - self.now);
                full.then_some(first)
            }
            State::Open if self.abandoned >= self.config.abandoned_calls => Some(None),
            State::Open => {
                let Some(clear) = self.pressure_ends() else { return Some(None) };
                let until = clear.max(self.wait.1.unwrap() + self.wait.0);
                (self.now < until).then(|| Some(until - self.now))
            }
        }
    }

    /// 0 if there is no pressure, `None` if its end is not in sight.
    fn pressure_ends(&self) -> Option<u64> {
        let (Some(limit), Some(readings)) = (self.config.memory, &self.pressure) else { return Some(0) };
        let high = readings.iter().rposition(|(_, bytes)| *bytes >= limit.close_below).unwrap();
        readings.get(high + 1).map(|(since, _)| since + nanoseconds(limit.clear_for))
    }

    fn told_reason(&self) -> Reason {
        match self.state {
            State::Open if self.abandoned >= self.config.abandoned_calls => Reason::AbandonedCalls,
            State::Open if self.pressure_ends().is_none_or(|end| end > self.wait.1.unwrap() + self.wait.0) => {
                Reason::MemoryPressure
            }
            _ => self.opened_because,
        }
    }

    /// `took` is `None` for a permit that was dropped.
    pub(crate) fn settle(&mut self, permit: usize, outcome: Outcome, took: Option<u64>) -> Settled {
        let (generation, probe, _, out) = &mut self.permits[permit];
        *out = false;
        if took.is_none() {
            self.dropped += 1;
        }
        let (generation, probe) = (*generation, *probe);
        if generation != self.generation {
            self.late += 1;
            return Settled::Late;
        }
        if outcome == Outcome::Ignored || self.state == State::Disabled {
            return Settled::Uncounted;
        }
        let slow_from = self.config.slow_calls.map(|slow| nanoseconds(slow.longer_than));
        let slow = slow_from.is_some_and(|limit| took.is_some_and(|took| took > limit));
        if probe {
            if is_failure(outcome) || slow {
                self.trip(Reason::ProbeFailed, self.now, took.is_some());
            } else {
                self.good_probes += 1;
                if self.good_probes >= self.config.probe_successes {
                    self.become_(State::Closed, Reason::ProbesSucceeded, self.now);
                }
            }
            return Settled::Counted;
        }
        self.calls.push((self.now, outcome, slow));
        if self.state == State::Closed
            && let Some(reason) = self.fires()
        {
            self.trip(reason, self.now, took.is_some());
        }
        Settled::Counted
    }

    fn window(&self) -> &[(u64, Outcome, bool)] {
        match self.config.window {
            Window::Calls(n) => &self.calls[self.calls.len().saturating_sub(n)..],
            Window::Time(time) => {
                let part = nanoseconds(time) / 10;
                let old = self.calls.iter().filter(|(at, _, _)| at / part + 10 <= self.now / part).count();
                &self.calls[old..]
            }
        }
    }

    fn counts(&self) -> Counts {
        let window = self.window();
        let count = |which: fn(&(u64, Outcome, bool)) -> bool| window.iter().filter(|call| which(call)).count() as u64;
        Counts {
            calls: window.len() as u64,
            failures: count(|(_, outcome, _)| is_failure(*outcome)),
            slow: count(|(_, _, slow)| *slow),
            deadline_misses: count(|(_, outcome, _)| *outcome == Outcome::DeadlineMiss),
        }
    }

    fn consecutive_failures(&self) -> u32 {
        self.calls.iter().rev().take_while(|(_, outcome, _)| is_failure(*outcome)).count() as u32
    }

    fn fires(&self) -> Option<Reason> {
        let (config, counts) = (&self.config, self.counts());
        let enough = counts.calls >= u64::from(config.min_calls);
        // The rates of the generator are whole percents.
        let percent = (config.success_rate * 100.0).round() as u64;
        let good = counts.calls - counts.failures;
        if enough && good * 100 < percent * counts.calls && counts.failures >= u64::from(config.min_failures) {
            return Some(Reason::SuccessRate);
        }
        if config.consecutive_failures.is_some_and(|limit| self.consecutive_failures() >= limit) {
            return Some(Reason::ConsecutiveFailures);
        }
        if config.deadline_misses.is_some_and(|limit| counts.deadline_misses >= u64::from(limit)) {
            return Some(Reason::DeadlineMisses);
        }
        if let Some(slow) = config.slow_calls {
            let percent = (slow.rate * 100.0).round() as u64;
            if enough && counts.slow * 100 >= percent * counts.calls {
                return Some(Reason::SlowCalls);
            }
        }
        None
    }

    pub(crate) fn parity_failure(&mut self) {
        if self.state == State::Closed || self.state == State::HalfOpen {
            self.trip(Reason::ParityFailure, self.now, true);
        }
    }

    pub(crate) fn memory(&mut self, bytes: u64) {
        let Some(limit) = self.config.memory else { return };
        if bytes > limit.open_above && self.pressure.is_none() {
            self.pressure = Some(Vec::new());
        }
        if let Some(readings) = &mut self.pressure {
            readings.push((self.now, bytes));
        }
        self.hold();
    }

    pub(crate) fn abandoned(&mut self, count: u32) {
        self.abandoned = count;
        self.hold();
    }

    fn hold(&mut self) {
        if self.state == State::Closed || self.state == State::HalfOpen {
            if self.abandoned >= self.config.abandoned_calls {
                self.trip(Reason::AbandonedCalls, self.now, true);
            } else if self.pressure.is_some() {
                self.trip(Reason::MemoryPressure, self.now, true);
            }
        }
    }

    pub(crate) fn force_open(&mut self) {
        self.become_(State::ForcedOpen, Reason::Forced, self.now);
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
        self.abandoned = 0;
        self.pressure = None;
        self.become_(first_state(self.config.mode), Reason::Reset, self.now);
    }

    pub(crate) fn set_mode(&mut self, mode: Mode) {
        if mode != self.config.mode {
            self.config.mode = mode;
            self.become_(first_state(mode), Reason::ModeChanged, self.now);
            self.hold();
        }
    }

    fn trip(&mut self, reason: Reason, at: u64, time_known: bool) {
        if self.state == State::Closed {
            for _ in 0..(at - self.began) / nanoseconds(self.config.sustained_health) {
                self.attempts = self.attempts.saturating_sub(1);
                if self.attempts == 0 {
                    break;
                }
            }
        }
        let rule = self.config.open_wait;
        let mut full = rule.initial.as_secs_f64();
        for _ in 0..self.attempts {
            full = (full * rule.multiplier).min(rule.max.as_secs_f64());
        }
        let wait = std::time::Duration::from_secs_f64(full * (1.0 - rule.jitter * self.random.fraction()));
        self.wait = (nanoseconds(wait), time_known.then_some(at));
        self.attempts += 1;
        self.trips += 1;
        self.become_(State::Open, reason, at);
    }

    fn become_(&mut self, state: State, reason: Reason, at: u64) {
        if state != self.state {
            self.transitions.push((self.state, state, reason, at));
        }
        self.generation += 1;
        self.good_probes = 0;
        self.state = state;
        if state == State::Open || state == State::ForcedOpen {
            self.opened_because = reason;
        } else if state != State::HalfOpen {
            self.calls.clear();
            self.began = at;
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        let rejecting = BTreeSet::from(["open", "half_open", "forced_open"]).contains(self.state.name());
        let probing_now = self.state == State::Open && self.rejects().is_none();
        Standing {
            state: self.state,
            reason: rejecting.then(|| self.told_reason()),
            window: self.counts(),
            consecutive_failures: self.consecutive_failures(),
            trips: self.trips,
            attempts: self.attempts,
            late: self.late,
            dropped: self.dropped,
            probes_in_flight: self.probes().count() as u32,
            held: (self.pressure.is_some(), self.abandoned >= self.config.abandoned_calls),
            retry_after: if probing_now { Some(0) } else { self.rejects().flatten() },
        }
    }
}

fn first_state(mode: Mode) -> State {
    match mode {
        Mode::Normal => State::Closed,
        Mode::MetricsOnly => State::MetricsOnly,
        Mode::Disabled => State::Disabled,
    }
}
