//! One backend of a session, with the model once it is loaded.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coreml_model::Package;
use coreml_telemetry::{Counter, Gauge, Histogram, Registry, names};

use super::guarded;
use crate::backend::{Backend, LoadOptions, Model};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};

#[derive(Debug)]
pub(super) struct Lane {
    backend: Arc<dyn Backend>,
    options: LoadOptions,
    /// Loaded when first needed, once: the session's first lane when it opens, the others when a lane before fails.
    model: OnceLock<Result<Box<dyn Model>, Error>>,
    registry: Arc<Registry>,
    answered: Arc<Counter>,
    duration: Arc<Histogram>,
    load: Arc<Gauge>,
}

impl Lane {
    pub(super) fn new(backend: Arc<dyn Backend>, options: LoadOptions, registry: &Arc<Registry>) -> Self {
        let name = backend.name();
        Self {
            answered: registry.counter(&names::ATTEMPTS, &[name, "ok"]),
            duration: registry.histogram(&names::ATTEMPT_DURATION, &[name]),
            load: registry.gauge(&names::LOAD_DURATION, &[name]),
            registry: registry.clone(),
            backend,
            options,
            model: OnceLock::new(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.backend.name()
    }

    /// The model, loaded if it is not yet. A failure to load is final.
    pub(super) fn model(&self, package: &Arc<Package>, clock: &dyn Clock) -> Result<&dyn Model, Error> {
        let loaded = self.model.get_or_init(|| {
            let start = clock.now();
            let loaded = guarded(self.name(), || self.backend.load(package, &self.options));
            self.load.set(clock.now().duration_since(start).as_secs_f64());
            loaded
        });
        match loaded {
            Ok(model) => Ok(&**model),
            Err(error) => Err(error.clone()),
        }
    }

    pub(super) fn loaded(&self) -> Option<&dyn Model> {
        Some(&**self.model.get()?.as_ref().ok()?)
    }

    /// Counts and times one attempt.
    pub(super) fn record(&self, error: Option<ErrorKind>, elapsed: Duration) {
        self.duration.record_duration(elapsed);
        match error {
            None => self.answered.increment(),
            Some(kind) => self.registry.counter(&names::ATTEMPTS, &[self.name(), kind.name()]).increment(),
        }
    }
}
