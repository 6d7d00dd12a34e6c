//! Serves Core ML models by the Open Inference Protocol, version 2: over HTTP and over gRPC, on one port.
//!
//! ```no_run
//! use coreml_server::{Config, Server};
//!
//! let config = Config::default().model("classifier", "Classifier.mlpackage");
//! let server = Server::start(config)?;
//! println!("http://{}/v2/models/classifier", server.address());
//! server.run_until_signal();
//! # Ok::<(), coreml_server::ConfigError>(())
//! ```
//!
//! `protocol` has the requests and answers, `http` and `grpc` carry them over the wire, `repository` knows which versions
//! of which models exist, `version` is one that is served, `schedule` decides which request computes when, and `sequence`
//! keeps states between requests. Everything that a client could make grow has a bound in [`Config`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod access;
mod app;
mod config;
mod connections;
mod grpc;
mod http;
mod limits;
mod metrics;
mod protocol;
mod refusal;
mod repository;
mod schedule;
mod sequence;
mod server;
mod statistics;
#[cfg(feature = "tls")]
mod tls;
mod version;

pub use config::{Config, ConfigError, Limits, ModelConfig, ModelOptions, Tls};
pub use server::Server;
