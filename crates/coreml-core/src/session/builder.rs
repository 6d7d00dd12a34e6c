//! How a session is made.

use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use coreml_breaker::BreakerConfig;
use coreml_model::{ColorLayout, Limits, Package};
use coreml_telemetry::{Registry, names};

use super::lane::{Lane, LaneParts, breaker_config};
use super::later::Later;
use super::meter::Meter;
use super::policy::{Budget, Hedging, Policy, Shadow};
use super::shadow::Watch;
use super::{MemoryWatch, Passed, Session};
use crate::backend::{Availability, Backend, ComputeUnits, LoadOptions};
use crate::classify::classify;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};

/// Makes a session: which backends in which order, and how they load the model. `S` is the type of session it makes,
/// this crate's own or one built on it.
#[derive(Debug)]
pub struct SessionBuilder<S = Session> {
    backends: Vec<Arc<dyn Backend>>,
    options: LoadOptions,
    limits: Limits,
    images: Vec<(String, ColorLayout)>,
    policy: Policy,
    memory: fn() -> Option<u64>,
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
            images: Vec::new(),
            policy: Policy::default(),
            memory: coreml_telemetry::memory::resident_bytes,
            registry: Arc::default(),
            clock: Arc::new(SystemClock),
            makes: PhantomData,
        }
    }
}

impl<S: From<Session>> SessionBuilder<S> {
    /// The backends, in the order in which they are tried; replaces earlier ones.
    pub fn backends(self, backends: impl IntoIterator<Item = Arc<dyn Backend>>) -> Self {
        Self { backends: backends.into_iter().collect(), ..self }
    }

    /// The function to run, for a model that has several.
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

    /// The most bytes of memory one prediction may use on the CPU engine, including states; 4 GiB by default. Models that
    /// need more are refused when they are loaded if that is known then, otherwise when they run.
    pub fn max_memory(mut self, bytes: usize) -> Self {
        self.options.max_memory = Some(bytes);
        self
    }

    /// The most rounds that all loops of one prediction together may run on the CPU engine; 1 million by default.
    pub fn max_loop_rounds(mut self, rounds: u64) -> Self {
        self.options.max_loop_rounds = Some(rounds);
        self
    }

    /// Bounds on what the model file may ask for.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The input `name` is an image of this layout: for compiled models whose folder has lost the description, which
    /// otherwise take it as an array. See [`Package::with_image_input`].
    pub fn image_input(mut self, name: impl Into<String>, color: ColorLayout) -> Self {
        self.images.push((name.into(), color));
        self
    }

