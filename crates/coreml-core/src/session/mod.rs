//! Sessions: predictions that survive a failing backend.
//!
//! A session holds its backends in order, each with the model it loaded: a lane. A prediction is checked once, then
//! tried lane by lane until one answers or an error says that no other could. Every attempt, on whichever lane and
//! with or without a state, goes through [`Session::attempt`].

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coreml_model::{Interface, Package};
use coreml_telemetry::{Counter, Registry, names};

use self::lane::Lane;
pub use self::{builder::SessionBuilder, state::State};
use crate::backend::{ModelInfo, ModelState};
use crate::check::{self, CheckedInputs};
use crate::classify::{Verdict, classify};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::inputs::Inputs;
use crate::outputs::Outputs;

mod builder;
mod lane;
mod state;

/// A model that is ready for predictions, on the backends of this host. Any number of threads may predict at once.
#[derive(Debug)]
pub struct Session {
    package: Arc<Package>,
    interface: Interface,
    function: String,
    /// At least one.
    lanes: Vec<Lane>,
    passed: Vec<Passed>,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    answered: Arc<Counter>,
    failed: Arc<Counter>,
}

/// A backend that the session does without, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The backend's name.
    pub backend: &'static str,
    /// Why, in words.
    pub reason: String,
}

/// One backend's try at a prediction.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The backend's name.
    pub backend: &'static str,
    /// The error, if it failed.
    pub error: Option<Error>,
    /// How long it took, loading the model included where this prediction was the first that needed the backend.
    pub elapsed: Duration,
}

/// The answer to a prediction. Dereferences to its [`Outputs`].
#[derive(Debug, Clone)]
pub struct Prediction {
    outputs: Outputs,
    served_by: &'static str,
    attempts: Vec<Attempt>,
    degraded: bool,
}

impl Prediction {
    /// The outputs.
    pub fn into_outputs(self) -> Outputs {
        self.outputs
    }

    /// The name of the backend that answered.
    pub fn served_by(&self) -> &'static str {
        self.served_by
    }

    /// Every backend that was tried, in order; the last one answered.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Whether another than the first backend of this host answered.
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

    /// What predictions take and give.
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
        self.lanes.iter().map(Lane::name)
    }

    /// The backends the session does without, and why: those that this host has not.
    pub fn passed_over(&self) -> &[Passed] {
        &self.passed
    }

    /// What the first backend that has loaded the model says about it.
    pub fn info(&self) -> ModelInfo {
        let loaded = self.lanes.iter().find_map(Lane::loaded);
        loaded.map_or_else(ModelInfo::default, |model| model.info())
    }

    /// Where the session counts and times.
    pub fn telemetry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Makes one prediction.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] before any backend is tried, if the inputs do not fit the interface or the model has
    /// states. Otherwise the error of the backend that failed last.
    pub fn predict(&self, inputs: &Inputs<'_>) -> Result<Prediction, Error> {
        if !self.interface.states.is_empty() {
            let message = "the model has states; make one with `Session::state` and use `predict_with_state`";
            return Err(self.refuse(Error::new(ErrorKind::InvalidInput, message)));
        }
        let checked = self.check(inputs)?;
        self.first_answer(0..self.lanes.len(), |position| self.attempt(position, &checked, None))
    }

    /// Makes one prediction on `state`, which it changes. Predictions on one state run one after another; a state
    /// lives with the backend that served its first prediction, so only that first one can fall back to another.
    ///
    /// # Errors
    /// As [`Session::predict`]; also if the state is another session's, or one that a failed prediction has left
    /// behind half-changed.
    pub fn predict_with_state(&self, inputs: &Inputs<'_>, state: &State) -> Result<Prediction, Error> {
        let checked = self.check(inputs)?;
        let mut state = state.lock(self).map_err(|error| self.refuse(error))?;
        let positions = state.lane().map_or(0..self.lanes.len(), |position| position..position + 1);
        self.first_answer(positions, |position| {
            let fresh = || self.model_state(position);
            state.attempt(position, fresh, |state| self.attempt(position, &checked, Some(state)))
        })
    }

    /// A fresh state for [`Session::predict_with_state`]; of no use, and no harm, for a model without states.
    pub fn state(&self) -> State {
        State::new(self)
    }

    fn check<'a>(&'a self, inputs: &'a Inputs<'_>) -> Result<CheckedInputs<'a>, Error> {
        check::check(&self.interface, inputs).map_err(|error| self.refuse(error))
    }

    /// Counts a prediction that no backend was asked for.
    fn refuse(&self, error: Error) -> Error {
        self.failed.increment();
        error
    }

    /// Tries lanes in order until one answers or an error rules the others out.
    fn first_answer(
        &self,
        positions: std::ops::Range<usize>,
        mut attempt: impl FnMut(usize) -> Result<Outputs, Error>,
    ) -> Result<Prediction, Error> {
        let mut attempts = Vec::with_capacity(1);
        let mut remaining = positions.peekable();
        while let Some(position) = remaining.next() {
            let backend = self.lanes[position].name();
            let start = self.clock.now();
            let result = attempt(position);
            let elapsed = self.clock.now().duration_since(start);
            let error = result.as_ref().err().cloned();
            self.lanes[position].record(error.as_ref().map(Error::kind), elapsed);
            attempts.push(Attempt { backend, error, elapsed });
            match result {
                Ok(outputs) => {
                    self.answered.increment();
                    return Ok(Prediction { outputs, served_by: backend, attempts, degraded: position > 0 });
                }
                Err(error) if classify(error.kind()) == Verdict::TryNext && remaining.peek().is_some() => {
                    self.registry.counter(&names::FALLBACKS, &[backend, error.kind().name()]).increment();
                }
                Err(error) => return Err(self.refuse(in_view_of(error, &attempts))),
            }
        }
        Err(self.refuse(Error::new(ErrorKind::Bug, "the session has no backend")))
    }

    /// One lane's try: the only place where a backend is asked for a prediction. A panic becomes [`ErrorKind::Bug`].
    fn attempt(
        &self,
        position: usize,
        inputs: &CheckedInputs<'_>,
        state: Option<&mut ModelState>,
    ) -> Result<Outputs, Error> {
        let lane = &self.lanes[position];
        let model = lane.model(&self.package, &*self.clock)?;
        // The model is not used again if it is broken: backends keep what a prediction changes apart from the model,
        // and the state is given up after an error.
        guarded(lane.name(), || model.predict(inputs, state))
    }

    fn model_state(&self, position: usize) -> Result<ModelState, Error> {
        let lane = &self.lanes[position];
        let model = lane.model(&self.package, &*self.clock)?;
        guarded(lane.name(), || model.new_state())
    }
}

/// Turns a panic of a backend into an error.
fn guarded<T>(backend: &str, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Error::new(ErrorKind::Bug, format!("the backend {backend} panicked ({text}); please report this")))
    })
}

/// The last error, told with those before it.
fn in_view_of(error: Error, attempts: &[Attempt]) -> Error {
    if attempts.len() < 2 {
        return error;
    }
    let told: Vec<_> = attempts
        .iter()
        .filter_map(|attempt| Some(format!("{}: {}", attempt.backend, attempt.error.as_ref()?)))
        .collect();
    Error::caused_by(error.kind(), format!("every backend failed: {}", told.join("; ")), error)
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.backend, self.reason)
    }
}
