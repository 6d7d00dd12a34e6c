//! Keeps one worker at a time: starts it, asks it, kills it when it hangs, replaces it when it dies.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use coreml_core::{Error, ErrorKind, LoadOptions, ModelInfo};
use coreml_model::Fingerprint;
use parking_lot::Mutex;

use crate::command::{MARK, Restart, WorkerCommand};
use crate::numbers::{Incoming, Outgoing, malformed};
use crate::wire::{self, Reply, Request};

/// A worker that has loaded the model.
#[derive(Debug)]
pub(crate) struct Worker {
    line: Line,
    /// States of another generation lived in another process.
    pub(crate) generation: u64,
    pub(crate) info: ModelInfo,
    answered: bool,
}

/// The connection to a process, which ends with it.
#[derive(Debug)]
struct Line {
    child: Child,
    socket: UnixStream,
}

/// What is asked for in every new worker.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) command: WorkerCommand,
    pub(crate) restart: Restart,
    pub(crate) backend: &'static str,
    pub(crate) package: PathBuf,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) images: wire::Images,
    pub(crate) options: LoadOptions,
}

/// Keeps a worker for a [`Job`].
#[derive(Debug)]
pub(crate) struct Supervisor {
    job: Job,
    place: Mutex<Place>,
    this: Weak<Self>,
}

#[derive(Debug, Default)]
struct Place {
    worker: Option<Worker>,
    generation: u64,
    /// Workers in a row that died without having answered anything.
    barren: u32,
    not_before: Option<Instant>,
}

impl Supervisor {
    /// Starts the first worker.
    pub(crate) fn start(job: Job) -> Result<Arc<Self>, Error> {
        let worker = Worker::start(&job, 1)?;
        let place = Place { worker: Some(worker), generation: 1, ..Place::default() };
        Ok(Arc::new_cyclic(|this| Self { job, place: Mutex::new(place), this: this.clone() }))
    }

    /// Has the worker, a new one if need be, do something. One caller at a time.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Worker) -> Result<T, Failure>) -> Result<T, Error> {
        let mut place = self.place.lock();
        let worker = self.worker(&mut place)?;
        let answer = match work(worker) {
            Ok(done) => Ok(done),
            Err(Failure::Told(error)) => Err(error),
            Err(Failure::Lost(error)) => return Err(self.bury(&mut place, &error)),
        };
        worker.answered = true;
        place.barren = 0;
        answer
    }

    /// What the worker, a new one if need be, says about the model.
    pub(crate) fn info(&self) -> Result<ModelInfo, Error> {
        Ok(self.worker(&mut self.place.lock())?.info.clone())
    }

    fn worker<'a>(&self, place: &'a mut Place) -> Result<&'a mut Worker, Error> {
        let Place { worker, generation, barren, not_before } = place;
        if worker.is_none() {
            let now = Instant::now();
            if let Some(wait) = not_before.and_then(|at| at.checked_duration_since(now)).filter(|w| !w.is_zero()) {
                let message = format!("the worker process died {barren} times in a row; the next starts in {wait:.1?}");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            *generation += 1;
            match Worker::start(&self.job, *generation) {
                Ok(started) => *worker = Some(started),
                Err(error) => {
                    self.delay(barren, not_before);
                    return Err(error);
                }
            }
        }
        worker.as_mut().ok_or_else(|| Error::new(ErrorKind::Bug, "there is no worker"))
    }

    /// Ends a worker that did not answer, and sees to the next one.
    fn bury(&self, place: &mut Place, error: &io::Error) -> Error {
        let hung = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        let mut answered = false;
        let status = place.worker.take().and_then(|worker| {
            answered = worker.answered;
            worker.line.end()
        });
        if answered {
            // It was good once: the next one starts now, while the caller is answered by somebody else.
            (place.barren, place.not_before) = (0, None);
            if let Some(own) = self.this.upgrade() {
                thread::spawn(move || _ = own.info());
            }
        } else {
            self.delay(&mut place.barren, &mut place.not_before);
        }
        if hung {
            let deadline = self.job.restart.call_deadline;
            return Error::new(
                ErrorKind::Timeout,
                format!("the worker did not answer in {deadline:.1?} and was killed"),
            );
        }
        Error::new(ErrorKind::Fault, format!("the worker process is lost: {}", how(status, error)))
    }

    fn delay(&self, barren: &mut u32, not_before: &mut Option<Instant>) {
        let Restart { first_wait, longest_wait, .. } = self.job.restart;
        let wait = first_wait.saturating_mul(1u32.checked_shl(*barren).unwrap_or(u32::MAX)).min(longest_wait);
        *barren = barren.saturating_add(1);
        *not_before = Instant::now().checked_add(wait);
    }
}

