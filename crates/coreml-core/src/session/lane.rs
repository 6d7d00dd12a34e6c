//! One backend of a session: its model, its circuit breaker, the threads its calls run on, and its counters.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coreml_breaker::{BreakerConfig, CircuitBreaker, Mode, Outcome, Permit, Rejected, State};
use coreml_model::Package;
use parking_lot::Mutex;

use super::gate::{Gate, Place};
use super::load::{Loading, Turn};
use super::meter::Meter;
use super::pace::Pace;
use super::workers::Workers;
use crate::Instant;
use crate::backend::{Backend, LoadOptions, Model, ModelState};
use crate::call::Priority;
use crate::cancel::Cancel;
use crate::check::CheckedInputs;
use crate::classify::{Health, classify};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::outputs::Outputs;
use crate::trace;

/// Calls of one backend, abandoned by all sessions of this process, that have not returned yet. Beyond this many, it is not
/// asked where another one can replace it.
const ABANDONED_IN_PROCESS: u32 = 8;
/// Calls of a session's last backend that may be abandoned and still running. Beyond this many it is not asked for more:
/// it would only be slower yet.
const ABANDONED_OF_LAST: u32 = 8;

/// Between two lines in the log about one open circuit.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Of each backend by its name, since sessions have backends of their own.
static ABANDONED: Mutex<BTreeMap<&'static str, Arc<AtomicU32>>> = Mutex::new(BTreeMap::new());

#[derive(Debug)]
pub(super) struct Lane {
    backend: Arc<dyn Backend>,
    package: Arc<Package>,
    options: LoadOptions,
    clock: Arc<dyn Clock>,
    loading: Loading,
    breaker: CircuitBreaker,
    workers: Workers,
    /// Abandoned calls that have not returned.
    abandoned: AtomicU32,
    /// Those of all sessions.
    abandoned_in_process: Arc<AtomicU32>,
    /// Held while their number is reported to the breaker, so that reports come in order.
    telling: Mutex<()>,
    /// The places of the backend, once its model says how many there are; `None` without a limit.
    gate: OnceLock<Option<Arc<Gate>>>,
    /// When a fallback with an open circuit was last logged, and how many have not been logged since.
    told: Mutex<Option<(Instant, u64)>>,
    /// No other backend comes after it.
    last: bool,
    pub(super) pace: Pace,
    pub(super) meter: Meter,
}

/// The state a prediction works on.
#[derive(Debug)]
pub(super) enum StateUse {
    /// The model has none.
    None,
    /// A new one.
    Fresh,
    /// The one that this lane's predictions before have left.
    Given(ModelState),
}

/// What a call brings back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) result: Result<Outputs, Error>,
    /// The state it worked on, if it has not failed on the way.
    pub(super) state: Option<ModelState>,
}

impl Reply {
    /// Whether the prediction was stopped.
    pub(super) fn is_cancelled(&self) -> bool {
        self.result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Cancelled)
    }

    /// Gives back the place it was computed in; a stopped prediction says nothing about how long predictions take.
    pub(super) fn leave(&self, place: Option<Place>) {
        if let Some(mut place) = place
            && self.is_cancelled()
        {
            place.unfinished();
        }
    }
}

/// What a lane is made of.
pub(super) struct LaneParts<'a> {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) package: &'a Arc<Package>,
    pub(super) options: &'a LoadOptions,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) breaker: &'a BreakerConfig,
    pub(super) last: bool,
    pub(super) meter: Meter,
    pub(super) seed: u64,
}

impl Lane {
    pub(super) fn new(parts: LaneParts<'_>) -> Result<Self, Error> {
        let LaneParts { backend, package, options, clock, breaker, last, meter, seed } = parts;
        let observed = meter.transitions();
        let breaker = CircuitBreaker::new(breaker.clone(), seed, clock.now(), observed).map_err(|error| {
            Error::caused_by(ErrorKind::InvalidInput, format!("the circuit breaker's configuration: {error}"), error)
        })?;
        let abandoned_in_process = ABANDONED.lock().entry(backend.name()).or_default().clone();
        Ok(Self {
            workers: Workers::new(backend.name()),
            backend,
            package: package.clone(),
            options: options.clone(),
            clock: clock.clone(),
            loading: Loading::default(),
            breaker,
            abandoned: AtomicU32::new(0),
            abandoned_in_process,
            telling: Mutex::default(),
            gate: OnceLock::new(),
            told: Mutex::default(),
            last,
            pace: Pace::default(),
            meter,
        })
    }

