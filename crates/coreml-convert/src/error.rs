//! Why a network cannot be lowered.

use std::fmt;

use coreml_model::ReadError;

/// A layer, or a part of the network around its layers, that cannot be lowered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertError {
    message: String,
    unsupported: bool,
}

impl ConvertError {
    /// The network breaks the rules of the format.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { message: message.into(), unsupported: false }
    }

    /// The network is sound, but needs something that is not there.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self { message: message.into(), unsupported: true }
    }

    pub(crate) fn within(self, place: &str) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }

    /// Whether the file is valid but needs something this library does not support.
    pub fn is_unsupported(&self) -> bool {
        self.unsupported
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConvertError {}

impl From<ReadError> for ConvertError {
    fn from(error: ReadError) -> Self {
        Self::invalid(error.to_string())
    }
}
