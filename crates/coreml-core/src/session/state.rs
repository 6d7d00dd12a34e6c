//! A model's state between predictions.

use std::sync::Arc;

use coreml_model::{ArrayFeature, FeatureKind};
#[cfg(feature = "npz")]
use coreml_tensor::npz;
use coreml_tensor::{DType, Shape, Tensor, TensorView};
use parking_lot::{Mutex, MutexGuard};

use super::Session;
use super::lane::{Lane, StateUse};
use crate::backend::{Model, ModelState};
use crate::error::{Error, ErrorKind};

/// The values that a model with states keeps between predictions. Made by [`Session::state`].
#[derive(Debug)]
pub struct State {
    /// Identifies the session by its model, which nothing else shares while the state lives.
    package: Arc<coreml_model::Package>,
    function: String,
    /// The session's.
    lanes: Vec<Arc<Lane>>,
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
        Self { package, function, lanes: session.lanes.clone(), contents: Mutex::new(Contents::Fresh) }
    }

    /// What the state feature `name` holds between predictions: zeros at first. Half precision comes as `float32`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the model has no such state, or a failed prediction has left it half-changed;
    /// [`ErrorKind::Unsupported`] when the state's backend cannot read its states.
    pub fn read(&self, name: &str) -> Result<Tensor, Error> {
        let (array, shape) = self.feature(name)?;
        let mut contents = self.whole()?;
        match &mut *contents {
            Contents::Bound(position, state) => self.model(*position)?.read_state(state, name),
            _ => {
                let dtype = if array.dtype == DType::Float16 { DType::Float32 } else { array.dtype };
                Tensor::try_zeros(dtype, shape)
                    .map_err(|error| Error::feature(ErrorKind::Unavailable, name, error.to_string()))
            }
        }
    }

    /// Replaces the contents of the state feature `name`. A state that has not served a prediction now stays with the
    /// first backend that has loaded the model.
    ///
    /// # Errors
    /// As [`State::read`]; also [`ErrorKind::InvalidInput`] when the shape of `contents` is not the state's, or it does not
    /// hold numbers.
    pub fn write<'t>(&self, name: &str, contents: impl Into<TensorView<'t>>) -> Result<(), Error> {
        let view = contents.into();
        let (_, shape) = self.feature(name)?;
        if view.shape() != shape {
            let message = format!("the state has the shape {shape}, {} was given", view.shape());
            return Err(Error::feature(ErrorKind::InvalidInput, name, message));
        }
        let mut kept = self.whole()?;
        if let Contents::Bound(position, state) = &mut *kept {
            return self.model(*position)?.write_state(state, name, view);
        }
        let loaded = self.lanes.iter().enumerate().find_map(|(i, lane)| Some((i, lane.loaded()?)));
        let (position, model) = loaded.ok_or_else(not_loaded)?;
        let mut state = model.new_state()?;
        model.write_state(&mut state, name, view)?;
        *kept = Contents::Bound(position, state);
        Ok(())
    }

    /// Starts again: zeros, with any backend. Also makes a state usable again that a failed prediction has left
    /// half-changed.
    pub fn reset(&self) {
        *self.contents.lock() = Contents::Fresh;
    }

    /// Another state with the same contents, for several continuations of one prefix.
    ///
    /// # Errors
    /// As [`State::read`].
    pub fn fork(&self) -> Result<Self, Error> {
        let fork = Self {
            package: self.package.clone(),
            function: self.function.clone(),
            lanes: self.lanes.clone(),
            contents: Mutex::new(Contents::Fresh),
        };
        let mut contents = self.whole()?;
        if let Contents::Bound(position, state) = &mut *contents {
            let model = self.model(*position)?;
            let mut copy = model.new_state()?;
            for name in self.names()? {
                model.write_state(&mut copy, name, model.read_state(state, name)?.view())?;
            }
            *fork.contents.lock() = Contents::Bound(*position, copy);
        }
        drop(contents);
        Ok(fork)
    }

    /// The contents of all state features, by name, for [`State::restore`] later, perhaps in another process.
    ///
    /// # Errors
    /// As [`State::read`].
    pub fn snapshot(&self) -> Result<Vec<(String, Tensor)>, Error> {
        self.names()?.into_iter().map(|name| Ok((name.to_owned(), self.read(name)?))).collect()
    }

    /// Replaces the contents of the state features with a [`State::snapshot`].
    ///
    /// # Errors
    /// As [`State::write`]; also [`ErrorKind::InvalidInput`] when one of the features is missing.
    pub fn restore(&self, snapshot: &[(String, Tensor)]) -> Result<(), Error> {
        for name in self.names()? {
            if !snapshot.iter().any(|(known, _)| known == name) {
                return Err(Error::feature(ErrorKind::InvalidInput, name, "the snapshot does not have this state"));
            }
        }
        snapshot.iter().try_for_each(|(name, contents)| self.write(name, contents))
    }

    /// Writes the state's contents to an `.npz` file, one array for each feature.
    ///
    /// # Errors
    /// As [`State::read`]; [`ErrorKind::Unavailable`] when the file cannot be written.
    #[cfg(feature = "npz")]
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let snapshot = self.snapshot()?;
        let arrays: Vec<_> = snapshot.into_iter().map(|(name, tensor)| (name, npz::Array::Tensor(tensor))).collect();
        npz::write(path, arrays.iter().map(|(name, array)| (name.as_str(), array))).map_err(|error| {
            Error::caused_by(ErrorKind::Unavailable, format!("cannot write {}: {error}", path.display()), error)
        })
    }

    /// Replaces the state's contents with a file that [`State::save`] wrote.
    ///
    /// # Errors
    /// As [`State::restore`]; also [`ErrorKind::InvalidInput`] when the file cannot be read.
    #[cfg(feature = "npz")]
    pub fn load(&self, path: impl AsRef<std::path::Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let arrays = npz::read(path).map_err(|error| {
            Error::caused_by(ErrorKind::InvalidInput, format!("cannot read {}: {error}", path.display()), error)
        })?;
        let tensor = |(name, array)| match array {
            npz::Array::Tensor(tensor) => Some((name, tensor)),
            npz::Array::Strings(..) => None,
        };
        self.restore(&arrays.into_iter().filter_map(tensor).collect::<Vec<_>>())
    }

    fn names(&self) -> Result<Vec<&str>, Error> {
        let states = &self.package.interface(Some(&self.function))?.states;
        Ok(states.iter().map(|feature| feature.name.as_str()).collect())
    }

    fn feature(&self, name: &str) -> Result<(&ArrayFeature, Shape), Error> {
        let states = &self.package.interface(Some(&self.function))?.states;
        let found = states.iter().find(|feature| feature.name == name).map(|feature| &feature.kind);
        let Some(FeatureKind::State(array)) = found else {
            let known: Vec<_> = states.iter().map(|feature| format!("`{}`", feature.name)).collect();
            let message = format!("the model has no such state; it has {}", known.join(", "));
            return Err(Error::feature(ErrorKind::InvalidInput, name, message));
        };
        let shape = Shape::try_new(&array.shape)
            .map_err(|error| Error::feature(ErrorKind::InvalidModel, name, error.to_string()))?;
        Ok((array, shape))
    }

    fn model(&self, position: usize) -> Result<&dyn Model, Error> {
        self.lanes.get(position).and_then(|lane| lane.loaded()).ok_or_else(not_loaded)
    }

    pub(super) fn lock(&self, session: &Session) -> Result<MutexGuard<'_, Contents>, Error> {
        if !Arc::ptr_eq(&self.package, &session.package) || self.function != session.function {
            return Err(Error::new(ErrorKind::InvalidInput, "the state belongs to another session"));
        }
        self.whole()
    }

    /// The contents, unless they are half-changed.
    fn whole(&self) -> Result<MutexGuard<'_, Contents>, Error> {
        let contents = self.contents.lock();
        if matches!(*contents, Contents::Broken) {
            let message = "a failed prediction has left the state half-changed; start again with a fresh one";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(contents)
    }
}

fn not_loaded() -> Error {
    Error::new(ErrorKind::Unavailable, "the backend that the state lives with has not loaded the model")
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
