//! A circuit breaker for calls into an engine that may fail, crawl, or never return.
//!
//! Call [`CircuitBreaker::admit`] before each call; it returns a [`Permit`], to which you report the call's [`Outcome`].
//! While calls go well the circuit is closed. When one of its triggers fires it opens and calls are rejected at once;
//! after a wait a few probes are let through, and their results close it or open it for longer.
//!
//! Three rules shape the code:
//!
//! * **Nothing waits for a call that hangs.** Each probe has a deadline set by the breaker. Once it has passed, the next
//!   caller finds the circuit open again and the probe's place free.
//! * **A result counts only in the generation that admitted it.** A permit carries the generation of the circuit's
//!   state; one from an earlier generation is counted as late and decides nothing.
//! * **Counts are exact, and success is nearly free.** A success can trip nothing once the window holds enough calls, so
//!   successes are added to a counter (`shards`) and enter the window when something else happens. Everything else takes
//!   one lock, behind which there is a plain state machine (`machine`) without atomics.
//!
//! ```
//! use std::time::Instant;
//! use coreml_breaker::{BreakerConfig, CircuitBreaker, Outcome};
//!
//! let breaker = CircuitBreaker::new(BreakerConfig::default(), 1, Instant::now(), |transition| {
//!     println!("{} to {}: {}", transition.from, transition.to, transition.reason);
//! })?;
//! match breaker.admit(Instant::now()) {
//!     Ok(permit) => {
//!         // … the call …
//!         permit.settle(Outcome::Success, Instant::now());
//!     }
//!     Err(rejected) => println!("{rejected}; somebody else must answer"),
//! }
//! # Ok::<(), coreml_breaker::ConfigError>(())
//! ```
//!
//! Time is an argument everywhere: the crate reads no clock. It allocates only when a breaker is made (and where an
//! observer is so slow that transitions queue up), holds no lock while foreign code runs, and has no `unsafe`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod breaker;
mod config;
mod instant;
mod machine;
mod outcome;
mod permit;
mod report;
mod shards;
mod sync;
mod wait;
mod window;
mod word;

pub use breaker::CircuitBreaker;
pub use config::{BreakerConfig, ConfigError, MemoryLimit, Mode, OpenWait, SlowCalls, Window};
pub use instant::Instant;
pub use outcome::{Outcome, Settled};
pub use permit::Permit;
pub use report::{Reason, Rejected, State, Status, Transition};
pub use window::Counts;
