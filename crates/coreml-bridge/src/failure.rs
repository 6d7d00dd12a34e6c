//! From a status of the bridge to this library's error kinds: the one place that decides whose fault an error of Core
//! ML's is.

use std::ffi::{CStr, c_char};
use std::fmt;

use coreml_core::{Error, ErrorKind};

use crate::ffi::{
    CMLB_BUSY, CMLB_ERROR, CMLB_EXCEPTION, CMLB_INVALID_ARGUMENT, CMLB_TIMEOUT, CMLB_UNAVAILABLE, CMLB_UNSUPPORTED,
    cmlb_error,
};

/// What Core ML was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Compile,
    Load,
    Describe,
    Plan,
    Predict,
    State,
    Devices,
}

impl Phase {
    fn words(self) -> &'static str {
        match self {
            Self::Compile => "compile the model",
            Self::Load => "load the model",
            Self::Describe => "describe the model",
            Self::Plan => "plan the model",
            Self::Predict => "predict",
            Self::State => "make a state",
            Self::Devices => "list its devices",
        }
    }
}

/// An error as Core ML reported it: the source of the [`Error`] made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreMlFailure {
    /// The error domain: `com.apple.CoreML`, `NSCocoaErrorDomain`, …, or the name of an exception.
    pub domain: String,
    /// The code within the domain.
    pub code: i64,
    /// The text, in words for people.
    pub message: String,
    /// The error underneath, where there is one: often the Neural Engine's own.
    pub underlying: Option<Box<Self>>,
}

impl fmt::Display for CoreMlFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.message, self.domain, self.code)?;
        match &self.underlying {
            Some(underlying) => write!(f, ", because {underlying}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CoreMlFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.underlying.as_deref().map(|underlying| underlying as _)
    }
}

impl CoreMlFailure {
    /// Copies an error that the bridge filled in.
    ///
    /// # Safety
    /// Its texts are NULL or end in NUL.
    pub(crate) unsafe fn read(error: &cmlb_error) -> Self {
        let underlying = (!error.underlying_domain.is_null()).then(|| {
            // SAFETY: by this function's own contract.
            let (domain, message) = unsafe { (text(error.underlying_domain), text(error.underlying_message)) };
            Box::new(Self { domain, code: error.underlying_code, message, underlying: None })
        });
        // SAFETY: by this function's own contract.
        let (domain, message) = unsafe { (text(error.domain), text(error.message)) };
        Self { domain, code: error.code, message, underlying }
    }
}

/// The text at a pointer; empty for NULL.
///
/// # Safety
/// The pointer is NULL, or to a text that ends in NUL.
pub(crate) unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: by this function's own contract.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// The error for a status that is not `CMLB_OK`.
pub(crate) fn error(phase: Phase, status: i32, failure: CoreMlFailure) -> Error {
    let kind = kind(phase, status, &failure);
    Error::caused_by(kind, format!("Core ML did not {}: {failure}", phase.words()), failure)
}

/// Whose fault it is. Inputs have been checked against the interface and the file has been read by this library before
/// Core ML sees either, so its complaints about them are not the caller's mistakes: another backend may succeed.
fn kind(phase: Phase, status: i32, failure: &CoreMlFailure) -> ErrorKind {
    match status {
        CMLB_UNAVAILABLE => ErrorKind::Unavailable,
        CMLB_UNSUPPORTED => ErrorKind::Unsupported,
        CMLB_TIMEOUT | CMLB_BUSY => ErrorKind::Timeout,
        CMLB_EXCEPTION => ErrorKind::Fault,
        CMLB_ERROR => match (failure.domain.as_str(), failure.code) {
            ("com.apple.CoreML", code) => core_ml_kind(code),
            // Files and memory are the system's business while a model is made ready.
            ("NSCocoaErrorDomain" | "NSPOSIXErrorDomain", _) if matches!(phase, Phase::Compile | Phase::Load) => {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Fault,
        },
        // The bridge was called against its rules, or is not the bridge this was written for.
        CMLB_INVALID_ARGUMENT => ErrorKind::Bug,
        _ => ErrorKind::Bug,
    }
}

/// By the code of an `MLModelError`.
fn core_ml_kind(code: i64) -> ErrorKind {
    match code {
        // A value of another type than the model takes; layers, models, updates and parameters it cannot do.
        1 | 4 | 5 | 6 | 7 => ErrorKind::Unsupported,
        // Reading and writing; keys for encrypted models and collections of models, which come from a server; and a prediction
        // that was cancelled though nobody here asked for it, as happens to programs put to sleep.
        3 | 8 | 9 | 10 | 11 => ErrorKind::Unavailable,
        _ => ErrorKind::Fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_status_domain_and_phase() {
        let failure =
            |domain: &str, code| CoreMlFailure { domain: domain.into(), code, message: "no".into(), underlying: None };
        let core_ml = |code| kind(Phase::Predict, CMLB_ERROR, &failure("com.apple.CoreML", code));
        assert_eq!(core_ml(0), ErrorKind::Fault);
        assert_eq!(core_ml(1), ErrorKind::Unsupported);
        assert_eq!(core_ml(3), ErrorKind::Unavailable);
        assert_eq!(core_ml(11), ErrorKind::Unavailable);
        assert_eq!(core_ml(99), ErrorKind::Fault);
        let cocoa = failure("NSCocoaErrorDomain", 4);
        assert_eq!(kind(Phase::Load, CMLB_ERROR, &cocoa), ErrorKind::Unavailable);
        assert_eq!(kind(Phase::Predict, CMLB_ERROR, &cocoa), ErrorKind::Fault);
        assert_eq!(kind(Phase::Predict, CMLB_BUSY, &cocoa), ErrorKind::Timeout);
        assert_eq!(kind(Phase::Predict, CMLB_EXCEPTION, &cocoa), ErrorKind::Fault);
        assert_eq!(kind(Phase::Predict, 12345, &cocoa), ErrorKind::Bug);
    }

    #[test]
    fn the_error_underneath_is_told() {
        let underlying = Some(Box::new(CoreMlFailure {
            domain: "com.apple.appleneuralengine".into(),
            code: 13,
            message: "no room".into(),
            underlying: None,
        }));
        let failure =
            CoreMlFailure { domain: "com.apple.CoreML".into(), code: 0, message: "Failed".into(), underlying };
        let error = error(Phase::Predict, CMLB_ERROR, failure);
        let told =
            "Core ML did not predict: Failed (com.apple.CoreML 0), because no room (com.apple.appleneuralengine 13)";
        assert_eq!(error.to_string(), told);
        assert!(std::error::Error::source(&error).is_some_and(|source| source.source().is_some()));
    }
}
