//! Decides which request computes when: a bounded line for each model, threads that serve it, batches.

pub(crate) use self::job::Job;
pub(crate) use self::queue::{Queue, Waiting};
pub(crate) use self::worker::{Core, start};

mod batch;
mod job;
mod queue;
mod worker;
