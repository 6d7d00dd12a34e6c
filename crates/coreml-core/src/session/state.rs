//! A model's state between predictions.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::Session;
use super::lane::StateUse;
use crate::backend::ModelState;
use crate::error::{Error, ErrorKind};

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

    /// The state for a prediction on the lane at `position`: a state the lane has left is broken until [`Contents::bind`]
    /// brings it back.
    pub(super) fn take(&mut self, position: usize) -> StateUse {
        match self {
            Self::Bound(..) => match std::mem::replace(self, Self::Broken) {
                Self::Bound(of, state) if of == position => StateUse::Given(state),
                _ => StateUse::Fresh,
            },
            _ => StateUse::Fresh,
        }
    }

    /// Keeps the state that a prediction on the lane at `position` has left.
    pub(super) fn bind(&mut self, position: usize, state: ModelState) {
        *self = Self::Bound(position, state);
    }
}
