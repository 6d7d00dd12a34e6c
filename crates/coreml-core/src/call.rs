//! The options of one prediction.

use std::time::Duration;

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind};
use crate::outputs::Outputs;
use coreml_model::Interface;

/// Options for one prediction; the session's apply to whatever is not set.
///
/// ```
/// use std::time::Duration;
///
/// use coreml_core::{Call, Cancel};
///
/// let stop = Cancel::new();
/// let call = Call::new().deadline(Duration::from_millis(20)).cancel(&stop).outputs(["label"]);
/// # let _ = call;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Call {
    pub(crate) deadline: Option<Duration>,
    pub(crate) cancel: Option<Cancel>,
    pub(crate) priority: Priority,
    outputs: Option<Vec<String>>,
}

/// Which prediction goes first when several wait for a place among those that a backend computes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Priority {
    /// After all others: background work.
    Low,
    /// In the order in which they come.
    #[default]
    Normal,
    /// Before all others: a person is waiting.
    High,
}

impl Call {
    /// No options set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The answer, or an error, comes within this time; replaces the session's deadline.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// The prediction is given up soon after the switch is set, with [`ErrorKind::Cancelled`].
    #[must_use]
    pub fn cancel(self, cancel: &Cancel) -> Self {
        Self { cancel: Some(cancel.clone()), ..self }
    }

    /// Its place in the line, where there is one.
    #[must_use]
    pub fn priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// Only these outputs are wanted.
    #[must_use]
    pub fn outputs(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { outputs: Some(names.into_iter().map(Into::into).collect()), ..self }
    }

    /// Whether the wanted outputs exist.
    pub(crate) fn check(&self, interface: &Interface) -> Result<(), Error> {
        let unknown = self.outputs.iter().flatten().find(|name| interface.output(name).is_none());
        unknown.map_or(Ok(()), |name| {
            let known: Vec<_> = interface.outputs.iter().map(|feature| feature.name.as_str()).collect();
            let message = format!("is not an output of the model; those are {}", known.join(", "));
            Err(Error::feature(ErrorKind::InvalidInput, name, message))
        })
    }

    /// The outputs that are wanted.
    pub(crate) fn choose(&self, outputs: Outputs) -> Outputs {
        match &self.outputs {
            Some(names) => outputs.keep(|name| names.iter().any(|wanted| wanted == name)),
            None => outputs,
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(Cancel::is_cancelled)
    }
}