    pub(super) fn name(&self) -> &'static str {
        self.backend.name()
    }

    pub(super) fn is_last(&self) -> bool {
        self.last
    }

    pub(super) fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    pub(super) fn loaded(&self) -> Option<&dyn Model> {
        self.loading.model()
    }

    /// Whether it can never answer: it cannot run the model.
    pub(super) fn is_useless(&self) -> bool {
        self.loading.failed_for_good()
    }

    /// Rejects nothing from now on, because no other backend could answer.
    pub(super) fn stop_breaking(&self, now: Instant) {
        // What somebody has set by hand stays.
        if matches!(self.breaker.state(), State::Closed | State::HalfOpen | State::Open) {
            self.breaker.set_mode(Mode::MetricsOnly, now);
        }
    }

    /// Tells the log that the session goes on without it. As long as its circuit is not closed that is no news: once a second.
    pub(super) fn tell_fallback(&self, error: &Error, now: Instant) {
        if self.breaker.state() == State::Closed {
            trace::fallback(self.name(), error, 0);
            return;
        }
        let unsaid = {
            let mut told = self.told.lock();
            match &mut *told {
                Some((last, unsaid)) if now.saturating_duration_since(*last) < TELL_EVERY => {
                    *unsaid += 1;
                    return;
                }
                told => told.replace((now, 0)).map_or(0, |(_, unsaid)| unsaid),
            }
        };
        trace::fallback(self.name(), error, unsaid);
    }

    /// Permission to ask the backend, or why not.
    pub(super) fn admit(&self, now: Instant) -> Result<Permit<'_>, Error> {
        let refuse = |why: String| {
            self.meter.rejected();
            Err(Error::new(ErrorKind::Unavailable, why))
        };
        if self.last && self.abandoned.load(Ordering::Relaxed) >= ABANDONED_OF_LAST {
            return refuse(format!("{ABANDONED_OF_LAST} abandoned predictions still run on it"));
        }
        // The last one is worth waiting for.
        if !self.last && self.loading.model().is_none() && self.loading.runs() {
            return refuse("it is still loading the model".into());
        }
        if !self.last && self.abandoned_in_process.load(Ordering::Relaxed) >= ABANDONED_IN_PROCESS {
            return refuse(format!("{ABANDONED_IN_PROCESS} abandoned calls of it have not returned in this process"));
        }
        self.breaker.admit(now).or_else(|rejected| refuse(in_words(&rejected)))
    }

    /// A place among the predictions that the backend computes at once, by `deadline` at the latest or, unless the caller
    /// `waits`, now. `None` if there is no limit, or it is not known yet.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`] when there is no place in time.
    pub(super) fn place(&self, deadline: Instant, waits: bool, priority: Priority) -> Result<Option<Place>, Error> {
        let Some(model) = self.loading.model() else { return Ok(None) };
        let Some(gate) = self.gate.get_or_init(|| model.concurrency().map(Gate::new)) else { return Ok(None) };
        gate.enter(deadline, waits, priority).map(Some).map_err(|wait| {
            self.meter.attempt(Some(ErrorKind::Overloaded), Duration::ZERO);
            Error::overloaded(wait)
        })
    }

    /// Answers one prediction on the calling thread, loading the model if need be; waits no longer than `patience` for
    /// a load that is under way.
    pub(super) fn perform(
        &self,
        inputs: &CheckedInputs<'_>,
        state: StateUse,
        patience: Option<Duration>,
        cancel: Option<&Cancel>,
    ) -> Reply {
        let model = match self.model(patience) {
            Ok(model) => model,
            Err(error) => return Reply { result: Err(error), state: None },
        };
        // The model is not used again if it is broken: backends keep what a prediction changes apart from the model,
        // and the state is given up after an error.
        let done = guarded(self.name(), || {
            let mut state = match state {
                StateUse::None => None,
                StateUse::Fresh => Some(model.new_state()?),
                StateUse::Given(state) => Some(state),
            };
            let outputs = match cancel {
                Some(cancel) => model.predict_until(inputs, state.as_mut(), cancel)?,
                None => model.predict(inputs, state.as_mut())?,
            };
            Ok((outputs, state))
        });
        match done {
            Ok((outputs, state)) => Reply { result: Ok(outputs), state },
            // Half of a computation may break what the other half takes for granted.
            Err(error) if error.kind() == ErrorKind::Bug && cancel.is_some_and(Cancel::is_cancelled) => {
                Reply { result: Err(Error::new(ErrorKind::Cancelled, "stopped")), state: None }
            }
            Err(error) => Reply { result: Err(error), state: None },
        }
    }

    /// The model, loaded on the calling thread unless another thread is already loading it.
    pub(super) fn model(&self, patience: Option<Duration>) -> Result<&dyn Model, Error> {
        loop {
            if let Some(model) = self.loading.model() {
                return Ok(model);
            }
            match self.loading.turn() {
                Turn::Failed(error) => return Err(error),
                Turn::Wait(round) => return self.loading.wait(round, patience),
                Turn::Load => {
                    self.load().map_or(Ok(()), Err)?;
                }
            }
        }
    }

    /// Loads the model on a worker, unless it is loaded or another thread is already loading it.
    pub(super) fn load_aside(self: &Arc<Self>) {
        if self.loading.model().is_none() && matches!(self.loading.turn(), Turn::Load) {
            let lane = self.clone();
            if let Err(error) = self.workers.run(move || _ = lane.load()) {
                self.loading.finish(Err(error));
            }
        }
    }

    /// As [`Lane::model`], with the load on a worker, so that it can be abandoned when `patience` ends.
    pub(super) fn model_in_time(self: &Arc<Self>, patience: Duration) -> Result<&dyn Model, Error> {
        let round = self.loading.round();
        self.load_aside();
        match self.loading.model() {
            Some(model) => Ok(model),
            None => self.loading.wait(round, Some(patience)),
        }
    }

    /// Loads. The turn must have been taken.
    fn load(&self) -> Option<Error> {
        let _span = trace::load(self.name());
        let start = self.clock.now();
        let loaded = guarded(self.name(), || self.backend.load(&self.package, &self.options));
        self.meter.loaded(self.clock.now().duration_since(start));
        let error = loaded.as_ref().err().cloned();
        self.loading.finish(loaded);
        error
    }

    /// Runs `task`, which must not panic, on a thread of its own.
    pub(super) fn run(&self, task: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        self.workers.run(task)
    }

    /// Calls a backend; a panic is an error.
    pub(super) fn guarded<T>(&self, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        guarded(self.name(), call)
    }

    /// Tells the breaker and the telemetry how an attempt went.
    pub(super) fn settle(&self, permit: Permit<'_>, error: Option<ErrorKind>, elapsed: Duration, now: Instant) {
        Self::tell_breaker(permit, error, now);
        self.meter.attempt(error, elapsed);
    }

    /// Tells the breaker how a call went.
    pub(super) fn tell_breaker(permit: Permit<'_>, error: Option<ErrorKind>, now: Instant) {
        let outcome = match error.map(|kind| classify(kind).health) {
            None => Outcome::Success,
            Some(Health::Unaffected) => Outcome::Ignored,
            Some(Health::Failed) => Outcome::Failure,
            Some(Health::Late) => Outcome::DeadlineMiss,
        };
        permit.settle(outcome, now);
    }

    /// Whether a prediction stops when it is told to; not known before the model is loaded.
    pub(super) fn stops(&self) -> bool {
        self.loading.model().is_some_and(Model::stops)
    }

    /// The caller of a call of this lane goes on without it. Whether the call counts as abandoned: a model that stops when
    /// it is told to frees its thread by itself.
    pub(super) fn abandon(&self) -> bool {
        if self.stops() {
            return false;
        }
        self.abandoned_in_process.fetch_add(1, Ordering::Relaxed);
        let _telling = self.telling.lock();
        let before = self.abandoned.fetch_add(1, Ordering::Relaxed);
        self.count_abandoned(before + 1);
        true
    }

    /// An abandoned call has returned after all.
    pub(super) fn returned_late(&self, abandoned: bool) {
        if !abandoned {
            return;
        }
        self.abandoned_in_process.fetch_sub(1, Ordering::Relaxed);
        let _telling = self.telling.lock();
        let before = self.abandoned.fetch_sub(1, Ordering::Relaxed);
        self.count_abandoned(before - 1);
        // Last: whoever sees that it has returned sees that it is abandoned no more.
        self.meter.returned_late();
    }

    fn count_abandoned(&self, count: u32) {
        self.meter.abandoned(count);
        self.breaker.abandoned(count, self.clock.now());
    }
}

/// The breaker of a backend that nothing can replace counts everything and rejects nothing.
pub(super) fn breaker_config(config: &BreakerConfig, may_break: bool) -> BreakerConfig {
    let mode = match config.mode {
        Mode::Normal if !may_break => Mode::MetricsOnly,
        mode => mode,
    };
    BreakerConfig { mode, ..config.clone() }
}

fn in_words(rejected: &Rejected) -> String {
    let retry = rejected.retry_after.map_or(String::new(), |wait| format!("; asked again in {wait:.1?}"));
    format!("the circuit breaker is {} ({}){retry}", rejected.state.name(), rejected.reason.name())
}

/// Turns a panic of a backend into an error.
fn guarded<T>(backend: &str, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Error::new(ErrorKind::Bug, format!("the backend {backend} panicked ({text}); please report this")))
    })
}
