//! Time as an argument, so that every state can be reached in a test without sleeping.

use std::fmt::Debug;

use crate::Instant;

/// Tells the time; never goes back.
pub trait Clock: Send + Sync + Debug {
    /// Now.
    fn now(&self) -> Instant;
}

/// The system's monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }
}