/// Why a worker did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It said so, and is well.
    Told(Error),
    /// It died, hangs, or talks nonsense: it cannot be asked again.
    Lost(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl Worker {
    fn start(job: &Job, generation: u64) -> Result<Self, Error> {
        let unavailable = |error: io::Error| {
            let message = format!("the worker {} cannot be started: {error}", job.command.program.display());
            Error::caused_by(ErrorKind::Unavailable, message, error)
        };
        let line = Line::open(&job.command).map_err(unavailable)?;
        let mut worker = Self { line, generation, info: ModelInfo::default(), answered: false };
        let request = Request::Load {
            backend: job.backend.into(),
            package: job.package.clone(),
            fingerprint: job.fingerprint.to_string(),
            images: job.images.clone(),
            options: (&job.options).into(),
        };
        match worker.ask(&request, &Outgoing::default(), job.restart.load_deadline) {
            Ok((Reply::Loaded(loaded), _)) => {
                worker.info = loaded.into();
                Ok(worker)
            }
            Ok(_) => Err(unavailable(malformed("another answer than asked for"))),
            Err(Failure::Told(error)) => Err(error),
            Err(Failure::Lost(error)) => {
                let kind = error.kind();
                let status = worker.line.end();
                if matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
                    let deadline = job.restart.load_deadline;
                    let message = format!("the worker had not loaded the model after {deadline:.1?} and was killed");
                    return Err(Error::new(ErrorKind::Timeout, message));
                }
                let message = format!("the worker process was lost while it loaded the model: {}", how(status, &error));
                Err(Error::new(ErrorKind::Fault, message))
            }
        }
    }

    /// Sends a message that is not answered.
    pub(crate) fn tell(&mut self, request: &Request) -> Result<(), Failure> {
        Ok(wire::send(&self.line.socket, request, &Outgoing::default())?)
    }

    /// Sends a message and waits for the answer, for as long as `deadline` at most.
    pub(crate) fn ask(
        &mut self,
        request: &Request,
        numbers: &Outgoing<'_>,
        deadline: Duration,
    ) -> Result<(Reply, Incoming), Failure> {
        limit(|time| self.line.socket.set_write_timeout(time), deadline)?;
        wire::send(&self.line.socket, request, numbers)?;
        let until = Instant::now() + deadline;
        match wire::receive(Timed { socket: &self.line.socket, until })? {
            (Reply::Failed { kind, feature, operation, message }, _) => {
                Err(Failure::Told(wire::error(&kind, feature.as_deref(), operation.as_deref(), message)))
            }
            answer => Ok(answer),
        }
    }
}

impl Line {
    fn open(command: &WorkerCommand) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let child = Command::new(&command.program)
            .args(&command.arguments)
            .env(MARK, "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { child, socket })
    }

    /// Ends the process, if it has not ended by itself, and says how it ended.
    fn end(mut self) -> Option<ExitStatus> {
        let by_itself = self.child.try_wait().ok().flatten();
        by_itself.or_else(|| {
            let _ = self.child.kill();
            self.child.wait().ok()
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sets a time limit of a socket. Some systems refuse that once the other side is gone, which reading and writing tell better.
fn limit(set: impl FnOnce(Option<Duration>) -> io::Result<()>, time: Duration) -> io::Result<()> {
    match set(Some(time.max(Duration::from_millis(1)))) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        set => set,
    }
}

/// Reads until a moment.
struct Timed<'a> {
    socket: &'a UnixStream,
    until: Instant,
}

impl io::Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        limit(|time| self.socket.set_read_timeout(time), left)?;
        (&mut &*self.socket).read(buffer)
    }
}

/// What became of a worker whose line broke with `error`.
fn how(status: Option<ExitStatus>, error: &io::Error) -> String {
    let gone = [io::ErrorKind::UnexpectedEof, io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
    match status.filter(|_| gone.contains(&error.kind())).map(|status| (status.signal(), status.code())) {
        Some((Some(signal), _)) => format!("signal {signal}"),
        Some((None, Some(code))) => format!("exit code {code}"),
        _ => error.to_string(),
    }
}
