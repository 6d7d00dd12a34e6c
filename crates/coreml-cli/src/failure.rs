//! What ends a command early, and the exit code it ends with.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::process::ExitCode;

use coreml_anywhere::{Error, ErrorKind};

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    source: Option<Box<dyn StdError>>,
}

impl Failure {
    /// A comparison or a gate failed: exit code 1.
    pub(crate) fn different(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into(), source: None }
    }

    /// The call itself is wrong: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into(), source: None }
    }

    /// A file is missing, unreadable or not what it should be: exit code 3.
    pub(crate) fn file(message: impl Into<String>, source: impl Into<Box<dyn StdError>>) -> Self {
        Self { code: 3, message: message.into(), source: Some(source.into()) }
    }

    /// What was asked cannot be told here: exit code 5.
    pub(crate) fn inconclusive(message: impl Into<String>) -> Self {
        Self { code: 5, message: message.into(), source: None }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    pub(crate) fn is_broken_pipe(&self) -> bool {
        let source = self.source.as_ref().and_then(|source| source.downcast_ref::<io::Error>());
        source.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::InvalidModel | ErrorKind::Unsupported => 3,
            _ => 4,
        };
        Self { code, message: error.to_string(), source: error.source().map(|source| source.to_string().into()) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::file("cannot write the output", error)
    }
}

/// The message and what caused it, without saying anything twice.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut told = self.message.clone();
        let mut cause: Option<&dyn StdError> = self.source.as_deref();
        while let Some(error) = cause {
            let text = error.to_string();
            if !told.contains(&text) {
                write!(f, "\n  because {text}")?;
            }
            told = text;
            cause = error.source();
        }
        Ok(())
    }
}
