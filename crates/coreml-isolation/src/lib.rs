//! A backend in a process of its own, so that a crash there does not affect this process.
//!
//! Core ML can end the process it runs in: by a signal, by an abort on one of its own threads, by a call that never
//! returns. No code in the same process survives that. [`Isolated`] is a [`Backend`](coreml_core::Backend) that lets
//! another process, the worker, do the work. When the worker dies or hangs, the current prediction fails with a typed
//! error, so that a session asks its next backend, and a new worker takes over.
//!
//! * `worker` is the other side: it serves one connection on its standard input, a socket.
//! * `wire` is the protocol between the two: short messages, followed by their `numbers`.
//! * `supervisor` starts, watches, kills and replaces workers.
//!
//! It works where there are Unix sockets; elsewhere the backend reports itself unavailable.
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
