//! How a session is made.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use coreml_model::{Limits, Package};
use coreml_telemetry::{Registry, names};

use super::lane::Lane;
use super::{Passed, Session};
use crate::backend::{Availability, Backend, ComputeUnits, LoadOptions};
use crate::classify::{Verdict, classify};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};

/// Makes a session: which backends in which order, and how they load the model. `S` is the type of session it makes,
/// this crate's own or one built upon it.
#[derive(Debug)]
pub struct SessionBuilder<S = Session> {
    backends: Vec<Arc<dyn Backend>>,
    options: LoadOptions,
    limits: Limits,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    makes: PhantomData<fn() -> S>,
}

impl<S> Default for SessionBuilder<S> {
    fn default() -> Self {
        Self {
            backends: Vec::new(),
            options: LoadOptions::default(),
            limits: Limits::default(),
            registry: Arc::default(),
            clock: Arc::new(SystemClock),
            makes: PhantomData,
        }
    }
}

impl<S: From<Session>> SessionBuilder<S> {
    /// The backends, in the order in which they are tried, in place of those there were.
    pub fn backends(self, backends: impl IntoIterator<Item = Arc<dyn Backend>>) -> Self {
        Self { backends: backends.into_iter().collect(), ..self }
    }

    /// The function to run, of a model that has several.
    pub fn function(mut self, name: impl Into<String>) -> Self {
        self.options.function = Some(name.into());
        self
    }

    /// Where Core ML may run the model. The CPU engine runs on the CPU whatever this says.
    pub fn compute_units(mut self, units: ComputeUnits) -> Self {
        self.options.compute_units = units;
        self
    }

    /// Threads that take part in one prediction on the CPU engine; 0, the default, for as many as there are
    /// processors.
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = threads;
        self
    }

    /// Bounds on what the model file may ask for.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Counts and times in `registry`, which sessions may share.
    pub fn telemetry(self, registry: Arc<Registry>) -> Self {
        Self { registry, ..self }
    }

    /// Tells the time by `clock`.
    pub fn clock(self, clock: impl Clock + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Opens a model package or model file.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidModel`] or [`ErrorKind::Unsupported`] when it cannot be read; otherwise as
    /// [`SessionBuilder::load`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<S, Error> {
        let package = Package::open_with(path, &self.limits)?;
        self.load(package)
    }

    /// Makes a session for a model that has been read already. The first backend that can loads the model now; those
    /// after it when they are first needed.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when this host has none of the backends; the error of the last backend tried when
    /// none can load the model; [`ErrorKind::InvalidInput`] for a function that the model does not have.
    pub fn load(self, package: Package) -> Result<S, Error> {
        let interface = package.interface(self.options.function.as_deref())?.clone();
        let function = self.options.function.clone().unwrap_or_else(|| package.default_function().to_owned());
        let (mut lanes, mut passed) = (Vec::new(), Vec::new());
        for backend in self.backends {
            match backend.availability() {
                Availability::Available => lanes.push(Lane::new(backend, self.options.clone(), &self.registry)),
                Availability::Unavailable { reason } => passed.push(Passed { backend: backend.name(), reason }),
            }
        }
        let package = Arc::new(package);
        let mut failures: Vec<(&str, Error)> = Vec::new();
        for lane in &lanes {
            match lane.model(&package, &*self.clock) {
                Ok(_) => {
                    failures.clear();
                    break;
                }
                Err(error) => {
                    let verdict = classify(error.kind());
                    failures.push((lane.name(), error));
                    if verdict == Verdict::GiveUp {
                        break;
                    }
                }
            }
        }
        if let Some(error) = open_error(failures, &passed, lanes.is_empty()) {
            return Err(error);
        }
        let session = Session {
            package,
            interface,
            function,
            lanes,
            passed,
            clock: self.clock,
            answered: self.registry.counter(&names::PREDICTIONS, &["ok"]),
            failed: self.registry.counter(&names::PREDICTIONS, &["error"]),
            registry: self.registry,
        };
        Ok(session.into())
    }
}

/// Why there is no session, if there is none.
fn open_error(mut failures: Vec<(&str, Error)>, passed: &[Passed], no_lanes: bool) -> Option<Error> {
    if no_lanes {
        let reasons: Vec<_> = passed.iter().map(Passed::to_string).collect();
        let message = match reasons.as_slice() {
            [] => "the session was given no backend".into(),
            reasons => format!("this host has none of the backends: {}", reasons.join("; ")),
        };
        return Some(Error::new(ErrorKind::Unavailable, message));
    }
    let told: Vec<_> = failures.iter().map(|(backend, error)| format!("{backend}: {error}")).collect();
    let (_, error) = failures.pop()?;
    if failures.is_empty() {
        return Some(error);
    }
    Some(Error::caused_by(error.kind(), format!("no backend can load the model: {}", told.join("; ")), error))
}