    /// Every prediction is answered, or fails with [`ErrorKind::Timeout`], this long after it was asked for. Backends that
    /// cannot be stopped then compute on threads of their own, where their calls can be abandoned: the first backend's as
    /// soon as only as much time is left as the next one usually needs. The backends after the first load the model in the
    /// background when the session opens. Without a deadline, the default, a backend that never returns keeps its caller
    /// waiting.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.policy.deadline = Some(deadline);
        self
    }

    /// Opening the session waits no longer than this for a backend to load the model, and then goes on with the next one.
    /// A backend that finishes later is used from then on.
    pub fn load_deadline(mut self, deadline: Duration) -> Self {
        self.policy.load_deadline = Some(deadline);
        self
    }

    /// When a backend is no longer asked, and when it is asked again. The last backend is exempt, see
    /// [`SessionBuilder::break_last_backend`].
    pub fn breaker(mut self, config: BreakerConfig) -> Self {
        self.policy.breaker = config;
        self
    }

    /// Lets the circuit breaker of the last backend refuse predictions too, although no backend is left to answer them.
    pub fn break_last_backend(mut self, breaks: bool) -> Self {
        self.policy.break_last = breaks;
        self
    }

    /// When the deadline comes near, has the next backend compute too, instead of abandoning the first one at that
    /// moment. Has no effect without a [deadline](SessionBuilder::deadline), or for a model with states.
    pub fn hedging(mut self, hedging: Hedging) -> Self {
        self.policy.hedging = Some(hedging);
        self
    }

    /// Compares some answers of the first backend with those of the last. Has no effect for a model with states.
    pub fn shadow(mut self, shadow: Shadow) -> Self {
        self.policy.shadow = Some(shadow);
        self
    }

    /// Whether answers are returned without inspection, for models whose correct answers contain NaN. If not, the
    /// default, an answer of any backend but the last counts as a [fault](ErrorKind::Fault) if a feature is missing, a
    /// type or shape is not the interface's, or a number is NaN or infinite.
    pub fn trust_outputs(mut self, trust: bool) -> Self {
        self.policy.trust_outputs = trust;
        self
    }

    /// Reads the process's memory, in bytes, for [`BreakerConfig::memory`] with `probe` instead of the system's
    /// resident memory.
    pub fn memory_probe(self, probe: fn() -> Option<u64>) -> Self {
        Self { memory: probe, ..self }
    }

    /// Counts and times in `registry`, which sessions may share.
    pub fn telemetry(self, registry: Arc<Registry>) -> Self {
        Self { registry, ..self }
    }

    /// Uses `clock` for the time.
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

    /// Makes a session for a model that has already been read. The first backend that can loads the model now; the
    /// later ones load it when they are first needed.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if this host has none of the backends; the error of the last backend tried if none
    /// can load the model; [`ErrorKind::InvalidInput`] for a function that the model does not have.
    pub fn load(self, mut package: Package) -> Result<S, Error> {
        for (name, color) in &self.images {
            package = package.with_image_input(name, *color)?;
        }
        if let Some(error) = package.missing_weights() {
            return Err(Error::new(ErrorKind::InvalidModel, error.to_string()));
        }
        let interface = package.interface(self.options.function.as_deref())?.clone();
        let function = self.options.function.clone().unwrap_or_else(|| package.default_function().to_owned());
        let (mut present, mut passed) = (Vec::new(), Vec::new());
        for backend in self.backends {
            match backend.availability() {
                Availability::Available => present.push(backend),
                Availability::Unavailable { reason } => passed.push(Passed { backend: backend.name(), reason }),
            }
        }
        let (package, count) = (Arc::new(package), present.len());
        let lane = |(position, backend): (usize, Arc<dyn Backend>)| {
            let last = position + 1 == count;
            Lane::new(LaneParts {
                meter: Meter::new(backend.name(), &self.registry),
                package: &package,
                options: &self.options,
                clock: &self.clock,
                breaker: &breaker_config(&self.policy.breaker, !last || self.policy.break_last),
                last,
                seed: seed(&package, position),
                backend,
            })
            .map(Arc::new)
        };
        let lanes = present.into_iter().enumerate().map(lane).collect::<Result<Vec<_>, _>>()?;
        let mut failures: Vec<(&str, Error)> = Vec::new();
        for lane in &lanes {
            let loaded = match self.policy.load_deadline {
                None => lane.model(None),
                Some(patience) => lane.model_in_time(patience),
            };
            match loaded {
                Ok(_) => {
                    failures.clear();
                    break;
                }
                Err(error) => {
                    let try_next = classify(error.kind()).try_next;
                    failures.push((lane.name(), error));
                    if !try_next {
                        break;
                    }
                }
            }
        }
        if let Some(error) = open_error(failures, &passed, lanes.is_empty()) {
            return Err(error);
        }
        if self.policy.deadline.is_some() {
            lanes.iter().for_each(Lane::load_aside);
        }
        let opened = self.clock.now();
        let watches_memory = self.policy.breaker.memory.is_some() && lanes.len() > 1;
        let session = Session {
            hedges: self.policy.hedging.map(|hedging| Budget::new(hedging.budget)),
            shadow: self.policy.shadow.map(|shadow| Arc::new(Watch::new(shadow, opened))),
            memory: watches_memory.then(|| MemoryWatch {
                probe: self.memory,
                opened,
                due: AtomicU64::new(0),
                gauge: self.registry.gauge(&names::MEMORY, &[]),
            }),
            policy: self.policy,
            package,
            interface,
            function,
            lanes,
            passed,
            clock: self.clock,
            answered: self.registry.counter(&names::PREDICTIONS, &["ok"]),
            failed: self.registry.counter(&names::PREDICTIONS, &["error"]),
            in_flight: self.registry.gauge(&names::PREDICTIONS_IN_FLIGHT, &[]),
            registry: self.registry,
            later: Later::new(std::thread::available_parallelism().map_or(1, usize::from).max(4)),
        };
        Ok(session.into())
    }
}

/// Seeds the jitter of a breaker: apart for each process, model and backend, so that they do not ask again in step.
fn seed(package: &Package, position: usize) -> u64 {
    RandomState::new().hash_one((package.path(), position))
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
