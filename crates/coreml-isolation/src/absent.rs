//! For systems without Unix sockets: the same names, and the reason why they do not work.

use std::io;
use std::sync::Arc;

use coreml_core::{Availability, Backend, Error, ErrorKind, LoadOptions, Model};
use coreml_model::Package;

use crate::command::{Restart, WorkerCommand};

const REASON: &str = "isolation needs Unix sockets, which this system lacks";

/// A backend whose work another process does; unavailable on this system.
#[derive(Debug, Clone)]
pub struct Isolated {
    backend: &'static str,
}

impl Isolated {
    /// The backend that the worker would know by the name `backend`.
    pub fn new(backend: &'static str, _command: WorkerCommand) -> Self {
        Self { backend }
    }

    /// Has no effect.
    pub fn restart(self, _restart: Restart) -> Self {
        self
    }
}

impl Backend for Isolated {
    fn name(&self) -> &'static str {
        self.backend
    }

    fn availability(&self) -> Availability {
        Availability::Unavailable { reason: REASON.into() }
    }

    fn load(&self, _package: &Arc<Package>, _options: &LoadOptions) -> Result<Box<dyn Model>, Error> {
        Err(Error::new(ErrorKind::Unavailable, REASON))
    }
}

/// Returns: no process of this system is a worker.
pub fn run_if_worker(_backends: impl FnOnce() -> Vec<Arc<dyn Backend>>) {}

/// Fails: there is no host to serve.
///
/// # Errors
/// Always.
pub fn serve(_backends: &[Arc<dyn Backend>]) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, REASON))
}
