//! What ends a command early, and the exit code it ends with.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use coreml_anywhere::{Error, ErrorKind};
use serde_json::{Value as Json, json};

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// For programs: `difference`, `usage`, `file`, `inconclusive`, or the library's kind of error.
    kind: &'static str,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// A comparison or a gate failed: exit code 1.
    pub(crate) fn different(message: impl Into<String>) -> Self {
        Self { code: 1, kind: "difference", message: message.into(), source: None }
    }

    /// The call itself is wrong: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, kind: "usage", message: message.into(), source: None }
    }

    /// A file is missing, unreadable or not what it should be: exit code 3.
    pub(crate) fn file(message: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { code: 3, kind: "file", message: message.into(), source: Some(source.into()) }
    }

    /// What was given is not what the model takes: exit code 3.
    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        Self { code: 3, kind: ErrorKind::InvalidInput.name(), message: message.into(), source: None }
    }

    /// The command cannot do this with this kind of model: exit code 3.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self { code: 3, kind: ErrorKind::Unsupported.name(), message: message.into(), source: None }
    }

    /// The same, about a file.
    pub(crate) fn of_file(self, file: &Path) -> Self {
        let file = file.display().to_string();
        if self.message.contains(&file) { self } else { Self { message: format!("{file}: {}", self.message), ..self } }
    }

    /// Inconclusive: what was asked for cannot be measured here: exit code 5.
    pub(crate) fn inconclusive(message: impl Into<String>) -> Self {
        Self { code: 5, kind: "inconclusive", message: message.into(), source: None }
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
        let source = error.source().map(|source| source.to_string().into());
        Self { code, kind: error.kind().name(), message: error.to_string(), source }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::file("cannot write the output", error)
    }
}

impl Failure {
    /// What caused it, without saying anything twice.
    fn causes(&self) -> Vec<String> {
        let mut told = self.message.clone();
        let mut causes = Vec::new();
        let mut cause: Option<&dyn StdError> = self.source.as_deref().map(|source| source as _);
        while let Some(error) = cause {
            let text = error.to_string();
            if !told.contains(&text) {
                causes.push(text.clone());
            }
            told = text;
            cause = error.source();
        }
        causes
    }

    /// The failure as JSON, on one line.
    pub(crate) fn to_json(&self) -> Json {
        json!({
            "schema": "coreml-anywhere.error/1",
            "kind": self.kind, "message": self.message, "causes": self.causes(), "exit_code": self.code,
        })
    }
}

/// The message and what caused it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes().iter().try_for_each(|cause| write!(f, "\n  because {cause}"))
    }
}
