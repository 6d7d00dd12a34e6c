//! Measurements, and how they are reported.
//!
//! [`Histogram`], [`Counter`] and [`Gauge`] record without allocation, and without a lock except for one value in 63 of
//! a histogram. A [`Registry`] hands them out by the names of [`names`], the one table of them, and
//! [`Registry::snapshot`] reads them all. [`report`] has the run report: every figure in it gives its unit, its number
//! of samples and its source, or the reason why it is missing.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
mod aggregate;
mod environment;
#[cfg(feature = "metrics")]
pub mod facade;
mod growth;
mod histogram;
pub mod memory;
pub mod names;
pub mod openmetrics;
#[cfg(feature = "opentelemetry")]
pub mod otel;
pub mod percentile;
mod random;
mod registry;
pub mod report;
mod speedup;
mod timeline;

pub use environment::{Cache, Environment};
pub use growth::Growth;
pub use histogram::{Distribution, Histogram};
pub use registry::{Counter, Gauge, MOST_SERIES, OVERFLOW, Reading, Registry, Series, Snapshot};
pub use report::Metric;
pub use speedup::{MINIMUM_RUNS, NoSpeedup, Speedup};
pub use timeline::{Moment, Recorder, Stage, Timeline};
