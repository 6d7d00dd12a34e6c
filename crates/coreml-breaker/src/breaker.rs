//! The breaker: values that callers read without a lock, and the lock in front of the state machine.
//!
//! Three things can be read without the lock: the word (state, reason, generation), the time until which all calls are
//! rejected, and the time until which successes need no processing. They are written only under the lock, after each
//! operation. A reader that they do not answer takes the lock and asks the machine.

use std::fmt;
use std::time::Duration;

use crate::Instant;
use crate::config::{BreakerConfig, ConfigError, Mode, Window};
use crate::machine::{self, Machine};
use crate::outcome::{Outcome, Settled, Ticket};
use crate::permit::Permit;
use crate::report::{Rejected, State, Status, Transition};
use crate::shards::Shards;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};
use crate::window::nanoseconds;
use crate::word::Word;

/// One circuit. Shared between threads by reference; except for the observer, nothing blocks for longer than a few
/// hundred instructions.
pub struct CircuitBreaker {
    word: AtomicU64,
    /// Until when all calls are rejected, in nanoseconds since the epoch; 0 if the machine must be asked.
    blocked_until: AtomicU64,
    /// Until when successes need not be looked at. Read for time windows only: otherwise the shards say it.
    indifferent_until: AtomicU64,
    slow_after: Option<Duration>,
    timed: bool,
    epoch: Instant,
    shards: Shards,
    machine: Mutex<Machine>,
    observer: Box<dyn Fn(&Transition) + Send + Sync>,
}

impl CircuitBreaker {
    /// A breaker that begins closed (or as its mode says) at `epoch`; earlier times count as `epoch`.
    ///
    /// `seed` determines the jitter of waits: give each breaker a different one. `observer` is called once for each
    /// change of state, in order, on one of the threads whose calls caused or noticed them; no lock is held while it
    /// runs, and it may use the breaker. Later changes queue while it runs; calls that cause them do not wait.
    ///
    /// # Errors
    /// What [`BreakerConfig::validate`] says.
    pub fn new(
        config: BreakerConfig,
        seed: u64,
        epoch: Instant,
        observer: impl Fn(&Transition) + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let slow_after = config.slow_calls.map(|slow| slow.longer_than);
        let timed = matches!(config.window, Window::Time(_));
        let machine = Machine::new(config, seed, epoch);
        Ok(Self {
            word: AtomicU64::new(machine.word().pack()),
            blocked_until: AtomicU64::new(0),
            indifferent_until: AtomicU64::new(0),
            slow_after,
            timed,
            epoch,
            shards: Shards::sealed(),
            machine: Mutex::new(machine),
            observer: Box::new(observer),
        })
    }

