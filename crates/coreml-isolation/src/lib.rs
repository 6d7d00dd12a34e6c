//! A backend in a process of its own: what it does to that process does not reach this one.
//!
//! Core ML has killed its host: by a signal, by an abort on a thread of its own, by a call that never returned. No code in
//! the same process survives that. [`Isolated`] is a [`Backend`](coreml_core::Backend) whose work another process does:
//! the worker. When the worker dies or hangs, the prediction at hand fails with a typed error, which a session answers by
//! its next backend, and a new worker takes over.
//!
//! * `worker` is the other side: it serves one connection on its standard input, a socket.
//! * `wire` is what the two say to each other: short messages, and the `numbers` that follow them.
//! * `supervisor` starts, watches, kills and replaces workers.
//!
//! Works where there are Unix sockets; elsewhere the backend reports itself unavailable.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(unix)]
mod backend;
#[cfg(unix)]
mod numbers;
#[cfg(unix)]
mod supervisor;
#[cfg(unix)]
mod wire;
#[cfg(unix)]
mod worker;

#[cfg(not(unix))]
mod absent;
mod command;

#[cfg(not(unix))]
pub use absent::{Isolated, run_if_worker, serve};
#[cfg(unix)]
pub use backend::Isolated;
pub use command::{Restart, WorkerCommand};
#[cfg(unix)]
pub use worker::{run_if_worker, serve};
