//! A model's state between predictions.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::Session;
use crate::backend::ModelState;
use crate::error::{Error, ErrorKind};
use crate::outputs::Outputs;

/// What survives between the predictions of a model with states. Made by [`Session::state`].
#[derive(Debug)]
pub struct State {
    /// Identifies the session by its model, which nothing else shares while the state lives.
    package: Arc<coreml_model::Package>,
    function: String,
    contents: Mutex<Contents>,
}

#[derive(Debug)]
pub(super) enum Contents {
    Fresh,
    /// In the form of the backend of the lane at this position.
    Bound(usize, ModelState),
    /// A prediction failed while it may have been changing the state.
    Broken,
}

impl State {
    pub(super) fn new(session: &Session) -> Self {
        let (package, function) = (session.package.clone(), session.function.clone());
        Self { package, function, contents: Mutex::new(Contents::Fresh) }
    }

    pub(super) fn lock(&self, session: &Session) -> Result<MutexGuard<'_, Contents>, Error> {
        if !Arc::ptr_eq(&self.package, &session.package) || self.function != session.function {
            return Err(Error::new(ErrorKind::InvalidInput, "the state belongs to another session"));
        }
        let contents = self.contents.lock();
        if matches!(*contents, Contents::Broken) {
            let message = "a failed prediction has left the state half-changed; start again with a fresh one";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(contents)
    }
}

impl Contents {
    /// The lane the state lives with, once it has served a prediction.
    pub(super) fn lane(&self) -> Option<usize> {
        if let Self::Bound(position, _) = self { Some(*position) } else { None }
    }

    /// One attempt on the lane at `position`: on its state if it has one, else on a `fresh` one, which is kept only if
    /// the attempt succeeds.
    pub(super) fn attempt(
        &mut self,
        position: usize,
        fresh: impl FnOnce() -> Result<ModelState, Error>,
        predict: impl FnOnce(&mut ModelState) -> Result<Outputs, Error>,
    ) -> Result<Outputs, Error> {
        if let Self::Bound(_, state) = self {
            let result = predict(state);
            if result.is_err() {
                *self = Self::Broken;
            }
            return result;
        }
        let mut state = fresh()?;
        let outputs = predict(&mut state)?;
        *self = Self::Bound(position, state);
        Ok(outputs)
    }
}
