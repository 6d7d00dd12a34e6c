//! The backend in the host process.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coreml_core::{
    Availability, Backend, CheckedInputs, Error, ErrorKind, LoadOptions, Model, ModelInfo, ModelState, Outputs,
};
use coreml_model::Package;
use coreml_tensor::{Tensor, TensorView};
use parking_lot::Mutex;

use crate::command::{Restart, WorkerCommand};
use crate::numbers::{Outgoing, malformed};
use crate::supervisor::{Failure, Job, Supervisor, Worker};
use crate::wire::{self, Reply, Request};

/// A backend whose work another process does.
///
/// The worker reads the model from its file again, so the model must have come from a file. If the file now holds a
/// different model than the session was opened with, the worker does not serve. Predictions of one loaded model run one
/// after another; load it twice for two at once. A state lives in the worker and dies with it.
#[derive(Debug, Clone)]
pub struct Isolated {
    backend: &'static str,
    command: WorkerCommand,
    restart: Restart,
}

impl Isolated {
    /// The backend that the worker knows by the name `backend`, and that goes by that name here too.
    pub fn new(backend: &'static str, command: WorkerCommand) -> Self {
        Self { backend, command, restart: Restart::default() }
    }

    /// When workers are given up and replaced.
    pub fn restart(self, restart: Restart) -> Self {
        Self { restart, ..self }
    }
}

impl Backend for Isolated {
    fn name(&self) -> &'static str {
        self.backend
    }

    /// Whether there is a program to start; whether the worker has the backend shows when it loads a model.
    fn availability(&self) -> Availability {
        if self.command.program.is_file() {
            return Availability::Available;
        }
        Availability::Unavailable { reason: format!("there is no worker at {}", self.command.program.display()) }
    }

    fn load(&self, package: &Arc<Package>, options: &LoadOptions) -> Result<Box<dyn Model>, Error> {
        let supervisor = Supervisor::start(Job {
            command: self.command.clone(),
            restart: self.restart,
            backend: self.backend,
            package: file_of(package)?,
            fingerprint: package.fingerprint(),
            images: package.given_images().to_vec(),
            options: options.clone(),
        })?;
        let info = supervisor.info()?;
        Ok(Box::new(IsolatedModel { supervisor, info, deadline: self.restart, states: Arc::default() }))
    }
}

/// Where the worker finds the model.
fn file_of(package: &Package) -> Result<PathBuf, Error> {
    package.path().canonicalize().map_err(|error| {
        let message = format!("a model that is not in a file cannot be given to another process ({error})");
        Error::caused_by(ErrorKind::Unsupported, message, error)
    })
}

#[derive(Debug)]
struct IsolatedModel {
    supervisor: Arc<Supervisor>,
    info: ModelInfo,
    deadline: Restart,
    states: Arc<States>,
}

/// The numbers of states.
#[derive(Debug, Default)]
struct States {
    next: AtomicU64,
    /// States that are dropped here but that the worker still keeps.
    dropped: Mutex<Vec<u64>>,
}

/// A state in the worker.
struct RemoteState {
    number: u64,
    generation: u64,
    states: Arc<States>,
}

fn remote(state: &mut ModelState) -> Result<&mut RemoteState, Error> {
    state.downcast_mut().ok_or_else(|| Error::new(ErrorKind::Bug, "the state was made by another backend"))
}

impl RemoteState {
    fn lives_in(&self, worker: &Worker) -> Result<(), Failure> {
        if self.generation == worker.generation {
            return Ok(());
        }
        let message = "the state was lost with the worker process it lived in";
        Err(Failure::Told(Error::new(ErrorKind::Fault, message)))
    }
}

impl Drop for RemoteState {
    fn drop(&mut self) {
        self.states.dropped.lock().push(self.number);
    }
}

impl Model for IsolatedModel {
    fn predict(&self, inputs: &CheckedInputs<'_>, state: Option<&mut ModelState>) -> Result<Outputs, Error> {
        let state = state.map(remote).transpose()?;
        self.supervisor.with(|worker| {
            if let Some(state) = &state {
                state.lives_in(worker)?;
            }
            let dropped = std::mem::take(&mut *self.states.dropped.lock());
            if !dropped.is_empty() {
                worker.tell(&Request::DropStates(dropped))?;
            }
            let mut numbers = Outgoing::default();
            let inputs = wire::put_inputs(inputs, &mut numbers)?;
            let request = Request::Predict { inputs, state: state.as_ref().map(|state| state.number) };
            match worker.ask(&request, &numbers, self.deadline.call_deadline)? {
                (Reply::Outputs(items), numbers) => Ok(wire::take_outputs(items, &numbers)?),
                _ => Err(malformed("another answer than asked for").into()),
            }
        })
    }

    fn new_state(&self) -> Result<ModelState, Error> {
        let number = self.states.next.fetch_add(1, Ordering::Relaxed);
        let generation = self.supervisor.with(|worker| {
            match worker.ask(&Request::NewState(number), &Outgoing::default(), self.deadline.call_deadline)? {
                (Reply::Done, _) => Ok(worker.generation),
                _ => Err(malformed("another answer than asked for").into()),
            }
        })?;
        Ok(ModelState::new(RemoteState { number, generation, states: self.states.clone() }))
    }

    fn read_state(&self, state: &mut ModelState, name: &str) -> Result<Tensor, Error> {
        let state = remote(state)?;
        let request = Request::ReadState { state: state.number, name: name.to_owned() };
        self.supervisor.with(|worker| {
            state.lives_in(worker)?;
            match worker.ask(&request, &Outgoing::default(), self.deadline.call_deadline)? {
                (Reply::State(contents), numbers) => Ok(numbers.tensor(&contents)?),
                _ => Err(malformed("another answer than asked for").into()),
            }
        })
    }

    fn write_state(&self, state: &mut ModelState, name: &str, contents: TensorView<'_>) -> Result<(), Error> {
        let state = remote(state)?;
        let mut numbers = Outgoing::default();
        let contents = numbers.put(contents);
        let request = Request::WriteState { state: state.number, name: name.to_owned(), contents };
        self.supervisor.with(|worker| {
            state.lives_in(worker)?;
            match worker.ask(&request, &numbers, self.deadline.call_deadline)? {
                (Reply::Done, _) => Ok(()),
                _ => Err(malformed("another answer than asked for").into()),
            }
        })
    }

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }
}
