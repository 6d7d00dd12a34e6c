//! A server, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod client;
mod faults;
mod fixture;
mod grpc;
mod http;
mod repository;
mod schedule;
#[cfg(feature = "tls")]
mod tls;
#[cfg(target_os = "linux")]
mod worker;
