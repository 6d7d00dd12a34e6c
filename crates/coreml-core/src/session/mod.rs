//! Sessions: predictions that survive a failing backend.
//!
//! A session holds its backends in order, each with the model it loaded, its circuit breaker and its threads: a
//! [`Lane`]. A prediction is checked once and follows its [`Route`] through the lanes, until one answers, an error says
//! that no other could, or the deadline has come.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coreml_breaker::CircuitBreaker;
use coreml_model::{Interface, Package};
use coreml_telemetry::{Counter, Gauge, Registry};
use smallvec::SmallVec;

use self::lane::Lane;
use self::later::Later;
use self::policy::{Budget, Policy};
use self::route::Route;
use self::shadow::Watch;
pub use self::{
    builder::SessionBuilder,
    later::Answer,
    policy::{Hedging, Shadow},
    state::State,
};
use crate::Instant;
use crate::backend::ModelInfo;
use crate::buffers::Buffers;
use crate::call::Call;
use crate::cancel::Cancel;
use crate::check::{self, CheckedInputs};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::inputs::Inputs;
use crate::outputs::Outputs;
use crate::owned::OwnedInputs;

mod batch;
mod builder;
mod desk;
mod gate;
mod lane;
mod later;
mod load;
mod meter;
mod pace;
mod policy;
mod route;
mod shadow;
mod state;
mod sync;
mod workers;

/// A model that is ready for predictions, on the backends of this host. Any number of threads may predict at once.
#[derive(Debug)]
pub struct Session {
    package: Arc<Package>,
    interface: Interface,
    function: String,
    /// At least one.
    lanes: Vec<Arc<Lane>>,
    passed: Vec<Passed>,
    policy: Policy,
    hedges: Option<Budget>,
    shadow: Option<Arc<Watch>>,
    memory: Option<MemoryWatch>,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    answered: Arc<Counter>,
    failed: Arc<Counter>,
    in_flight: Arc<Gauge>,
    /// Asynchronous predictions.
    later: Arc<Later>,
}

/// Looks at the process's memory now and then, for the circuit breakers.
#[derive(Debug)]
struct MemoryWatch {
    probe: fn() -> Option<u64>,
    opened: Instant,
    /// Nanoseconds after `opened` at which to look again.
    due: AtomicU64,
    gauge: Arc<Gauge>,
}

/// Between two looks at the memory.
const MEMORY_EVERY: Duration = Duration::from_millis(100);

/// A backend that the session does not use, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Passed {
    /// The backend's name.
    pub backend: &'static str,
    /// Why, in words.
    pub reason: String,
}

/// One backend's try at a prediction.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// The backend's name.
    pub backend: &'static str,
    /// The error, if it failed.
    pub error: Option<Error>,
    /// How long it took, including loading the model if this prediction was the first that needed the backend.
    pub elapsed: Duration,
}

/// The answer to a prediction. Dereferences to its [`Outputs`].
#[derive(Debug, Clone)]
pub struct Prediction {
    outputs: Outputs,
    served_by: &'static str,
    attempts: Attempts,
    degraded: bool,
}

/// One, but for predictions that something went wrong with.
type Attempts = SmallVec<[Attempt; 1]>;

impl Prediction {
    /// The outputs.
    pub fn into_outputs(self) -> Outputs {
        self.outputs
    }

    /// The name of the backend that answered.
    pub fn served_by(&self) -> &'static str {
        self.served_by
    }

    /// Every backend that was tried, or was refused by its circuit breaker, in the order in which the attempts ended; the
    /// one that answered, if any, has no error.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Whether a backend other than the first of this host answered.
    pub fn degraded(&self) -> bool {
        self.degraded
    }
}

impl Deref for Prediction {
    type Target = Outputs;
    fn deref(&self) -> &Outputs {
        &self.outputs
    }
}

impl Session {
    /// Starts a session without backends.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }

    /// The inputs and outputs of predictions.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The model.
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// The function that runs.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The path the model was opened by.
    pub fn path(&self) -> &Path {
        self.package.path()
    }

