//! The other side: serves one host until it goes away.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::sync::{Arc, mpsc};
use std::thread;

use coreml_core::{Backend, Error, ErrorKind, Model, ModelState};
use coreml_model::Package;

use crate::command::MARK;
use crate::shared::{Shared, malformed};
use crate::wire::{self, Item, Reply, Request};

/// Does not return if this process was started as a worker by [`WorkerCommand::this_program`]: serves, then ends it. To be
/// called at the start of `main`, before anything else has side effects. `backends` are those the host may name.
///
/// [`WorkerCommand::this_program`]: crate::WorkerCommand::this_program
pub fn run_if_worker(backends: impl FnOnce() -> Vec<Arc<dyn Backend>>) {
    if std::env::var_os(MARK).is_some() {
        exit(i32::from(serve(&backends()).is_err()));
    }
}

/// Serves the host at the other end of the socket that is this process's standard input, until the host closes it. For
/// programs that are workers and nothing else.
///
/// # Errors
/// When standard input is not a socket, or the host does not speak as a host does.
pub fn serve(backends: &[Arc<dyn Backend>]) -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let listening = socket.try_clone()?;
    let (sender, requests) = mpsc::channel();
    // Aside, so that a worker whose backend hangs does not outlive its host.
    thread::spawn(move || {
        loop {
            let heard = wire::receive::<Request>(&listening).ok().and_then(|request| sender.send(request).ok());
            if heard.is_none() {
                exit(0);
            }
        }
    });
    let next = || requests.recv().map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof));
    let Request::Load { shared, backend, package, options } = next()? else {
        return Err(malformed("something else before the model"));
    };
    let shared = Shared::open(&shared)?;
    let loaded = guarded(|| {
        let known = backends
            .iter()
            .find(|known| known.name() == backend)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("the worker has no backend `{backend}`")))?;
        let package = Arc::new(Package::open(&package)?);
        known.load(&package, &options.into())
    });
    let model = match loaded {
        Ok(model) => model,
        Err(error) => return wire::send(&socket, &Reply::from(&error)),
    };
    wire::send(&socket, &Reply::from(model.info()))?;
    let mut served = Served { model, shared, states: HashMap::new() };
    loop {
        if let Some(reply) = served.answer(next()?)? {
            wire::send(&socket, &reply)?;
        }
    }
}

struct Served {
    model: Box<dyn Model>,
    shared: Shared,
    states: HashMap<u64, ModelState>,
}

impl Served {
    fn answer(&mut self, request: Request) -> io::Result<Option<Reply>> {
        let done = match request {
            Request::Load { .. } => return Err(malformed("a second model")),
            Request::DropStates(numbers) => {
                numbers.iter().for_each(|number| _ = self.states.remove(number));
                return Ok(None);
            }
            Request::NewState(number) => guarded(|| self.model.new_state()).map(|state| {
                self.states.insert(number, state);
                Reply::Done
            }),
            Request::Predict { inputs, state } => self.predict(inputs, state)?,
        };
        Ok(Some(done.unwrap_or_else(|error| Reply::from(&error))))
    }

    fn predict(&mut self, inputs: Vec<(String, Item)>, state: Option<u64>) -> io::Result<Result<Reply, Error>> {
        let inputs = wire::take_inputs(inputs, &self.shared)?;
        let state = match state {
            Some(number) => Some(self.states.get_mut(&number).ok_or_else(|| malformed("a state that is not here"))?),
            None => None,
        };
        let model = &self.model;
        match guarded(|| model.predict(&inputs.checked(), state)) {
            Ok(outputs) => Ok(Ok(Reply::Outputs(wire::put_outputs(&outputs, &mut self.shared)?))),
            Err(error) => Ok(Err(error)),
        }
    }
}

/// Turns a panic into an error: the process is still of use.
fn guarded<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Bug, "the backend panicked in the worker process")))
}
