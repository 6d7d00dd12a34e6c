//! One random sequence: a configuration, events in random phases of health, and every answer compared.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coreml_breaker::{
    BreakerConfig, CircuitBreaker, MemoryLimit, Mode, OpenWait, Outcome, Permit, Reason, SlowCalls, State, Transition,
    Window,
};

use crate::naive::{Naive, Standing};
use crate::random::Random;

/// What the sequences reached together.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) events: u64,
    /// `from > to: reason` and how often.
    pub(crate) transitions: BTreeMap<String, u64>,
}

impl Seen {
    /// The table of transitions, complete: each of these was seen, and no other.
    pub(crate) fn check(&self) {
        use State::{Closed, Disabled, ForcedOpen, HalfOpen, MetricsOnly, Open};
        let mut table = vec![
            (Closed, Open, Reason::SuccessRate),
            (Closed, Open, Reason::ConsecutiveFailures),
            (Closed, Open, Reason::DeadlineMisses),
            (Closed, Open, Reason::SlowCalls),
            (HalfOpen, Open, Reason::ProbeFailed),
            (HalfOpen, Open, Reason::ProbeExpired),
            (HalfOpen, Closed, Reason::ProbesSucceeded),
            (Open, HalfOpen, Reason::WaitElapsed),
        ];
        for reason in [Reason::ParityFailure, Reason::MemoryPressure, Reason::AbandonedCalls] {
            table.extend([(Closed, Open, reason), (HalfOpen, Open, reason)]);
        }
        for from in State::ALL.into_iter().filter(|from| *from != ForcedOpen) {
            table.push((from, ForcedOpen, Reason::Forced));
        }
        // A reset leads to where the mode begins, from the three states that are not such a beginning.
        for to in [Closed, MetricsOnly, Disabled] {
            table.push((ForcedOpen, to, Reason::Reset));
            table.extend(State::ALL.into_iter().filter(|from| *from != to).map(|from| (from, to, Reason::ModeChanged)));
        }
        table.extend([(Open, Closed, Reason::Reset), (HalfOpen, Closed, Reason::Reset)]);
        let mut expected: Vec<_> = table.into_iter().map(|(from, to, reason)| link(from, to, reason)).collect();
        // Open and half-open belong to the normal mode, so a change of mode leads away from them to the two others; and
        // from forced open it may lead anywhere.
        expected.retain(|link| link != "open > closed: mode_changed" && link != "half_open > closed: mode_changed");
        expected.sort();
        assert_eq!(self.transitions.keys().cloned().collect::<Vec<_>>(), expected);
    }
}

fn link(from: State, to: State, reason: Reason) -> String {
    format!("{from} > {to}: {reason}")
}

/// Small numbers, so that every boundary is met often. Each rule is on in some of the configurations.
fn config(random: &mut Random) -> BreakerConfig {
    let calls = 1 + random.below(30);
    let timed = random.one_in(3);
    let window =
        if timed { Window::Time(Duration::from_nanos(10 + random.below(300))) } else { Window::Calls(calls as usize) };
    let up_to = |random: &mut Random, most: u64| 1 + random.below(most) as u32;
    let initial = 1 + random.below(50);
    let percent = |random: &mut Random| random.pick(&[1u32, 10, 29, 50, 57, 80, 90, 95, 100]);
    let close_below = 1 + random.below(100);
    BreakerConfig {
        window,
        min_calls: up_to(random, calls),
        success_rate: if random.one_in(4) { 0.0 } else { f64::from(percent(random)) / 100.0 },
        min_failures: if random.one_in(2) { 1 } else { up_to(random, calls.min(4)) },
        consecutive_failures: random.one_in(3).then(|| up_to(random, 6)),
        slow_calls: random.one_in(3).then(|| SlowCalls {
            longer_than: Duration::from_nanos(1 + random.below(30)),
            rate: f64::from(percent(random)) / 100.0,
        }),
        deadline_misses: random.one_in(3).then(|| up_to(random, calls.min(5))),
        memory: random.one_in(2).then(|| MemoryLimit {
            close_below,
            open_above: close_below + random.below(20),
            clear_for: Duration::from_nanos(1 + random.below(60)),
        }),
        abandoned_calls: up_to(random, 3),
        open_wait: OpenWait {
            initial: Duration::from_nanos(initial),
            max: Duration::from_nanos(initial + random.below(400)),
            multiplier: random.pick(&[1.0, 2.0, 4.0]),
            jitter: random.pick(&[0.0, 0.5, 1.0]),
        },
        probes: up_to(random, 3),
        probe_successes: up_to(random, 3),
        probe_deadline: Duration::from_nanos(1 + random.below(80)),
        sustained_health: Duration::from_nanos(1 + random.below(200)),
        mode: if random.one_in(8) { random.pick(&[Mode::MetricsOnly, Mode::Disabled]) } else { Mode::Normal },
    }
}

struct Pair<'a> {
    breaker: &'a CircuitBreaker,
    model: Naive,
    random: Random,
    epoch: Instant,
    time: u64,
    /// Permits that are out: the breaker's, the model's, and when they were given.
    permits: Vec<(Permit<'a>, usize, u64)>,
    /// Percent of calls that fail in this phase.
    sick: u64,
}

