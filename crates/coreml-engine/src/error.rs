//! Why a program cannot be planned or run.

use std::fmt;

/// What goes wrong with one operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OpError {
    /// The result depends on the value of an input that is not known yet. Not a fault: the plan defers the node.
    NeedsValue,
    /// The run would take more than it may.
    Limit(String),
    /// The run was asked to stop.
    Cancelled,
    /// A result has another type than the plan, which leaves sizes open, takes it to have for all of them.
    Unplanned(String),
    /// The operation cannot run as the program has it.
    Invalid { parameter: Option<&'static str>, message: String },
}

impl OpError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Invalid { parameter: None, message: message.into() }
    }

    pub(crate) fn parameter(name: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { parameter: Some(name), message: message.into() }
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsValue => f.write_str("depends on a value that is not known"),
            Self::Limit(message) | Self::Unplanned(message) => f.write_str(message),
            Self::Cancelled => f.write_str("was stopped, as the caller wished"),
            Self::Invalid { parameter: Some(name), message } => write!(f, "parameter `{name}`: {message}"),
            Self::Invalid { parameter: None, message } => f.write_str(message),
        }
    }
}

/// A program the engine cannot plan. Lists everything it found, not only the first fault.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanError {
    kind: PlanErrorKind,
    problems: Vec<Problem>,
}

/// The kind of a [`PlanError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanErrorKind {
    /// The engine lacks operations or forms of operations that the program uses.
    Unsupported,
    /// The program contradicts the rules of its operations.
    Invalid,
    /// The program asks for more memory than [`PlanOptions::max_bytes`](crate::PlanOptions::max_bytes).
    Limit,
    /// The inputs asked for do not fit the function.
    Inputs,
}

/// One fault, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The operation's type, `conv` for instance; empty if the fault does not belong to one operation.
    pub operation: String,
    /// The operation's first output, which is how tools name the place.
    pub output: String,
    /// What is wrong, naming the parameter.
    pub message: String,
}

impl PlanError {
    pub(crate) fn new(kind: PlanErrorKind, problems: Vec<Problem>) -> Self {
        Self { kind, problems }
    }

    pub(crate) fn general(kind: PlanErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(kind, vec![Problem { operation: String::new(), output: String::new(), message }])
    }

    /// The fault of an operation that contradicts its rules, or asks for too much.
    pub(crate) fn at(operation: &str, output: &str, error: &OpError) -> Self {
        let kind = if matches!(error, OpError::Limit(_)) { PlanErrorKind::Limit } else { PlanErrorKind::Invalid };
        Self::new(
            kind,
            vec![Problem { operation: operation.into(), output: output.into(), message: error.to_string() }],
        )
    }

    /// The kind of error.
    pub fn kind(&self) -> PlanErrorKind {
        self.kind
    }

    /// Every fault found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.operation.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{} -> %{}: {}", self.operation, self.output, self.message)
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            PlanErrorKind::Unsupported => "the CPU engine cannot run this program yet",
            PlanErrorKind::Invalid => "the program is not valid",
            PlanErrorKind::Limit => "the program is over the memory limit",
            PlanErrorKind::Inputs => "the inputs do not fit the program",
        };
        f.write_str(what)?;
        match self.problems.as_slice() {
            [only] => write!(f, ": {only}"),
            problems => {
                write!(f, " ({} problems):", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for PlanError {}

/// Why a prediction failed inside the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunErrorKind {
    /// An operation cannot compute with its data.
    Data,
    /// It would take more memory or loop rounds than [`PlanOptions`](crate::PlanOptions) allow, or more memory than
    /// there is.
    Limit,
    /// It was asked to stop.
    Cancelled,
    /// The plan leaves sizes open and does not fit the actual ones.
    Unplanned,
}

impl RunErrorKind {
    pub(crate) fn of(error: &OpError) -> Self {
        match error {
            OpError::Limit(_) => Self::Limit,
            OpError::Cancelled => Self::Cancelled,
            OpError::Unplanned(_) => Self::Unplanned,
            OpError::NeedsValue | OpError::Invalid { .. } => Self::Data,
        }
    }
}

/// A prediction that failed inside the engine, and the operation it failed in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} -> %{output}: {message}")]
#[non_exhaustive]
pub struct RunError {
    /// Why it failed.
    pub kind: RunErrorKind,
    /// The operation's type.
    pub operation: String,
    /// The operation's first output.
    pub output: String,
    /// What is wrong.
    pub message: String,
}
