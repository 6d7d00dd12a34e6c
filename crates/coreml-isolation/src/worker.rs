//! The other side: serves one host until it goes away.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::exit;
use std::sync::{Arc, mpsc};
use std::thread;

use coreml_core::{Backend, Error, ErrorKind, Model, ModelState, Outputs};
use coreml_model::{Package, ReadError};

use crate::command::MARK;
use crate::numbers::{Incoming, Outgoing, malformed};
use crate::wire::{self, Item, Reply, Request};

/// Does not return if this process was started as a worker by [`WorkerCommand::this_program`]: serves, then ends it. Call
/// it at the start of `main`, before anything has side effects. `backends` are those that the host may name.
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
/// When standard input is not a socket, or the host breaks the protocol.
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
    let (Request::Load { backend, package, fingerprint, images, options }, _) = next()? else {
        return Err(malformed("something else before the model"));
    };
    let loaded = guarded(|| {
        let known = backends
            .iter()
            .find(|known| known.name() == backend)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("the worker has no backend `{backend}`")))?;
        known.load(&Arc::new(open(&package, &fingerprint, &images)?), &options.into())
    });
    let model = match loaded {
        Ok(model) => model,
        Err(error) => return wire::send(&socket, &Reply::from(&error), &Outgoing::default()),
    };
    wire::send(&socket, &Reply::from(model.info()), &Outgoing::default())?;
    let mut served = Served { model, states: HashMap::new() };
    loop {
        let (request, numbers) = next()?;
        served.answer(request, &numbers, &socket)?;
    }
}

/// Reads the package again that the host has read. Whatever goes wrong now, it is not what it was.
fn open(path: &Path, fingerprint: &str, images: &wire::Images) -> Result<Package, Error> {
    let changed = |why: String| {
        let message = format!(
            "{} is not the model any more that the session was opened with ({why}): open it anew",
            path.display()
        );
        Error::new(ErrorKind::Unavailable, message)
    };
    let package = Package::open(path).map_err(|error: ReadError| changed(error.to_string()))?;
    let found = package.fingerprint().to_string();
    if found != fingerprint {
        return Err(changed(format!("fingerprint {found} in place of {fingerprint}")));
    }
    let given = images.iter().try_fold(package, |package, (name, color)| package.with_image_input(name, *color));
    given.map_err(|error| changed(error.to_string()))
}

struct Served {
    model: Box<dyn Model>,
    states: HashMap<u64, ModelState>,
}

impl Served {
    fn answer(&mut self, request: Request, numbers: &Incoming, socket: &UnixStream) -> io::Result<()> {
        let done = match request {
            Request::Load { .. } => return Err(malformed("a second model")),
            Request::DropStates(numbers) => {
                numbers.iter().for_each(|number| _ = self.states.remove(number));
                return Ok(());
            }
            Request::NewState(number) => guarded(|| self.model.new_state()).map(|state| {
                self.states.insert(number, state);
                Reply::Done
            }),
            Request::ReadState { state, name } => {
                let state = state_of(&mut self.states, state)?;
                match guarded(|| self.model.read_state(state, &name)) {
                    Ok(contents) => {
                        let mut numbers = Outgoing::default();
                        let reply = Reply::State(numbers.put(contents.view()));
                        return wire::send(socket, &reply, &numbers);
                    }
                    Err(error) => Err(error),
                }
            }
            Request::WriteState { state, name, contents } => {
                let (state, contents) = (state_of(&mut self.states, state)?, numbers.tensor(&contents)?);
                guarded(|| self.model.write_state(state, &name, contents.view())).map(|()| Reply::Done)
            }
            Request::Predict { inputs, state } => match self.predict(inputs, numbers, state)? {
                Ok(outputs) => {
                    let mut numbers = Outgoing::default();
                    let reply = Reply::Outputs(wire::put_outputs(&outputs, &mut numbers)?);
                    return wire::send(socket, &reply, &numbers);
                }
                Err(error) => Err(error),
            },
        };
        wire::send(socket, &done.unwrap_or_else(|error| Reply::from(&error)), &Outgoing::default())
    }

    fn predict(
        &mut self,
        inputs: Vec<(String, Item)>,
        numbers: &Incoming,
        state: Option<u64>,
    ) -> io::Result<Result<Outputs, Error>> {
        let inputs = wire::take_inputs(inputs, numbers)?;
        let state = match state {
            Some(number) => Some(state_of(&mut self.states, number)?),
            None => None,
        };
        let model = &self.model;
        Ok(guarded(|| model.predict(&inputs.checked(), state)))
    }
}

fn state_of(states: &mut HashMap<u64, ModelState>, number: u64) -> io::Result<&mut ModelState> {
    states.get_mut(&number).ok_or_else(|| malformed("a state that is not here"))
}

/// Turns a panic into an error: the process is still of use.
fn guarded<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Bug, "the backend panicked in the worker process")))
}
