//! Loading a model once, in time or in the background.
//!
//! A lane has at most one load in flight. Predictions that need the model wait for it until their deadline and then go
//! on without it; a load that ends late is used from then on, and one that never ends costs one thread. A model that
//! the backend cannot run is never loaded again; after a fault, the next prediction that the circuit breaker lets
//! through tries again.

use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::Instant;
use crate::backend::Model;
use crate::classify::{Health, classify};
use crate::error::{Error, ErrorKind};

/// A model and how far it is.
#[derive(Debug, Default)]
pub(super) struct Loading {
    model: OnceLock<Box<dyn Model>>,
    progress: Mutex<Progress>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    running: bool,
    /// The number of loads that have ended, so that a waiting thread knows when the one it waits for has.
    rounds: u64,
    failure: Option<Error>,
}

/// What a caller that needs the model must do.
pub(super) enum Turn {
    /// Load it, and call [`Loading::finish`].
    Load,
    /// Another thread is loading: wait for the end of this round.
    Wait(u64),
    /// It cannot be loaded.
    Failed(Error),
}

impl Loading {
    pub(super) fn model(&self) -> Option<&dyn Model> {
        self.model.get().map(|model| &**model)
    }

    /// Takes the turn to load, if it is free. To be asked when there is no model.
    pub(super) fn turn(&self) -> Turn {
        let mut progress = self.progress.lock();
        match &progress.failure {
            Some(error) if classify(error.kind()).health == Health::Unaffected => Turn::Failed(error.clone()),
            _ if progress.running => Turn::Wait(progress.rounds),
            _ => {
                progress.running = true;
                Turn::Load
            }
        }
    }

    /// Whether there is no model and never will be.
    pub(super) fn failed_for_good(&self) -> bool {
        let progress = self.progress.lock();
        let last = progress.failure.as_ref().map(|error| classify(error.kind()).health);
        self.model.get().is_none() && last == Some(Health::Unaffected)
    }

    /// Whether a load is running.
    pub(super) fn runs(&self) -> bool {
        self.progress.lock().running
    }

    /// What to give to [`Loading::wait`] to wait for the end of the load that runs now or is started next.
    pub(super) fn round(&self) -> u64 {
        self.progress.lock().rounds
    }

    /// Ends a turn.
    pub(super) fn finish(&self, loaded: Result<Box<dyn Model>, Error>) {
        let mut progress = self.progress.lock();
        progress.running = false;
        progress.rounds += 1;
        match loaded {
            // There is none yet: the turn is given only while there is none.
            Ok(model) => _ = self.model.set(model),
            Err(error) => progress.failure = Some(error),
        }
        self.ended.notify_all();
    }

    /// Waits for the end of `round`, for as long as `patience` at most, without end if there is none.
    pub(super) fn wait(&self, round: u64, patience: Option<Duration>) -> Result<&dyn Model, Error> {
        let mut progress = self.progress.lock();
        let until = patience.map(|patience| Instant::now() + patience);
        while self.model.get().is_none() && progress.rounds == round {
            match until {
                None => self.ended.wait(&mut progress),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if self.ended.wait_for(&mut progress, left).timed_out() {
                        break;
                    }
                }
            }
        }
        if let Some(model) = self.model() {
            return Ok(model);
        }
        if progress.rounds == round {
            return Err(Error::new(ErrorKind::Timeout, "the backend has not loaded the model in time"));
        }
        Err(progress.failure.clone().unwrap_or_else(|| Error::new(ErrorKind::Bug, "a load ended without a result")))
    }
}