    /// Asks whether a call may be made `now`. While the circuit is closed this is one load.
    ///
    /// # Errors
    /// The circuit is open, or half-open with all allowed probes in flight.
    #[inline]
    pub fn admit(&self, now: Instant) -> Result<Permit<'_>, Rejected> {
        let word = Word::unpack(self.word.load(Ordering::Acquire));
        if matches!(word.state, State::Closed | State::MetricsOnly | State::Disabled) {
            return Ok(Permit::new(self, Ticket { generation: word.generation, admitted: now, probe: None }));
        }
        self.admit_unless_closed(word, now)
    }

    #[inline(never)]
    fn admit_unless_closed(&self, word: Word, now: Instant) -> Result<Permit<'_>, Rejected> {
        let time = self.since_epoch(now);
        let until = self.blocked_until.load(Ordering::Acquire);
        if time < until {
            return Err(machine::rejected(word, until, time));
        }
        let admitted = self.at(now, Machine::admit)?;
        Ok(Permit::new(self, Ticket { generation: admitted.generation, admitted: now, probe: admitted.probe }))
    }

    #[inline]
    pub(crate) fn settle(&self, ticket: Ticket, outcome: Outcome, now: Instant) -> Settled {
        let slow = self.slow_after.is_some_and(|limit| now.saturating_duration_since(ticket.admitted) > limit);
        if outcome == Outcome::Success && !slow && ticket.probe.is_none() {
            let indifferent = || !self.timed || self.since_epoch(now) < self.indifferent_until.load(Ordering::Acquire);
            if self.shards.add(ticket.generation, indifferent) {
                return Settled::Counted;
            }
        }
        self.settle_locked(ticket, outcome, slow, now)
    }

    #[inline(never)]
    fn settle_locked(&self, ticket: Ticket, outcome: Outcome, slow: bool, now: Instant) -> Settled {
        self.at(now, |machine| machine.settle(ended(ticket, outcome, slow), true))
    }

    pub(crate) fn settle_dropped(&self, ticket: Ticket) {
        self.locked(|machine| machine.settle(ended(ticket, Outcome::Failure, false), false));
    }

    /// A result of this circuit's engine was found to be wrong: opens at once.
    pub fn parity_failure(&self, now: Instant) {
        self.at(now, Machine::parity_failure);
    }

    /// Reports that `bytes` are in use. Above the limit the circuit opens, and stays open until the reported values
    /// have been below the lower limit for the configured time.
    pub fn memory(&self, bytes: u64, now: Instant) {
        self.at(now, |machine| machine.memory(bytes));
    }

    /// Reports that `count` calls have been given up and still run. From the configured number on, the circuit is held
    /// open.
    pub fn abandoned(&self, count: u32, now: Instant) {
        self.at(now, |machine| machine.abandoned(count));
    }

    /// Rejects all calls until [`Self::reset`] or a change of mode.
    pub fn force_open(&self, now: Instant) {
        self.at(now, Machine::force_open);
    }

    /// Starts again in its current mode: closed, with an empty window and the shortest wait, and not held open by memory
    /// or abandoned calls until the next report.
    pub fn reset(&self, now: Instant) {
        self.at(now, Machine::reset);
    }

    /// Changes what the breaker does. A change of mode starts the breaker again, but known abandoned calls and memory
    /// pressure still hold it open.
    pub fn set_mode(&self, mode: Mode, now: Instant) {
        self.at(now, |machine| machine.set_mode(mode));
    }

    /// The circuit's status `now`. Notices probes that have expired; does not start probing.
    pub fn status(&self, now: Instant) -> Status {
        self.at(now, |machine| machine.status())
    }

    /// The state without a time: one load. Does not show that a wait has ended or a probe has expired since the last
    /// operation.
    pub fn state(&self) -> State {
        Word::unpack(self.word.load(Ordering::Acquire)).state
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.epoch))
    }

    fn at<R>(&self, now: Instant, operation: impl FnOnce(&mut Machine) -> R) -> R {
        let now = self.since_epoch(now);
        self.locked(|machine| {
            machine.advance(now);
            operation(machine)
        })
    }

    fn locked<R>(&self, operation: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = lock(&self.machine);
        machine.add_successes(self.shards.seal());
        let result = operation(&mut machine);
        self.publish(&machine);
        let deliver = machine.claim_delivery();
        drop(machine);
        if deliver {
            self.deliver();
        }
        result
    }

    fn publish(&self, machine: &Machine) {
        // Before the word: who sees a state that rejects must not see the time of one before it.
        self.blocked_until.store(machine.blocked_until().unwrap_or(0), Ordering::Release);
        let word = machine.word();
        self.word.store(word.pack(), Ordering::Release);
        if let Some(until) = machine.indifferent_until() {
            self.indifferent_until.store(until, Ordering::Release);
            self.shards.open(word.generation);
        }
    }

    fn deliver(&self) {
        let delivery = Delivery(self);
        while let Some(transition) = { lock(&self.machine).next_delivery() } {
            (self.observer)(&transition);
        }
        std::mem::forget(delivery);
    }
}

/// Ends the delivery of transitions should the observer panic.
struct Delivery<'a>(&'a CircuitBreaker);

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        lock(&self.0.machine).give_up_delivery();
    }
}

fn ended(ticket: Ticket, outcome: Outcome, slow: bool) -> machine::Ended {
    machine::Ended { generation: ticket.generation, probe: ticket.probe, outcome, slow }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("state", &self.state()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Whether something comes to an end while another thread holds the lock for good.
    fn takes_no_lock(breaker: &CircuitBreaker, work: impl FnOnce() + Send) -> bool {
        let (done, end) = mpsc::channel();
        std::thread::scope(|scope| {
            let held = lock(&breaker.machine);
            scope.spawn(move || {
                work();
                done.send(()).is_ok()
            });
            let ended = end.recv_timeout(Duration::from_secs(10)).is_ok();
            drop(held);
            ended
        })
    }

    #[test]
    fn what_must_be_fast_takes_no_lock() {
        let (epoch, second) = (Instant::now(), Duration::from_secs(1));
        let now = epoch + second / 4;
        for window in [Window::Calls(100), Window::Time(second)] {
            let config = BreakerConfig { window, ..Default::default() };
            let breaker = CircuitBreaker::new(config, 0, epoch, |_| ()).unwrap();
            let succeed = || {
                let settled = breaker.admit(now).unwrap().settle(Outcome::Success, now);
                assert_eq!(settled, Settled::Counted);
            };
            (0..10).for_each(|_| succeed());
            assert!(takes_no_lock(&breaker, || (0..100).for_each(|_| succeed())), "{window:?}");
            breaker.reset(now);
            (0..10).for_each(|_| succeed());
            assert!(takes_no_lock(&breaker, succeed), "{window:?}, a later generation");
            assert_eq!(breaker.status(now).window.calls, 11);
            breaker.set_mode(Mode::MetricsOnly, now);
            (0..10).for_each(|_| succeed());
            assert!(takes_no_lock(&breaker, succeed), "{window:?}, counting only");
            breaker.set_mode(Mode::Normal, now);
            breaker.parity_failure(now);
            assert!(takes_no_lock(&breaker, || assert!(breaker.admit(now).is_err())), "open");
        }
    }
}
