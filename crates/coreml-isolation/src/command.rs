//! How a worker is started.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Set in the environment of a worker that is this very program started once more.
#[cfg(unix)]
pub(crate) const MARK: &str = "COREML_ISOLATION_WORKER";

/// The command that starts a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

impl WorkerCommand {
    /// This very program, which must call [`run_if_worker`](crate::run_if_worker) at the start of its `main`.
    ///
    /// # Errors
    /// When the system does not say where the program is.
    pub fn this_program() -> io::Result<Self> {
        Ok(Self { program: env::current_exe()?, arguments: Vec::new() })
    }

    /// A program of this name in the same folder as this one, with `arguments`: `coreml` with the argument `worker`,
    /// for instance.
    ///
    /// # Errors
    /// When it is not there.
    pub fn beside(name: &str, arguments: &[&str]) -> io::Result<Self> {
        let file = format!("{name}{}", env::consts::EXE_SUFFIX);
        let program = env::current_exe()?.with_file_name(file);
        if program.is_file() {
            return Ok(Self::program(program, arguments));
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no {}", program.display())))
    }

    /// Any program that calls [`serve`](crate::serve), with `arguments`.
    pub fn program(program: impl Into<PathBuf>, arguments: &[&str]) -> Self {
        Self { program: program.into(), arguments: arguments.iter().map(Into::into).collect() }
    }
}

/// When a dead worker is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// How long a worker may take for one prediction before it is killed.
    pub call_deadline: Duration,
    /// How long it may take to start and load the model before it is killed.
    pub load_deadline: Duration,
    /// The first dead worker is replaced at once. After one that dies without having answered anything there is a wait:
    /// this long, twice as long for the next in a row, and so on.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            call_deadline: Duration::from_secs(10),
            load_deadline: Duration::from_secs(300),
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(30),
        }
    }
}
