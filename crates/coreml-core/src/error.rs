//! Errors: what went wrong, and whose fault it is.

use std::error::Error as StdError;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use coreml_model::{ReadError, ReadErrorKind, tame};

/// Why a model could not be opened or a prediction could not be made. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    feature: Option<String>,
    operation: Option<String>,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    retry_after: Option<Duration>,
}

impl Inner {
    fn new(kind: ErrorKind, message: String) -> Self {
        Self { kind, feature: None, operation: None, message, source: None, retry_after: None }
    }
}

/// Whose fault an [`Error`] is. This alone decides whether another backend is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's: a wrong feature, shape, data type or value.
    InvalidInput,
    /// The file's: missing, broken or contradictory.
    InvalidModel,
    /// Nobody's: the backend lacks an operation, a shape or a kind of model.
    Unsupported,
    /// The system's: the backend is not there, or has gone away.
    Unavailable,
    /// The backend's: it failed while it computed.
    Fault,
    /// The backend's: it did not answer in time.
    Timeout,
    /// Nobody's: so many predictions wait for the backend that this one would come too late. Refused at once, before any
    /// work; ask again later or elsewhere.
    Overloaded,
    /// The caller asked for it.
    Cancelled,
    /// This library's. Please report it.
    Bug,
}

impl ErrorKind {
    /// The kind as it appears in reports and metrics: `invalid_input`, ….
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::InvalidModel => "invalid_model",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Fault => "fault",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Cancelled => "cancelled",
            Self::Bug => "bug",
        }
    }
}

impl ErrorKind {
    /// The kind of this [name](ErrorKind::name).
    pub fn from_name(name: &str) -> Option<Self> {
        let kinds = [
            Self::InvalidInput,
            Self::InvalidModel,
            Self::Unsupported,
            Self::Unavailable,
            Self::Fault,
            Self::Timeout,
            Self::Overloaded,
            Self::Cancelled,
            Self::Bug,
        ];
        kinds.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Error {
    /// An error of this kind; the message says what is wrong and, if possible, what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner::new(kind, message.into())))
    }

    /// As [`Error::new`], about the feature of this name.
    pub fn feature(kind: ErrorKind, feature: &str, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { feature: Some(feature.to_owned()), ..Inner::new(kind, message.into()) }))
    }

    /// As [`Error::new`], about one operation of the program.
    pub fn operation(kind: ErrorKind, operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { operation: Some(operation.into()), ..Inner::new(kind, message.into()) }))
    }

    /// An error that another one caused.
    pub fn caused_by(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner { source: Some(source.into()), ..Inner::new(kind, message.into()) }))
    }

    /// This error, with another message.
    pub(crate) fn retold(self, message: String) -> Self {
        let (kind, retry_after) = (self.kind(), self.retry_after());
        Self(Arc::new(Inner { source: Some(Box::new(self)), retry_after, ..Inner::new(kind, message) }))
    }

    /// [`ErrorKind::Overloaded`]; the line is likely to be gone after `wait`.
    pub(crate) fn overloaded(wait: Duration) -> Self {
        let message = "so many predictions wait that this one would come too late".to_owned();
        Self(Arc::new(Inner { retry_after: Some(wait), ..Inner::new(ErrorKind::Overloaded, message) }))
    }

    /// The same error, as one about a part of the model: a member of a pipeline, for instance.
    pub fn within(&self, place: &str) -> Self {
        let Inner { kind, feature, operation, message, retry_after, .. } = &*self.0;
        Self(Arc::new(Inner {
            feature: feature.clone(),
            operation: operation.clone(),
            retry_after: *retry_after,
            ..Inner::new(*kind, format!("{place}: {message}"))
        }))
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// How long to wait before asking an overloaded backend again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What is wrong, without the feature or operation it is about.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The feature it is about, if it is about one.
    pub fn about_feature(&self) -> Option<&str> {
        self.0.feature.as_deref()
    }

    /// The operation it is about, if it is about one.
    pub fn about_operation(&self) -> Option<&str> {
        self.0.operation.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if let Some(feature) = &self.0.feature {
            write!(text, "feature `{feature}`: ")?;
        }
        if let Some(operation) = &self.0.operation {
            write!(text, "{operation}: ")?;
        }
        text.push_str(&self.0.message);
        f.write_str(&tame(&text))
    }
}

/// What Rust prints of an error that `main` returns: the kind, what is wrong, and what caused it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        let mut said = self.to_string();
        std::iter::successors(self.source(), |&cause| cause.source()).try_for_each(|cause| {
            let text = cause.to_string();
            if said.contains(&text) {
                return Ok(());
            }
            write!(f, "; because: {text}")?;
            said = text;
            Ok(())
        })
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let first = self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))?;
        let said = self.to_string();
        if first.to_string() != said {
            return Some(first);
        }
        // It is the same error in another type: only what that does not tell of its causes is one.
        std::iter::successors(first.source(), |&cause| cause.source()).find(|cause| !said.contains(&cause.to_string()))
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        let kind = match error.kind() {
            ReadErrorKind::Unsupported => ErrorKind::Unsupported,
            ReadErrorKind::Function => ErrorKind::InvalidInput,
            _ => ErrorKind::InvalidModel,
        };
        Self::caused_by(kind, error.to_string(), error)
    }
}
