//! Counts a model's answers and how long each part of them took, for the statistics extension and the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coreml_anywhere::telemetry::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

/// How often something happened, and how long that took together.
#[derive(Debug, Default)]
pub(crate) struct Span {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

/// A [`Span`] as it is reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Told {
    pub(crate) count: u64,
    pub(crate) ns: u64,
}

impl Span {
    pub(crate) fn add(&self, count: u64, elapsed: Duration) {
        self.count.fetch_add(count, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds(elapsed), Ordering::Relaxed);
    }

    pub(crate) fn told(&self) -> Told {
        Told { count: self.count.load(Ordering::Relaxed), ns: self.nanoseconds.load(Ordering::Relaxed) }
    }
}

fn nanoseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// The account of one version of a model.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) success: Span,
    pub(crate) fail: Span,
    pub(crate) queue: Span,
    pub(crate) compute_input: Span,
    pub(crate) compute_infer: Span,
    pub(crate) compute_output: Span,
    /// Elements of batches that were answered.
    pub(crate) inferences: AtomicU64,
    pub(crate) degraded: AtomicU64,
    pub(crate) refused: AtomicU64,
    last: AtomicU64,
    /// By the size of the batch: executions and their time.
    batches: Mutex<BTreeMap<u64, Told>>,
    /// From the request until its answer.
    pub(crate) requests: Histogram,
}

impl Statistics {
    /// The model has computed once, for so many elements.
    pub(crate) fn executed(&self, elements: u64, elapsed: Duration) {
        let mut batches = self.batches.lock();
        // Clients choose the size of a batch: large ones share a line, so that lines know an end.
        let size = if elements <= 64 { elements } else { elements.checked_next_power_of_two().unwrap_or(elements) };
        let batch = batches.entry(size).or_default();
        batch.count += 1;
        batch.ns = batch.ns.saturating_add(nanoseconds(elapsed));
    }

    /// A request was answered, or was not.
    pub(crate) fn ended(&self, answered: bool, elements: u64, elapsed: Duration) {
        if answered {
            self.success.add(1, elapsed);
            self.inferences.fetch_add(elements, Ordering::Relaxed);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.last.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        } else {
            self.fail.add(1, elapsed);
        }
        self.requests.record_duration(elapsed);
    }

    /// By the size of the batch.
    pub(crate) fn batches(&self) -> Vec<(u64, Told)> {
        self.batches.lock().iter().map(|(size, told)| (*size, *told)).collect()
    }

    pub(crate) fn executions(&self) -> u64 {
        self.batches.lock().values().map(|told| told.count).sum()
    }

    pub(crate) fn tell(&self, name: &str, version: &str) -> ModelStatistics {
        let none = Told::default();
        ModelStatistics {
            name: name.to_owned(),
            version: version.to_owned(),
            last_inference: self.last.load(Ordering::Relaxed),
            inference_count: self.inferences.load(Ordering::Relaxed),
            execution_count: self.executions(),
            inference_stats: InferStatistics {
                success: self.success.told(),
                fail: self.fail.told(),
                queue: self.queue.told(),
                compute_input: self.compute_input.told(),
                compute_infer: self.compute_infer.told(),
                compute_output: self.compute_output.told(),
                cache_hit: none,
                cache_miss: none,
            },
            batch_stats: self
                .batches()
                .into_iter()
                .map(|(batch_size, told)| BatchStatistics {
                    batch_size,
                    compute_input: none,
                    compute_infer: told,
                    compute_output: none,
                })
                .collect(),
            memory_usage: Vec::new(),
        }
    }
}

/// The statistics of one version, as the protocol has them.
#[derive(Debug, Serialize)]
pub(crate) struct ModelStatistics {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) last_inference: u64,
    pub(crate) inference_count: u64,
    pub(crate) execution_count: u64,
    pub(crate) inference_stats: InferStatistics,
    pub(crate) batch_stats: Vec<BatchStatistics>,
    /// Always empty: the memory of one model cannot be told apart from the process's.
    pub(crate) memory_usage: Vec<()>,
}

/// How long the parts of requests took.
#[derive(Debug, Serialize)]
pub(crate) struct InferStatistics {
    pub(crate) success: Told,
    pub(crate) fail: Told,
    pub(crate) queue: Told,
    pub(crate) compute_input: Told,
    pub(crate) compute_infer: Told,
    pub(crate) compute_output: Told,
    pub(crate) cache_hit: Told,
    pub(crate) cache_miss: Told,
}

/// How long batches of one size took.
#[derive(Debug, Serialize)]
pub(crate) struct BatchStatistics {
    pub(crate) batch_size: u64,
    pub(crate) compute_input: Told,
    pub(crate) compute_infer: Told,
    pub(crate) compute_output: Told,
}