/// Runs one sequence.
///
/// # Panics
/// Where the breaker and its model differ, naming the sequence.
pub(crate) fn run(seed: u64, seen: &mut Seen) {
    // Neighbouring seeds give unrelated sequences.
    let mut random = Random(Random(seed).next());
    let (config, jitter) = (config(&mut random), random.next());
    let (log, epoch): (Arc<Mutex<Vec<Transition>>>, _) = (Arc::default(), Instant::now());
    let observed = Arc::clone(&log);
    let observer = move |t: &Transition| observed.lock().unwrap().push(*t);
    let breaker = CircuitBreaker::new(config.clone(), jitter, epoch, observer).unwrap();
    let events = 20 + random.below(180);
    let model = Naive::new(config.clone(), jitter);
    let mut pair = Pair { breaker: &breaker, model, random, epoch, time: 0, permits: Vec::new(), sick: 0 };
    let compared = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..events {
            pair.event();
        }
        // What is still out comes back late or not at all.
        while let Some((permit, ..)) = pair.permits.pop() {
            std::mem::forget(permit);
        }
        let told: Vec<_> =
            log.lock().unwrap().iter().map(|t| (t.from, t.to, t.reason, (t.at - epoch).as_nanos() as u64)).collect();
        assert_eq!(told, pair.model.transitions);
        assert!(log.lock().unwrap().windows(2).all(|pair| pair[0].generation < pair[1].generation));
    }));
    if let Err(divergence) = compared {
        let told = divergence.downcast_ref::<String>().cloned().unwrap_or_default();
        panic!("sequence {seed} diverges: {told}\nwith {config:#?}");
    }
    seen.events += events;
    for t in log.lock().unwrap().iter() {
        *seen.transitions.entry(link(t.from, t.to, t.reason)).or_default() += 1;
    }
}

impl Pair<'_> {
    fn now(&self) -> Instant {
        self.epoch + Duration::from_nanos(self.time)
    }

    fn event(&mut self) {
        if self.random.one_in(20) {
            self.sick = self.random.pick(&[0, 0, 5, 30, 100]);
        }
        self.time += match self.random.below(10) {
            0..5 => 0,
            5..9 => self.random.below(15),
            _ => self.random.below(200),
        };
        match self.random.below(100) {
            0..45 => self.admit(),
            45..86 => self.settle(),
            86..88 => self.drop_one(),
            88 => self.both(CircuitBreaker::parity_failure, Naive::parity_failure),
            89..92 => {
                let bytes = self.random.below(125);
                self.both(|breaker, now| breaker.memory(bytes, now), |model| model.memory(bytes));
            }
            92..94 => {
                let count = self.random.below(5) as u32;
                self.both(|breaker, now| breaker.abandoned(count, now), |model| model.abandoned(count));
            }
            94 if self.random.one_in(3) => self.both(CircuitBreaker::force_open, Naive::force_open),
            95 if self.random.one_in(2) => self.both(CircuitBreaker::reset, Naive::reset),
            96 if self.random.one_in(2) => {
                let mode = self.random.pick(&[Mode::Normal, Mode::Normal, Mode::MetricsOnly, Mode::Disabled]);
                self.both(|breaker, now| breaker.set_mode(mode, now), |model| model.set_mode(mode));
            }
            _ => self.status(),
        }
        assert_eq!(self.breaker.state(), self.model.state);
    }

    fn both(&mut self, breaker: impl FnOnce(&CircuitBreaker, Instant), model: impl FnOnce(&mut Naive)) {
        breaker(self.breaker, self.now());
        self.model.at(self.time);
        model(&mut self.model);
    }

    fn admit(&mut self) {
        self.model.at(self.time);
        match (self.breaker.admit(self.now()), self.model.admit()) {
            (Ok(permit), Ok(number)) => self.permits.push((permit, number, self.time)),
            (Err(rejected), Err(expected)) => {
                let wait = rejected.retry_after.map(|wait| wait.as_nanos() as u64);
                assert_eq!((rejected.state, rejected.reason, wait), expected);
            }
            (answer, expected) => panic!("admitted: {answer:?}, the model: {expected:?}"),
        }
    }

    /// Most often the latest permit: most calls are short, some are overtaken.
    fn settle(&mut self) {
        let Some(last) = self.permits.len().checked_sub(1) else { return self.status() };
        let which = if self.random.one_in(3) { self.random.below(last as u64 + 1) as usize } else { last };
        let (permit, number, since) = self.permits.swap_remove(which);
        let outcome = if self.random.one_in(15) {
            Outcome::Ignored
        } else if self.random.below(100) < self.sick {
            self.random.pick(&[Outcome::Failure, Outcome::Failure, Outcome::DeadlineMiss, Outcome::Panicked])
        } else {
            Outcome::Success
        };
        let answer = permit.settle(outcome, self.now());
        self.model.at(self.time);
        assert_eq!(answer, self.model.settle(number, outcome, Some(self.time - since)));
    }

    /// A drop tells no time and happens at the latest that was told under the lock: the status tells it.
    fn drop_one(&mut self) {
        self.status();
        if let Some((permit, number, _)) = self.permits.pop() {
            drop(permit);
            self.model.settle(number, Outcome::Failure, None);
        }
    }

    fn status(&mut self) {
        let status = self.breaker.status(self.now());
        self.model.at(self.time);
        let told = Standing {
            state: status.state,
            reason: status.reason,
            window: status.window,
            consecutive_failures: status.consecutive_failures,
            trips: status.trips,
            attempts: status.attempts,
            late: status.late,
            dropped: status.dropped,
            probes_in_flight: status.probes_in_flight,
            held: (status.held_by_memory, status.held_by_abandoned_calls),
            retry_after: status.retry_after.map(|wait| wait.as_nanos() as u64),
        };
        assert_eq!(told, self.model.standing());
    }
}
