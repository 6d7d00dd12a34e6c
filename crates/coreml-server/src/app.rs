//! The state that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use crate::access::AccessLog;
use crate::config::Config;
use crate::limits::{self, Budget};
use crate::refusal::{Refusal, Why};
use crate::repository::Repository;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Arc<Config>,
    pub(crate) repository: Arc<Repository>,
    pub(crate) log: AccessLog,
    pub(crate) connections: AtomicUsize,
    budget: Budget,
    token: Option<String>,
    /// Whether the models have been loaded, as far as they can be.
    loaded: AtomicBool,
    draining: AtomicBool,
}

impl App {
    pub(crate) fn new(config: Arc<Config>, token: Option<String>) -> Self {
        let repository = Arc::new(Repository::new(config.clone()));
        let budget = Arc::new(Semaphore::new(limits::permits(config.limits.all_body_bytes)));
        let log = AccessLog::new(config.access_log);
        let (connections, loaded, draining) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Self { config, repository, log, connections, budget, token, loaded, draining }
    }

    pub(crate) fn budget(&self) -> Budget {
        self.budget.clone()
    }

    /// Bytes of requests that are being read or answered.
    pub(crate) fn bytes_taken(&self) -> usize {
        limits::bytes(limits::permits(self.config.limits.all_body_bytes) - self.budget.available_permits())
    }

    /// Loads the models. Takes as long as that takes; until then the server is not ready.
    pub(crate) fn load(&self) {
        self.repository.load_all();
        self.loaded.store(true, Ordering::Relaxed);
    }

    /// From now on the server is not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.loaded.load(Ordering::Relaxed) && !self.is_draining() && self.repository.is_ready()
    }

    /// # Errors
    /// When a token is asked for and this is another one.
    pub(crate) fn admit(&self, authorization: Option<&[u8]>) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = authorization.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
        // Every byte is compared, so that the time it takes tells nothing of how many are right.
        let different = given.iter().zip(token.bytes()).fold(0, |different, (a, b)| different | (a ^ b));
        if given.len() == token.len() && different == 0 {
            return Ok(());
        }
        Err(Refusal::new(Why::Unknown, "the header Authorization must be `Bearer` and the server's token"))
    }
}