    /// The backends in the order in which they are tried.
    pub fn backends(&self) -> impl ExactSizeIterator<Item = &'static str> {
        self.lanes.iter().map(|lane| lane.name())
    }

    /// The backends that the session does not use because this host does not have them, and why.
    pub fn passed_over(&self) -> &[Passed] {
        &self.passed
    }

    /// What the first backend that has loaded the model says about it.
    pub fn info(&self) -> ModelInfo {
        let loaded = self.lanes.iter().find_map(|lane| lane.loaded());
        loaded.map_or_else(ModelInfo::default, |model| model.info())
    }

    /// The registry that the session counts and times in.
    pub fn telemetry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Makes one prediction.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] before any backend is tried, if the inputs do not fit the interface or the model has
    /// states. [`ErrorKind::Timeout`] when the session has a deadline and no backend answered in time. Otherwise the
    /// error of the backend that failed last.
    pub fn predict(&self, inputs: &Inputs<'_>) -> Result<Prediction, Error> {
        self.predict_call(inputs, &Call::new())
    }

    /// Like [`Session::predict`], with options for this prediction.
    ///
    /// # Errors
    /// As [`Session::predict`]; [`ErrorKind::Cancelled`] when its switch was set.
    pub fn predict_call(&self, inputs: &Inputs<'_>, call: &Call) -> Result<Prediction, Error> {
        let checked = self.check_call(inputs, call)?;
        Route::new(self, &checked, 0..self.lanes.len(), None, call, self.clock.now()).go()
    }

    /// Like [`Session::predict`], with outputs copied to memory that the caller already has. All outputs are in the answer,
    /// too.
    ///
    /// # Errors
    /// As [`Session::predict`]; [`ErrorKind::InvalidInput`] when a buffer does not fit its output, or there is no such output.
    pub fn predict_into(&self, inputs: &Inputs<'_>, outputs: &mut Buffers<'_>) -> Result<Prediction, Error> {
        let prediction = self.predict(inputs)?;
        outputs.fill(&prediction)?;
        Ok(prediction)
    }

    /// Makes several predictions, each with its own result. Models that are faster with many at once, as trees are, get them
    /// in one call, unless something has to be done for each alone (a deadline, a comparison). Other models get them one
    /// after the other, because each prediction uses all threads.
    pub fn predict_batch<'a>(
        &self,
        inputs: impl IntoIterator<Item = &'a Inputs<'a>>,
    ) -> Vec<Result<Prediction, Error>> {
        self.answer_batch(&inputs.into_iter().collect::<Vec<_>>())
    }

    /// Makes one prediction in the background: the future it returns needs no runtime, and polling it does not block. The
    /// inputs are checked and copied now; a deadline begins now, too. Dropping the future cancels the prediction. As many run
    /// at once as the host has processors, but at least four; the others wait.
    pub fn predict_async(self: &Arc<Self>, inputs: &Inputs<'_>, call: Call) -> Answer {
        let cancel = call.cancel.as_ref().map_or_else(Cancel::new, Cancel::child);
        let call = call.cancel(&cancel);
        let (answer, slot) = Answer::new(cancel);
        let start = self.clock.now();
        let owned = self.check_call(inputs, &call).map(|checked| OwnedInputs::from(&checked));
        let submitted = owned.and_then(|owned| {
            let (session, slot) = (self.clone(), slot.clone());
            self.later.submit(call.priority, move || {
                let checked = owned.checked();
                slot.fill(Route::new(&session, &checked, 0..session.lanes.len(), None, &call, start).go());
            })
        });
        if let Err(error) = submitted {
            slot.fill(Err(error));
        }
        answer
    }

    /// Checks everything that can be checked before a backend is asked.
    fn check_call<'a>(&'a self, inputs: &'a Inputs<'_>, call: &Call) -> Result<CheckedInputs<'a>, Error> {
        if !self.interface.states.is_empty() {
            let message = "the model has states; make one with `Session::state` and use `predict_with_state`";
            return Err(self.refuse(Error::new(ErrorKind::InvalidInput, message)));
        }
        call.check(&self.interface).map_err(|error| self.refuse(error))?;
        self.check(inputs)
    }

    /// Makes one prediction on `state`, which it changes. Predictions on one state run one after another. A state stays
    /// with the backend that served its first prediction, so only that first one can fall back to another.
    ///
    /// # Errors
    /// As [`Session::predict`]; also if the state is another session's, or a failed or abandoned prediction has left it
    /// half-changed.
    pub fn predict_with_state(&self, inputs: &Inputs<'_>, state: &State) -> Result<Prediction, Error> {
        self.predict_call_with_state(inputs, state, &Call::new())
    }

    /// Like [`Session::predict_with_state`], with options for this prediction.
    ///
    /// # Errors
    /// As [`Session::predict_with_state`]; [`ErrorKind::Cancelled`] when its switch was set, which leaves the state half-changed.
    pub fn predict_call_with_state(
        &self,
        inputs: &Inputs<'_>,
        state: &State,
        call: &Call,
    ) -> Result<Prediction, Error> {
        call.check(&self.interface).map_err(|error| self.refuse(error))?;
        let checked = self.check(inputs)?;
        let mut contents = state.lock(self).map_err(|error| self.refuse(error))?;
        let positions = contents.lane().map_or(0..self.lanes.len(), |position| position..position + 1);
        Route::new(self, &checked, positions, Some(&mut contents), call, self.clock.now()).go()
    }

    /// A fresh state for [`Session::predict_with_state`]; useless but harmless for a model without states.
    pub fn state(&self) -> State {
        State::new(self)
    }

    /// The circuit breaker of the backend of this name; `None` if the session has no such backend.
    pub fn breaker(&self, backend: &str) -> Option<&CircuitBreaker> {
        self.lanes.iter().find(|lane| lane.name() == backend).map(|lane| lane.breaker())
    }

    fn check<'a>(&'a self, inputs: &'a Inputs<'_>) -> Result<CheckedInputs<'a>, Error> {
        check::check(&self.interface, inputs).map_err(|error| self.refuse(error))
    }

    /// Counts a prediction that no backend was asked for.
    fn refuse(&self, error: Error) -> Error {
        self.failed.increment();
        error
    }

    /// The last backend cannot run the model: the one before it is the last from now on, and its breaker only counts.
    fn lose_last(&self, now: Instant) {
        let useful = self.lanes.iter().rev().find(|lane| !lane.is_useless());
        if let Some(lane) = useful.filter(|_| !self.policy.break_last) {
            lane.stop_breaking(now);
        }
    }

    /// Tells the circuit breakers how much memory the process has, if it is time to look again.
    fn watch_memory(&self, now: Instant) {
        let Some(watch) = &self.memory else { return };
        let nanoseconds = |elapsed: Duration| u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let (elapsed, due) = (nanoseconds(now.duration_since(watch.opened)), watch.due.load(Ordering::Relaxed));
        let next = elapsed.saturating_add(nanoseconds(MEMORY_EVERY));
        if elapsed < due || watch.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        if let Some(bytes) = (watch.probe)() {
            watch.gauge.set(bytes as f64);
            self.lanes.iter().for_each(|lane| lane.breaker().memory(bytes, now));
        }
    }

    /// The comparison that an answer of the lane at `position` must pass before it is given, if it is its turn.
    fn shadow_before_answer(&self, position: usize) -> Option<&Watch> {
        let watch = self.shadow.as_deref().filter(|watch| watch.config.before_answer)?;
        (position == 0 && self.lanes.len() > 1 && watch.due()).then_some(watch)
    }

    /// Has the last lane answer too, in the background, if this answer of the lane at `position` is due for comparison.
    fn compare_aside(
        &self,
        position: usize,
        outputs: &Outputs,
        now: Instant,
        inputs: impl FnOnce() -> Arc<OwnedInputs>,
    ) {
        let (Some(watch), Some(last)) = (&self.shadow, self.lanes.last()) else { return };
        if position == 0 && self.lanes.len() > 1 && !watch.config.before_answer && watch.due() {
            watch.compare_aside(&self.lanes[0], last, outputs, now, inputs);
        }
    }
}

impl std::fmt::Display for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.backend, self.reason)
    }
}
