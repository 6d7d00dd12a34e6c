//! What all requests share.

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
    draining: AtomicBool,
}

impl App {
    pub(crate) fn new(config: Arc<Config>, token: Option<String>) -> Self {
        let repository = Arc::new(Repository::new(config.clone()));
        let budget = Arc::new(Semaphore::new(limits::permits(config.limits.all_body_bytes)));
        let (log, draining) = (AccessLog::new(config.access_log), AtomicBool::new(false));
        Self { config, repository, log, connections: AtomicUsize::new(0), budget, token, draining }
    }

    pub(crate) fn budget(&self) -> Budget {
        self.budget.clone()
    }

    /// Bytes of requests that are being read or answered.
    pub(crate) fn bytes_taken(&self) -> usize {
        limits::bytes(limits::permits(self.config.limits.all_body_bytes) - self.budget.available_permits())
    }

    /// From now on the server is not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.is_draining() && self.repository.is_ready()
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
