//! Why a request is not answered: one row for each kind, with its status in both protocols.

use std::fmt;
use std::time::Duration;

use coreml_anywhere::{Error, ErrorKind};

/// Whose fault it is that a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The request is invalid.
    Invalid,
    /// It has no valid token.
    Unknown,
    /// There is no such model, version or path.
    Missing,
    /// The path does not take this method.
    Method,
    /// The client took too long to send it.
    Slow,
    /// It is larger than this server takes.
    Large,
    /// Too many requests wait.
    Busy,
    /// The client has left, or cancelled.
    Cancelled,
    /// The model or this server failed.
    Failed,
    /// The model needs something that its backends lack.
    Unsupported,
    /// The model is not ready, or the server is shutting down.
    Unready,
    /// It was not done in time.
    Late,
}

impl Why {
    /// The status of HTTP.
    pub(crate) const fn http(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unknown => 401,
            Self::Missing => 404,
            Self::Method => 405,
            Self::Slow => 408,
            Self::Large => 413,
            Self::Busy => 429,
            Self::Cancelled => 499,
            Self::Failed => 500,
            Self::Unsupported => 501,
            Self::Unready => 503,
            Self::Late => 504,
        }
    }

    /// The code of gRPC.
    pub(crate) const fn grpc(self) -> tonic::Code {
        use tonic::Code;
        match self {
            Self::Invalid => Code::InvalidArgument,
            Self::Unknown => Code::Unauthenticated,
            Self::Missing => Code::NotFound,
            Self::Method | Self::Unsupported => Code::Unimplemented,
            Self::Slow | Self::Cancelled => Code::Cancelled,
            Self::Large | Self::Busy => Code::ResourceExhausted,
            Self::Failed => Code::Internal,
            Self::Unready => Code::Unavailable,
            Self::Late => Code::DeadlineExceeded,
        }
    }
}

/// A request that is not answered, and why.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) why: Why,
    pub(crate) message: String,
    /// How long to wait before asking again.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(why: Why, message: impl Into<String>) -> Self {
        Self { why, message: message.into(), retry_after: None }
    }

    /// The request is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Why::Invalid, message)
    }

    /// The tensor `name` of the request is wrong.
    pub(crate) fn tensor(name: &str, message: impl fmt::Display) -> Self {
        Self::invalid(format!("tensor `{name}`: {message}"))
    }

    /// Too many requests wait; it may work later.
    pub(crate) fn busy(message: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Why::Busy, message) }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let why = match error.kind() {
            ErrorKind::InvalidInput => Why::Invalid,
            ErrorKind::Unsupported => Why::Unsupported,
            ErrorKind::Unavailable => Why::Unready,
            ErrorKind::Timeout => Why::Late,
            ErrorKind::Overloaded => Why::Busy,
            ErrorKind::Cancelled => Why::Cancelled,
            _ => Why::Failed,
        };
        Self { retry_after: error.retry_after(), ..Self::new(why, error.to_string()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
